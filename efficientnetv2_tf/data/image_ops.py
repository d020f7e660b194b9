"""The 16 image operations that AutoAugment and RandAugment draw from.

Each takes one uint8 image and gives one of the same shape, byte for byte what the official EfficientNetV2
release gives. AutoAugment (https://arxiv.org/abs/1805.09501, appendix) describes them; most come from PIL.
"""

import difflib
import math

import tensorflow as tf

FILL = 128  # mid-grey, for pixels that a transform pulls in from outside the image and for Cutout


@tf.autograph.experimental.do_not_convert
def apply(name, image, argument=None, *, seed=None):
    """Applies one image operation, always the same way for the same inputs.

    What `argument` means, by operation:
      AutoContrast, Equalize, Invert: none, leave it out.
      Rotate: degrees, counter-clockwise when positive.
      Posterize: bits kept a channel; 8 or more keep the image, 0 acts like 1.
      Solarize: pixels at or above this threshold are inverted; 256 or more keeps the image.
      SolarizeAdd: added to the pixels below 128, result clipped to 0..255.
      Color, Contrast, Brightness, Sharpness: blend factor; 0 is grey, flat, black, smooth; 1 is the image.
      ShearX, ShearY: each row slides left (each column up) by this many pixels more than the one before.
      TranslateX, TranslateY: pixels to the left (up) when positive.
      Cutout: half the side of the grey square, in pixels; `seed` places it, see `square_mask`.
    Posterize, Solarize, SolarizeAdd and Cutout drop the argument's fraction. Pixels from outside are 128.

    Args:
      name: one of `OP_NAMES`.
      image: uint8 [H, W, 3]; H and W may be unknown until run time.
      argument: number, scalar tensor or variable; None for the operations in `WITHOUT_ARGUMENT`.
      seed: int32 [2], a stateless seed; Cutout needs it, the others ignore it.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: unknown name, image of another dtype or shape, argument or seed missing, or an argument
        too many.
    """
    check_names([name])
    _check_arguments(name, argument, seed)
    image = check_image(image)
    arguments = [] if argument is None else [argument]
    if name == "Cutout":
        arguments.append(seed)
    result = _OPS[name](image, *arguments)
    result.set_shape(image.shape)
    return result


def check_names(names):
    """Checks names of image operations.

    Args:
      names: an iterable of strings.

    Raises:
      ValueError: one of them is not in `OP_NAMES`; the message gives the nearest ones.
    """
    for name in names:
        if name not in _OPS:
            near = difflib.get_close_matches(str(name), OP_NAMES, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(OP_NAMES)}."
            raise ValueError(f"Unknown image operation {name!r}; {hint}")


def check_image(image):
    """Checks what can be checked before the graph runs.

    Args:
      image: uint8 [H, W, 3], a tensor or an array.

    Returns:
      The image as a tensor whose channel dimension is known to be 3.

    Raises:
      ValueError: another dtype, another or unknown rank, not 3 channels.
    """
    image = tf.convert_to_tensor(image)
    if image.dtype != tf.uint8:
        raise ValueError(f"`image` should be uint8. Received: dtype={image.dtype.name}. Augment before normalising.")
    if image.shape.rank != 3 or image.shape[-1] not in (3, None):
        raise ValueError(
            f"`image` should be one RGB image [height, width, 3]. Received: shape={image.shape}. "
            "Augment before batching; after decoding, `set_shape([None, None, 3])` where the rank is unknown."
        )
    image.set_shape([None, None, 3])
    return image


def square_mask(image, half_side, seed):
    """Marks a square around a pixel drawn uniformly from the whole image; it is cut off at the borders.

    Args:
      image: [H, W, C].
      half_side: int32 scalar, pixels. The square covers `half_side` pixels before the centre and
        `half_side` from the centre on, in both directions.
      seed: int32 [2], a stateless seed.

    Returns:
      bool [H, W, C], True inside the square.
    """
    size = tf.shape(image)[:2]
    centre = tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(size, tf.float32), tf.int32)
    begin, end = centre - half_side, centre + half_side
    rows, columns = tf.range(size[0]), tf.range(size[1])
    in_rows, in_columns = (rows >= begin[0]) & (rows < end[0]), (columns >= begin[1]) & (columns < end[1])
    return _rectangle(in_rows, in_columns, tf.shape(image))


def choose(mask, new, old):
    """Takes `new` where the mask is True and `old` elsewhere.

    Args:
      mask: bool, a shape that broadcasts.
      new: uint8, a shape that broadcasts, or an int 0..255.
      old: uint8 [H, W, 3].

    Returns:
      uint8 [H, W, 3].
    """
    # The difference wraps around, and back when it is added. On bytes, tf.where takes several times as long.
    return old + tf.cast(mask, tf.uint8) * (new - old)


