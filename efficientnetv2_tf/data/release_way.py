"""The official release's way from an encoded picture to a training picture, to compare speeds with.

It decodes the whole picture, cuts a random part out, resizes and mirrors it, and chooses each operation of RandAugment
by a chain of conditions, one for each of the 16. The operations are written as their descriptions read, with
TensorFlow's general operations, and give the bytes of those in `image_ops` (Sharpness, by a convolution, is off by a
little here and there).
"""

import math

import tensorflow as tf

from efficientnetv2_tf.data import augment, image_ops


def release_image(encoded, image_size, seed, magnitude=None):
    """One training picture.

    Args:
        encoded: string scalar.
        image_size: side in pixels.
        seed: int32 [2].
        magnitude: of RandAugment's two operations, 0..30; None is without.

    Returns:
        float32 [image_size, image_size, 3], scaled as for S, M, L and XL.
    """
    crop_seed, flip_seed, operation_seed = tf.unstack(tf.random.split(seed, 3))
    image = tf.image.decode_image(encoded, channels=3, expand_animations=False)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([0, 0, 4]),
        crop_seed,
        min_object_covered=0.0,
        area_range=(0.05, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.slice(image, begin, size)
    image.set_shape([None, None, 3])
    image = tf.image.stateless_random_flip_left_right(tf.image.resize(image, [image_size, image_size]), flip_seed)
    if magnitude is not None:
        image = _randaugment(tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8), magnitude, operation_seed)
    return (tf.cast(image, tf.float32) - 128.0) / 128.0


def _randaugment(image, magnitude, seed, layers=2):
    draws = tf.random.stateless_uniform([layers, 4], seed, minval=None, maxval=None, dtype=tf.int32)
    for draw in tf.unstack(draws):
        for index, name in enumerate(image_ops.OP_NAMES):
            chosen = tf.math.floormod(draw[0], len(image_ops.OP_NAMES)) == index
            image = tf.cond(chosen, _chosen(name, image, magnitude, draw), lambda image=image: image)
            image.set_shape([None, None, 3])
    return image


def _chosen(name, image, magnitude, draw):
    def run():
        argument = augment.randaugment_argument(name, magnitude)
        if argument is not None and name[:5] in ("Rotat", "Shear", "Trans"):
            argument = tf.where(draw[1] < 0, -argument, argument)
        return apply(name, image, argument, seed=draw[2:])

    return run


def apply(name, image, argument=None, *, seed=None):
    """`image_ops.apply`, done the plain way."""
    arguments = [] if argument is None else [argument]
    return _OPERATIONS[name](image, *arguments, *([seed] if name == "Cutout" else []))


def _auto_contrast(image):
    def stretched(channel):
        low, high = (tf.cast(reduce(channel), tf.float32) for reduce in (tf.reduce_min, tf.reduce_max))
        scale = 255.0 / (high - low)
        values = tf.clip_by_value(tf.cast(channel, tf.float32) * scale - low * scale, 0.0, 255.0)
        return tf.cond(high > low, lambda: tf.cast(values, tf.uint8), lambda: channel)

    return tf.stack([stretched(image[:, :, channel]) for channel in range(3)], axis=2)


def _equalize(image):
    def equalized(channel):
        values = tf.cast(channel, tf.int32)
        counts = tf.histogram_fixed_width(values, [0, 255], nbins=256)
        step = (tf.reduce_sum(counts) - tf.boolean_mask(counts, counts > 0)[-1]) // 255

        def looked_up():
            table = (tf.cumsum(counts, exclusive=True) + step // 2) // step
            return tf.cast(tf.gather(tf.clip_by_value(table, 0, 255), values), tf.uint8)

        return tf.cond(step == 0, lambda: channel, looked_up)

    return tf.stack([equalized(image[:, :, channel]) for channel in range(3)], axis=2)


def _posterize(image, bits):
    dropped = tf.cast(tf.clip_by_value(8 - tf.cast(bits, tf.int32), 0, 7), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def _solarize(image, threshold):
    return tf.where(tf.cast(image, tf.int32) < tf.cast(threshold, tf.int32), image, 255 - image)


def _solarize_add(image, addition):
    added = tf.clip_by_value(tf.cast(image, tf.int64) + tf.cast(addition, tf.int64), 0, 255)
    return tf.where(image < 128, tf.cast(added, tf.uint8), image)


def _color(image, factor):
    return _blend(tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image)), image, factor)


def _contrast(image, factor):
    grey = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
    mean = tf.reduce_sum(tf.cast(tf.histogram_fixed_width(grey, [0, 255], nbins=256), tf.float32)) / 256.0
    flat = tf.fill(tf.shape(image)[:2], tf.cast(tf.clip_by_value(mean, 0.0, 255.0), tf.uint8))
    return _blend(tf.image.grayscale_to_rgb(flat[:, :, tf.newaxis]), image, factor)


def _brightness(image, factor):
    return _blend(tf.zeros_like(image), image, factor)


def _sharpness(image, factor):
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]])[:, :, tf.newaxis, tf.newaxis] / 13.0
    pixels = tf.cast(image, tf.float32)[tf.newaxis]
    smooth = tf.nn.depthwise_conv2d(pixels, tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID")[0]
    smooth = tf.cast(tf.clip_by_value(smooth, 0.0, 255.0), tf.uint8)
    border = [[1, 1], [1, 1], [0, 0]]
    inside = tf.pad(tf.ones_like(smooth), border) == 1
    return _blend(tf.where(inside, tf.pad(smooth, border), image), image, factor)


def _blend(degenerate, image, factor):
    degenerate, image = tf.cast(degenerate, tf.float32), tf.cast(image, tf.float32)
    return tf.cast(tf.clip_by_value(degenerate + factor * (image - degenerate), 0.0, 255.0), tf.uint8)


def _rotate(image, degrees):
    angle = tf.cast(degrees * (math.pi / 180.0), tf.float32)
    cos, sin = tf.cos(angle), tf.sin(angle)
    bottom, right = (tf.cast(side - 1, tf.float32) for side in tf.unstack(tf.shape(image)[:2]))
    shift_x = (right - (cos * right - sin * bottom)) / 2.0
    shift_y = (bottom - (sin * right + cos * bottom)) / 2.0
    return _transform(image, [cos, -sin, shift_x, sin, cos, shift_y, 0.0, 0.0])


def _transform(image, matrix):
    """A fourth channel of ones goes along; where it is missing afterwards, the pixel came from outside."""
    marked = tf.concat([image, tf.ones_like(image[:, :, :1])], axis=2)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=marked[tf.newaxis],
        transforms=tf.stack([tf.cast(entry, tf.float32) for entry in matrix])[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
    outside = moved[:, :, 3:] == 0
    return tf.where(outside, tf.constant(image_ops.FILL, tf.uint8), moved[:, :, :3])


def _cutout(image, half_side, seed):
    mask = image_ops.square_mask(image, tf.cast(half_side, tf.int32), seed)
    return tf.where(mask, tf.constant(image_ops.FILL, tf.uint8), image)


_OPERATIONS = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": lambda image: 255 - image,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": lambda image, level: _transform(image, [1.0, level, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
    "ShearY": lambda image, level: _transform(image, [1.0, 0.0, 0.0, level, 1.0, 0.0, 0.0, 0.0]),
    "TranslateX": lambda image, pixels: _transform(image, [1.0, 0.0, pixels, 0.0, 1.0, 0.0, 0.0, 0.0]),
    "TranslateY": lambda image, pixels: _transform(image, [1.0, 0.0, 0.0, 0.0, 1.0, pixels, 0.0, 0.0]),
    "Cutout": _cutout,
}
