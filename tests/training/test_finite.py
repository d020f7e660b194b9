"""A step that is not finite changes nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.finite import loss_scale
from efficientnetv2_tf.training.hparams import TrainConfig
from efficientnetv2_tf.training.optimizers import make_optimizer


@pytest.fixture(scope="module")
def batch():
    images = tf.random.stateless_uniform([8, 16, 16, 3], (1, 2), -1, 1)
    return images, tf.one_hot(tf.range(8), 10)


def state(classifier):
    """Everything but the seeds, which go on counting."""
    average = classifier.average.averages.values() if classifier.average else []
    metrics = [v for metric in classifier.metrics for v in metric.variables]
    return [v.numpy() for v in (*classifier.network.weights, *classifier.optimizer.variables, *average, *metrics)]


def assert_same(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_bad_images_leave_no_trace(make_classifier, batch, poison):
    images, labels = batch
    classifier = make_classifier()
    step = tf.function(classifier.train_step)
    step(batch)
    before = state(classifier)
    bad = tf.tensor_scatter_nd_update(images, [[3, 5, 5, 0]], [poison])  # one value of one picture
    results = step((bad, labels))
    assert_same(state(classifier), before)
    assert np.isfinite(float(results["loss"]))
    assert int(classifier.finite.skipped) == 1
    assert not np.isfinite(float(classifier.finite.loss))
    step(batch)
    assert int(classifier.finite.skipped) == 1
    assert int(classifier.optimizer.iterations) == 2
    moved = sum((a != b).any() for a, b in zip(state(classifier), before, strict=True))
    assert moved > 0.95 * len(before)


def test_on_the_only_device_of_a_strategy(features):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        network = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3)])
        classifier = Classifier(network)
        config = TrainConfig(optimizer="adamw", weight_decay=0.1)  # updates weights outside of the replicas' threads
        classifier.compile(make_optimizer(config, 0.1, network.trainable_variables), auto_scale_loss=False)
    before = network.get_weights()
    history = classifier.fit(*features, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert all((a != b).any() for a, b in zip(network.get_weights(), before, strict=True))


def test_a_gradient_alone_is_enough(features):
    images, labels = features
    root = keras.layers.Activation(keras.ops.sqrt)  # its slope at 0 is infinite
    network = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3, kernel_initializer="zeros"), root])
    classifier = Classifier(network)
    optimizer = keras.optimizers.SGD(0.1, name="optimizer")
    optimizer.build(network.trainable_variables)
    classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
    classifier.train_step((tf.constant(images), tf.constant(labels)))
    assert int(classifier.finite.skipped) == 1
    assert float(classifier.finite.loss) == pytest.approx(np.log(3), rel=1e-5)
    assert (network.get_weights()[0] == 0).all()


# --- float16 ---


@pytest.fixture(scope="module")
def half():
    """A classifier that computes in float16, and its step."""
    keras.utils.set_random_seed(0)
    with dtype_policy("mixed_float16"):
        network = get_model("testing", num_classes=10)
    classifier = Classifier(network)
    optimizer = make_optimizer(TrainConfig(optimizer="adamw"), 0.01, network.trainable_variables, loss_scaling=True)
    classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
    return classifier, tf.function(classifier.train_step)


@pytest.mark.slow
def test_float16_trains(half, batch):
    classifier, step = half
    before = classifier.network.get_weights()
    losses = [float(step(batch)["loss"]) for _ in range(4)]
    assert np.isfinite(losses).all()
    assert int(classifier.optimizer.iterations) > 0 and int(classifier.finite.skipped) == 0
    assert all((a != b).any() for a, b in zip(classifier.network.get_weights(), before, strict=True))
    logits = classifier.network(batch[0])
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()


@pytest.mark.slow
def test_the_loss_scale_falls_first(half, batch):
    classifier, step = half
    classifier.optimizer.dynamic_scale.assign(2.0**40)  # overflows
    before = classifier.network.trainable_variables[0].numpy()
    step(batch)
    assert float(loss_scale(classifier.optimizer)) == 2.0**39
    assert int(classifier.finite.skipped) == 0  # nothing is wrong with the training
    np.testing.assert_array_equal(classifier.network.trainable_variables[0], before)
    classifier.optimizer.dynamic_scale.assign(2.0**10)
    before = state(classifier)
    step((batch[0] * np.inf, batch[1]))
    assert int(classifier.finite.skipped) == 1
    assert_same(state(classifier), before)  # the scale too: it is not to blame


def test_without_loss_scaling(make_linear):
    assert loss_scale(make_linear().optimizer) is None


# --- several replicas ---

TWO_REPLICAS = """
import numpy as np, keras
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow(logical_cpus=2)
import tensorflow as tf
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.ema import MovingAverage
from efficientnetv2_tf.training.optimizers import SGD
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    norm = keras.layers.BatchNormalization(synchronized=True)
    network = keras.Sequential([keras.layers.Input([4]), norm, keras.layers.Dense(3)])
    classifier = Classifier(network, average=MovingAverage(network.weights, 0.9))
    optimizer = SGD(0.1, momentum=0.9, name="optimizer")
    optimizer.build(network.trainable_variables)
    classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
variables = [*network.weights, *optimizer.variables, *(v for m in classifier.metrics for v in m.variables)]
variables = [*(v.value for v in variables), *classifier.average.averages.values()]
def state():
    return [copy.numpy() for v in variables for copy in strategy.experimental_local_results(v)]
def batch(last):
    return strategy.experimental_distribute_values_from_function(
        lambda c: tf.random.stateless_normal([4, 4], (1, 2)) * (last if c.replica_id_in_sync_group else 1.0))
@tf.function
def step(images):
    strategy.run(classifier.train_step, args=((images, tf.eye(4, 3)),))
step(batch(1.0))
before = state()
step(batch(np.nan))
print("same", all((a == b).all() for a, b in zip(state(), before, strict=True)), classifier.finite.skipped.numpy())
step(batch(1.0))
print("moved", sum((a != b).any() for a, b in zip(state(), before, strict=True)) > 20, optimizer.iterations.numpy())
"""


@pytest.mark.slow
def test_one_bad_replica_leaves_all_as_they_were(run_python):
    assert run_python(TWO_REPLICAS).splitlines() == ["same True 1", "moved True 2"]
