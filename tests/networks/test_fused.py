"""TensorFlow's fused operations against Keras' own, in values, gradients and statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks import fused
from efficientnetv2_tf.networks.layers import BatchNormalization, SqueezeExcite, activation_of
from efficientnetv2_tf.networks.precision import dtype_policy

SILU = activation_of("silu", "batch")


@pytest.fixture(params=[(4, 5, 6, 8), (2, 1, 1, 8)], ids=["some pixels", "one pixel"])
def arrays(request):
    rng = np.random.default_rng(0)
    images, downstream = rng.normal(1, 2, [2, *request.param]).astype(np.float32)
    return images, downstream


def make(cls):
    rng = np.random.default_rng(1)
    layer = cls(momentum=0.9, epsilon=1e-3)
    layer.build([None, None, None, 8])
    layer.set_weights([rng.uniform(0.5, 2, 8) for _ in layer.weights])
    return layer


def results(layer, call, images, downstream):
    """Outputs, gradients to images, gamma and beta, and the moving statistics."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = call(images)
    gradients = tape.gradient(outputs, [images, layer.gamma.value, layer.beta.value], tf.constant(downstream))
    return [outputs, *gradients, layer.moving_mean.value, layer.moving_variance.value]


@pytest.mark.parametrize("activated", [False, True])
def test_values_gradients_and_statistics_are_keras_own(arrays, activated):
    mine, other = make(BatchNormalization), make(keras.layers.BatchNormalization)

    def reference(x):
        x = other(x, training=True)
        return keras.activations.silu(x) if activated else x

    def ours(x):
        return mine.activate(x, SILU, True) if activated else mine(x, training=True)

    for got, expected in zip(results(mine, ours, *arrays), results(other, reference, *arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_other_activations_and_inference(arrays, activation):
    images, _ = arrays
    mine, other = make(BatchNormalization), make(keras.layers.BatchNormalization)
    function = keras.activations.get(activation)
    for training in (False, True) if activation == "relu" else (False,):
        got = mine.activate(images, activation_of(activation, "batch"), training)
        np.testing.assert_allclose(got, function(other(images, training=training)), rtol=1e-4, atol=1e-4)


def test_frozen_statistics_stay():
    layer = make(BatchNormalization)
    layer.trainable = False
    before = layer.get_weights()
    layer.activate(np.ones([2, 3, 3, 8], np.float32), SILU, True)
    for mine, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_half_precision_keeps_its_type_and_float32_statistics():
    with dtype_policy("mixed_bfloat16"):
        layer = make(BatchNormalization)
        images = tf.cast(np.random.default_rng(0).normal(size=[4, 5, 5, 8]), tf.bfloat16)
        outputs = layer.activate(images, SILU, True)
    assert outputs.dtype == tf.bfloat16
    assert layer.moving_variance.dtype == "float32"
    assert np.isfinite(tf.cast(outputs, tf.float32)).all()


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 3e-3)])
def test_silu(dtype, tolerance):
    x = tf.constant([-1e4, -100.0, -5.0, -1.0, 0.0, 1e-3, 1.0, 5.0, 30.0, 100.0], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fused.silu(x)
    assert y.dtype == dtype
    wide = tf.cast(x, tf.float64).numpy()
    sigmoid = np.exp(-np.logaddexp(0, -wide))
    np.testing.assert_allclose(tf.cast(y, tf.float64), wide * sigmoid, rtol=tolerance, atol=1e-30)
    slope = tf.cast(tape.gradient(y, x), tf.float64)
    np.testing.assert_allclose(slope, sigmoid * (1 + wide * (1 - sigmoid)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("mixed_bfloat16", 0.06), ("mixed_float16", 0.005)])
@pytest.mark.parametrize("shape", [(4, 80, 80), (4, None, None), (None, None, None)], ids=str)
def test_squeeze_and_excite_is_in_training_what_it_is_in_inference(dtype, tolerance, shape):
    rng = np.random.default_rng(0)
    images, downstream = rng.normal(1, 2, [2, 4, 80, 80, 8]).astype(np.float32)  # sums that float16 cannot add up
    weights = [rng.normal(size=shape) for shape in ((1, 1, 8, 3), (3,), (1, 1, 3, 8), (8,))]

    def run(training, dtype):
        with dtype_policy(dtype):
            layer = SqueezeExcite(3)
        layer.build([None, None, None, 8])
        layer.set_weights(weights)

        @tf.function(input_signature=[tf.TensorSpec([*shape, 8], layer.compute_dtype)] * 2)
        def gradients(x, dy):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
            return y, *tape.gradient(y, [x, *(weight.value for weight in layer.weights)], dy)

        return gradients(*(tf.cast(array, layer.compute_dtype) for array in (images, downstream)))

    for got, expected in zip(run(True, dtype), run(False, "float32"), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(tf.cast(got, tf.float32) / scale, expected / scale, atol=tolerance)


def test_squeeze_and_excite_of_no_pictures_outside_of_a_graph():
    layer = SqueezeExcite(3)
    with tf.GradientTape() as tape:
        layer.build([None, None, None, 8])
        outputs = layer(np.zeros([0, 4, 4, 8], np.float32), training=True)
    assert outputs.shape == (0, 4, 4, 8)
    for gradient in tape.gradient(outputs, [weight.value for weight in layer.weights]):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def test_squeeze_and_excite_with_adapted_kernels():
    images = np.random.default_rng(0).normal(size=[2, 4, 4, 8]).astype(np.float32)
    layer = SqueezeExcite(3)
    layer.build([None, None, None, 8])
    layer.reduce.enable_lora(2)
    layer.reduce.lora_kernel_b.assign(np.ones(layer.reduce.lora_kernel_b.shape))
    with tf.GradientTape() as tape:
        outputs = layer(images, training=True)
    np.testing.assert_allclose(outputs, layer(images), rtol=1e-5)
    assert np.abs(tape.gradient(outputs, layer.reduce.lora_kernel_a.value)).max() > 0


def test_squeeze_and_excite_with_another_activation():
    images = np.random.default_rng(0).normal(size=[2, 4, 4, 8]).astype(np.float32)
    layer = SqueezeExcite(3, activation="relu")
    np.testing.assert_allclose(layer(images, training=True), layer(images), rtol=1e-5)


@pytest.mark.parametrize("activated", [False, True])
def test_the_tape_makes_no_zeros_for_what_has_no_gradient(activated):
    """`fused` relies on a name that TensorFlow's tape knows; with another one the graph would have more operations."""
    layer, excite = make(BatchNormalization), SqueezeExcite(3)
    excite.build([None, None, None, 8])

    @tf.function(input_signature=[tf.TensorSpec([4, None, None, 8])])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer.activate(x, SILU, True) if activated else layer(x, training=True)
            y = excite(y, training=True)
        return tape.gradient(y, x)

    kinds = [operation.type for operation in gradient.get_concrete_function().graph.get_operations()]
    zeros = [kind for kind in kinds if kind in ("ZerosLike", "Fill")]
    assert zeros == ["Fill"]  # the ones with which a gradient begins


def test_what_the_fused_operation_has_not_is_keras_own():
    rng = np.random.default_rng(0)
    images, mask = rng.normal(1, 2, [3, 4, 5, 6]).astype(np.float32), rng.random([3, 4, 5]) > 0.3
    for options, arguments in (
        ({"center": False}, {}),
        ({"scale": False}, {}),
        ({"axis": 1}, {}),
        ({"dtype": "float64"}, {}),
        ({}, {"mask": mask}),
        ({}, {"inputs": images[0, 0]}),
    ):
        mine, other = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
        arguments = {"inputs": images, **arguments}
        got, expected = (layer(**arguments, training=True) for layer in (mine, other))
        np.testing.assert_allclose(got, expected, atol=1e-5, err_msg=str((options, arguments)))


# Three of four pictures are the first replica's, and the fourth, of another kind, the second one's; or all the first's.
REPLICAS = """
import numpy as np, keras, tensorflow as tf
from efficientnetv2_tf.networks.layers import BatchNormalization, activation_of
from efficientnetv2_tf.networks.precision import dtype_policy
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
images, downstream = rng.normal(1, 2, [2, 4, 5, 6, 8]).astype("float32")
images[3] = images[3] * 3 + 1
weights = [rng.uniform(0.5, 2, 8) for _ in range(4)]
silu = activation_of("silu", "batch")
for activated, share, dtype in (False, 3, "float32"), (True, 3, "float32"), (True, 4, "float32"), (True, 3, "bfloat16"):
    with strategy.scope(), dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else "float32"):
        layer = BatchNormalization(momentum=0.9, epsilon=1e-3, synchronized=True)
        layer.build([None, None, None, 8])
        layer.set_weights(weights)
    def run():
        first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
        x, dy = (tf.cond(first, lambda: tf.constant(a[:share]), lambda: tf.constant(a[share:]))
                 for a in (images, downstream))
        x, dy = tf.cast(x, dtype), tf.cast(dy, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer.activate(x, silu, True) if activated else layer(x, training=True)
        variables = [layer.gamma.value, layer.beta.value]
        return y, *tape.gradient(y, [x, *variables], dy)
    function = tf.function(lambda: strategy.run(run))
    y, dx, dgamma, dbeta = (strategy.experimental_local_results(values) for values in function())
    y, dx = (np.concatenate([tf.cast(value, "float32") for value in values]) for values in (y, dx))
    results = [y, dx, sum(dgamma), sum(dbeta), layer.moving_mean, layer.moving_variance]
    tolerance = 0.06 if dtype == "bfloat16" else 3e-4
    other = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    other.build([None, None, None, 8])
    other.set_weights(weights)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = other(x, training=True)
        y = keras.activations.silu(y) if activated else y
    gradients = tape.gradient(y, [x, other.gamma.value, other.beta.value], tf.constant(downstream))
    expected = [y, *gradients, other.moving_mean, other.moving_variance]
    for index, (mine, theirs) in enumerate(zip(results, expected)):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance, err_msg=f"{activated} {share} {index}")
    print("equal")
"""


@pytest.mark.slow
def test_replicas_together_are_one_with_all_pictures(run_python):
    assert run_python(REPLICAS).split().count("equal") == 4
