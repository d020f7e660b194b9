"""The layers that blocks are made of. Only keras is imported, so they run on TensorFlow, JAX and PyTorch alike."""

import keras
from keras import ops

from efficientnetv2_tf.networks import fused
from efficientnetv2_tf.networks.normalization import FOLDED

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


def activation_of(activation, normalization):
    """The function that a network computes for an activation.

    Args:
        activation: Keras activation or its name.
        normalization: as in `make_normalization`.
    """
    activation = keras.activations.get(activation)
    # TensorFlow joins a convolution, its bias and the plain product into one operation, in networks that are not
    # trained.
    return _product_silu if normalization == FOLDED and activation is keras.activations.silu else activation


def _product_silu(x):
    return x * ops.sigmoid(x)


def activate(x, activation, training):
    """An activation; in training by TensorFlow's fewest operations, which exporters would not know.

    Args:
        x: of any shape.
        activation: of `activation_of`.
        training: whether it is for a training step.
    """
    return fused.silu(x) if training and _is_fused(activation) else activation(x)


def _is_fused(activation):
    return activation is keras.activations.silu and fused.on_tensorflow()


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Activation(keras.layers.Activation):
    """`activate` as a layer."""

    def call(self, inputs, training=None):
        return activate(inputs, self.activation, training)


def depthwise_conv(kernel_size, stride=1, *, use_bias=False, name=None):
    """A depthwise convolution with "same" padding and the release's initial values."""
    return keras.layers.DepthwiseConv2D(
        kernel_size,
        strides=stride,
        padding="same",
        use_bias=use_bias,
        depthwise_initializer=conv_initializer(),
        name=name,
    )


@keras.saving.register_keras_serializable(package=_PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the channels of the last axis, with TensorFlow's fused operation where it trains there.

    Variables and results are those of Keras' layer, the moving statistics included.

    Source: Batch Normalization (Ioffe & Szegedy, ICML 2015).

    Input shape: `[batch, height, width, channels]`. Output shape: the same.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self._is_fused and mask is None):
            return super().call(inputs, training=training, mask=mask)
        return self._train(inputs, activated=False)

    def activate(self, inputs, activation, training):
        """`activation(self(inputs))`, with less memory where both can be one in training.

        Args:
            inputs: as for a call.
            activation: of `activation_of`.
            training: whether the layer is called in training.
        """
        if training and self._is_fused and _is_fused(activation):
            return self._train(inputs, activated=True)
        return activate(self(inputs, training=training), activation, training)

    @property
    def _is_fused(self):
        # What the fused operation has; a network that uses Keras' other options gets them from Keras.
        usual = self.scale and self.center and self.axis in (-1, 3) and not getattr(self, "renorm", False)
        usual = usual and self.input_spec.ndim == 4
        return self.trainable and usual and fused.on_tensorflow() and self.compute_dtype != "float64"

    def _train(self, inputs, activated):
        inputs = ops.cast(inputs, self.compute_dtype)
        outputs, mean, variance = fused.batch_norm(
            inputs,
            self.gamma.value,
            self.beta.value,
            self.epsilon,
            activated=activated,
            synchronized=self.synchronized,
        )
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs


