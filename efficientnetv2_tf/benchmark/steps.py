"""What is timed: training steps as the trainer builds them, in turns. TensorFlow is imported at the first use."""

import statistics
import time

import numpy as np

from efficientnetv2_tf.networks.block_string import round_filters
from efficientnetv2_tf.networks.cost import stage_costs


def take_turns(steps, rounds, repeats):
    """Runs steps in turns, so that what else runs on the machine slows all of them.

    Args:
        steps: a dictionary of functions that end when what they compute is there. Each runs once before, unmeasured.
        rounds: in which each takes its turn.
        repeats: runs of a turn.

    Returns:
        A dictionary from the steps' keys to the seconds of a run in each round.
    """
    for step in steps.values():
        step()
    seconds = {key: [] for key in steps}
    for _ in range(rounds):
        for key, step in steps.items():
            began = time.perf_counter()
            for _ in range(repeats):
                step()
            seconds[key].append((time.perf_counter() - began) / repeats)
    return seconds


def medians(seconds):
    """`take_turns`' median of each key."""
    return {key: statistics.median(found) for key, found in seconds.items()}


def random_batch(batch_size, image_size, classes, seed=0):
    """Scaled pictures float32 [batch, size, size, 3], and labels float32 [batch, classes]."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, [batch_size, image_size, image_size, 3]).astype(np.float32)
    return images, np.eye(classes, dtype=np.float32)[rng.integers(classes, size=batch_size)]


def make_classifier(config, strategy=None):
    """A `Classifier` as the trainer builds it, in the first of 100 steps an epoch.

    Args:
        config: of `peers.network_config`.
        strategy: a `tf.distribute.Strategy`; None is TensorFlow's default one.
    """
    import keras
    import tensorflow as tf

    from efficientnetv2_tf.training.building import build_classifier

    keras.utils.set_random_seed(config.runtime.seed)
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        return build_classifier(config, strategy, 100, config.train.epochs)


def network_costs(network, image_size):
    """`stage_costs` of a built `EfficientNet` with its classifier."""
    settings = network.get_config()
    feature_size = round_filters(settings["feature_size"], settings["width_coefficient"])
    return stage_costs(network.blocks, image_size, feature_size=feature_size, num_classes=settings["num_classes"])
