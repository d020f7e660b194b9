"""Blocks that are computed twice give what they give when computed once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.training.rematerialize import rematerialize_blocks


def gradients(recompute, *, policy="float32", frozen=()):
    """(loss, gradients, all variables) of a step with strong stochastic depth, in a graph."""
    keras.utils.set_random_seed(0)
    with dtype_policy(policy):
        network = get_model("testing", num_classes=10, drop_connect_rate=0.6)
    for name in frozen:
        network.get_layer(name).trainable = False
    model = rematerialize_blocks(network) if recompute else network
    images = tf.random.stateless_uniform([8, 32, 32, 3], (1, 2), -1, 1)
    labels = tf.one_hot(tf.range(8) % 10, 10)

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.nn.softmax_cross_entropy_with_logits(labels, model(images, training=True))
        return loss, tape.gradient(loss, [v.value for v in network.trainable_variables])

    step(images)
    loss, slopes = step(images)  # the second, so that the first one's effects on statistics and seeds count
    return loss, slopes, network.variables


@pytest.mark.parametrize("options", [{}, {"policy": "mixed_bfloat16"}, {"frozen": ["blocks_1"]}])
def test_same_loss_gradients_statistics_and_seeds(options):
    (loss, slopes, variables), (again, other_slopes, others) = gradients(False, **options), gradients(True, **options)
    tolerance = 1e-2 if "policy" in options else 1e-5
    np.testing.assert_allclose(loss, again, atol=tolerance)
    assert len(slopes) == len(other_slopes) > 20
    for variable, a, b in zip([v for v in variables if v.trainable], slopes, other_slopes, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(a).max()), err_msg=variable.path)
    for a, b in zip(variables, others, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=tolerance, err_msg=a.path)


def test_a_training_ends_with_the_same_weights(make_classifier):
    images = tf.random.stateless_uniform([24, 24, 24, 3], (1, 2), -1, 1)
    batches = tf.data.Dataset.from_tensor_slices((images, tf.one_hot(tf.range(24) % 10, 10))).batch(8)
    one, again = (make_classifier(optimizer="rmsprop", rematerialize=r) for r in (False, True))
    for classifier in (one, again):
        classifier.fit(batches, epochs=2, verbose=0, shuffle=False)
    for a, b in zip(one.network.variables, again.network.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, err_msg=a.path)


def test_inference_and_the_saved_network_know_nothing_of_it(tmp_path):
    network = get_model("testing", num_classes=10)
    model = rematerialize_blocks(network)
    assert [id(v) for v in model.weights] == [id(v) for v in network.weights]
    images = tf.random.stateless_uniform([2, 32, 32, 3], (1, 2), -1, 1)
    np.testing.assert_array_equal(model(images, training=False), network(images, training=False))
    network.save(tmp_path / "model.keras")
    assert len(keras.models.load_model(tmp_path / "model.keras").weights) == len(network.weights)
