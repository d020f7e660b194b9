"""Deterministic weights and inputs behind the reference values in this folder.

`fill(name, shape)` gives a variable's value from nothing but its official name, so a model can be
given the very weights that the reference logits were computed with, and no weight file is shipped.
"""
import zlib

import numpy as np


def fill(name, shape):
    """Value of the variable with official name `name` (no ':0') and shape `shape`, float32."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    z = rng.standard_normal(size=tuple(shape)).astype("float32")
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "gamma":
        return 1 + np.float32(0.1) * z
    if leaf in ("beta", "bias", "moving_mean"):
        return np.float32(0.1) * z
    if leaf == "moving_variance":
        return 1 + np.float32(0.2) * np.abs(z)
    fan = shape[0] * shape[1] if leaf == "depthwise_kernel" else int(np.prod(shape[:-1]))
    return z * np.float32(np.sqrt(1.5 / fan))


def image(height, width):
    """The reference input, float32 [1, height, width, 3] in [-1, 1]."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return np.sin(0.05 * (x + 1) * (c + 1) + 0.03 * y * (2 - c)).astype("float32")[None]
