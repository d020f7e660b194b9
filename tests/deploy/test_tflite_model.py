"""Running .tflite files from their path or their bytes."""

import numpy as np
import pytest

from efficientnetv2_tf.deploy.tflite_convert import classify_function, converter_of
from efficientnetv2_tf.deploy.tflite_file import with_metadata
from efficientnetv2_tf.deploy.tflite_model import TFLiteModel, make_interpreter
from efficientnetv2_tf.training.hparams import ConfigError

pytest.importorskip("ai_edge_litert")
INFO = {"name": "digits", "description": "int8", "image_size": 32}


@pytest.fixture(scope="module")
def files(make_bundle, digit_pixels, tflite_files):
    """(float32, int8 with uint8 input and output)"""
    bundle = make_bundle()
    with converter_of(bundle, digit_pixels[0][:40], uint8_io=True) as converter:
        return tflite_files["float32"], with_metadata(converter.convert("int8"), INFO, bundle.class_names)


@pytest.mark.slow
def test_a_file_gives_the_probabilities_of_the_network(files, make_bundle, unseen_batches, tmp_path):
    pixels = unseen_batches[0][0][:30]
    path = tmp_path / "digits.tflite"
    path.write_bytes(files[0])
    model = TFLiteModel(path, threads=2)
    assert (model.info["name"], model.info["mode"], model.info["image_size"]) == ("testing", "float32", 32)
    assert model.class_names == tuple(f"digit {n}" for n in range(10))
    assert model.dtypes == ("float32", "float32")
    probabilities = model.predict(pixels)
    assert probabilities.shape == (30, 10) and probabilities.dtype == np.float32
    expected = classify_function(make_bundle())(pixels)["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(pixels.astype(np.uint8)), model.predict(np.floor(pixels)), atol=1e-6)
    assert model.predict(np.zeros([0, 32, 32, 3])).shape == (0, 10)


@pytest.mark.slow
def test_a_uint8_file_gets_whole_pixels_and_gives_probabilities(files, unseen_batches):
    pixels = unseen_batches[0][0][:30]
    model = TFLiteModel(files[1])
    assert model.info == INFO
    assert model.dtypes == ("uint8", "uint8")
    np.testing.assert_array_equal(model.as_input([-30.0, 0.4, 0.6, 254.6, 300.0]), [0, 0, 1, 255, 255])
    probabilities = model.predict(pixels)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=0.03)
    np.testing.assert_allclose(probabilities, TFLiteModel(files[0]).predict(pixels), atol=0.2)
    np.testing.assert_array_equal(probabilities, model.predict(np.clip(np.round(pixels), 0, 255).astype(np.uint8)))


@pytest.mark.slow
def test_pictures_of_another_size_are_refused(files):
    with pytest.raises(ValueError, match=r"\[pictures, 32, 32, 3\]. Received: \(2, 48, 48, 3\)"):
        TFLiteModel(files[0]).predict(np.zeros([2, 48, 48, 3]))
    with pytest.raises(ValueError, match=r"Received: \(32, 32, 3\)"):
        TFLiteModel(files[0]).predict(np.zeros([32, 32, 3]))


def test_without_the_interpreter_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ConfigError, match=r"ai-edge-litert.*pip install 'efficientnetv2_tf\[tflite\]'"):
        make_interpreter(b"")
