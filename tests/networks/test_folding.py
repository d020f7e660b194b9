"""Folding leaves the results as they are, and no normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.blocks import Block
from efficientnetv2_tf.networks.folding import fold_normalization
from efficientnetv2_tf.networks.freezing import freeze
from efficientnetv2_tf.networks.model import get_model

# All kinds of blocks: fused with and without expansion, MBConv with and without, squeeze-and-excitation in some.
BLOCKS = [
    "r1_k3_s1_e1_i8_o8_c1",
    "r2_k3_s2_e2_i8_o16_se0.25_c1",
    "r1_k3_s1_e1_i16_o16_se0.25",
    "r2_k5_s2_e4_i16_o24",
]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, [3, 40, 33, 3]).astype(np.float32)


def build(**options):
    model = get_model("efficientnetv2-b0", blocks=BLOCKS, num_classes=7, dropout_rate=0.5, **options)
    rng = np.random.default_rng(1)
    for variable in model.weights:
        name = variable.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def folded(model):
    return fold_normalization(model)


def test_same_logits_with_fewer_weights(model, folded, images):
    expected = model(images).numpy()
    np.testing.assert_allclose(folded(images), expected, rtol=1e-4, atol=1e-5 * expected.std())
    assert not [layer for layer in folded._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    # A bias in place of gamma, beta, mean and variance.
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(model.weights) - len(folded.weights) == 3 * len(norms)


def test_the_network_itself_stays(model, images):
    before, weights = model(images).numpy(), model.get_weights()
    fold_normalization(model)
    np.testing.assert_array_equal(model(images), before)
    for mine, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_gates_are_matrix_products(model, folded, images):
    """A convolution of a single pixel takes TensorFlow several times as long."""

    def gates(network):
        graph = tf.function(network).get_concrete_function(images, training=False).graph
        return {node.type for node in graph.get_operations() if "/se_1/" in node.name}

    assert "Conv2D" in gates(model) and "MatMul" not in gates(model)
    assert "MatMul" in gates(folded) and "Conv2D" not in gates(folded)


def test_a_file_of_it_opens(folded, images, tmp_path):
    folded.save(tmp_path / "folded.keras")
    copy = keras.models.load_model(tmp_path / "folded.keras")
    assert copy.normalization == "folded"
    np.testing.assert_array_equal(copy(images), folded(images))


@pytest.mark.parametrize("options", [{"activation": "relu"}, {"features_only": True}, {"include_top": False}])
def test_other_networks(options, images):
    model = build(**options)
    freeze(model)  # which is nothing to a network that is not trained
    got, expected = fold_normalization(model)(images), model(images)
    for mine, other in zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)


def test_synchronised_statistics(images):
    model = build(normalization="sync_batch")
    np.testing.assert_allclose(fold_normalization(model)(images), model(images), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_folded_comes_back():
    model = build(normalization="group")
    assert fold_normalization(model) is model
    folded = fold_normalization(build())
    assert fold_normalization(folded) is folded


def test_every_block_is_covered(model):
    kinds = {
        (type(layer).__name__, layer.expand_conv is None, layer.excite is None)
        for layer in model.layers
        if isinstance(layer, Block)
    }
    assert kinds == {
        ("FusedMBConv", True, True),
        ("FusedMBConv", False, False),
        ("MBConv", True, False),
        ("MBConv", False, True),
    }
