"""MixUp and CutMix: every image of a batch is mixed with the one at the mirrored place in the batch.

The strengths may be live tf.Variables that are read inside `tf.data.Dataset.map`, as progressive learning
needs it.
"""

import tensorflow as tf

_SMALLEST_ALPHA = 1e-6  # below this the Beta distribution is all at its two ends, and 1 / alpha overflows


@tf.autograph.experimental.do_not_convert
def mix(images, labels, mixup_alpha, cutmix_alpha, seed):
    """Applies MixUp, CutMix, each to half of the batch, or nothing, by which alphas are above 0.

    With both above 0 the first half of the batch (rounded down) gets MixUp and the rest CutMix, each half
    mixed within itself, as in the official release. What is off costs nothing, also with live alphas.

    Args:
      images: float [B, H, W, 3]; B, H and W may be unknown until run time.
      labels: float32 [B, C], one-hot or smoothed.
      mixup_alpha: 0 or more, the parameter of MixUp's Beta distribution, 0 is off: a number, or a scalar
        tensor or variable, whose range is not checked. EfficientNetV2 trains with 0 to 0.5 (Tan & Le 2021,
        https://arxiv.org/abs/2104.00298, Table 6).
      cutmix_alpha: the same for CutMix.
      seed: int32 [2], a stateless seed.

    Returns:
      (images, labels), same dtypes and shapes; with both alphas 0 the very same values.

    Raises:
      ValueError: another dtype or rank, or a negative alpha.
    """
    images, labels = _check_batch(images, labels)
    _check_alpha("mixup_alpha", mixup_alpha)
    _check_alpha("cutmix_alpha", cutmix_alpha)
    mixup_seed, cutmix_seed = tf.unstack(tf.random.split(seed, 2))

    def half_each():
        half = tf.shape(images)[0] // 2
        first = mixup(images[:half], labels[:half], mixup_alpha, mixup_seed)
        second = cutmix(images[half:], labels[half:], cutmix_alpha, cutmix_seed)
        return tuple(tf.concat(parts, axis=0) for parts in zip(first, second, strict=True))

    branches = [
        lambda: (tf.identity(images), tf.identity(labels)),
        lambda: mixup(images, labels, mixup_alpha, mixup_seed),
        lambda: cutmix(images, labels, cutmix_alpha, cutmix_seed),
        half_each,
    ]
    if not tf.is_tensor(mixup_alpha) and not tf.is_tensor(cutmix_alpha):
        mixed = branches[(mixup_alpha > 0) + 2 * (cutmix_alpha > 0)]()
    else:
        mixed = tf.switch_case(_is_on(mixup_alpha) + 2 * _is_on(cutmix_alpha), branches)
    return _with_shapes(mixed, (images, labels))


@tf.autograph.experimental.do_not_convert
def mixup(images, labels, alpha, seed):
    """Blends every image, and its label, with another of the batch.

    mixup, https://arxiv.org/abs/1710.09412. As in the official release, each image has its own weight: w from
    Beta(alpha, alpha), or 1 - w where that is greater, so that an image outweighs its partner.

    Args:
      images: float [B, H, W, 3].
      labels: float32 [B, C].
      alpha: 0 or more, number or scalar tensor or variable; 0 leaves the batch as it is.
      seed: int32 [2], a stateless seed.

    Returns:
      (images, labels), same dtypes and shapes.

    Raises:
      ValueError: another dtype or rank, or a negative alpha.
    """
    images, labels = _check_batch(images, labels)
    _check_alpha("alpha", alpha)
    weight = _beta(alpha, tf.shape(images)[0], seed)
    weight = tf.maximum(weight, 1.0 - weight)[:, tf.newaxis]  # [B, 1]
    pixel_weight = tf.cast(weight, images.dtype)[:, :, tf.newaxis, tf.newaxis]
    mixed = images * pixel_weight + images[::-1] * (1 - pixel_weight)
    return _with_shapes((mixed, labels * weight + labels[::-1] * (1.0 - weight)), (images, labels))


