"""In which number types a network computes."""

import contextlib

import keras
import tensorflow as tf


def choose_precision(wanted):
    """The name of Keras' policy for `runtime.mixed_precision`; "auto" is bfloat16 where there is an accelerator."""
    if wanted != "auto":
        return wanted
    accelerators = tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU")
    return "mixed_bfloat16" if accelerators else "float32"


@contextlib.contextmanager
def dtype_policy(name):
    """Layers made within the block have this precision policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
