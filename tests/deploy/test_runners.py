"""Opening what was trained and exported; all of it says the same of a picture."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.deploy.bundle import load_bundle
from efficientnetv2_tf.deploy.runners import open_model
from efficientnetv2_tf.training.hparams import ConfigError


@pytest.fixture(scope="module")
def exports(exported, tmp_path_factory):
    """A folder with versions 2 and 10 of a SavedModel, and an empty version."""
    folder = tmp_path_factory.mktemp("exports")
    for version in ("2", "10"):
        shutil.copytree(exported[0] / "testing" / "7", folder / "digits" / version)
    (folder / "digits" / "2" / "saved_model.pb").write_bytes(b"an old one, which is not asked")
    (folder / "digits" / "11").mkdir()
    return folder


@pytest.fixture(scope="module")
def encoded(encode, broken):
    return [broken["cut PNG"], *(encode("PNG", seed) for seed in range(4)), b""]


@pytest.fixture(scope="module")
def expected(run_folder, encoded):
    """(names, scores) of the four good ones by the network itself."""
    bundle = load_bundle(run_folder)
    images = np.stack([decode.preprocess_eval(picture, 32, "v2", crop=False) for picture in encoded[1:5]])
    probabilities = tf.nn.softmax(bundle.network(images, training=False)).numpy()
    best = np.argsort(-probabilities, axis=1)[:, :5]
    return best.astype(str), np.take_along_axis(probabilities, best, axis=1)


def check(outputs, expected, prefix=""):
    names, scores = expected
    assert not any(outputs["classes"][[0, -1]].flat)
    found = [[name.decode().removeprefix(prefix) for name in row] for row in outputs["classes"][1:-1]]
    np.testing.assert_array_equal(found, names)
    np.testing.assert_allclose(outputs["scores"][1:-1], scores, atol=1e-5)


@pytest.mark.parametrize(("file", "explain"), [(".", True), ("model.keras", False)])
def test_a_training_and_its_keras_file(run_folder, encoded, expected, file, explain):
    outputs = open_model(run_folder / file, explain=explain)(encoded)
    check(outputs, expected)
    assert ("heatmap" in outputs) == ("region" in outputs) == explain


def test_a_keras_file_without_its_training(run_folder, encoded, expected, tmp_path):
    """Its size and preprocessing are the variant's, and classes have numbers for names."""
    shutil.copy(run_folder / "model.keras", tmp_path / "x.keras")
    outputs = open_model(tmp_path / "x.keras")(encoded)
    assert outputs["classes"].shape == (6, 5)
    assert {name.decode() for name in outputs["classes"][1:5].flat} <= {str(digit) for digit in range(10)}
    # It looks at the centre, as the release does where nobody says otherwise.
    assert np.abs(outputs["scores"][1:5] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("place", ["digits", "digits/10"])
def test_a_saved_model_and_its_versions(exports, encoded, expected, place):
    check(open_model(exports / place)(encoded), expected)


def test_an_export_with_one_model_explains(exports, encoded, expected):
    outputs = open_model(exports, explain=True)(encoded)
    check(outputs, expected)
    assert outputs["heatmap"].shape == (6, 4, 4)
    np.testing.assert_array_equal(outputs["region"][1:5], [[0, 0, 1, 1]] * 4)


def test_onnx(request, encoded, expected):
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    path = request.getfixturevalue("onnx_file")
    check(open_model(path)(encoded), expected, "digit ")
    with pytest.raises(ConfigError, match="gives no heat map"):
        open_model(path, explain=True)


@pytest.mark.slow
def test_tflite(request, encoded, expected):
    pytest.importorskip("ai_edge_litert")
    folder, _, _ = request.getfixturevalue("tflite_exported")
    check(open_model(folder / "testing-float32.tflite")(encoded), expected, "digit ")


def test_nothing_good_is_no_error(exports):
    outputs = open_model(exports)([b"", b"text"])
    assert not any(outputs["classes"].flat)
    assert len(outputs["classes"]) == 2


def test_a_changed_file_is_refused(exports, tmp_path):
    shutil.copytree(exports / "digits" / "10", tmp_path / "1")
    with (tmp_path / "1" / "variables" / "variables.data-00000-of-00001").open("r+b") as file:
        file.seek(100)
        file.write(b"\1\2\3\4")
    with pytest.raises(ConfigError, match=r"variables\.data-00000-of-00001 is missing, or not the file"):
        open_model(tmp_path)


def test_what_is_no_model_is_refused(exports, tmp_path):
    (tmp_path / "broken.keras").write_text("text")
    (tmp_path / "two" / "a" / "1").mkdir(parents=True)
    (tmp_path / "two" / "a" / "1" / "saved_model.pb").touch()
    shutil.copytree(tmp_path / "two" / "a", tmp_path / "two" / "b")
    for name, message in {
        "gone": "was not found",
        ".": "holds neither a training .* nor a SavedModel",
        "two": "holds several models: a, b",
        "broken.keras": "cannot be read as a Keras file",
    }.items():
        with pytest.raises(ConfigError, match=message):
            open_model(tmp_path / name)


def test_a_saved_model_of_another_kind_is_refused(tmp_path):
    module = tf.Module()
    signature = tf.function(lambda image_bytes: {"length": tf.strings.length(image_bytes)})
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    tf.saved_model.save(module, str(tmp_path), {"serving_default": signature.get_concrete_function(spec)})
    with pytest.raises(ConfigError, match="no signature serving_default with classes and scores"):
        open_model(tmp_path)
