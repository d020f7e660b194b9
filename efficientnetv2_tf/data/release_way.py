"""The official release's way from an encoded picture to a training picture, to compare speeds with.

It decodes the whole picture, cuts a random part out, resizes and mirrors it, and chooses each operation of RandAugment
by a chain of conditions, one for each of the 16. The operations themselves are this package's.
"""

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
        [image_size, image_size, 3]: float32 in 0..255, and uint8 with RandAugment.
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
    return image


def _randaugment(image, magnitude, seed, layers=2):
    draws = tf.random.stateless_uniform([layers, 4], seed, minval=None, maxval=None, dtype=tf.int32)
    for draw in tf.unstack(draws):
        for index, name in enumerate(image_ops.OP_NAMES):
            chosen = tf.math.floormod(draw[0], len(image_ops.OP_NAMES)) == index
            image = tf.cond(chosen, _operation(name, image, magnitude, draw), lambda image=image: image)
            image.set_shape([None, None, 3])
    return image


def _operation(name, image, magnitude, draw):
    def run():
        argument = augment.randaugment_argument(name, magnitude)
        if argument is not None and name[:5] in ("Rotat", "Shear", "Trans"):
            argument = tf.where(draw[1] < 0, -argument, argument)
        return image_ops.apply(name, image, argument, seed=draw[2:])

    return run
