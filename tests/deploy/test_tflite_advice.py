"""The advice for networks that quantise badly can be followed."""

import pytest

from efficientnetv2_tf.deploy.tflite_advice import advice, friendly_overrides
from efficientnetv2_tf.deploy.tflite_report import Row
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.recipes import load_config


@pytest.mark.parametrize("name", ["testing", "efficientnetv2-b0", "efficientnetv2-s"])
def test_the_overrides_make_a_network_that_quantises_well(name, full_model, testing_model):
    network = testing_model if name == "testing" else full_model(name)
    model = load_config("digits", [friendly_overrides(network)], model=name).model
    assert model.activation == "relu6"
    assert len(model.blocks) == len(network.get_config()["blocks"])
    assert not any("se" in block for block in model.blocks)
    if name == "testing":
        friendly = get_model(name, num_classes=10, blocks=model.blocks, activation=model.activation)
        assert friendly.count_params() < network.count_params()
        assert "relu6" not in " ".join(advice([Row("int8", 1, agreement=0.9)], None, friendly))  # it is one already
        assert [b.output_filters for s in friendly.blocks for b in s] == [
            b.output_filters for s in network.blocks for b in s
        ]


def test_before_and_after_are_told(testing_model):
    failed = [Row("int8", 7_000_000, agreement=0.5), Row("dynamic", 6_000_000, agreement=0.9)]
    mixed = Row("int8_mixed", 8_500_000, agreement=0.99, details={"float_parts": ["head", "stem"], "parts": 25})
    first, *_, last = advice(failed, mixed, testing_model)
    assert "head, stem in float32 (2 of 25 parts): agreement 50.00% before, 99.00% after" in first
    assert "7.00 MB before, 8.50 MB after" in first
    assert "int16x8, float16." in last
    everything = " ".join(advice(failed, None, testing_model))
    assert "int8_mixed" not in everything and friendly_overrides(testing_model) in everything


def test_a_float_file_that_fails_is_no_matter_of_quantisation(testing_model):
    (line,) = advice([Row("float16", 1, agreement=0.9)], None, testing_model)
    assert "relu6" not in line and "int16x8, dynamic" in line
