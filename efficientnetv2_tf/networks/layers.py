"""Keras layers of the networks. Only keras is imported, so they run on TensorFlow, JAX and PyTorch alike.

Sources: MBConv from MobileNetV2 (Sandler et al., CVPR 2018) with squeeze-and-excitation (Hu et al., CVPR
2018) as in EfficientNet (Tan & Le, ICML 2019, section 4); Fused-MBConv from EfficientNetV2 (ICML 2021, section 3.2,
Fig. 2).
"""

import keras
from keras import ops

from efficientnetv2_tf.networks.block_string import BlockSpec, format_block, parse_block

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-3
_PACKAGE = "efficientnetv2_tf"


def conv_initializer():
    """Normal with standard deviation sqrt(2 / (kernel_h * kernel_w * out_filters)), the release's."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def dense_initializer():
    """Uniform within +-1 / sqrt(out_features), the release's."""
    return keras.initializers.VarianceScaling(1.0 / 3.0, mode="fan_out", distribution="uniform")


@keras.saving.register_keras_serializable(package=_PACKAGE)
class PointwiseConv2D(keras.layers.Conv2D):
    """A 1 x 1 convolution that trains as a matrix product.

    The variables and the results are `Conv2D`'s. On CPUs the backward pass of the product is up to twice as
    fast; inference keeps the convolution, which exporters know how to fuse and quantise.
    """

    def call(self, inputs, training=False):
        if not training:
            return super().call(inputs)
        shape = ops.shape(inputs)  # [batch, height, width, channels]
        flat = ops.reshape(inputs, (-1, inputs.shape[-1]))
        outputs = ops.matmul(flat, ops.reshape(self.kernel, self.kernel.shape[2:]))
        if self.use_bias:
            outputs = outputs + self.bias
        return ops.reshape(outputs, (*shape[:-1], self.filters))


def conv(filters, kernel_size=1, stride=1, *, use_bias=False, name=None):
    """A convolution with "same" padding and the release's initial values."""
    pointwise = kernel_size == 1 and stride == 1
    return (PointwiseConv2D if pointwise else keras.layers.Conv2D)(
        filters,
        kernel_size,
        strides=stride,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=conv_initializer(),
        name=name,
    )


def batch_norm(name=None):
    """A batch normalisation with the release's momentum and epsilon."""
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )


def _check_rate(owner, rate, argument="rate"):
    if not 0 <= rate < 1:
        raise ValueError(f"{owner}: `{argument}` should be in [0, 1). Received: {argument}={rate}")
    return float(rate)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class StochasticDepth(keras.layers.Layer):
    """Drops the whole residual branch of an example with probability `rate`, and rescales what stays.

    Source: Deep Networks with Stochastic Depth (Huang et al., ECCV 2016); the release calls it drop connect.

    Args:
        rate: probability of dropping, in [0, 1); 0 is off.

    Input shape: `[batch, height, width, channels]`. Output shape: the same.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = _check_rate("StochasticDepth", rate)
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        keep = 1.0 - self.rate
        shape = (ops.shape(inputs)[0], 1, 1, 1)
        draw = keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")
        scale = ops.floor(keep + draw) / keep  # [batch, 1, 1, 1]: 0 or 1 / keep
        return inputs * ops.cast(scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


class _Untracked:
    """Holds a value where Keras does not look for weights."""

    def __init__(self, value):
        self.value = value


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ScheduledDropout(keras.layers.Layer):
    """Dropout whose rate can be changed while a compiled training step is in use.

    The rate lives in a variable that the graph reads, and that is no weight of the model: it appears neither
    in `model.weights` nor in checkpoints. On TensorFlow a change acts on the next step without a new trace;
    JAX reads the rate when it compiles.

    Args:
        rate: share of the inputs set to 0, in [0, 1); the others are divided by 1 - rate. `layer.rate = 0.3`
            changes it.

    Input shape: any. Output shape: the same.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self._initial_rate = rate = _check_rate("ScheduledDropout", rate)
        # Without autocast it stays float32 in mixed precision, as the numbers that it is compared with.
        variable = keras.Variable(
            rate, trainable=False, dtype="float32", autocast=False, name="scheduled_dropout_rate"
        )
        self._holder = _Untracked(variable)
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    @property
    def rate(self):
        """The rate in use, a Python float."""
        return float(ops.convert_to_numpy(self._holder.value.value))

    @rate.setter
    def rate(self, rate):
        self._holder.value.assign(_check_rate("ScheduledDropout", float(rate)))

    def call(self, inputs, training=False):
        if not training:
            return inputs
        rate = ops.convert_to_tensor(self._holder.value)
        draw = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator, dtype="float32")
        scale = ops.cast(draw >= rate, "float32") / (1.0 - rate)  # 0 or 1 / keep
        return inputs * ops.cast(scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self._initial_rate}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class SqueezeExcite(keras.layers.Layer):
    """Scales each channel by a gate computed from the spatial means of all channels.

    Source: Squeeze-and-Excitation Networks (Hu et al., CVPR 2018), with the bottleneck counted from the
    block's input channels as in EfficientNet.

    Args:
        squeezed_filters: channels of the bottleneck, at least 1.
        activation: of the bottleneck.

    Input shape: `[batch, height, width, channels]`. Output shape: the same.
    """

    def __init__(self, squeezed_filters, activation="silu", **kwargs):
        super().__init__(**kwargs)
        self.squeezed_filters = squeezed_filters
        self.activation = keras.activations.get(activation)
        self.reduce = conv(squeezed_filters, use_bias=True, name="reduce")

    def build(self, input_shape):
        channels = input_shape[-1]
        self.expand = conv(channels, use_bias=True, name="expand")
        self.reduce.build((None, 1, 1, channels))
        self.expand.build((None, 1, 1, self.squeezed_filters))

    def call(self, inputs):
        gate = ops.mean(inputs, axis=(1, 2), keepdims=True)  # [batch, 1, 1, channels]
        gate = ops.sigmoid(self.expand(self.activation(self.reduce(gate))))
        return inputs * gate

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "squeezed_filters": self.squeezed_filters, "activation": activation}


