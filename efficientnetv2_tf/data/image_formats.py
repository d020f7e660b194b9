"""Pictures in the formats JPEG, PNG, GIF, BMP and WebP: telling them apart, reading their headers, decoding them.

A few compressed bytes can announce any number of pixels, so the header is looked at before pixels are allocated. All of
it runs inside a graph.
"""

import tensorflow as tf

MAX_PIXELS = 89_478_485  # of one picture: a quarter of a GiB in RGB, from where on Pillow warns too

# What each begins with; a dot stands for any byte.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF....WEBP")
_JPEG_END = b"\xff\xd9"
_HEADER = 32  # bytes that are looked at


def image_format(image_bytes):
    """Which format a picture is in, by its first bytes.

    Args:
        image_bytes: string scalar.

    Returns:
        int32 scalar: the number of the function among `DECODERS`.
    """
    width = max(map(len, _MAGIC))
    expected = tf.constant([list(magic.ljust(width, b".")) for magic in _MAGIC], tf.uint8)
    matches = tf.reduce_all((expected == _bytes(image_bytes)[:width]) | (expected == ord(".")), axis=1)
    last = tf.constant([True])  # argmax gives the first that is True
    return tf.argmax(tf.cast(tf.concat([matches, last], axis=0), tf.uint8), output_type=tf.int32)


def is_whole_jpeg(image_bytes):
    """Whether a picture is a JPEG that ends as it should: bool scalar.

    Of one that was cut off, the upper parts can be decoded. Some whole ones have more behind their end.
    """
    begin = tf.strings.substr(image_bytes, 0, len(_MAGIC[0]))
    end = tf.strings.substr(image_bytes, tf.maximum(tf.strings.length(image_bytes) - len(_JPEG_END), 0), len(_JPEG_END))
    return (begin == _MAGIC[0]) & (end == _JPEG_END)


def jpeg_size(image_bytes):
    """Height and width of a JPEG.

    Args:
        image_bytes: string scalar.

    Returns:
        int32 [2].

    Raises:
        tf.errors.InvalidArgumentError: there is no size, or it is more than `MAX_PIXELS`.
    """
    size = tf.image.extract_jpeg_shape(image_bytes)[:2]
    with _checked(size):
        return tf.identity(size)


def _decode_jpeg(image_bytes):
    with tf.control_dependencies([jpeg_size(image_bytes)]):
        return tf.io.decode_jpeg(image_bytes, channels=3)


def _decode_png(image_bytes):
    header = _bytes(image_bytes)
    with _checked([_number(header[20:24], big_endian=True), _number(header[16:20], big_endian=True)]):
        return tf.io.decode_png(image_bytes, channels=3)


def _decode_gif(image_bytes):
    data = tf.cast(tf.io.decode_raw(image_bytes, tf.uint8), tf.int32)
    start = _gif_frame(data)
    with _checked([_number(data[start + 7 : start + 9]), _number(data[start + 5 : start + 7])]):
        return tf.io.decode_image(image_bytes, channels=3, expand_animations=False)


def _gif_frame(data):
    """Where the first frame's size is told, which the picture then has, whatever the size of the screen.

    Extensions may stand in front of it: two bytes, and blocks that begin with their length, the last of length 0.
    """
    flags = data[10]
    table = tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def is_extension(position, inside):
        return inside | (data[position] == 0x21)

    def step(position, inside):
        length = data[position]
        return tf.where(inside, position + 1 + length, position + 2), ~inside | (length > 0)

    return tf.while_loop(is_extension, step, (13 + table, tf.constant(False)))[0]


def _decode_bmp(image_bytes):
    # It is not compressed, so TensorFlow compares the size in its header with its length.
    header = _bytes(image_bytes)
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    return tf.cond(_number(header[28:30]) == 8, lambda: _look_up(image, header, image_bytes), lambda: image)


def _look_up(image, header, image_bytes):
    """The colours of a BMP with a palette, of which TensorFlow takes the numbers for levels of grey."""
    start, end = 14 + _number(header[14:18]), _number(header[10:14])
    palette = tf.io.decode_raw(tf.strings.substr(image_bytes, start, end - start), tf.uint8)
    colours = tf.reshape(palette, [-1, 4])[:, 2::-1]  # stored as blue, green, red, 0
    return tf.gather(colours, tf.cast(image[:, :, 0], tf.int32))


def _decode_webp(image_bytes):
    header = _bytes(image_bytes)
    kind = header[15]  # of b"VP8 ", b"VP8L" or b"VP8X"
    bits = tf.cast(_number(header[21:25]), tf.int64)
    lossy = [_number(header[28:30]) % 2**14, _number(header[26:28]) % 2**14]
    lossless = [tf.cast(bits // 2**14 % 2**14, tf.int32) + 1, tf.cast(bits % 2**14, tf.int32) + 1]
    extended = [_number(header[27:30]) + 1, _number(header[24:27]) + 1]
    is_lossless, is_extended = kind == ord("L"), kind == ord("X")
    size = tf.where(is_extended, extended, tf.where(is_lossless, lossless, lossy))
    transparent = (is_lossless & (bits // 2**28 % 2 == 1)) | (is_extended & (header[20] // 16 % 2 == 1))
    with _checked(size):
        # The number of channels has to be that of the file. Left to TensorFlow (0), it writes over other memory where
        # an animation has no transparency; with 3, it refuses such a file.
        return tf.cond(
            transparent,
            lambda: tf.io.decode_image(image_bytes, channels=4, expand_animations=False)[:, :, :3],
            lambda: tf.io.decode_image(image_bytes, channels=3, expand_animations=False),
        )


def _refuse(image_bytes):
    # Without the bytes themselves: an error's text has to be UTF-8.
    message = "Expected a picture in the format JPEG, PNG, GIF, BMP or WebP. Received another, of so many bytes:"
    with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[message, tf.strings.length(image_bytes)])]):
        return tf.zeros([0, 0, 3], tf.uint8)


# From a string scalar to uint8 [height, width, 3], in the order of `image_format`.
DECODERS = (_decode_jpeg, _decode_png, _decode_gif, _decode_bmp, _decode_webp, _refuse)


def _checked(size):
    """Control dependencies that fail where a height and width are those of no picture, or of one that is too large."""
    size = tf.stack(size) if isinstance(size, list) else size
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    fits = tf.reduce_all(size > 0) & (pixels <= MAX_PIXELS)
    message = f"Expected a picture of 1 to {MAX_PIXELS:,} pixels. Height and width in the header:"
    return tf.control_dependencies([tf.raw_ops.Assert(condition=fits, data=[message, size])])


def _bytes(image_bytes):
    """The first bytes as uint8 [_HEADER], with zeros where there are fewer."""
    return tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=_HEADER)


def _number(values, *, big_endian=False):
    """int32 scalar of up to four bytes."""
    values = tf.cast(values, tf.int32)
    places = tf.range(tf.size(values))
    shifts = 8 * (places[::-1] if big_endian else places)
    return tf.reduce_sum(tf.bitwise.left_shift(values, shifts))
