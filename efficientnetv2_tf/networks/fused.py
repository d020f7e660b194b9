"""Batch normalisation, SiLU and squeeze-and-excite in training, as the fewest operations of TensorFlow.

Keras composes them from operations each of which goes over all of the activations, and keeps more of them for the
backward pass. Values and gradients are the same. TensorFlow is imported at the first use.
"""

import functools

import keras


def on_tensorflow():
    """Whether TensorFlow is the backend; on others the functions of this module cannot be used."""
    return keras.backend.backend() == "tensorflow"


def silu(x):
    """`x * sigmoid(x)` (Elfwing et al., 2017), of the same shape and type."""
    return _functions().silu(x)


def batch_norm(x, gamma, beta, epsilon, *, activated=False, synchronized=False):
    """Normalises over all axes but the last (Ioffe & Szegedy, ICML 2015).

    Args:
        x: [batch, height, width, channels].
        gamma: float32 [channels].
        beta: likewise.
        epsilon: is added to the variance.
        activated: whether SiLU comes after it. What is between the two is computed again in the backward pass, for a
            third of the memory that a convolution, its normalisation and activation keep.
        synchronized: whether mean and variance are of the examples of all replicas, of which there may be a different
            number in each. Costs one exchange in the forward pass and one in the backward pass.

    Returns:
        The result, as `x`, and mean and (biased) variance, float32 [channels], through which no gradients come.
    """
    functions = _functions()
    if synchronized and (replicas := functions.replicas()):
        return _synchronized_functions().batch_norm(x, gamma, beta, epsilon, activated, replicas)
    return functions.batch_norm(x, gamma, beta, epsilon, activated)


def squeeze_excite(x, reduce_kernel, reduce_bias, expand_kernel, expand_bias):
    """Scales each channel by a gate, see `layers.SqueezeExcite`; the activation between is SiLU.

    Args:
        x: [batch, height, width, channels].
        reduce_kernel: [1, 1, channels, squeezed], of the type of `x`, like the others.
        reduce_bias: [squeezed].
        expand_kernel: [1, 1, squeezed, channels].
        expand_bias: [channels].

    Returns:
        The result, as `x`.
    """
    return _functions().squeeze_excite(x, reduce_kernel, reduce_bias, expand_kernel, expand_bias)


class _Functions:
    def __init__(self, **functions):
        self.__dict__.update(functions)


def _with_gradient(function):
    """`tf.custom_gradient`, with fewer operations in the graph.

    It passes its arguments on, beside the result, and the tape makes zeros as the gradient of each of them, which
    nobody reads. But not for operations of this name, whose results two to five have no gradients.
    """
    import tensorflow as tf

    function.__name__ = "FusedBatchNorm"
    return tf.custom_gradient(function)


