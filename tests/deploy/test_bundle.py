"""What is loaded to be exported."""

import numpy as np
import pytest

from efficientnetv2_tf.deploy.bundle import load_bundle
from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.training.hparams import ConfigError


def test_it_is_what_was_trained(run_folder, digit_network):
    bundle = load_bundle(run_folder)
    for found, expected in zip(bundle.network.get_weights(), digit_network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (bundle.image_size, bundle.style, bundle.crop, bundle.multi_label) == (32, "v2", False, False)
    assert bundle.class_names == tuple(str(digit) for digit in range(10))
    assert bundle.origin == str(run_folder)


def test_it_computes_in_float32_whatever_is_set(run_folder):
    with dtype_policy("mixed_bfloat16"):
        network = load_bundle(run_folder).network
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


def test_a_training_that_is_not_finished_is_refused(run_folder, tmp_path):
    (tmp_path / "config.yaml").write_text((run_folder / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"model.keras was not found. Finish the training first"):
        load_bundle(tmp_path)
