"""Encoded pictures to a network's input inside a graph, where a broken one must not stop the others.

A graph has no try, but tf.data has `ignore_errors`; `get_single_element` makes one operation of a data set, which any
server of SavedModels runs.
"""

import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.image_check import MAX_PIXELS

_PARALLEL = 8  # pictures decoded at once, if the machine has the threads
_UNKNOWN = tf.int64.max  # pixels of what is in no format that is read


def read_pictures(image_bytes, image_size, style, crop):
    """Decodes and resizes what can be decoded, as `data.decode.preprocess_eval` does.

    A picture is bad if it is in none of the formats JPEG, PNG, GIF, BMP and WebP, cut or damaged so that TensorFlow's
    decoder gives up, of size 0, or of more than `MAX_PIXELS` by its header; it is not decoded then.

    Args:
        image_bytes: string [pictures].
        image_size: side in pixels, a Python number.
        style: one of `data.decode.STYLES`.
        crop: whether to look at the centre.

    Returns:
        (rows, images, sides) of the good ones: int32 [good], their places in `image_bytes` in ascending order; float32
        [good, image_size, image_size, 3], 0..255 and not normalised; int32 [good, 2], height and width as decoded.
    """
    count = tf.size(image_bytes)

    def read(row, encoded):
        small_enough = tf.debugging.assert_less_equal(announced_pixels(encoded), tf.constant(MAX_PIXELS, tf.int64))
        with tf.control_dependencies([small_enough]):
            picture = decode.decode(tf.identity(encoded))
        image = decode.resize_for_eval(picture, image_size, style, crop=crop)
        return row, tf.ensure_shape(image, [image_size, image_size, 3]), tf.shape(picture)[:2]

    examples = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    good = examples.map(read, num_parallel_calls=_PARALLEL, deterministic=True).ignore_errors()
    # One more, so that there is a batch even where nothing is good.
    extra = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), good.element_spec)
    batch = good.concatenate(tf.data.Dataset.from_tensors(extra)).batch(tf.cast(count, tf.int64) + 1)
    return tf.nest.map_structure(lambda values: values[:-1], batch.with_options(_options()).get_single_element())


def _options():
    """Each call makes a data set of its own, which is too short-lived to be tuned or rewritten."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options


def announced_pixels(encoded):
    """Width times height by the header, for which nothing is decoded.

    Args:
        encoded: string scalar.

    Returns:
        int64 scalar: for BMP, which is not compressed, the number of bytes; 2^63 - 1 for other formats than JPEG, PNG,
        GIF, BMP and WebP. A header that is cut raises InvalidArgumentError.
    """

    def begins(magic, at=0):
        return tf.strings.substr(encoded, at, len(magic)) == magic

    def number(at, length, *, big_endian=False):
        values = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, at, length), tf.uint8), tf.int64)
        weights = [256**place for place in range(length)]
        return tf.reduce_sum(values * tf.constant(weights[::-1] if big_endian else weights, tf.int64))

    def jpeg():
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))

    def webp():
        bits = number(21, 4)
        kinds = [
            (begins(b"VP8X", 12), lambda: (number(24, 3) + 1) * (number(27, 3) + 1)),
            (begins(b"VP8L", 12), lambda: (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)),
        ]
        return tf.case(kinds, default=lambda: (number(26, 2) % 2**14) * (number(28, 2) % 2**14))

    kinds = [
        (begins(b"\xff\xd8\xff"), jpeg),
        (begins(b"\x89PNG"), lambda: number(16, 4, big_endian=True) * number(20, 4, big_endian=True)),
        (begins(b"GIF8"), lambda: number(6, 2) * number(8, 2)),
        (begins(b"BM"), lambda: tf.cast(tf.strings.length(encoded), tf.int64)),
        (begins(b"RIFF") & (tf.strings.length(encoded) > 12) & begins(b"WEBP", 8), webp),
    ]
    return tf.case(kinds, default=lambda: tf.constant(_UNKNOWN, tf.int64))