# Three channels at the end make the slowest of arrays: what is the same for a row or for a channel is broadcast over
# [H, W C] or [C, H W], which takes a third of the time.


def _rectangle(in_rows, in_columns, shape):
    """bool [H, W, C] from bool [H] and bool [W]."""
    in_columns = tf.reshape(tf.tile(in_columns[:, tf.newaxis], [1, shape[2]]), [-1])  # [W C]
    return tf.reshape(in_rows[:, tf.newaxis] & in_columns, shape)


def _rows(image):
    """[H, W, C] as [H, W C]."""
    return tf.reshape(image, [tf.shape(image)[0], -1])


def _check_arguments(name, argument, seed):
    takes_argument = name not in WITHOUT_ARGUMENT
    if takes_argument != (argument is not None):
        expected = "a number or a scalar tensor" if takes_argument else "left out"
        raise ValueError(f"`argument` of {name} should be {expected}. Received: argument={argument!r}")
    if name == "Cutout" and seed is None:
        raise ValueError("`seed` of Cutout should be int32 [2]: it places the square. Received: seed=None")


# Colours


def _auto_contrast(image):
    rows = tf.cast(_rows(image), tf.float32)  # [H, W 3]
    low = tf.reduce_min(tf.reshape(tf.reduce_min(rows, axis=0), [-1, 3]), axis=0)  # [3]
    high = tf.reduce_max(tf.reshape(tf.reduce_max(rows, axis=0), [-1, 3]), axis=0)
    # A channel of one value is left alone: scale 1, offset 0.
    scale = tf.where(high > low, 255.0 / (high - low), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    width = tf.shape(image)[1]
    # Rounding leaves 0..255 by less than 1, which the cast drops.
    return tf.reshape(tf.cast(rows * tf.tile(scale, [width]) + tf.tile(offset, [width]), tf.uint8), tf.shape(image))


def _equalize(image):
    # The three channels as one table: channel c has the entries 256 * c .. 256 * c + 255.
    entries = tf.cast(_rows(image), tf.int32) + tf.tile([0, 256, 512], tf.shape(image)[1:2])
    entries = tf.reshape(entries, [-1])
    counts = tf.raw_ops.DenseBincount(input=entries, size=768, weights=tf.constant([], tf.int32))
    counts, values = tf.reshape(counts, [3, 256]), tf.range(256)
    brightest = tf.reduce_max(tf.where(counts > 0, values, 0), axis=1)  # [3]
    last_count = tf.gather(counts, brightest, axis=1, batch_dims=1)
    step = ((tf.reduce_sum(counts, axis=1) - last_count) // 255)[:, tf.newaxis]  # [3, 1]
    darker = tf.cumsum(counts, axis=1, exclusive=True)  # how many pixels are darker than each value
    table = tf.minimum((darker + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step == 0, values, table)  # too few pixels to spread: leave the channel alone
    table = tf.reshape(tf.cast(table, tf.uint8), [-1])
    # gather_nd takes two thirds of gather's time for single bytes.
    return tf.reshape(tf.gather_nd(table, entries[:, tf.newaxis]), tf.shape(image))


def _invert(image):
    return 255 - image


def _posterize(image, bits):
    # The release shifts bits out and in again, and a shift of an 8-bit number stops at 7: 0 bits act like 1.
    dropped = tf.clip_by_value(8 - tf.cast(bits, tf.int32), 0, 7)
    kept = tf.cast(256 - tf.bitwise.left_shift(1, dropped), tf.uint8)
    return tf.bitwise.bitwise_and(image, kept)


def _solarize(image, threshold):
    threshold = tf.cast(threshold, tf.int32)
    bright = (image >= tf.cast(tf.clip_by_value(threshold, 0, 255), tf.uint8)) & (threshold <= 255)
    return choose(bright, 255 - image, image)


def _solarize_add(image, addition):
    # Saturating sum of bytes: clip first so that nothing wraps around. One of `up` and `down` is 0.
    addition = tf.cast(addition, tf.int32)
    up = tf.cast(tf.clip_by_value(addition, 0, 255), tf.uint8)
    down = tf.cast(tf.clip_by_value(-addition, 0, 255), tf.uint8)
    added = tf.maximum(tf.minimum(image, 255 - up) + up, down) - down
    return choose(image < 128, added, image)


def _color(image, factor):
    # What tf.image.rgb_to_grayscale does by a matrix product, in an order of additions that is ours.
    planes = tf.transpose(tf.reshape(image, [-1, 3]))  # [3, H W]
    # Split first: the graph optimiser would otherwise fold 1 / 255 into the weights and round differently.
    red, green, blue = tf.unstack(tf.cast(planes, tf.float32) * (1.0 / 255))
    grey = red * 0.2989 + green * 0.5870 + blue * 0.1140
    planes = _blend(tf.floor(grey * 255.5), planes, factor)  # [H W] against [3, H W]
    return tf.reshape(tf.transpose(planes), tf.shape(image))


def _contrast(image, factor):
    # Not the mean grey: the release sums the histogram's counts, which gives the number of pixels, over 256.
    grey = tf.minimum(tf.size(image) // 3 // 256, 255)
    return _blend(grey, image, factor)


def _brightness(image, factor):
    return _blend(0, image, factor)


def _sharpness(image, factor):
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    rows, columns = tf.range(height), tf.range(width)
    in_rows, in_columns = (rows > 0) & (rows < height - 1), (columns > 0) & (columns < width - 1)
    inside = _rectangle(in_rows, in_columns, tf.shape(image))
    return _blend(choose(inside, _smooth(image), image), image, factor)


def _smooth(image):
    """The 3 x 3 mean with weight 5 in the centre; the outermost pixels hold nothing of use."""
    # Nine shifted copies of the flat image, added in row order, so that it rounds the same way everywhere. A
    # depthwise convolution took up to four times as long and, with oneDNN on, was off by one here and there.
    row = 3 * tf.shape(image)[1]
    flat = tf.pad(tf.reshape(tf.cast(image, tf.float32), [-1]), [[row + 3, row + 3]])
    weights = tf.constant([1.0, 5.0]) / 13.0
    around, centre = flat * weights[0], flat * weights[1]
    shifted = [
        tf.slice(centre if dy == dx == 1 else around, [dy * row + 3 * dx], [tf.size(image)])
        for dy in range(3)
        for dx in range(3)
    ]
    # Rounding leaves 0..255 by less than 1, which the cast drops.
    return tf.cast(tf.reshape(tf.add_n(shifted), tf.shape(image)), tf.uint8)


def _blend(degenerate, image, factor):
    """degenerate + factor * (image - degenerate), clipped: factor 0 is the degenerate image, 1 the image."""
    degenerate, pixels = tf.cast(degenerate, tf.float32), tf.cast(image, tf.float32)
    return _to_uint8(degenerate + tf.cast(factor, tf.float32) * (pixels - degenerate))


def _to_uint8(pixels):
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)


# Geometry. A transform is the first 8 entries of the 3 x 3 matrix that takes an output pixel (x, y, 1) to the
# input pixel it shows.


def _rotate(image, degrees):
    # Numbers are converted in double precision and tensors in single, as in the release; a difference in the
    # last bit may pick another nearest pixel.
    if tf.is_tensor(degrees):
        degrees = tf.cast(degrees, tf.float32)
    angle = tf.cast(degrees * (math.pi / 180.0), tf.float32)
    cos, sin = tf.cos(angle), tf.sin(angle)
    size = tf.cast(tf.shape(image), tf.float32)
    bottom, right = size[0] - 1, size[1] - 1
    shift_x = (right - (cos * right - sin * bottom)) / 2.0
    shift_y = (bottom - (sin * right + cos * bottom)) / 2.0
    return _transform(image, [cos, -sin, shift_x, sin, cos, shift_y, 0.0, 0.0])


def _shear_x(image, level):
    return _transform(image, [1.0, level, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def _shear_y(image, level):
    return _transform(image, [1.0, 0.0, 0.0, level, 1.0, 0.0, 0.0, 0.0])


def _translate_x(image, pixels):
    return _transform(image, [1.0, 0.0, pixels, 0.0, 1.0, 0.0, 0.0, 0.0])


def _translate_y(image, pixels):
    return _transform(image, [1.0, 0.0, 0.0, 0.0, 1.0, pixels, 0.0, 0.0])


def _transform(image, transform):
    # The pixels' numbers are transformed and then looked up. On the pixels themselves the kernel works out each
    # coordinate once a channel, which takes four times as long.
    transform = tf.stack([tf.cast(entry, tf.float32) for entry in transform])
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    numbers = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.reshape(tf.range(1, height * width + 1), [1, height, width, 1]),
        transforms=transform[tf.newaxis],
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    outside = tf.fill([1, 3], tf.constant(FILL, tf.uint8))  # pixel 0
    return tf.gather_nd(tf.concat([outside, tf.reshape(image, [-1, 3])], axis=0), numbers[0])


def _cutout(image, half_side, seed):
    mask = square_mask(image, tf.cast(half_side, tf.int32), seed)
    return choose(mask, FILL, image)


_OPS = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "Cutout": _cutout,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}
OP_NAMES = tuple(_OPS)
WITHOUT_ARGUMENT = frozenset({"AutoContrast", "Equalize", "Invert"})
