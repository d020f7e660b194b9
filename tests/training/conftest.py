"""Networks and data that the tests of this folder share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data.sources import open_source
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.ema import MovingAverage
from efficientnetv2_tf.training.hparams import TrainConfig
from efficientnetv2_tf.training.optimizers import make_optimizer


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """96 digits to train, 20 to evaluate."""
    folder = tmp_path_factory.mktemp("digits")
    return open_source("digits", data_dir=folder, train_split="train[:96]", eval_split="test[:20]")


@pytest.fixture(scope="session")
def make_classifier():
    """Makes a compiled classifier with the smallest network of the table."""

    def make(seed=0, *, optimizer="adamw", ema_decay=0.9, learning_rate=0.01, **options):
        keras.utils.set_random_seed(seed)
        network = get_model("testing", num_classes=10)
        average = MovingAverage(network.weights, ema_decay) if ema_decay else None
        classifier = Classifier(network, average=average, **options)
        config = TrainConfig(optimizer=optimizer, weight_decay=0.01)
        classifier.compile(
            optimizer=make_optimizer(config, learning_rate, network.trainable_variables),
            jit_compile=False,
            auto_scale_loss=False,
        )
        return classifier

    return make


@pytest.fixture(scope="session")
def make_linear():
    """Makes a compiled classifier whose network is one matrix: features [4] to logits [3]."""

    def make(optimizer=None, *, ema_decay=None, classes=3, **options):
        layer = keras.layers.Dense(classes, name="dense")
        network = keras.Sequential([keras.layers.Input([4]), layer], name="linear")
        layer.set_weights(
            [np.random.default_rng(0).normal(size=[4, classes]).astype(np.float32), np.zeros(classes, np.float32)]
        )
        average = MovingAverage(network.weights, ema_decay) if ema_decay else None
        classifier = Classifier(network, average=average, **options)
        optimizer = optimizer or keras.optimizers.SGD(0.1, name="optimizer")
        optimizer.build(network.trainable_variables)
        classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
        return classifier

    return make


@pytest.fixture(scope="session")
def features():
    """10 examples for `make_linear`: features [10, 4], one-hot labels [10, 3]."""
    rng = np.random.default_rng(1)
    return rng.normal(size=[10, 4]).astype(np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 10)]


@pytest.fixture
def feature_batches(features):
    """The examples of `features` as batches of 4, 4 and 2."""
    return tf.data.Dataset.from_tensor_slices(features).batch(4)
