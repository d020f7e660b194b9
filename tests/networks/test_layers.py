"""The layers against NumPy, in training and inference."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks import layers
from efficientnetv2_tf.networks.layers import PointwiseConv2D, ScheduledDropout, SqueezeExcite, StochasticDepth


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def randomise(layer, seed=1):
    """Gives every weight a value that matters, the statistics included."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        positive = variable.path.endswith(("moving_variance", "gamma"))
        value = rng.uniform(0.5, 2, variable.shape) if positive else rng.normal(0, 0.5, variable.shape)
        variable.assign(value)
    return {"/".join(v.path.split("/")[-2:]): v.numpy().astype(np.float64) for v in layer.weights}


def built(layer, channels=4):
    layer.build((None, None, None, channels))
    return layer


class TestPointwiseConv2D:
    @pytest.fixture(params=[False, True], ids=["without bias", "with bias"])
    def pair(self, request):
        pair = [cls(7, 1, use_bias=request.param) for cls in (PointwiseConv2D, keras.layers.Conv2D)]
        for layer in pair:
            randomise(built(layer, 5))
        return pair

    @pytest.mark.parametrize("training", [False, True])
    def test_values_and_gradients_are_those_of_conv2d(self, pair, training):
        images, downstream = tf.constant(random_images(3, 4, 6, 5)), random_images(3, 4, 6, 7, seed=2)
        results = []
        for layer in pair:
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images, training=training) if layer is pair[0] else layer(images)
                loss = tf.reduce_sum(outputs * downstream)
            variables = [weight.value for weight in layer.weights]
            results.append([outputs, *tape.gradient(loss, [images, *variables])])
        for mine, keras_own in zip(*results, strict=True):
            np.testing.assert_allclose(mine, keras_own, rtol=1e-5, atol=1e-5)

    def test_a_graph_with_open_sides(self, pair):
        mine, keras_own = pair
        signature = [tf.TensorSpec([None, None, None, 5])]
        step = tf.function(lambda x: mine(x, training=True), input_signature=signature)
        for side in (3, 8):
            images = random_images(2, side, side + 1, 5)
            np.testing.assert_allclose(step(images), keras_own(images), rtol=1e-5, atol=1e-5)

    def test_where_it_is_used(self):
        assert isinstance(layers.conv(8), PointwiseConv2D)
        assert type(layers.conv(8, stride=2)) is type(layers.conv(8, 3)) is keras.layers.Conv2D


class TestSqueezeExcite:
    def test_as_in_numpy(self):
        layer = SqueezeExcite(2)
        layer.build((None, 3, 5, 6))
        weights = randomise(layer)
        images = random_images(4, 3, 5, 6)
        gate = images.mean(axis=(1, 2)) @ weights["reduce/kernel"][0, 0] + weights["reduce/bias"]
        gate = gate / (1 + np.exp(-gate)) @ weights["expand/kernel"][0, 0] + weights["expand/bias"]
        gate = 1 / (1 + np.exp(-gate))
        np.testing.assert_allclose(layer(images), images * gate[:, None, None, :], atol=1e-5)
        assert layer.compute_output_shape((4, 3, 5, 6)) == (4, 3, 5, 6)

    def test_an_example_does_not_look_at_its_neighbours(self):
        layer = built(SqueezeExcite(2))
        randomise(layer)
        images = random_images(4, 3, 3, 4)
        np.testing.assert_allclose(layer(images)[1:2], layer(images[1:2]), atol=1e-6)


