"""RandAugment and AutoAugment on one uint8 image, and the square of noise used in fine-tuning.

Everything is stateless: the same image, strength and seed give the same result. The strength may be a live
tf.Variable that is read inside `tf.data.Dataset.map`, as progressive learning needs it.
"""

from typing import NamedTuple

import tensorflow as tf

from efficientnetv2_tf.data import image_ops
from efficientnetv2_tf.data.branches import one_of

MAX_MAGNITUDE = 30
_REFERENCE_SIDE = 224  # pixels; the image side for which the pixel constants below were chosen


class _Strength(NamedTuple):
    """How an operation's argument grows: offset + slope * magnitude / 10."""

    slope: float
    offset: float = 0.0
    whole: bool = False  # drop the fraction
    signed: bool = False  # negate with probability 1/2
    pixels: bool = False  # the slope is a length in pixels


def _strengths(cutout, translate):
    enhance = _Strength(1.8, offset=0.1)
    shear = _Strength(0.3, signed=True)
    shift = _Strength(translate, signed=True, pixels=True)
    return {
        "Rotate": _Strength(30.0, signed=True),
        "Posterize": _Strength(4.0, whole=True),
        "Solarize": _Strength(256.0, whole=True),
        "SolarizeAdd": _Strength(110.0, whole=True),
        "Color": enhance,
        "Contrast": enhance,
        "Brightness": enhance,
        "Sharpness": enhance,
        "ShearX": shear,
        "ShearY": shear,
        "Cutout": _Strength(cutout, whole=True, pixels=True),
        "TranslateX": shift,
        "TranslateY": shift,
    }


_RANDAUGMENT = _strengths(cutout=40.0, translate=100.0)
_AUTOAUGMENT = _strengths(cutout=100.0, translate=250.0)

# Policy v0 of AutoAugment: sub-policies of two steps (operation, probability, level 0..10).
AUTOAUGMENT_POLICY = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)


@tf.autograph.experimental.do_not_convert
def randaugment(image, magnitude, seed, *, num_layers=2, scale_pixels=False, exclude=()):
    """Applies image operations drawn uniformly, all at one strength.

    RandAugment, https://arxiv.org/abs/1909.13719. As in the official release, a drawn operation is always
    applied, with the argument that `randaugment_argument` gives; rotation, shear and translation are negated
    with probability 1/2. Magnitude 0 does not switch it off: some operations know no strength, and for others
    (Solarize, Brightness) 0 is far from the original image.

    Args:
      image: uint8 [H, W, 3]; H and W may be unknown until run time.
      magnitude: strength of every operation, 0..30 (EfficientNetV2 trains with 5 to 25): a number, or a
        scalar tensor or variable, whose range is not checked.
      seed: int32 [2], a stateless seed.
      num_layers: how many operations to apply one after the other, 0 or more.
      scale_pixels: False takes the release's 100 pixels (translation) and 40 pixels (half a Cutout square) at
        magnitude 10 for every image; True multiplies both by the image's shorter side / 224, so that small
        images are not wiped out.
      exclude: names of operations not to draw.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: image of another dtype or shape, magnitude or num_layers out of range, unknown name in
        `exclude`, or no operation left.
    """
    image = image_ops.check_image(image)
    _check_magnitude(magnitude)
    if num_layers < 0:
        raise ValueError(f"`num_layers` should be 0 or more. Received: num_layers={num_layers}")
    names = _drawn_names(exclude)
    apply_one = one_of([_operation(name, _RANDAUGMENT, scale_pixels) for name in names])
    magnitude = tf.cast(magnitude, tf.float64)
    for draw in tf.unstack(_draws(seed, num_layers)):
        index = tf.math.floormod(draw[0], len(names))
        image = apply_one(index, [image, magnitude, draw], _spec(image))
    return image


def randaugment_argument(name, magnitude):
    """Gives the argument of an image operation at a RandAugment magnitude, before any negation.

    Args:
      name: one of `image_ops.OP_NAMES`.
      magnitude: 0..30, a number, or a scalar tensor or variable, whose range is not checked.

    Returns:
      A float for a number, a float32 scalar for a tensor or variable, None for an operation without argument.
      Units as in `image_ops.apply`.

    Raises:
      ValueError: unknown name, or magnitude out of range.
    """
    image_ops.check_names([name])
    _check_magnitude(magnitude)
    if name in image_ops.WITHOUT_ARGUMENT:
        return None
    return _argument(_RANDAUGMENT[name], magnitude)


