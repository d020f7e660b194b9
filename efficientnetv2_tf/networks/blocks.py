"""The networks' blocks: MBConv and Fused-MBConv.

Sources: MBConv from MobileNetV2 (Sandler et al., CVPR 2018) with squeeze-and-excitation (Hu et al., CVPR
2018) as in EfficientNet (Tan & Le, ICML 2019, section 4); Fused-MBConv from EfficientNetV2 (ICML 2021, section 3.2,
Fig. 2).
"""

import keras

from efficientnetv2_tf.networks.block_string import BlockSpec, format_block, parse_block
from efficientnetv2_tf.networks.layers import (
    BatchNormalization,
    SqueezeExcite,
    StochasticDepth,
    activate,
    activation_of,
    check_rate,
    conv,
    depthwise_conv,
)
from efficientnetv2_tf.networks.normalization import FOLDED, check_normalization, make_normalization


class Block(keras.layers.Layer):
    """What MBConv and FusedMBConv share: the spec, the normalisations, the skip connection, serialisation.

    `training` is not passed on to layers by hand: Keras hands it to every one inside whose `call` takes it.
    """

    fused = None

    def __init__(self, block, drop_rate=0.0, activation="silu", normalization="batch", **kwargs):
        super().__init__(**kwargs)
        spec = block if isinstance(block, BlockSpec) else parse_block(block)
        if spec.fused != self.fused or spec.repeats != 1:
            raise ValueError(
                f"{type(self).__name__} builds one {'fused' if self.fused else 'unfused'} block (r1, "
                f"{'with' if self.fused else 'without'} c1). Received: {format_block(spec)!r}"
            )
        self.spec = spec
        self.drop_rate = check_rate(type(self).__name__, drop_rate, "drop_rate")
        self.activation = keras.activations.get(activation)
        self.normalization = check_normalization(normalization)
        self._folded = normalization == FOLDED
        self._activation = activation_of(self.activation, normalization)
        self.excite = None
        if spec.squeezed_filters:
            self.excite = SqueezeExcite(spec.squeezed_filters, activation, folded=self._folded, name="se")
        self.drop = StochasticDepth(drop_rate, name="drop") if spec.has_skip and drop_rate else None
        self.expand_conv = self.depthwise_conv = None

    @property
    def normalizations(self):
        """The normalisation layers, in the order of the computation."""
        names = ("expand_norm", "depthwise_norm", "project_norm")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def _make_expansion(self, kernel_size=1, stride=1):
        self.expand_conv = conv(
            self.spec.expanded_filters, kernel_size, stride, use_bias=self._folded, name="expand_conv"
        )
        self.expand_norm = make_normalization(self.normalization, "expand_norm")

    def _make_projection(self, kernel_size=1, stride=1):
        self.project_conv = conv(
            self.spec.output_filters, kernel_size, stride, use_bias=self._folded, name="project_conv"
        )
        self.project_norm = make_normalization(self.normalization, "project_norm")

    def build(self, input_shape):
        inner = (*input_shape[:-1], self.spec.expanded_filters)
        if self.expand_conv is not None:
            self.expand_conv.build(input_shape)
            self.expand_norm.build(inner)
        if self.depthwise_conv is not None:
            self.depthwise_conv.build(inner)
            self.depthwise_norm.build(inner)
        if self.excite is not None:
            self.excite.build(inner)
        self.project_conv.build(inner)
        self.project_norm.build((*input_shape[:-1], self.spec.output_filters))

    def _normalize(self, norm, x, training):
        """Normalises and activates."""
        if isinstance(norm, BatchNormalization):
            return norm.activate(x, self._activation, training)
        return activate(norm(x), self._activation, training)

    def _add_skip(self, inputs, x):
        if not self.spec.has_skip:
            return x
        if self.drop is not None:
            x = self.drop(x)
        return x + inputs

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        height, width = (side and -(-side // self.spec.stride) for side in (height, width))
        return (batch, height, width, self.spec.output_filters)

    def get_config(self):
        return {
            **super().get_config(),
            "block": format_block(self.spec),
            "drop_rate": self.drop_rate,
            "activation": keras.activations.serialize(self.activation),
            "normalization": self.normalization,
        }


@keras.saving.register_keras_serializable(package="efficientnetv2_tf")
class MBConv(Block):
    """Inverted bottleneck: expand, depthwise, squeeze-and-excite, project, add (EfficientNet, section 4).

    Args:
        block: a `BlockSpec` or block string with `repeats` 1 that is not fused.
        drop_rate: probability of dropping the residual branch of an example, in [0, 1).
        activation: after expansion and depthwise convolution.
        normalization: after each convolution, "batch", "sync_batch" or "group" (see `make_normalization`).

    Input shape: `[batch, height, width, input_filters]`.
    Output shape: `[batch, ceil(height / stride), ceil(width / stride), output_filters]`.
    """

    fused = False

    def __init__(self, block, drop_rate=0.0, activation="silu", normalization="batch", **kwargs):
        super().__init__(block, drop_rate, activation, normalization, **kwargs)
        spec = self.spec
        if spec.expand_ratio != 1:
            self._make_expansion()
        self.depthwise_conv = depthwise_conv(
            spec.kernel_size, spec.stride, use_bias=self._folded, name="depthwise_conv"
        )
        self.depthwise_norm = make_normalization(self.normalization, "depthwise_norm")
        self._make_projection()

    def call(self, inputs, training=None):
        x = inputs
        if self.expand_conv is not None:
            x = self._normalize(self.expand_norm, self.expand_conv(x), training)
        x = self._normalize(self.depthwise_norm, self.depthwise_conv(x), training)
        if self.excite is not None:
            x = self.excite(x)
        x = self.project_norm(self.project_conv(x))
        return self._add_skip(inputs, x)


@keras.saving.register_keras_serializable(package="efficientnetv2_tf")
class FusedMBConv(Block):
    """MBConv with one k x k convolution in place of expansion and depthwise one (EfficientNetV2, Fig. 2).

    With expansion 1 the single k x k convolution is the projection, and it is followed by the activation.

    Args:
        block: a `BlockSpec` or block string with `repeats` 1 that is fused.
        drop_rate: probability of dropping the residual branch of an example, in [0, 1).
        activation: after the k x k convolution.
        normalization: after each convolution, "batch", "sync_batch" or "group" (see `make_normalization`).

    Input shape: `[batch, height, width, input_filters]`.
    Output shape: `[batch, ceil(height / stride), ceil(width / stride), output_filters]`.
    """

    fused = True

    def __init__(self, block, drop_rate=0.0, activation="silu", normalization="batch", **kwargs):
        super().__init__(block, drop_rate, activation, normalization, **kwargs)
        if self.spec.expand_ratio != 1:
            self._make_expansion(self.spec.kernel_size, self.spec.stride)
            self._make_projection()
        else:
            self._make_projection(self.spec.kernel_size, self.spec.stride)

    def call(self, inputs, training=None):
        x = inputs
        if self.expand_conv is not None:
            x = self._normalize(self.expand_norm, self.expand_conv(x), training)
        if self.excite is not None:
            x = self.excite(x)
        x = self.project_conv(x)
        x = self._normalize(self.project_norm, x, training) if self.expand_conv is None else self.project_norm(x)
        return self._add_skip(inputs, x)


def block_layer(spec, *, drop_rate, activation, name, normalization="batch"):
    """The layer that a spec asks for.

    Args:
        spec: an expanded `BlockSpec`.
        drop_rate: of its stochastic depth, in [0, 1).
        activation: Keras activation or its name.
        name: of the layer.
        normalization: "batch", "sync_batch" or "group".
    """
    cls = FusedMBConv if spec.fused else MBConv
    return cls(spec, drop_rate=drop_rate, activation=activation, normalization=normalization, name=name)
