"""The precision that layers are made in."""

import keras
import pytest

from efficientnetv2_tf.networks.precision import dtype_policy


def test_layers_made_within_have_it_and_later_ones_do_not():
    before = keras.config.dtype_policy().name
    with pytest.raises(ZeroDivisionError), dtype_policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise ZeroDivisionError
    assert keras.config.dtype_policy().name == keras.layers.Dense(1).dtype_policy.name == before