@tf.autograph.experimental.do_not_convert
def autoaugment(image, seed, *, scale_pixels=False):
    """Applies one of the 25 sub-policies that AutoAugment found on ImageNet (policy v0), drawn uniformly.

    AutoAugment, https://arxiv.org/abs/1805.09501. Each of a sub-policy's two steps is applied with its own
    probability; rotation, shear and translation are negated with probability 1/2.

    Args:
      image: uint8 [H, W, 3]; H and W may be unknown until run time.
      seed: int32 [2], a stateless seed.
      scale_pixels: False translates by the release's pixels, 25 a level, whatever the image; True multiplies
        them by the image's shorter side / 224.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: image of another dtype or shape.
    """
    image = image_ops.check_image(image)
    names = sorted({name for steps in AUTOAUGMENT_POLICY for name, _, _ in steps})
    apply_one = one_of([*(_operation(name, _AUTOAUGMENT, scale_pixels) for name in names), _unchanged])
    skip = len(names)
    indices = tf.constant([[names.index(name) for name, _, _ in steps] for steps in AUTOAUGMENT_POLICY])
    probabilities = tf.constant([[chance for _, chance, _ in steps] for steps in AUTOAUGMENT_POLICY])
    levels = tf.constant([[level for _, _, level in steps] for steps in AUTOAUGMENT_POLICY], tf.float64)

    policy_draw, *step_draws = tf.unstack(_draws(seed, 3))
    policy = tf.math.floormod(policy_draw[0], len(AUTOAUGMENT_POLICY))
    for step, draw in enumerate(step_draws):
        index = tf.where(_chance(draw[0]) < probabilities[policy, step], indices[policy, step], skip)
        image = apply_one(index, [image, levels[policy, step], draw], _spec(image))
    return image


@tf.autograph.experimental.do_not_convert
def random_erase(image, seed):
    """Puts a square of noise on an image, as the official release does in fine-tuning.

    The square's centre is drawn uniformly from the whole image. From there it reaches a quarter of the
    image's shorter side (rounded down) in each direction, so that it is half as wide as the image, and it is
    cut off at the borders. Each value of the noise is its own, uniform in 128..255: the release draws it from
    [0, 1) after normalising the pixels to [-1, 1], which is the brighter half of the range.

    Args:
      image: uint8 [H, W, 3]; H and W may be unknown until run time.
      seed: int32 [2], a stateless seed.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: image of another dtype or shape.
    """
    image = image_ops.check_image(image)
    centre_seed, noise_seed = tf.unstack(tf.random.split(seed, 2))
    half_side = tf.reduce_min(tf.shape(image)[:2]) // 4
    mask = image_ops.square_mask(image, half_side, centre_seed)
    noise = tf.random.stateless_uniform(tf.shape(image), noise_seed, 128, 256, tf.int32)
    return image_ops.choose(mask, tf.cast(noise, tf.uint8), image)


def _check_magnitude(magnitude):
    if not tf.is_tensor(magnitude) and not 0 <= magnitude <= MAX_MAGNITUDE:
        raise ValueError(f"`magnitude` should be in 0..{MAX_MAGNITUDE}. Received: magnitude={magnitude}")


def _drawn_names(exclude):
    if isinstance(exclude, str):
        raise ValueError(f"`exclude` should be a tuple of names. Received the string {exclude!r}.")
    image_ops.check_names(exclude)
    names = [name for name in image_ops.OP_NAMES if name not in exclude]
    if not names:
        raise ValueError("`exclude` should leave at least one image operation. Received: all of them.")
    return names


def _draws(seed, rows):
    """All the random bits of an image at once, since each random op costs as much as a small image operation.

    Returns int32 [rows, 4], uniform over all values; a row is (choice, sign, two numbers for Cutout's seed).
    """
    return tf.random.stateless_uniform([rows, 4], seed, minval=None, maxval=None, dtype=tf.int32)


def _chance(bits):
    """Uniform in [0, 1), never 1, from a uniform int32."""
    return tf.cast(tf.bitwise.bitwise_and(bits, 0xFFFFFF), tf.float32) / 2.0**24


def _operation(name, strengths, scale_pixels):
    """The function (image, level, draw) -> image of one image operation."""

    def run(image, level, draw):
        if name in image_ops.WITHOUT_ARGUMENT:
            return image_ops.apply(name, image)
        strength = strengths[name]
        unit = _shorter_side(image) / _REFERENCE_SIDE if strength.pixels and scale_pixels else 1.0
        argument = _argument(strength, level, unit)
        if strength.signed:
            argument = tf.where(draw[1] < 0, -argument, argument)
        return image_ops.apply(name, image, argument, seed=draw[2:])

    return run


def _unchanged(image, level, draw):
    return tf.identity(image)


def _spec(image):
    return tf.TensorSpec(image.shape, image.dtype)


def _argument(strength, magnitude, unit=1.0):
    is_tensor = tf.is_tensor(magnitude)
    if is_tensor:  # in double precision, so that dropping the fraction gives what Python gives
        magnitude = tf.cast(magnitude, tf.float64)
    argument = magnitude / 10.0 * (strength.slope * unit) + strength.offset
    if strength.whole:
        argument = argument // 1.0
    return tf.cast(argument, tf.float32) if is_tensor else argument


def _shorter_side(image):
    return tf.cast(tf.reduce_min(tf.shape(image)[:2]), tf.float64)
