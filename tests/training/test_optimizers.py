"""The fused updates against Keras' own and against the formulas."""

import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training import optimizers
from efficientnetv2_tf.training.hparams import TrainConfig

STEPS = 7
SHAPES = {"kernel": (3, 3, 4, 5), "bias": (5,), "gamma": (1,)}
DECAYING = keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5, staircase=True)


@pytest.fixture(scope="module")
def network():
    return get_model("testing", num_classes=10)


def make_variables():
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape).astype(np.float32), name=name) for name, shape in SHAPES.items()]


def make_gradients(step):
    rng = np.random.default_rng(100 + step)
    return [tf.constant(rng.normal(scale=3.0, size=shape), tf.float32) for shape in SHAPES.values()]


def run(optimizer, *, steps=STEPS, exclude=False):
    """Weights, then all variables of the optimizer, after some steps."""
    variables = make_variables()
    if exclude:
        optimizer.exclude_from_weight_decay(var_list=variables[1:])
    optimizer.build(variables)

    @tf.function
    def update(gradients):
        optimizer.apply(gradients, variables)

    for step in range(steps):
        update(make_gradients(step))
    return [v.numpy() for v in variables], [v.numpy() for v in optimizer.variables]


def assert_same(ours, theirs, atol=1e-6):
    for mine, yours in zip(ours, theirs, strict=True):
        assert len(mine) == len(yours)
        for a, b in zip(mine, yours, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=atol)


# --- against Keras ---


@pytest.mark.parametrize(
    "name, options",
    [
        ("RMSprop", {"rho": 0.9, "momentum": 0.9, "epsilon": 1e-3}),
        ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1, "global_clipnorm": 0.7}),
        ("RMSprop", {"momentum": 0.8, "learning_rate": DECAYING}),
        ("RMSprop", {"momentum": 0.0, "epsilon": 1e-3}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
        ("AdamW", {"weight_decay": 0.1}),
        ("AdamW", {"weight_decay": 0.1, "global_clipnorm": 0.7, "learning_rate": DECAYING}),
        ("AdamW", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "weight_decay": 0.0}),
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("SGD", {"momentum": 0.9, "global_clipnorm": 0.7, "learning_rate": DECAYING}),
        ("SGD", {"momentum": 0.0}),
    ],
)
def test_equals_keras(name, options):
    options = {"learning_rate": 0.01, **options}
    before = [v.numpy() for v in make_variables()]
    exclude = "weight_decay" in options
    ours = run(getattr(optimizers, name)(**options), exclude=exclude)
    theirs = run(getattr(keras.optimizers, name)(**options), exclude=exclude)
    # Keras rounds 1 - beta_2 ** step to float32 earlier: it is 5 times as far from float64 as the kernel.
    assert_same(ours, theirs, atol=5e-6 if name == "AdamW" else 1e-6)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(ours[0], before, strict=True))


def test_rmsprop_follows_the_formula():
    weights, _ = run(optimizers.RMSprop(0.05, rho=0.9, momentum=0.9, epsilon=1e-3))
    for index, expected in enumerate(v.numpy().astype(np.float64) for v in make_variables()):
        square, velocity = 0.0, 0.0
        for step in range(STEPS):
            gradient = make_gradients(step)[index].numpy().astype(np.float64)
            square = 0.9 * square + 0.1 * gradient**2
            velocity = 0.9 * velocity + 0.05 * gradient / np.sqrt(square + 1e-3)
            expected = expected - velocity
        np.testing.assert_allclose(weights[index], expected, rtol=1e-5, atol=1e-5)


def test_rmsprop_epsilon_is_inside_of_the_root():
    variable = keras.Variable([0.0])
    optimizer = optimizers.RMSprop(1.0, rho=0.9, momentum=0.9, epsilon=1e-3)
    optimizer.build([variable])
    optimizer.apply([tf.constant([1e-6])], [variable])
    # Outside, the step would be 1e-6 / (3e-7 + 1e-3) = 1e-3.
    assert float(variable.numpy()[0]) == pytest.approx(-1e-6 / np.sqrt(1e-3), rel=1e-4)


