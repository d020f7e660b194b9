"""How far files are from the network, and when that is too far."""

import math

import numpy as np
import pytest

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.sources import open_source
from efficientnetv2_tf.deploy.parity import (
    Parity,
    ParityError,
    Pictures,
    Row,
    check_parity,
    evaluation_pictures,
    generated_pictures,
    parity_report,
    parity_table,
)
from efficientnetv2_tf.deploy.saved_model import SIGNATURES


@pytest.fixture(scope="module")
def pictures(encode):
    return Pictures([encode("PNG", seed, size=(40 + seed, 60)) for seed in range(20)], "noise")


def test_a_savedmodel_is_compared_signature_by_signature(make_bundle, saved_model, pictures):
    rows = Parity(make_bundle(crop=True), pictures).saved_model(saved_model, "digits/1")
    assert [row.signature for row in rows] == [*SIGNATURES]
    assert {row.file for row in rows} == {"digits/1"}
    assert max(row.difference for row in rows) < 1e-5
    check_parity(rows)


def test_a_difference_is_found_in_every_signature(digit_network, make_bundle, saved_model, pictures):
    """The network's bias is changed by 0.01 after the export, so a probability p changes by at most 0.01 p (1 - p)."""
    network = type(digit_network).from_config(digit_network.get_config())
    network.set_weights(digit_network.get_weights())
    bias = network.get_layer("classifier").bias
    bias.assign(bias + np.eye(10, dtype=np.float32)[0] * 0.01)
    rows = Parity(make_bundle(network, crop=True), pictures).saved_model(saved_model, "digits/1")
    for row in rows:
        # `features` goes through the network's own classifier, so it shows what comes before.
        assert row.passed == (row.signature == "features")
        assert row.difference < 0.0026
    with pytest.raises(ParityError, match=r"digits/1 serving_default differs by .*, more than 1e-05"):
        check_parity(rows)


def test_another_preprocessing_is_found(make_bundle, saved_model, pictures):
    rows = Parity(make_bundle(crop=False), pictures).saved_model(saved_model, "digits/1")
    assert [row.signature for row in rows if row.passed] == ["preprocessed"]


@pytest.mark.parametrize(("format", "difference", "passed"), [
    ("saved_model", 1e-5, True), ("saved_model", 1.1e-5, False), ("saved_model", math.nan, False),
    ("onnx", 1e-4, True), ("onnx", 1.1e-4, False), ("tflite float32", 1.1e-4, False), ("tflite int8", 0.5, True),
])  # fmt: skip
def test_tolerances(format, difference, passed):
    assert Row("x", format, "", difference).passed == passed


def test_the_report(pictures):
    rows = [Row("digits/1", "saved_model", "images", 2e-6), Row("digits.onnx", "onnx", "", 1e-3)]
    report = parity_report(rows, pictures)
    assert (report["pictures"], report["source"], report["reference"]) == (20, "noise", "model.keras")
    assert [result["passed"] for result in report["results"]] == [True, False]
    assert report["results"][0] == {
        "file": "digits/1", "format": "saved_model", "signature": "images", "difference": 2e-6, "tolerance": 1e-5,
        "passed": True,
    }  # fmt: skip
    assert parity_table(rows, pictures).row_count == 2


def test_evaluation_pictures_are_drawn_once_and_for_all(tmp_path):
    source = open_source("digits", data_dir=tmp_path)
    first, second = evaluation_pictures(source), evaluation_pictures(source)
    assert first.encoded == second.encoded
    assert len({*first.encoded}) == len(first.encoded) == 64
    assert first.source == "evaluation pictures of digits"


def test_evaluation_pictures_leave_broken_ones_out(encode, broken, tmp_path):
    for number, content in enumerate([*broken.values(), encode("PNG"), encode("PNG", 1)]):
        path = tmp_path / "val" / ("a", "b")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "x.png").write_bytes(encode("PNG"))
    found = evaluation_pictures(open_source(f"folder:{tmp_path}"))
    assert {*found.encoded} == {encode("PNG"), encode("PNG", 1)}


def test_generated_pictures():
    pictures = generated_pictures(6)
    assert pictures.encoded == generated_pictures(6).encoded
    assert len({decode.decode(encoded).shape for encoded in pictures.encoded}) == 6
