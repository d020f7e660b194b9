"""What the model card says."""

import hashlib
import importlib.metadata

import numpy as np
import pytest

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.deploy import model_card
from efficientnetv2_tf.deploy.bundle import load_bundle


@pytest.fixture(scope="module")
def card(run_folder):
    return model_card.make_card(load_bundle(run_folder), {"files/config.yaml": run_folder / "config.yaml"})


def test_network_and_how_to_feed_it(card, digit_network):
    assert (card["name"], card["network"], card["image_size"]) == ("testing", "testing", 32)
    assert card["parameters"] == digit_network.count_params()
    assert card["preprocessing"]["style"] == "v2"
    assert (card["preprocessing"]["resizing"], card["preprocessing"]["crop"]) == ("bilinear", False)
    assert card["class_names"] == [str(digit) for digit in range(10)]
    assert card["normalization"] == {"kind": "batch", "epsilon": 1e-3}
    assert not card["multi_label"]


def test_where_the_weights_are_from(card, run_folder):
    weights = card["weights"]
    digest = hashlib.sha256((run_folder / "model.keras").read_bytes()).hexdigest()
    assert (weights["source"], weights["sha256"]) == (str(run_folder / "model.keras"), digest)
    assert (weights["dataset"], weights["averaged"], weights["initial_weights"]) == ("digits", True, None)
    assert (weights["epochs"], weights["test_accuracy"]) == (3, 0.9)
    assert card["versions"]["keras"] == importlib.metadata.version("keras")


def test_files_have_checksums(card, run_folder):
    content = (run_folder / "config.yaml").read_bytes()
    expected = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert card["files"] == {"files/config.yaml": expected}


@pytest.mark.parametrize("style", decode.STYLES)
def test_the_scaling_is_told_as_it_is(style):
    """The words hold numbers, and they are the code's."""
    text = model_card.SCALING[style]
    pixels = np.array([[0.0, 100.0, 255.0]], np.float32)
    formula = text.partition(", of ")[0].replace("[", "np.array([").replace("]", "])")
    expected = eval(formula, {"pixel": pixels, "np": np})
    np.testing.assert_allclose(decode.normalize(pixels, style), expected, atol=1e-6)
