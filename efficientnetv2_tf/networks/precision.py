"""The precision that layers are made in."""

import contextlib

import keras


@contextlib.contextmanager
def dtype_policy(name):
    """Layers made within the block have this precision policy, loaded ones too: our .keras files do not keep theirs.

    Args:
        name: of a Keras policy, such as "float32" or "mixed_bfloat16".
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