@functools.cache
def _functions():
    import tensorflow as tf

    def gate(values, x):
        """values * sigmoid(x)."""
        return tf.raw_ops.SoftplusGrad(gradients=values, features=x)

    def silu_gradient(dy, x, y):
        """dy * (sigmoid(x) + y * sigmoid(-x))."""
        if x.dtype.size < 4:
            return gate(dy, x) + gate(dy * y, -x)
        # One operation less, for a difference that costs digits where x is large: the last ones of float32.
        product = dy * y
        return product + gate(dy - product, x)

    @_with_gradient
    def silu(x):
        y = gate(x, x)
        return y, lambda dy: silu_gradient(dy, x, y)

    def elements(x):
        """Their number; where it is known as a Python number, which is no operation."""
        return x.shape.num_elements() or tf.cast(tf.size(x), tf.float32)

    def normalise(x, gamma, beta, epsilon):
        unused = tf.zeros([0])
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=unused, variance=unused, epsilon=epsilon, is_training=True
        )
        # The operation gives the unbiased variance, n / (n - 1) of the one that it normalised with.
        return outputs, outputs.batch_variance * (1.0 - x.shape[-1] / elements(x))

    def normalise_with(x, gamma, beta, mean, variance, epsilon):
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
        ).y

    def batch_norm(x, gamma, beta, epsilon, activated):
        statistics = []

        @_with_gradient
        def compute(x, gamma, beta):
            outputs, variance = normalise(x, gamma, beta, epsilon)
            statistics.extend([outputs.batch_mean, variance])
            y = gate(outputs.y, outputs.y) if activated else outputs.y

            def gradient(dy):
                if activated:
                    with tf.control_dependencies([dy]):
                        between = normalise_with(x, gamma, beta, outputs.batch_mean, variance, epsilon)
                    dy = silu_gradient(dy, between, y)
                return tf.raw_ops.FusedBatchNormGradV3(
                    y_backprop=dy,
                    x=x,
                    scale=gamma,
                    reserve_space_1=outputs.reserve_space_1,
                    reserve_space_2=outputs.reserve_space_2,
                    reserve_space_3=outputs.reserve_space_3,
                    epsilon=epsilon,
                    is_training=True,
                )[:3]

            return y, gradient

        return compute(x, gamma, beta), *statistics

    def over_pixels(reduce, x):
        """A mean or sum of [batch, height, width, channels] by channel; in float32 where float16 would not do."""
        wide = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x  # CPUs add float16 up in float16
        return tf.cast(reduce(wide, axis=[1, 2]), x.dtype)

    @_with_gradient
    def squeeze_excite(x, reduce_kernel, reduce_bias, expand_kernel, expand_bias):
        reducing, expanding = (tf.reshape(kernel, kernel.shape[2:]) for kernel in (reduce_kernel, expand_kernel))
        for_each_channel = [-1, 1, 1, x.shape[-1]]
        mean = over_pixels(tf.reduce_mean, x)  # [batch, channels]
        reduced = tf.nn.bias_add(tf.matmul(mean, reducing), reduce_bias)
        activated = gate(reduced, reduced)
        scale = tf.sigmoid(tf.nn.bias_add(tf.matmul(activated, expanding), expand_bias))
        scales = tf.reshape(scale, for_each_channel)

        def gradient(dy):
            dscale = over_pixels(tf.reduce_sum, dy * x)
            dexpanded = tf.raw_ops.SigmoidGrad(y=scale, dy=dscale)
            dreduced = silu_gradient(tf.matmul(dexpanded, expanding, transpose_b=True), reduced, activated)
            share = tf.cast(elements(mean) / elements(x), x.dtype)  # of a pixel in the mean
            dmean = tf.matmul(dreduced, reducing, transpose_b=True) * share
            return (
                dy * scales + tf.reshape(dmean, for_each_channel),
                tf.reshape(tf.matmul(mean, dreduced, transpose_a=True), reduce_kernel.shape),
                tf.raw_ops.BiasAddGrad(out_backprop=dreduced),
                tf.reshape(tf.matmul(activated, dexpanded, transpose_a=True), expand_kernel.shape),
                tf.raw_ops.BiasAddGrad(out_backprop=dexpanded),
            )

        return x * scales, gradient

    def replicas():
        """The replica context, or None where there is but one replica."""
        context = tf.distribute.get_replica_context()
        return context if context is not None and context.num_replicas_in_sync > 1 else None

    return _Functions(
        silu=silu,
        silu_gradient=silu_gradient,
        normalise=normalise,
        normalise_with=normalise_with,
        batch_norm=batch_norm,
        squeeze_excite=squeeze_excite,
        replicas=replicas,
    )


@functools.cache
def _synchronized_functions():
    import tensorflow as tf

    functions = _functions()

    def added_up(replicas, *vectors):
        """Sums over the replicas, by one exchange: over a network each takes milliseconds, however short it is."""
        sums = replicas.all_reduce("SUM", tf.concat(vectors, 0))
        return tf.split(sums, [vector.shape[0] for vector in vectors])

    def moments(x, gamma, beta, epsilon, replicas):
        """Number of values a channel, mean and biased variance, of all replicas."""
        outputs, variance = functions.normalise(x, gamma, beta, epsilon)  # of this replica's alone
        mean, number = outputs.batch_mean, tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        # A replica without examples, as at the end of a data set, has no mean.
        means, squares = (tf.math.multiply_no_nan(value, number) for value in (mean, variance + mean * mean))
        total, means, squares = added_up(replicas, number[None], means, squares)
        mean = tf.math.divide_no_nan(means, total)
        return total, mean, tf.maximum(tf.math.divide_no_nan(squares, total) - mean * mean, 0.0)

    def batch_norm(x, gamma, beta, epsilon, activated, replicas):
        statistics = []

        @_with_gradient
        def compute(x, gamma, beta):
            total, mean, variance = moments(x, gamma, beta, epsilon, replicas)
            statistics.extend([mean, variance])
            between = functions.normalise_with(x, gamma, beta, mean, variance, epsilon)
            y = functions.silu(between) if activated else between

            def gradient(dy):
                if activated:
                    with tf.control_dependencies([dy]):
                        between = functions.normalise_with(x, gamma, beta, mean, variance, epsilon)
                    dy = functions.silu_gradient(dy, between, y)
                # As if mean and variance were constants; then what they owe to x.
                dx, dgamma, dbeta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                    y_backprop=dy,
                    x=x,
                    scale=gamma,
                    reserve_space_1=mean,
                    reserve_space_2=variance,
                    reserve_space_3=[],
                    epsilon=epsilon,
                    is_training=False,
                )
                scale = gamma * tf.math.rsqrt(variance + epsilon) / total
                of_gamma, of_beta = added_up(replicas, dgamma, dbeta)
                owed = functions.normalise_with(x, scale * of_gamma, scale * of_beta, mean, variance, epsilon)
                return dx - owed, dgamma, dbeta

            return y, gradient

        return compute(x, gamma, beta), *statistics

    return _Functions(batch_norm=batch_norm)
