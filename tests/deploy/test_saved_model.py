"""The SavedModel, run as TF Serving runs it: in a graph session with the tag serve."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.deploy.explain import class_heatmaps, forward_network, looked_at
from efficientnetv2_tf.deploy.saved_model import SIGNATURES, Servable
from efficientnetv2_tf.deploy.serving.loaded_model import LoadedModel
from efficientnetv2_tf.deploy.serving.tensors import RequestError
from efficientnetv2_tf.networks.model import get_model

SIZE = 32


@pytest.fixture(scope="module")
def served(saved_model):
    return LoadedModel(saved_model)


@pytest.fixture(scope="module")
def pictures(encode):
    """Of several formats and sizes."""
    return [encode("JPEG", 1, size=(80, 60)), encode("PNG", 2, size=(33, 90)), encode("WEBP", 3), encode("JPEG", 4)]


@pytest.fixture(scope="module")
def expected(make_bundle, pictures):
    """What the network itself gives for `pictures`: maps, features, logits and probabilities."""
    images = np.stack([decode.preprocess_eval(picture, SIZE, "v2") for picture in pictures])
    outputs = forward_network(make_bundle().network).predict(images, verbose=0)
    return {**outputs, "images": images, "probabilities": tf.nn.softmax(outputs["logits"]).numpy()}


def strings(encoded):
    return {"image_bytes": np.array(encoded, object)}


def metagraph(folder):
    (metagraph,) = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    return metagraph


def test_signatures(served):
    inputs = {name: served.inputs(name) for name in SIGNATURES}
    assert inputs == {
        "serving_default": {"image_bytes": "string"},
        "images": {"images": "uint8"},
        "preprocessed": {"preprocessed": "float32"},
        "features": {"image_bytes": "string"},
        "explain": {"image_bytes": "string"},
    }
    answer = {"probabilities", "classes", "scores"}
    assert {name: {*served.outputs(name)} for name in SIGNATURES} == {
        "serving_default": answer,
        "images": answer,
        "preprocessed": {"logits"},
        "features": {"features"},
        "explain": answer | {"heatmap", "region"},
    }


def test_converters_know_the_operations(saved_model):
    """Users convert the SavedModel itself; a fused operation in it that TFLite does not know would stop them."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["preprocessed"])
    assert len(converter.convert()) > 1000


def test_encoded_pictures_give_what_the_network_gives(served, pictures, expected):
    found = served.run("serving_default", strings(pictures))
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-5)
    best = np.argsort(-expected["probabilities"], axis=1)[:, :5]
    np.testing.assert_array_equal(found["classes"], [[f"digit {digit}".encode() for digit in row] for row in best])
    np.testing.assert_allclose(found["scores"], np.take_along_axis(expected["probabilities"], best, 1), atol=1e-5)
    assert {values.dtype for values in found.values()} == {np.dtype("float32"), np.dtype(object)}


def test_pixels_give_the_same(served, pictures, expected):
    for picture, probabilities in zip(pictures, expected["probabilities"], strict=True):
        pixels = decode.decode(tf.constant(picture)).numpy()
        found = served.run("images", {"images": np.stack([pixels, pixels[::-1], pixels])})
        np.testing.assert_allclose(found["probabilities"][[0, 2]], [probabilities] * 2, atol=1e-5)
        assert np.abs(found["probabilities"][1] - probabilities).max() > 1e-3


def test_logits_features_and_explanations(served, pictures, expected, make_bundle):
    logits = served.run("preprocessed", {"preprocessed": expected["images"]})["logits"]
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    features = served.run("features", strings(pictures))["features"]
    np.testing.assert_allclose(features, expected["features"], atol=1e-4)
    explained = served.run("explain", strings(pictures))
    kernel, best = make_bundle().network.get_layer("classifier").kernel, expected["logits"].argmax(axis=1)
    np.testing.assert_allclose(explained["heatmap"], class_heatmaps(expected["maps"], kernel, best), atol=1e-4)
    sides = tf.constant([[60, 80], [90, 33], [40, 50], [40, 50]])
    np.testing.assert_allclose(explained["region"], looked_at(sides, SIZE, "v2", True), atol=1e-6)
    np.testing.assert_allclose(explained["probabilities"], expected["probabilities"], atol=1e-5)


@pytest.mark.parametrize("signature", ["serving_default", "features", "explain"])
def test_broken_pictures_get_zeros_and_do_not_disturb_the_others(served, pictures, broken, signature):
    mixed, good = [*broken.values(), *pictures], len(broken)
    found, alone = served.run(signature, strings(mixed)), served.run(signature, strings(pictures))
    for name, values in found.items():
        np.testing.assert_array_equal(values[:good], np.full_like(values[:good], b"" if name == "classes" else 0))
        if name == "classes":
            np.testing.assert_array_equal(values[good:], alone[name])
        else:
            np.testing.assert_allclose(values[good:], alone[name], atol=1e-6)


def test_a_call_without_a_good_picture_is_an_error(served, broken):
    for encoded in ([broken["cut JPEG"]], [*broken.values()], []):
        with pytest.raises(RequestError, match=r"No image could be decoded\. Expected image_bytes") as error:
            served.run("serving_default", strings(encoded))
        assert error.value.status == 400


@pytest.mark.parametrize(
    ("signature", "tensor"),
    [
        ("serving_default", np.array(b"x", object)),
        ("serving_default", np.array([[b"x"]], object)),
        ("images", np.zeros([32, 32, 3], np.uint8)),
        ("images", np.zeros([1, 32, 32, 1], np.uint8)),
        ("preprocessed", np.zeros([1, 32, 40, 3], np.float32)),
        ("preprocessed", np.zeros([32, 32, 3], np.float32)),
    ],
)
def test_wrong_shapes_are_refused(served, signature, tensor):
    """The server does not compare them with the signature's."""
    with pytest.raises(RequestError) as error:
        served.run(signature, {next(iter(served.inputs(signature))): tensor})
    assert error.value.status == 400


def test_the_graph_is_for_inference_only(saved_model):
    graph = metagraph(saved_model).graph_def
    nodes = [node for function in graph.library.function for node in function.node_def] + [*graph.node]
    names = {node.op for node in nodes}
    assert not [name for name in names if "Random" in name or "Dropout" in name or "PyFunc" in name]
    assert not any(function.attr["_XlaMustCompile"].b for function in graph.library.function)
    # The network stands there once, and all signatures call it.
    assert sum(node.op == "DepthwiseConv2dNative" for node in nodes) == 2


def test_variables_are_stored_once(saved_model, make_bundle):
    size = sum(path.stat().st_size for path in (saved_model / "variables").glob("*.data*"))
    assert size < 1.1 * 4 * make_bundle().network.count_params()


def test_several_classes_a_picture(make_bundle, pictures, expected):
    signature = Servable(make_bundle(image_size=SIZE, multi_label=True, crop=True)).signature("serving_default")
    found = signature(image_bytes=tf.constant(pictures))
    np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-expected["logits"])), atol=1e-5)


def test_few_classes_and_names_of_any_language(make_bundle, pictures):
    bundle = make_bundle(get_model("testing", num_classes=3), class_names=("猫", "собака", "été"))
    found = Servable(bundle).signature("serving_default")(image_bytes=tf.constant(pictures))
    assert found["scores"].shape == (4, 3)
    assert {name.decode() for name in found["classes"].numpy()[0]} == {"猫", "собака", "été"}