def check_rate(owner, rate, argument="rate"):
    """`rate` as a float; a ValueError where it is not in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{owner}: `{argument}` should be in [0, 1). Received: {argument}={rate}")
    return float(rate)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class StochasticDepth(keras.layers.Layer):
    """Drops the whole residual branch of an example with probability `rate`, and rescales what stays.

    Source: Deep Networks with Stochastic Depth (Huang et al., ECCV 2016); the release calls it drop connect.
    With `trainable = False`, as in a frozen block, nothing is dropped.

    Args:
        rate: probability of dropping, in [0, 1); 0 is off.

    Input shape: `[batch, height, width, channels]`. Output shape: the same.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate("StochasticDepth", rate)
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, inputs, training=False):
        if not (training and self.trainable) or self.rate == 0:
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
    JAX reads the rate when it compiles. With `trainable = False`, as in a frozen network, nothing is dropped.

    Args:
        rate: share of the inputs set to 0, in [0, 1); the others are divided by 1 - rate. `layer.rate = 0.3`
            changes it.

    Input shape: any. Output shape: the same.
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self._initial_rate = rate = check_rate("ScheduledDropout", rate)
        # Without autocast it stays float32 in mixed precision, as the numbers that it is compared with.
        variable = keras.Variable(rate, trainable=False, dtype="float32", autocast=False, name="scheduled_dropout_rate")
        self._holder = _Untracked(variable)
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    @property
    def rate(self):
        """The rate in use, a Python float."""
        return float(ops.convert_to_numpy(self._holder.value.value))

    @rate.setter
    def rate(self, rate):
        self._holder.value.assign(check_rate("ScheduledDropout", float(rate)))

    def call(self, inputs, training=False):
        if not (training and self.trainable):
            return inputs
        rate = ops.convert_to_tensor(self._holder.value)
        draw = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator, dtype="float32")
        scale = ops.cast(draw >= rate, "float32") / (1.0 - rate)  # 0 or 1 / keep
        return inputs * ops.cast(scale, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self._initial_rate}


def _pointwise(layer, x):
    """What a `PointwiseConv2D` with bias gives for [batch, channels]."""
    return ops.matmul(x, ops.reshape(layer.kernel, layer.kernel.shape[2:])) + layer.bias


@keras.saving.register_keras_serializable(package=_PACKAGE)
class SqueezeExcite(keras.layers.Layer):
    """Scales each channel by a gate computed from the spatial means of all channels.

    Source: Squeeze-and-Excitation Networks (Hu et al., CVPR 2018), with the bottleneck counted from the
    block's input channels as in EfficientNet.

    Args:
        squeezed_filters: channels of the bottleneck, at least 1.
        activation: of the bottleneck.
        folded: whether it is a network's whose normalisation is folded, for TensorFlow to serve. Then inference, too,
            is made of matrix products, which take TensorFlow a fraction of the time of a convolution of one pixel.

    Attributes:
        fused: whether training computes it as a whole; if not, it calls the layers inside, which can be watched.

    Input shape: `[batch, height, width, channels]`. Output shape: the same.
    """

    def __init__(self, squeezed_filters, activation="silu", folded=False, **kwargs):
        super().__init__(**kwargs)
        self.squeezed_filters = squeezed_filters
        self.activation = keras.activations.get(activation)
        self.folded = folded
        self.reduce = conv(squeezed_filters, use_bias=True, name="reduce")
        self.fused = True

    def build(self, input_shape):
        channels = input_shape[-1]
        self.expand = conv(channels, use_bias=True, name="expand")
        self.reduce.build((None, 1, 1, channels))
        self.expand.build((None, 1, 1, self.squeezed_filters))

    def call(self, inputs, training=None):
        if self.folded:
            return self._serve(inputs)
        if training and self.fused and _is_fused(self.activation):
            parameters = (self.reduce.kernel, self.reduce.bias, self.expand.kernel, self.expand.bias)
            # A kernel that Keras adapts (LoRA) is a tensor already.
            values = (x.value if isinstance(x, keras.Variable) else x for x in parameters)
            return fused.squeeze_excite(inputs, *values)
        gate = ops.mean(inputs, axis=(1, 2), keepdims=True)  # [batch, 1, 1, channels]
        gate = ops.sigmoid(self.expand(activate(self.reduce(gate), self.activation, training)))
        return inputs * gate

    def _serve(self, inputs):
        gate = ops.mean(inputs, axis=(1, 2))  # [batch, channels]
        gate = _pointwise(self.reduce, gate)
        # As a product with a sigmoid TensorFlow would join it to an operation that takes longer to begin.
        is_silu = self.activation is keras.activations.silu
        gate = gate / (1.0 + ops.exp(-gate)) if is_silu else self.activation(gate)
        return inputs * ops.reshape(ops.sigmoid(_pointwise(self.expand, gate)), (-1, 1, 1, inputs.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        own = {"squeezed_filters": self.squeezed_filters, "activation": activation, "folded": self.folded}
        return {**super().get_config(), **own}
