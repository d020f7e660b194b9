"""From pixel values to what a network expects: the one table of scalings, and their arithmetic."""

import dataclasses
import sys

import numpy as np
from keras import ops

_ZERO_TO_ONE = 1.001  # a little more than pictures of 0..1 reach in half precision
_STANDARDISED = 4.0  # more than pictures scaled by any of the styles reach: 2.64 with "v1"


@dataclasses.dataclass(frozen=True)
class Scaling:
    """`(x / divisor - mean) / std`, in this order, which decides the last bit; one number a channel, or for all."""

    mean: tuple[float, ...] | float
    std: tuple[float, ...] | float
    divisor: float = 1.0


SCALINGS = {
    "v2": Scaling(mean=128.0, std=128.0),
    "v1": Scaling(  # ImageNet's, of red, green and blue
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255)
    ),
    "finetune": Scaling(mean=0.5, std=0.5, divisor=255.0),
}
STYLES = tuple(SCALINGS)


def check_style(style, argument="style"):
    """Gives `style` back; a ValueError, which calls it `argument`, where it is none of `STYLES`."""
    if style not in SCALINGS:
        raise ValueError(f"`{argument}` should be one of {STYLES}. Received: {argument}={style!r}")
    return style


def normalize(images, style, channels=3):
    """Scales pixel values to what a network was made for.

    Args:
        images: [..., channels], any type, 0..255. A TensorFlow tensor is scaled by TensorFlow on every Keras backend,
            so that this can be mapped over a `tf.data.Dataset`.
        style: "v2" gives (x - 128) / 128; "finetune" gives (x / 255 - 0.5) / 0.5; "v1" uses ImageNet's mean and
            standard deviation of red, green and blue.
        channels: of the images. "v1" has three numbers: one channel gets their means, more get them in turn, as
            `adapt_stem` does with a stem's kernel.

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: there is no such style.
    """
    scaling = SCALINGS[check_style(style)]
    divisor = _float32(scaling.divisor, images)
    mean, std = (_float32(_per_channel(value, channels), images) for value in (scaling.mean, scaling.std))
    return (_float32(images, images) / divisor - mean) / std


def _per_channel(value, channels):
    if isinstance(value, float):
        return value
    return np.mean(value) if channels == 1 else np.resize(value, channels)


def _float32(value, images):
    """`value` as a float32 tensor of the framework that `images` belong to."""
    tensorflow = sys.modules.get("tensorflow")  # not imported for it: there is no such tensor without it
    if tensorflow is not None and tensorflow.is_tensor(images):
        return tensorflow.cast(value, tensorflow.float32)
    return ops.cast(value, "float32")


def scaled_range(images):
    """(lowest, highest) of floats that are more likely scaled images than pixel values in 0..255; else None.

    Such floats are all at most 1 and not all 0, or some negative and all small. Pictures with a little below 0, which
    bicubic resizing leaves, are none.

    Args:
        images: of any framework. None for tensors without values, as in the trace of a `tf.function` or of a
            `tf.data.Dataset`'s map.
    """
    if "int" in str(getattr(images, "dtype", "")):  # asked first: nothing is copied from an accelerator
        return None
    try:
        values = ops.convert_to_numpy(images)
    except (TypeError, ValueError, NotImplementedError, RuntimeError):  # each framework's own for "no values yet"
        return None
    if values.dtype.kind in "bui" or not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    scaled = 0 < high <= _ZERO_TO_ONE if low >= 0 else max(-low, high) < _STANDARDISED
    return (low, high) if scaled else None
