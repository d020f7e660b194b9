"""The blocks against NumPy, in training and inference, with each normalisation."""

import keras
import numpy as np
import pytest

from efficientnetv2_tf.networks.block_string import parse_block
from efficientnetv2_tf.networks.blocks import FusedMBConv, MBConv, block_layer
from efficientnetv2_tf.networks.layers import BatchNormalization

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
    if f"{name}/moving_mean" not in weights:
        groups = x.reshape(*x.shape[:3], 8, -1)  # of neighbouring channels
        mean = groups.mean(axis=(1, 2, 4), keepdims=True)
        variance = groups.var(axis=(1, 2, 4), keepdims=True)
        normalised = ((groups - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
        return normalised * weights[f"{name}/gamma"] + weights[f"{name}/beta"]
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
        layer = self.check(text, "batch", training)
        assert all(type(norm) is BatchNormalization for norm in layer.normalizations)

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize(
        "text", ["r1_k3_s1_e2_i8_o8_se0.5", "r1_k3_s2_e1_i8_o16", "r1_k5_s2_e3_i8_o16_se0.5_c1", "r1_k3_s1_e1_i8_o8_c1"]
    )
    def test_group_normalisation_as_in_numpy(self, text, training):
        layer = self.check(text, "group", training)
        assert len(layer.normalizations) == (1 if text.endswith("e1_i8_o8_c1") else 2 + ("e2" in text))

    @staticmethod
    def check(text, normalization, training):
        """Compares a block with NumPy's; the block."""
        spec = parse_block(text)
        layer = block_layer(spec, drop_rate=0.0, activation="silu", name="block", normalization=normalization)
        weights = randomise(built(layer, spec.input_filters))
        images = random_images(3, 6, 5, spec.input_filters)
        expected = (fused if spec.fused else mbconv)(images.astype(np.float64), text, weights, training)
        np.testing.assert_allclose(layer(images, training=training), expected, rtol=1e-4, atol=1e-4)
        assert layer.compute_output_shape(images.shape) == expected.shape
        return layer

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

    def test_an_unknown_normalization(self):
        with pytest.raises(ValueError, match=r"`normalization` should be one of .*Received: normalization='layer'"):
            MBConv(MBCONV, normalization="layer")

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


@pytest.mark.parametrize(
    "layer",
    [
        MBConv(MBCONV, drop_rate=0.25, activation="relu", name="mine"),
        MBConv("r1_k3_s1_e2_i4_o4_se0.3333333333333333"),
        MBConv("r1_k3_s1_e2_i8_o8", normalization="group"),
        FusedMBConv(FUSED, drop_rate=0.1, normalization="sync_batch"),
    ],
    ids=lambda layer: f"{type(layer).__name__} {layer.normalization}",
)
def test_serialisation(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    assert [type(norm) for norm in copy.normalizations] == [type(norm) for norm in layer.normalizations]
    images = random_images(2, 5, 5, layer.spec.input_filters)
    expected = layer(images)
    copy(images)
    copy.set_weights(layer.get_weights())
    np.testing.assert_allclose(copy(images), expected, atol=1e-6)
    assert copy.spec == layer.spec
