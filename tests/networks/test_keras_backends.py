"""The networks are Keras and nothing else: they run on JAX too."""

import ast
import importlib.util
import pathlib
import sys

import numpy as np
import pytest

import efficientnetv2_tf
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.normalization import NORMALIZATIONS
from efficientnetv2_tf.networks.preprocessing import normalize

NETWORKS = pathlib.Path(efficientnetv2_tf.__file__).parent / "networks"
ALLOWED = {"keras", "numpy"}

ON_JAX = """
import os, sys
import numpy as np
import keras
before = set(sys.modules)
import efficientnetv2_tf.networks.model
print("loaded", {name.split(".")[0] for name in set(sys.modules) - before} & {"tensorflow", "torch"})
from efficientnetv2_tf import get_model
print(keras.backend.backend())
model = get_model("testing", num_classes=10, dropout_rate=0.5, weights=os.environ["WEIGHTS"])
images = np.load(os.environ["IMAGES"])
import jax
state = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]

@jax.jit
def forward(images):
    return model.stateless_call(*state, images)[0], model.stateless_call(*state, images, training=True)

inference, (training, updated) = forward(images)
changed = sum(not np.array_equal(a, b) for a, b in zip(state[1], updated, strict=True))
np.savez(os.environ["LOGITS"], inference=inference, training=training, changed=changed)
"""


OTHERS_ON_JAX = """
import os, warnings
import numpy as np
import keras, tensorflow as tf
from efficientnetv2_tf import freeze, get_model
print(keras.backend.backend())
pictures = np.load(os.environ["PICTURES"])
results = {}
for name in ("batch", "sync_batch", "group"):
    options = {"normalization": name, "preprocessing": "v1", "features_only": True}
    model = get_model("testing", weights=os.environ["WEIGHTS"].format(name), **options)
    images = model.preprocess(pictures)
    for reduction, value in model(images).items():
        results[f"{name}/{reduction}"] = value
(results["mapped"],) = tf.data.Dataset.from_tensors(pictures).map(model.preprocess).as_numpy_iterator()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    keras.ops.vectorized_map(model.preprocess, images)  # a trace has no values
    model.preprocess(images), model.preprocess(images)
print([str(warning.message)[:29] for warning in caught if warning.category is UserWarning])
model = get_model("testing", num_classes=2)
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
freeze(model)
before = [np.array(variable) for variable in model.weights]
model.fit(images, np.arange(len(images)) % 2, verbose=0)
print([v.path for v, b in zip(model.weights, before, strict=True) if not np.array_equal(v, b)])
np.savez(os.environ["RESULTS"], images=images, **results)
"""


def imports_of(path):
    """The modules that a file imports when it is imported itself.

    Imports inside functions are left out: checkpoints and state dicts are read by TensorFlow, h5py, PyTorch and
    safetensors, each of which is only needed by those who have such a file.
    """
    for node in module_level(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module


def module_level(tree):
    """The nodes of a module outside its functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from module_level(node)


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("*.py")), ids=lambda path: path.name)
def test_only_keras_and_numpy_are_imported(path):
    for name in imports_of(path):
        package = name.split(".")[0]
        known = package in sys.stdlib_module_names or package in ALLOWED
        assert known or name.startswith("efficientnetv2_tf.networks"), f"{path.name} imports {name}"


@pytest.mark.slow  # JAX compiles for long
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")
def test_jax_gives_the_same_logits(run_python, testing_model, tmp_path):
    images = np.random.default_rng(0).normal(size=[4, 33, 40, 3]).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    testing_model.save_weights(tmp_path / "testing.weights.h5")
    files = {"WEIGHTS": "testing.weights.h5", "IMAGES": "images.npy", "LOGITS": "logits.npz"}
    paths = {key: str(tmp_path / name) for key, name in files.items()}
    printed = run_python(ON_JAX, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", **paths)
    assert printed.split("\n")[:2] == ["loaded set()", "jax"]
    logits = np.load(paths["LOGITS"])
    np.testing.assert_allclose(logits["inference"], testing_model(images), rtol=1e-5, atol=1e-5)
    # Training draws, and moves every statistic and every seed.
    assert np.isfinite(logits["training"]).all()
    assert np.abs(logits["training"] - logits["inference"]).max() > 1e-3
    assert logits["changed"] == len(testing_model.non_trainable_variables)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")
def test_jax_gives_the_same_maps_and_preprocessing(run_python, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, [4, 33, 40, 3]).astype(np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    models = {name: get_model("testing", num_classes=2, normalization=name) for name in NORMALIZATIONS}
    for name, model in models.items():
        model.save_weights(tmp_path / f"{name}.weights.h5")
    files = {"WEIGHTS": "{}.weights.h5", "PICTURES": "pictures.npy", "RESULTS": "results.npz"}
    paths = {key: str(tmp_path / name) for key, name in files.items()}
    printed = run_python(OTHERS_ON_JAX, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", **paths)
    trained = ["classifier/kernel", "classifier/bias"]
    assert printed.splitlines() == ["jax", "['`images` look scaled already:']", str(trained)]
    results = np.load(paths["RESULTS"])
    images = normalize(pictures, "v1")
    np.testing.assert_allclose(results["images"], images, atol=1e-6)
    np.testing.assert_allclose(results["mapped"], images, atol=1e-6)
    for name, model in models.items():
        features = get_model("testing", normalization=name, features_only=True, weights=model)
        for reduction, value in features(images).items():
            np.testing.assert_allclose(results[f"{name}/{reduction}"], value, rtol=1e-4, atol=1e-4)
