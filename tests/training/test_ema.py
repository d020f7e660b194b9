"""The moving average against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.training.ema import MovingAverage


def make_variables():
    return [keras.Variable([1.0, 2.0], name="a"), keras.Variable([[3.0]], name="b")]


@pytest.mark.parametrize("decay", [0.3, 0.9999])
def test_follows_the_formula(decay):
    variables = make_variables()
    average = MovingAverage(variables, decay)
    update = tf.function(average.update)
    expected = [v.numpy().astype(np.float64) for v in variables]
    rng = np.random.default_rng(0)
    for step in range(10):
        for variable in variables:
            variable.assign(rng.normal(size=variable.shape))
        update(tf.constant(step, tf.int64))
        rate = min(decay, (1 + step) / (10 + step))
        expected = [rate * e + (1 - rate) * v.numpy() for e, v in zip(expected, variables, strict=True)]
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(average.averages[variable.path], value, rtol=1e-5, atol=1e-6)


def test_first_step_takes_nine_tenths_of_the_new_weights():
    (variable, _) = make_variables()
    average = MovingAverage([variable], 0.9999)
    variable.assign([11.0, 12.0])
    average.update(0)
    np.testing.assert_allclose(average.averages["a"], [10.0, 11.0], rtol=1e-6)


def test_decay_is_reached():
    (variable, _) = make_variables()
    average = MovingAverage([variable], 0.5)
    variable.assign([3.0, 4.0])
    average.update(10**6)
    np.testing.assert_allclose(average.averages["a"], [2.0, 3.0], rtol=1e-6)


def test_statistics_are_averaged(make_classifier):
    classifier = make_classifier()
    weights = {v.path: v for v in classifier.network.weights}
    averages = classifier.average.averages
    assert set(averages) == set(weights)
    name = "stem_norm/moving_variance"
    before = averages[name].numpy()
    images = tf.random.stateless_uniform([4, 16, 16, 3], (1, 2))
    classifier.train_step((images, tf.one_hot([1, 2, 3, 4], 10)))
    assert np.abs(weights[name].numpy() - before).max() > 1e-3
    np.testing.assert_allclose(averages[name], 0.1 * before + 0.9 * weights[name].numpy(), rtol=1e-5)


@pytest.mark.parametrize("failing", [False, True])
def test_applied_swaps_and_restores_exactly(failing):
    variables = make_variables()
    average = MovingAverage(variables, 0.9)
    for variable in variables:
        variable.assign(variable.numpy() / 3)
    average.update(3)
    raw = [v.numpy() for v in variables]
    averaged = [average.averages[v.path].numpy() for v in variables]
    assert all((a != b).any() for a, b in zip(raw, averaged, strict=True))
    try:
        with average.applied():
            for variable, value in zip(variables, averaged, strict=True):
                np.testing.assert_array_equal(variable.numpy(), value)
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    for variable, value, mean in zip(variables, raw, averaged, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
        np.testing.assert_array_equal(average.averages[variable.path], mean)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_impossible_decay(decay):
    with pytest.raises(ValueError, match=f"`decay` should be between 0 and 1. Received: decay={decay}"):
        MovingAverage(make_variables(), decay)
