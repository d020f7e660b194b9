"""The precision policy follows the devices, and holds within its block only."""

import keras
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.training.precision import choose_precision


def test_precision_follows_the_devices():
    assert choose_precision("mixed_float16") == "mixed_float16"
    assert choose_precision("auto") == ("mixed_bfloat16" if tf.config.list_logical_devices("GPU") else "float32")


def test_the_policy_is_put_back():
    with pytest.raises(ZeroDivisionError), dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise ZeroDivisionError
    assert keras.config.dtype_policy().name == "float32"