@tf.autograph.experimental.do_not_convert
def cutmix(images, labels, alpha, seed):
    """Replaces a box in every image by the same box of another of the batch, and mixes labels by its area.

    CutMix, https://arxiv.org/abs/1905.04899. Each image has its own box: the image's sides times sqrt(1 - w),
    with w from Beta(alpha, alpha); centre uniform over the image; cut off at the borders. The partner's share
    of the label is the share of the pixels that the box really covers, image by image (the official release
    gives every label the batch's mean share).

    Args:
      images: float [B, H, W, 3].
      labels: float32 [B, C].
      alpha: 0 or more, number or scalar tensor or variable; 0 leaves the batch as it is.
      seed: int32 [2], a stateless seed.

    Returns:
      (images, labels), same dtypes and shapes.

    Raises:
      ValueError: another dtype or rank, or a negative alpha.
    """
    images, labels = _check_batch(images, labels)
    _check_alpha("alpha", alpha)
    batch, size = tf.shape(images)[0], tf.shape(images)[1:3]
    begin, end = _boxes(alpha, batch, size, seed)  # [B, 2], rows and columns

    rows, columns = tf.range(size[0]), tf.range(size[1])
    in_rows = (rows >= begin[:, :1]) & (rows < end[:, :1])  # [B, H]
    in_columns = (columns >= begin[:, 1:]) & (columns < end[:, 1:])  # [B, W]
    box = (in_rows[:, :, tf.newaxis] & in_columns[:, tf.newaxis])[..., tf.newaxis]  # [B, H, W, 1]
    mixed = tf.where(box, images[::-1], images)

    area = tf.reduce_prod(end - begin, axis=1, keepdims=True)  # [B, 1]
    share = tf.cast(area / tf.reduce_prod(size), tf.float32)
    return _with_shapes((mixed, labels * (1.0 - share) + labels[::-1] * share), (images, labels))


def _boxes(alpha, batch, size, seed):
    """A box an image of `size` (int32 [2]): its first pixel and the one past its last, both int32 [B, 2]."""
    ratio_seed, centre_seed = tf.unstack(tf.random.split(seed, 2))
    sides = tf.cast(size, tf.float32)
    ratio = tf.sqrt(1.0 - _beta(alpha, batch, ratio_seed))[:, tf.newaxis]  # [B, 1]
    half = tf.cast(ratio * sides, tf.int32) // 2  # [B, 2]
    centre = tf.cast(tf.random.stateless_uniform([batch, 2], centre_seed) * sides, tf.int32)
    return tf.maximum(centre - half, 0), tf.minimum(centre + half, size)


def _beta(alpha, batch, seed):
    """Beta(alpha, alpha), float32 [B], exact down to the smallest alphas; 1 where alpha is 0.

    X / (X + Y) with X and Y from Gamma(alpha) is 0 / 0 when alpha is small. Gamma(alpha) is distributed as
    Gamma(alpha + 1) * U ** (1 / alpha) (Marsaglia & Tsang 2000, section 6), whose logarithm stays finite.
    """
    gamma_seed, power_seed = tf.unstack(tf.random.split(seed, 2))
    alpha = tf.cast(alpha, tf.float32)
    floor = tf.maximum(alpha, _SMALLEST_ALPHA)
    gamma = tf.random.stateless_gamma([2, batch], gamma_seed, floor + 1.0)
    power = tf.random.stateless_uniform([2, batch], power_seed, minval=1e-30)
    log_gamma = tf.math.log(gamma) + tf.math.log(power) / floor  # [2, B]
    return tf.where(alpha > 0, tf.sigmoid(log_gamma[0] - log_gamma[1]), 1.0)


def _is_on(alpha):
    return tf.cast(tf.convert_to_tensor(alpha) > 0, tf.int32)


def _check_alpha(name, alpha):
    if not tf.is_tensor(alpha) and alpha < 0:
        raise ValueError(f"`{name}` should be 0 (off) or more. Received: {name}={alpha}")


def _check_batch(images, labels):
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    if not images.dtype.is_floating or images.shape.rank != 4:
        raise ValueError(
            "`images` should be floating point [batch, height, width, 3]. "
            f"Received: dtype={images.dtype.name}, shape={images.shape}. Mix after batching and normalising."
        )
    if labels.dtype != tf.float32 or labels.shape.rank != 2:
        raise ValueError(
            "`labels` should be float32 [batch, classes]. "
            f"Received: dtype={labels.dtype.name}, shape={labels.shape}. Encode classes with `tf.one_hot`."
        )
    return images, labels


def _with_shapes(results, likes):
    for result, like in zip(results, likes, strict=True):
        result.set_shape(like.shape)
    return tuple(results)
