"""Normalisations by name: what Keras makes of them, and what several replicas share."""

import keras
import numpy as np
import pytest

from efficientnetv2_tf.networks.layers import BatchNormalization
from efficientnetv2_tf.networks.normalization import NORMALIZATIONS, has_statistics, make_normalization


def test_batch_normalisations_are_the_release_s():
    for name, synchronized in (("batch", False), ("sync_batch", True)):
        layer = make_normalization(name, "norm")
        assert type(layer) is BatchNormalization
        assert (layer.momentum, layer.epsilon, layer.name) == (0.9, 1e-3, "norm")
        assert layer.synchronized is synchronized


def test_group_normalisation_is_the_release_s():
    layer = make_normalization("group", "norm")
    assert type(layer) is keras.layers.GroupNormalization
    assert (layer.groups, layer.epsilon, layer.axis, layer.name) == (8, 1e-3, -1, "norm")


def test_group_normalisation_looks_at_one_example():
    images = np.random.default_rng(0).normal(3, 2, size=[4, 5, 6, 16]).astype(np.float32)
    layer = make_normalization("group")
    together = layer(images, training=True).numpy()
    np.testing.assert_allclose(layer(images[2:3])[0], together[2], atol=1e-5)
    groups = together.reshape(4, 30, 8, 2)
    np.testing.assert_allclose(groups.mean(axis=(1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std(axis=(1, 3)), 1, rtol=1e-3)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_statistics(name):
    layer = make_normalization(name)
    layer.build([None, None, None, 8])
    assert {variable.name for variable in layer.trainable_variables} == {"gamma", "beta"}
    statistics = {variable.name for variable in layer.non_trainable_variables}
    assert statistics == ({"moving_mean", "moving_variance"} if has_statistics(name) else set())


@pytest.mark.parametrize("call", [has_statistics, make_normalization])
def test_an_unknown_name(call):
    with pytest.raises(ValueError, match=r"one of \('batch', 'sync_batch', 'group'\)\. Received: .*'layer'"):
        call("layer")


REPLICAS = """
import numpy as np, keras, tensorflow as tf
from efficientnetv2_tf import get_model
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
images = np.random.default_rng(0).normal(size=[4, 17, 17, 3]).astype("float32")
images[2:] = images[2:] * 3 + 1  # the second replica's
for name in ("batch", "sync_batch"):
    with strategy.scope():
        model = get_model("testing", num_classes=2, normalization=name)
    @tf.function
    def step():
        def run():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            return model(tf.gather(images, tf.range(2) + 2 * number), training=True)
        return strategy.run(run)
    step()
    stem = model.get_layer("stem_conv")(images).numpy()
    together, first = stem.var(axis=(0, 1, 2)), stem[:2].var(axis=(0, 1, 2))
    moved = (model.get_layer("stem_norm").moving_variance.numpy() - 0.9) / 0.1
    print(name, np.allclose(moved, together, rtol=1e-3), np.allclose(moved, first, rtol=1e-3))
"""


@pytest.mark.slow
def test_replicas_share_their_statistics_where_they_should(run_python):
    """Two replicas with other pictures each: the variance of all pictures, or of those of the first replica."""
    assert run_python(REPLICAS).splitlines()[-2:] == ["batch False True", "sync_batch True False"]
