"""Export to ONNX, run by onnxruntime."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.deploy.onnx import OnnxModel, check_onnx, write_onnx
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.hparams import ConfigError

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).uniform(0, 255, [7, 32, 32, 3]).astype(np.float32)


def probabilities(bundle, pixels, activation=tf.nn.softmax):
    return activation(bundle.network(decode.normalize(pixels, bundle.style), training=False)).numpy()


def test_it_gives_what_the_network_gives_for_batches_of_any_size(onnx_file, make_bundle, pixels):
    model, expected = OnnxModel(onnx_file), probabilities(make_bundle(), pixels)
    for size in (1, 2, 7):
        np.testing.assert_allclose(model.predict(pixels[:size]), expected[:size], atol=1e-4)


def test_the_file_says_how_to_feed_it(onnx_file):
    model = OnnxModel(onnx_file)
    assert model.class_names == tuple(f"digit {n}" for n in range(10))
    assert model.info == {"image_size": 32, "style": "v2", "crop": False, "multi_label": False}
    file = onnx.load(onnx_file)
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    assert shapes == {"pixels": ["batch", 32, 32, 3], "probabilities": ["batch", 10]}
    assert {node.domain for node in file.graph.node} == {""}  # none of onnxruntime's own operators
    assert json.loads({entry.key: entry.value for entry in file.metadata_props}["image_size"]) == 32


@pytest.mark.parametrize("style", ["v1", "finetune"])
def test_scaling_is_inside(make_bundle, pixels, style, tmp_path):
    options = {"normalization": "group", "activation": "hard_silu", "blocks": ["r1_k3_s2_e2_i16_o16_se0.25"]}
    network = get_model("testing", num_classes=10, preprocessing=style, **options)
    bundle = make_bundle(network, style=style, multi_label=True)
    write_onnx(bundle, tmp_path / "x.onnx")
    expected = probabilities(bundle, pixels, tf.sigmoid)
    np.testing.assert_allclose(OnnxModel(tmp_path / "x.onnx").predict(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(("activation", "operator"), [("gelu", "Erfc"), ("celu", "Expm1")])
def test_activations_without_a_counterpart_are_refused(make_bundle, activation, operator, tmp_path):
    network = get_model("testing", num_classes=10, activation=activation, blocks=["r1_k3_s1_e1_i16_o16_c1"])
    with pytest.raises(ConfigError, match=f"nothing for TensorFlow's {operator}"):
        write_onnx(make_bundle(network), tmp_path / "x.onnx")
    assert not [*tmp_path.iterdir()]


def test_other_files_are_refused(onnx_file, tmp_path):
    file = onnx.load(onnx_file)
    del file.metadata_props[:]
    onnx.save(file, tmp_path / "plain.onnx")
    with pytest.raises(ConfigError, match="does not say how to feed it"):
        OnnxModel(tmp_path / "plain.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ConfigError, match="cannot be read as ONNX"):
        OnnxModel(tmp_path / "text.onnx")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ConfigError, match=r"not installed: tf2onnx\. pip install"):
        check_onnx()
