"""The layers against NumPy, in training and inference."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks import layers
from efficientnetv2_tf.networks.block_string import parse_block
from efficientnetv2_tf.networks.layers import (
    FusedMBConv,
    MBConv,
    PointwiseConv2D,
    ScheduledDropout,
    SqueezeExcite,
    StochasticDepth,
)

MBCONV = "r1_k3_s1_e2_i4_o4_se0.5"
FUSED = "r1_k3_s1_e2_i4_o4_c1"


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


# --- the same in NumPy ---


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def patches(x, size, stride):
    """[n, h, w, c] -> [n, h', w', size, size, c] with TensorFlow's "same" padding: more after than before."""
    out = [-(-side // stride) for side in x.shape[1:3]]
    need = [max((o - 1) * stride + size - side, 0) for o, side in zip(out, x.shape[1:3], strict=True)]
    x = np.pad(x, [(0, 0), *[(n // 2, n - n // 2) for n in need], (0, 0)])
    rows = [
        [x[:, i * stride : i * stride + size, j * stride : j * stride + size] for j in range(out[1])]
        for i in range(out[0])
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def conv(x, kernel, stride=1):
    return np.einsum("nhwijc,ijco->nhwo", patches(x, kernel.shape[0], stride), kernel)


def depthwise(x, kernel, stride=1):
    return np.einsum("nhwijc,ijc->nhwc", patches(x, kernel.shape[0], stride), kernel[..., 0])


def norm(x, weights, name, training=False):
    mean, variance = weights[f"{name}/moving_mean"], weights[f"{name}/moving_variance"]
    if training:
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-3) * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def excite(x, weights):
    gate = silu(x.mean(axis=(1, 2)) @ weights["reduce/kernel"][0, 0] + weights["reduce/bias"])
    gate = sigmoid(gate @ weights["expand/kernel"][0, 0] + weights["expand/bias"])
    return x * gate[:, None, None, :]


def mbconv(x, text, weights, training=False):
    spec, inputs = parse_block(text), x
    if spec.expand_ratio != 1:
        x = silu(norm(conv(x, weights["expand_conv/kernel"]), weights, "expand_norm", training))
    x = depthwise(x, weights["depthwise_conv/kernel"], spec.stride)
    x = silu(norm(x, weights, "depthwise_norm", training))
    if spec.se_ratio:
        x = excite(x, weights)
    x = norm(conv(x, weights["project_conv/kernel"]), weights, "project_norm", training)
    return x + inputs if spec.has_skip else x


def fused(x, text, weights, training=False):
    spec, inputs = parse_block(text), x
    if spec.expand_ratio != 1:
        x = conv(x, weights["expand_conv/kernel"], spec.stride)
        x = silu(norm(x, weights, "expand_norm", training))
    if spec.se_ratio:
        x = excite(x, weights)
    x = conv(x, weights["project_conv/kernel"], 1 if spec.expand_ratio != 1 else spec.stride)
    x = norm(x, weights, "project_norm", training)
    if spec.expand_ratio == 1:
        x = silu(x)
    return x + inputs if spec.has_skip else x


# --- blocks ---


class TestBlocks:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize(
        "text",
        [
            MBCONV,
            "r1_k3_s1_e1_i4_o4",
            "r1_k5_s2_e2_i4_o6_se0.25",
            "r1_k3_s2_e1_i4_o4_se1",
            FUSED,
            "r1_k3_s1_e1_i4_o4_c1",
            "r1_k3_s2_e1_i4_o6_c1",
            "r1_k5_s2_e3_i4_o4_se0.5_c1",
        ],
    )
    def test_as_in_numpy(self, text, training):
        layer = built(layers.block_layer(parse_block(text), drop_rate=0.0, activation="silu", name="block"))
        weights = randomise(layer)
        images = random_images(3, 6, 5, 4)
        reference = fused if parse_block(text).fused else mbconv
        expected = reference(images.astype(np.float64), text, weights, training)
        np.testing.assert_allclose(layer(images, training=training), expected, rtol=1e-4, atol=1e-4)
        assert layer.compute_output_shape(images.shape) == expected.shape

    def test_the_statistics_move_by_a_tenth(self):
        layer = built(FusedMBConv("r1_k3_s2_e1_i4_o6_c1"))
        weights = randomise(layer)
        images = random_images(3, 6, 6, 4)
        layer(images, training=True)
        x = conv(images, weights["project_conv/kernel"], 2)
        mean = 0.9 * weights["project_norm/moving_mean"] + 0.1 * x.mean(axis=(0, 1, 2))
        variance = 0.9 * weights["project_norm/moving_variance"] + 0.1 * x.var(axis=(0, 1, 2))
        np.testing.assert_allclose(layer.project_norm.moving_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.project_norm.moving_variance, variance, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("cls, text", [(MBConv, MBCONV), (FusedMBConv, FUSED)])
    def test_the_branch_is_dropped_whole_before_the_addition(self, cls, text):
        always, sometimes = built(cls(text)), built(cls(text, drop_rate=0.5))
        randomise(always), randomise(sometimes)
        images = random_images(64, 3, 3, 4)
        branch = always(images, training=True).numpy() - images
        got = sometimes(images, training=True).numpy() - images
        dropped = np.abs(got).max(axis=(1, 2, 3)) < 1e-6
        assert 10 < dropped.sum() < 54  # 64 examples, half of them: 5 standard deviations
        np.testing.assert_allclose(got[~dropped], 2 * branch[~dropped], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(sometimes(images), always(images), atol=1e-6)

    @pytest.mark.parametrize("text", ["r1_k3_s2_e2_i4_o4_se0.5", "r1_k3_s1_e2_i4_o6_se0.5"])
    def test_nothing_is_dropped_without_a_skip(self, text):
        layer = built(MBConv(text, drop_rate=0.9))
        assert layer.drop is None
        images = random_images(8, 4, 4, 4)
        weights = randomise(layer)
        expected = mbconv(images.astype(np.float64), text, weights, True)
        np.testing.assert_allclose(layer(images, training=True), expected, rtol=1e-4, atol=1e-4)

    def test_the_activation_is_used_everywhere(self):
        layer = built(MBConv(MBCONV, activation="relu"))
        assert layer.activation is layer.excite.activation is keras.activations.relu

    @pytest.mark.parametrize(
        "cls, text, expected",
        [
            (MBConv, FUSED, r"MBConv builds one unfused block \(r1, without c1\)"),
            (FusedMBConv, MBCONV, r"FusedMBConv builds one fused block \(r1, with c1\)"),
            (MBConv, "r2_k3_s1_e2_i4_o4", r"r1, without c1\). Received: 'r2_k3_s1_e2_i4_o4'"),
            (MBConv, "r1_k3", "Missing field"),
        ],
    )
    def test_wrong_specs(self, cls, text, expected):
        with pytest.raises(ValueError, match=expected):
            cls(text)

    @pytest.mark.parametrize("text", ["r1_k3_s2_e2_i4_o4", "r1_k3_s1_e2_i4_o4"])
    @pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
    def test_wrong_drop_rates(self, text, rate):
        with pytest.raises(ValueError, match=r"MBConv: `drop_rate` should be in \[0, 1\)"):
            MBConv(text, drop_rate=rate)

    def test_shapes_stay_open(self):
        layer = MBConv("r1_k3_s2_e2_i4_o6")
        assert layer.compute_output_shape((None, None, 7, 4)) == (None, None, 4, 6)


def test_initial_values():
    keras.utils.set_random_seed(0)
    layer = built(MBConv("r1_k5_s1_e6_i64_o32_se0.5"), 64)
    assert np.std(layer.expand_conv.kernel) == pytest.approx(np.sqrt(2 / 384), rel=0.05)
    assert np.std(layer.depthwise_conv.kernel) == pytest.approx(np.sqrt(2 / 25), rel=0.05)
    assert np.std(layer.project_conv.kernel) == pytest.approx(np.sqrt(2 / 32), rel=0.05)
    assert np.abs(layer.project_conv.kernel).max() > 3 * np.sqrt(2 / 32)  # normal, not truncated
    assert not np.any(layer.excite.reduce.bias)
    dense = layers.dense_initializer()((200, 400)).numpy()
    assert np.abs(dense).max() == pytest.approx(1 / np.sqrt(400), rel=0.01)
    assert np.std(dense) == pytest.approx(1 / np.sqrt(400) / np.sqrt(3), rel=0.02)  # uniform


# --- the small ones ---


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
        np.testing.assert_allclose(layer(images), excite(images.astype(np.float64), weights), atol=1e-5)
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
        np.testing.assert_array_equal(ScheduledDropout(0.9)(images), images)

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
        MBConv(MBCONV, drop_rate=0.25, activation="relu", name="mine"),
        MBConv("r1_k3_s1_e2_i4_o4_se0.3333333333333333"),
        FusedMBConv(FUSED, drop_rate=0.1),
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
    assert getattr(copy, "spec", None) == getattr(layer, "spec", None)
