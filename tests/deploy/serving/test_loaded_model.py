"""A SavedModel in a session."""

import logging
import threading

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.deploy.serving.loaded_model import LoadedModel
from efficientnetv2_tf.deploy.serving.tensors import RequestError


@pytest.fixture(scope="module")
def tiny(models_dir):
    return LoadedModel(models_dir / "tiny" / "1")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A model of which one signature calls a function that XLA has to compile, two functions deep."""

    class Module(tf.Module):
        @tf.function(jit_compile=True)
        def twice(self, x):
            return 2 * x

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def with_xla(self, x):
            return {"y": tf.while_loop(lambda i, _: i < 1, lambda i, y: (i + 1, self.twice(y)), [0, x])[1]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def without_xla(self, x):
            return {"y": 2 * x, "name": tf.constant("a\0")}

    module, folder = Module(), tmp_path_factory.mktemp("compiled")
    signatures = {"serving_default": module.with_xla, "plain": module.without_xla}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return LoadedModel(folder)


def test_signatures_are_known_by_name(tiny):
    assert tiny.inputs() == tiny.inputs("serving_default") == {"image_bytes": "string"}
    assert tiny.inputs("tensors") == {"images": "float32"}
    assert sorted(tiny.outputs()) == ["mean", "probabilities", "top_classes"]


def test_runs_a_signature(tiny):
    outputs = tiny.run("tensors", {"images": np.full([2, 32, 32, 3], 0.5, np.float32)})
    logits = np.full(3, 0.5) @ np.linspace(-1, 1, 12).reshape(3, 4)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(outputs["probabilities"], [expected, expected], rtol=1e-6)


def test_shapes_are_not_compared_with_the_signature(tiny):
    assert tiny.run("tensors", {"images": np.zeros([1, 8, 8, 3], np.float32)})["probabilities"].tolist() == [[0.25] * 4]
    with pytest.raises(RequestError, match="size-incompatible") as caught:
        tiny.run("tensors", {"images": np.zeros([1, 8, 8, 4], np.float32)})
    assert caught.value.status == 400


@pytest.mark.parametrize("signature", ["nope", "__saved_model_init_op"])
def test_a_signature_that_cannot_be_asked_is_refused(tiny, signature):
    with pytest.raises(RequestError, match=signature) as caught:
        tiny.inputs(signature)
    assert caught.value.status == 400


def test_runs_in_several_threads(tiny):
    found = {}

    def run(number):
        images = np.full([1, 32, 32, 3], number / 8, np.float32)
        found[number] = tiny.run("tensors", {"images": images})["probabilities"][0, 3]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(8)] == sorted(found.values())
    assert len(set(found.values())) == 8


def test_what_needs_xla_is_an_error_of_the_server(compiled):
    x = {"x": np.ones(1, np.float32)}
    with pytest.raises(RequestError, match="jit_compile=True") as caught:
        compiled.run("", x)
    assert caught.value.status == 500
    outputs = compiled.run("plain", x)
    assert outputs["y"].tolist() == [2]
    assert outputs["name"] == b"a\0"


def test_loading_warns_of_nothing(models_dir, caplog):
    with caplog.at_level(logging.WARNING):
        LoadedModel(models_dir / "echo" / "1")
    assert not caplog.records
    tf.get_logger().warning("x is deprecated")  # which other code may still say
    assert len(caplog.records) == 1


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(OSError, match="does not exist"):
        LoadedModel(tmp_path)