def test_adamw_follows_the_formula():
    weights, _ = run(optimizers.AdamW(0.05, beta_1=0.8, beta_2=0.99, epsilon=1e-3, weight_decay=0.1))
    for index, expected in enumerate(v.numpy().astype(np.float64) for v in make_variables()):
        mean, square = 0.0, 0.0
        for step in range(1, STEPS + 1):
            gradient = make_gradients(step - 1)[index].numpy().astype(np.float64)
            expected = expected * (1 - 0.05 * 0.1)
            mean, square = 0.8 * mean + 0.2 * gradient, 0.99 * square + 0.01 * gradient**2
            # Epsilon is added to the uncorrected root, as in Kingma & Ba's second form and in Keras.
            rate = 0.05 * np.sqrt(1 - 0.99**step) / (1 - 0.8**step)
            expected = expected - rate * mean / (np.sqrt(square) + 1e-3)
        np.testing.assert_allclose(weights[index], expected, rtol=2e-6, atol=1e-6)


def test_two_devices_do_what_one_does():
    """Two replicas with half of the gradient each; in a process of its own, because devices are split only once."""
    code = """
        import json
        import keras, numpy as np, tensorflow as tf
        from efficientnetv2_tf.training import optimizers

        devices = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        gradients = np.random.default_rng(0).normal(size=[5, 3]).astype(np.float32)

        def train(make, strategy):
            with strategy.scope():
                variables = [keras.Variable([1.0, 2.0, 3.0], name=name) for name in ("kernel", "bias")]
                optimizer = make()
                optimizer.exclude_from_weight_decay(var_list=variables[1:])
                optimizer.build(variables)

            @tf.function
            def step(gradient):
                replicas = strategy.num_replicas_in_sync

                def replica():
                    optimizer.apply([gradient / replicas] * 2, variables)

                strategy.run(replica)

            for gradient in gradients:
                step(tf.constant(gradient))
            values = [v.value for v in [*variables, *optimizer.variables]]
            copies = [strategy.experimental_local_results(v) for v in values]
            return [[np.asarray(c).astype(float).tolist() for c in copy] for copy in copies]

        makers = {
            "rmsprop": lambda: optimizers.RMSprop(0.1, momentum=0.9, epsilon=1e-3),
            "adamw": lambda: optimizers.AdamW(0.1, weight_decay=0.1),
            "sgd": lambda: optimizers.SGD(0.1, momentum=0.9),
            # The sum's norm is up to 3.7, each half's is below 2: clipped before it is summed, nothing would change.
            "clipped": lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=2.0),
            "not clipped": lambda: optimizers.SGD(0.1, momentum=0.9),
        }
        one = tf.distribute.get_strategy()
        print(json.dumps({name: [train(make, one), train(make, strategy)] for name, make in makers.items()}))
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    for name, (one, two) in results.items():
        assert len(one) == len(two), name
        for (single,), copies in zip(one, two, strict=True):
            for copy in copies:
                np.testing.assert_allclose(copy, single, rtol=1e-5, atol=1e-6, err_msg=name)
        assert len(two[0]) == 2, name  # really a variable on each device
        (kernel, _), (bias, _) = two[:2]
        assert (kernel == bias) == (name != "adamw"), name  # the only one that decays, and not its bias


# --- which variables decay ---


def test_kernels_of_the_network(network):
    kernels = [v for v in network.trainable_variables if optimizers.is_kernel(v)]
    assert len(kernels) == 25
    assert kernels == [v for v in network.trainable_variables if len(v.shape) > 1]
    assert sum("depthwise_conv" in v.path for v in kernels) == 3
    left_out = {v.path.rsplit("/", 1)[-1] for v in network.weights if not optimizers.is_kernel(v)}
    assert left_out == {"bias", "gamma", "beta", "moving_mean", "moving_variance"}


def test_keras_depthwise_layer_has_a_kernel():
    layer = keras.layers.DepthwiseConv2D(3)
    layer.build([None, 8, 8, 2])
    assert [v.name for v in layer.weights if optimizers.is_kernel(v)] == ["kernel"]


def test_adamw_decays_kernels_only():
    variables = make_variables()
    before = [v.numpy() for v in variables]
    optimizer = optimizers.make_optimizer(TrainConfig(optimizer="adamw", weight_decay=0.2), 0.5, variables)
    optimizer.apply([tf.zeros(v.shape) for v in variables], variables)
    np.testing.assert_allclose(variables[0].numpy(), before[0] * (1 - 0.5 * 0.2), rtol=1e-6)
    for variable, was in zip(variables[1:], before[1:], strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


@pytest.mark.parametrize("name", ["rmsprop", "sgd"])
def test_others_leave_decay_to_the_loss(name):
    variables = make_variables()
    before = [v.numpy() for v in variables]
    optimizer = optimizers.make_optimizer(TrainConfig(optimizer=name, weight_decay=0.2), 0.5, variables)
    optimizer.apply([tf.zeros(v.shape) for v in variables], variables)
    for variable, was in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


# --- make_optimizer ---


@pytest.mark.parametrize("name, slots", [("rmsprop", 2), ("adamw", 2), ("sgd", 1)])
def test_variables_are_there_before_the_first_step(name, slots):
    variables = make_variables()
    optimizer = optimizers.make_optimizer(TrainConfig(optimizer=name), 0.1, variables)
    paths = [v.path for v in optimizer.variables]
    assert len(paths) == 2 + slots * len(variables)  # iterations, learning rate, slots
    optimizer.apply(make_gradients(0), variables)
    assert [v.path for v in optimizer.variables] == paths
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize(
    "name, epsilon, expected", [("rmsprop", None, 1e-3), ("adamw", None, 1e-8), ("rmsprop", 0.1, 0.1)]
)
def test_epsilon(name, epsilon, expected):
    config = TrainConfig(optimizer=name, epsilon=epsilon)
    assert optimizers.make_optimizer(config, 0.1, make_variables()).epsilon == expected


def test_clipping_is_of_the_global_norm():
    variables = make_variables()
    before = [v.numpy() for v in variables]
    config = TrainConfig(optimizer="sgd", momentum=0.0, gradient_clip=0.25)
    optimizer = optimizers.make_optimizer(config, 1.0, variables)
    optimizer.apply(make_gradients(0), variables)
    steps = [v.numpy() - was for v, was in zip(variables, before, strict=True)]
    assert np.sqrt(sum((step**2).sum() for step in steps)) == pytest.approx(0.25, rel=1e-5)
    assert TrainConfig().gradient_clip == 0
    assert optimizers.make_optimizer(TrainConfig(), 0.1, make_variables()).global_clipnorm is None


@pytest.mark.parametrize("name", ["rmsprop", "adamw", "sgd"])
def test_loss_scaling(name):
    plain, scaled = make_variables(), make_variables()
    config = TrainConfig(optimizer=name)
    reference = optimizers.make_optimizer(config, 0.1, plain)
    optimizer = optimizers.make_optimizer(config, 0.1, scaled, loss_scaling=True)
    reference.apply(make_gradients(0), plain)
    scale = float(optimizer.scale_loss(tf.constant(1.0)))
    assert scale > 1
    optimizer.apply([g * scale for g in make_gradients(0)], scaled)
    for a, b in zip(scaled, plain, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)

    before = [v.numpy() for v in scaled]
    optimizer.apply([g * np.inf for g in make_gradients(1)], scaled)  # an overflow leaves the step out
    for variable, was in zip(scaled, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)
    assert int(optimizer.iterations) == 1
    assert float(optimizer.scale_loss(tf.constant(1.0))) == scale / 2


def test_names_are_the_same_each_time():
    """A checkpoint finds its values by name, also in a process that made another optimizer before."""
    for scaling in (False, True):
        one, two = (optimizers.make_optimizer(TrainConfig(), 0.1, make_variables(), loss_scaling=scaling) for _ in "ab")
        assert [v.path for v in one.variables] == [v.path for v in two.variables]
        assert len({v.path for v in one.variables}) == len(one.variables)
