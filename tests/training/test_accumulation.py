"""A batch in parts gives what the whole batch gives."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.freezing import freeze_batch_norm
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.accumulation import GradientAccumulation
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.ema import MovingAverage
from efficientnetv2_tf.training.hparams import TrainConfig
from efficientnetv2_tf.training.optimizers import make_optimizer
from efficientnetv2_tf.training.schedule import WarmupSchedule

BLOCKS = ["r1_k3_s2_e1_i16_o16_c1", "r1_k3_s2_e4_i16_o24_se0.25"]


def pictures(batches=3, batch_size=12):
    """Batches of random pictures and labels."""
    number = batches * batch_size
    images = tf.random.stateless_uniform([number, 24, 24, 3], (1, 2), -1, 1)
    labels = tf.one_hot(tf.range(number) * 7 % 10, 10)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size, drop_remainder=True)


def train(network, batches, parts, *, epochs=2, optimizer="rmsprop", loss_scaling=False, rematerialize=False):
    """Everything that a training changes, after two epochs; in the order of the variables."""
    variables = network.trainable_variables
    config = TrainConfig(optimizer=optimizer, weight_decay=0.01, gradient_clip=0.5)
    schedule = WarmupSchedule(0.02, "cosine", total_steps=6, warmup_steps=2)
    classifier = Classifier(
        network,
        label_smoothing=0.1,
        l2=0.0 if optimizer == "adamw" else 0.01,
        average=MovingAverage(network.weights, 0.9),
        accumulation=GradientAccumulation(variables, parts) if parts > 1 else None,
        rematerialize=rematerialize,
    )
    optimizer = make_optimizer(config, schedule, variables, loss_scaling=loss_scaling)
    classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
    history = classifier.fit(batches, epochs=epochs, verbose=0, shuffle=False).history
    state = [*network.weights, *classifier.average.averages.values(), *optimizer.variables]
    return classifier, history, [v.numpy() for v in state]


def assert_same(one, other):
    (one, history, state), (other, other_history, other_state) = one, other
    assert int(one.optimizer.iterations.numpy()) == int(other.optimizer.iterations.numpy()) > 0
    for name, values in history.items():
        assert other_history[name] == pytest.approx(values, abs=1e-5), name
    assert len(state) == len(other_state)
    for a, b in zip(state, other_state, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", ["group", "frozen"])
def test_a_network_s_weights_are_those_of_the_whole_batch(kind):
    def trained(parts):
        keras.utils.set_random_seed(0)
        normalization = "group" if kind == "group" else "batch"
        sizes = {"blocks": BLOCKS, "drop_connect_rate": 0.0, "dropout_rate": 0.0, "normalization": normalization}
        network = get_model("testing", num_classes=10, **sizes)
        if kind == "frozen":
            freeze_batch_norm(network)
        return train(network, pictures(), parts)

    assert_same(trained(1), trained(3))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("optimizer, loss_scaling", [("adamw", False), ("sgd", False), ("rmsprop", True)])
def test_optimizers_see_whole_batches_only(optimizer, loss_scaling):
    """Clipping, decay, schedule, average and loss scale; and nothing happens when the data set ends."""
    rng = np.random.default_rng(0)
    examples = rng.normal(size=[24, 4]).astype(np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 24)]
    batches = tf.data.Dataset.from_tensor_slices(examples).batch(8).filter(lambda *_: True)  # of unknown number

    def trained(parts):
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3)], name="linear")
        return train(network, batches, parts, optimizer=optimizer, loss_scaling=loss_scaling)

    one, parted = trained(1), trained(4)
    assert_same(one, parted)
    assert int(parted[0].optimizer.iterations.numpy()) == 6
    assert all(np.asarray(value).std() > 0 for value in one[2][:1])


def test_batch_statistics_are_those_of_the_parts():
    """What differs from the whole batch, as documented: each part moves the statistics, by its own."""
    layer = keras.layers.BatchNormalization(momentum=0.5)
    network = keras.Sequential([keras.layers.Input([1]), layer, keras.layers.Dense(2, kernel_initializer="zeros")])
    values = np.array([[1.0], [10.0], [3.0], [30.0]], np.float32)
    labels = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    train(network, tf.data.Dataset.from_tensors((values, labels)), 2, epochs=1)
    # Parts are every second example: means 2 and 20.
    assert float(layer.moving_mean.numpy()[0]) == pytest.approx(0.5 * (0.5 * 0 + 0.5 * 2) + 0.5 * 20)


REPLICAS = """
import importlib.util, sys
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow(logical_cpus=2)
import keras, numpy as np, tensorflow as tf
spec = importlib.util.spec_from_file_location("tested", sys.argv[1])
tested = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tested)
states = []
for strategy, normalization, again in (
    (tf.distribute.get_strategy(), "batch", False),
    (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), "sync_batch", True),
):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        network = tested.get_model("testing", num_classes=10, blocks=tested.BLOCKS, drop_connect_rate=0.0,
            dropout_rate=0.0, normalization=normalization)
        states.append(tested.train(network, tested.pictures(), 3, rematerialize=again)[2])
assert len(states[0]) == len(states[1]) > 50
print(max(np.abs(a - b).max() for a, b in zip(*states)))
"""


@pytest.mark.slow
def test_on_two_devices_with_synchronised_statistics_and_recomputation():
    done = subprocess.run([sys.executable, "-c", REPLICAS, __file__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4