class _Block(keras.layers.Layer):
    """What MBConv and FusedMBConv share: the spec, the skip connection, serialisation.

    `training` is not passed on by hand: Keras hands it to every layer inside whose `call` takes it.
    """

    fused = None

    def __init__(self, block, drop_rate=0.0, activation="silu", **kwargs):
        super().__init__(**kwargs)
        spec = block if isinstance(block, BlockSpec) else parse_block(block)
        if spec.fused != self.fused or spec.repeats != 1:
            raise ValueError(
                f"{type(self).__name__} builds one {'fused' if self.fused else 'unfused'} block (r1, "
                f"{'with' if self.fused else 'without'} c1). Received: {format_block(spec)!r}"
            )
        self.spec = spec
        self.drop_rate = _check_rate(type(self).__name__, drop_rate, "drop_rate")
        self.activation = keras.activations.get(activation)
        self.excite = None
        if spec.squeezed_filters:
            self.excite = SqueezeExcite(spec.squeezed_filters, activation, name="se")
        self.drop = StochasticDepth(drop_rate, name="drop") if spec.has_skip and drop_rate else None
        self.expand_conv = self.depthwise_conv = None

    def _make_expansion(self, kernel_size=1, stride=1):
        self.expand_conv = conv(self.spec.expanded_filters, kernel_size, stride, name="expand_conv")
        self.expand_norm = batch_norm("expand_norm")

    def _make_projection(self, kernel_size=1, stride=1):
        self.project_conv = conv(self.spec.output_filters, kernel_size, stride, name="project_conv")
        self.project_norm = batch_norm("project_norm")

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
        }


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MBConv(_Block):
    """Inverted bottleneck: expand, depthwise, squeeze-and-excite, project, add (EfficientNet, section 4).

    Args:
        block: a `BlockSpec` or block string with `repeats` 1 that is not fused.
        drop_rate: probability of dropping the residual branch of an example, in [0, 1).
        activation: after expansion and depthwise convolution.

    Input shape: `[batch, height, width, input_filters]`.
    Output shape: `[batch, ceil(height / stride), ceil(width / stride), output_filters]`.
    """

    fused = False

    def __init__(self, block, drop_rate=0.0, activation="silu", **kwargs):
        super().__init__(block, drop_rate, activation, **kwargs)
        spec = self.spec
        if spec.expand_ratio != 1:
            self._make_expansion()
        self.depthwise_conv = keras.layers.DepthwiseConv2D(
            spec.kernel_size,
            strides=spec.stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=conv_initializer(),
            name="depthwise_conv",
        )
        self.depthwise_norm = batch_norm("depthwise_norm")
        self._make_projection()

    def call(self, inputs):
        x = inputs
        if self.expand_conv is not None:
            x = self.activation(self.expand_norm(self.expand_conv(x)))
        x = self.activation(self.depthwise_norm(self.depthwise_conv(x)))
        if self.excite is not None:
            x = self.excite(x)
        x = self.project_norm(self.project_conv(x))
        return self._add_skip(inputs, x)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FusedMBConv(_Block):
    """MBConv with one k x k convolution in place of expansion and depthwise one (EfficientNetV2, Fig. 2).

    With expansion 1 the single k x k convolution is the projection, and it is followed by the activation.

    Args:
        block: a `BlockSpec` or block string with `repeats` 1 that is fused.
        drop_rate: probability of dropping the residual branch of an example, in [0, 1).
        activation: after the k x k convolution.

    Input shape: `[batch, height, width, input_filters]`.
    Output shape: `[batch, ceil(height / stride), ceil(width / stride), output_filters]`.
    """

    fused = True

    def __init__(self, block, drop_rate=0.0, activation="silu", **kwargs):
        super().__init__(block, drop_rate, activation, **kwargs)
        if self.spec.expand_ratio != 1:
            self._make_expansion(self.spec.kernel_size, self.spec.stride)
            self._make_projection()
        else:
            self._make_projection(self.spec.kernel_size, self.spec.stride)

    def call(self, inputs):
        x = inputs
        if self.expand_conv is not None:
            x = self.activation(self.expand_norm(self.expand_conv(x)))
        if self.excite is not None:
            x = self.excite(x)
        x = self.project_norm(self.project_conv(x))
        if self.expand_conv is None:
            x = self.activation(x)
        return self._add_skip(inputs, x)


def block_layer(spec, *, drop_rate, activation, name):
    """The layer that a spec asks for.

    Args:
        spec: an expanded `BlockSpec`.
        drop_rate: of its stochastic depth, in [0, 1).
        activation: Keras activation or its name.
        name: of the layer.
    """
    cls = FusedMBConv if spec.fused else MBConv
    return cls(spec, drop_rate=drop_rate, activation=activation, name=name)