class TestStochasticDepth:
    def test_whole_examples_are_dropped_and_the_others_rescaled(self):
        keras.utils.set_random_seed(0)
        images = 1 + np.abs(random_images(2000, 2, 2, 3))
        scale = StochasticDepth(0.2)(images, training=True).numpy() / images
        per_example = scale.reshape(2000, -1)
        np.testing.assert_allclose(per_example, per_example[:, :1].repeat(12, axis=1), atol=1e-6)
        values = np.unique(per_example.round(5))
        np.testing.assert_allclose(values, [0, 1.25])
        assert (per_example[:, 0] == 0).mean() == pytest.approx(0.2, abs=0.036)  # 4 standard deviations
        assert scale.mean() == pytest.approx(1, abs=0.045)

    def test_inference_and_rate_zero_change_nothing(self):
        images = random_images(64, 2, 2, 3)
        np.testing.assert_array_equal(StochasticDepth(0.9)(images), images)
        np.testing.assert_array_equal(StochasticDepth(0.9)(images, training=False), images)
        np.testing.assert_array_equal(StochasticDepth(0)(images, training=True), images)

    def test_frozen_it_drops_nothing(self):
        layer, images = StochasticDepth(0.9), random_images(64, 2, 2, 3)
        layer.trainable = False
        np.testing.assert_array_equal(layer(images, training=True), images)

    def test_two_steps_draw_anew(self):
        layer, images = StochasticDepth(0.5), np.ones([64, 1, 1, 1], np.float32)
        step = tf.function(lambda: layer(images, training=True))
        assert not np.array_equal(step(), step())

    @pytest.mark.parametrize("rate", [-0.1, 1, 2])
    def test_wrong_rates(self, rate):
        with pytest.raises(ValueError, match=rf"`rate` should be in \[0, 1\). Received: rate={rate}"):
            StochasticDepth(rate)


class TestScheduledDropout:
    def test_the_rate_changes_inside_a_compiled_step(self):
        keras.utils.set_random_seed(0)
        layer, traces = ScheduledDropout(0.1), []

        @tf.function
        def step(x):
            traces.append(1)
            return layer(x, training=True)

        ones = tf.ones([100, 400])
        for rate in (0.1, 0.5, 0.0, 0.8, 0.25):
            layer.rate = rate
            assert layer.rate == pytest.approx(rate)
            outputs = step(ones).numpy()
            assert (outputs == 0).mean() == pytest.approx(rate, abs=0.011)  # 40,000 draws, over 4 deviations
            np.testing.assert_allclose(outputs[outputs != 0], 1 / (1 - rate), rtol=1e-5)
        assert len(traces) == 1

    def test_mixed_precision(self):
        layer = ScheduledDropout(0.3, dtype="mixed_bfloat16")
        outputs = layer(tf.ones([100, 400], tf.bfloat16), training=True)
        assert outputs.dtype == "bfloat16"
        assert (outputs.numpy() == 0).mean() == pytest.approx(0.3, abs=0.011)
        assert float(outputs.numpy().max()) == pytest.approx(1 / 0.7, rel=0.01)

    def test_inference_changes_nothing(self):
        images = random_images(3, 5)
        layer = ScheduledDropout(0.9)
        np.testing.assert_array_equal(layer(images), images)
        layer.trainable = False
        np.testing.assert_array_equal(layer(images, training=True), images)

    def test_no_weight_anywhere(self, testing_model):
        layer = ScheduledDropout(0.5)
        layer(random_images(3, 5), training=True)
        assert layer.weights == []
        for holder in (layer, testing_model):
            assert not [v.path for v in holder.variables if "dropout_rate" in v.path]
        assert isinstance(testing_model.dropout, ScheduledDropout)

    @pytest.mark.parametrize("rate", [-0.1, 1, 2])
    def test_wrong_rates(self, rate):
        with pytest.raises(ValueError, match=r"ScheduledDropout: `rate` should be in \[0, 1\)"):
            ScheduledDropout(rate)
        layer = ScheduledDropout(0.3)
        with pytest.raises(ValueError, match=r"ScheduledDropout: `rate` should be in \[0, 1\)"):
            layer.rate = rate
        assert layer.rate == pytest.approx(0.3)


@pytest.mark.parametrize(
    "layer",
    [
        SqueezeExcite(3, activation="relu"),
        StochasticDepth(0.3),
        ScheduledDropout(0.4, name="drop"),
        PointwiseConv2D(7, 1, use_bias=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_serialisation(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    images = random_images(2, 5, 5, 4)
    expected = layer(images)
    copy(images)
    copy.set_weights(layer.get_weights())
    np.testing.assert_allclose(copy(images), expected, atol=1e-6)


def test_initial_values_of_the_classifier():
    dense = layers.dense_initializer()((200, 400)).numpy()
    assert np.abs(dense).max() == pytest.approx(1 / np.sqrt(400), rel=0.01)
    assert np.std(dense) == pytest.approx(1 / np.sqrt(400) / np.sqrt(3), rel=0.02)  # uniform
