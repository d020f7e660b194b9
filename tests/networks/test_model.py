"""get_model's arguments, and models that come back from files."""

import json

import keras
import numpy as np
import pytest

from efficientnetv2_tf.networks.blocks import FusedMBConv, MBConv
from efficientnetv2_tf.networks.freezing import freeze, freeze_batch_norm
from efficientnetv2_tf.networks.layers import BatchNormalization
from efficientnetv2_tf.networks.model import EfficientNet, drop_rates, get_model
from efficientnetv2_tf.networks.variants import VARIANTS

SMALL = {"width_coefficient": 0.25, "depth_coefficient": 0.2, "num_classes": 7, "feature_size": 64}
TINY = {"width_coefficient": 0.1, "depth_coefficient": 0.05, "num_classes": 7, "feature_size": 64}


OUTER = ("stem_norm", "head_norm")


def flat(outputs):
    """All values that a model gives, one after the other."""
    return np.concatenate([np.ravel(x) for x in (outputs.values() if isinstance(outputs, dict) else [outputs])])


def images(side=32, batch=2, channels=3):
    return np.random.default_rng(0).normal(size=[batch, side, side, channels]).astype(np.float32)


def randomise(model):
    """Values that make the outputs depend on every weight, the statistics included."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        positive = variable.path.endswith(("moving_variance", "gamma"))
        scale = 1 / np.sqrt(max(np.prod(variable.shape[:-1]), 1))
        value = rng.uniform(0.5, 1.5, variable.shape) if positive else rng.normal(0, scale, variable.shape)
        variable.assign(value)
    return model


class TestDropRates:
    def test_grow_with_the_block_but_never_reach_the_end(self):
        np.testing.assert_allclose(drop_rates(4, 0.2), [0, 0.05, 0.1, 0.15])
        assert drop_rates(3, 0) == [0, 0, 0]

    @pytest.mark.parametrize(
        "name, blocks, last", [("efficientnetv2-b3", 32, 0.19375), ("efficientnetv2-s", 40, 0.195)]
    )
    def test_count_the_blocks_after_depth_scaling(self, name, blocks, last):
        depth = VARIANTS[name].depth_coefficient
        model = get_model(name, width_coefficient=0.1, depth_coefficient=depth, feature_size=8, num_classes=1)
        rates = [layer.drop_rate for layer in model.layers if isinstance(layer, MBConv | FusedMBConv)]
        np.testing.assert_allclose(rates, [0.2 * index / blocks for index in range(blocks)])
        assert rates[-1] == pytest.approx(last)

    @pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
    def test_out_of_range(self, rate):
        with pytest.raises(ValueError, match=r"`drop_connect_rate` should be in \[0, 1\)"):
            get_model("testing", drop_connect_rate=rate)


class TestArguments:
    def test_the_release_reference(self):
        assert get_model("efficientnetv2-s", **SMALL).count_params() == 253_783

    def test_defaults_are_the_variant(self, testing_model):
        variant = VARIANTS["testing"]
        assert testing_model.name == testing_model.variant == "testing"
        assert testing_model.preprocessing == variant.preprocessing
        assert testing_model.dropout.rate == pytest.approx(variant.dropout_rate)
        assert [len(stage) for stage in testing_model.blocks] == [1, 2, 1, 2, 1]
        assert testing_model.input_shape == (None, None, None, 3)
        assert testing_model.output_shape == (None, 10)

    def test_names_are_readable(self, testing_model):
        paths = [variable.path for variable in testing_model.weights]
        assert len(set(paths)) == len(paths)
        assert {
            "stem_conv/kernel",
            "blocks_0/project_conv/kernel",
            "blocks_4/depthwise_conv/kernel",
            "blocks_4/se/reduce/bias",
            "blocks_6/project_norm/moving_variance",
            "head_norm/gamma",
            "classifier/kernel",
        } <= {*paths}

    def test_gives_logits_that_depend_on_the_image_alone(self, testing_model):
        batch = images(batch=3)
        logits = testing_model(batch).numpy()
        np.testing.assert_allclose(testing_model(batch[1:2])[0], logits[1], atol=1e-5)
        assert logits.min() < 0  # no softmax

    def test_training_draws(self, testing_model):
        copy = get_model("testing", num_classes=10, dropout_rate=0.5)
        copy.set_weights(testing_model.get_weights())
        batch = images(batch=4)
        assert np.abs(copy(batch, training=True) - copy(batch, training=True)).max() > 1e-3

    def test_nothing_is_drawn_with_both_rates_off(self, testing_model):
        copy = get_model("testing", num_classes=10, dropout_rate=0, drop_connect_rate=0)
        batch = images(batch=4)
        np.testing.assert_allclose(copy(batch, training=True), copy(batch, training=True), atol=1e-6)

    @pytest.mark.parametrize("pooling, shape", [(None, (2, 2, 2, 32)), ("avg", (2, 32)), ("max", (2, 32))], ids=str)
    def test_features(self, testing_model, pooling, shape):
        model = get_model("testing", include_top=False, pooling=pooling)
        assert model.dropout is None
        model.set_weights(testing_model.get_weights()[:-2])
        features = model(images(side=33)).numpy()
        assert features.shape == shape
        last = keras.Model(testing_model.input, testing_model.get_layer("head_activation").output)
        maps = last(images(side=33)).numpy()
        reduce = {None: lambda x: x, "avg": lambda x: x.mean((1, 2)), "max": lambda x: x.max((1, 2))}[pooling]
        np.testing.assert_allclose(features, reduce(maps), atol=1e-5)

    def test_blocks(self):
        model = get_model("testing", blocks=["r1_k3_s2_e1_i8_o8_c1", "r2_k5_s1_e2_i8_o16"], feature_size=24)
        kinds = [type(layer) for layer in model.layers if isinstance(layer, MBConv | FusedMBConv)]
        assert kinds == [FusedMBConv, MBConv, MBConv]
        assert model.get_layer("head_conv").kernel.shape == (1, 1, 16, 24)

    def test_width_scales_the_last_convolution_too(self):
        model = get_model("efficientnetv2-b0", width_coefficient=1.1, depth_coefficient=0.1, num_classes=2)
        assert model.get_layer("head_conv").filters == 1408
        assert model.get_layer("stem_conv").filters == 32

    def test_input(self):
        model = get_model("testing", in_channels=1, image_size=40, num_classes=3)
        assert model.input_shape == (None, 40, 40, 1)
        assert model(images(40, channels=1)).shape == (2, 3)

    def test_activation(self):
        model = get_model("testing", activation="relu")
        assert model.get_layer("stem_activation").activation is keras.activations.relu
        assert model.get_layer("head_activation").activation is keras.activations.relu
        assert model.get_layer("blocks_3").activation is keras.activations.relu

    def test_classifier_initializer(self):
        model = get_model("testing", num_classes=5, classifier_initializer="zeros")
        np.testing.assert_array_equal(model(images()), np.zeros([2, 5]))
        kernel = get_model("testing", num_classes=400).get_layer("classifier").kernel
        assert np.abs(kernel).max() == pytest.approx(1 / 20, rel=0.01)

    def test_normalization_is_everywhere(self):
        def norms(model):
            blocks = [layer for layer in model.layers if isinstance(layer, MBConv | FusedMBConv)]
            return [*(norm for block in blocks for norm in block.normalizations), *map(model.get_layer, OUTER)]

        kinds = {"batch": BatchNormalization, "group": keras.layers.GroupNormalization}
        for name in ("batch", "sync_batch", "group"):
            model = get_model("testing", num_classes=2, normalization=name)
            assert model.normalization == model.get_config()["normalization"] == name
            assert {type(norm) for norm in norms(model)} == {kinds[name.removeprefix("sync_")]}
            assert len(norms(model)) == 2 + 1 + 2 * 3 + 3 * 3
            if name != "group":
                assert {norm.synchronized for norm in norms(model)} == {name == "sync_batch"}

    def test_group_normalisation_is_the_same_in_training(self):
        options = {"num_classes": 3, "dropout_rate": 0, "drop_connect_rate": 0, "normalization": "group"}
        model, batch = get_model("testing", **options), images(side=33, batch=3)
        before = [variable.numpy() for variable in model.weights]
        logits = model(batch).numpy()
        np.testing.assert_allclose(model(batch, training=True), logits, atol=1e-4)
        np.testing.assert_allclose(model(batch[1:2])[0], logits[1], atol=1e-4)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))

    def test_logits_stay_float32_in_mixed_precision(self):
        before = keras.config.dtype_policy()
        try:
            keras.config.set_dtype_policy("mixed_bfloat16")
            model = get_model("testing", num_classes=3)
        finally:
            keras.config.set_dtype_policy(before)
        assert model.get_layer("blocks_3").compute_dtype == "bfloat16"
        assert {variable.dtype for variable in model.weights} == {"float32"}
        for training in (False, True):
            assert model(images(), training=training).dtype == "float32"

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"name": "efficientnetv2-q"}, "Unknown model 'efficientnetv2-q'. Did you mean efficientnetv2-"),
            ({"name": "testin"}, "Did you mean testing"),
            ({"num_classes": True}, "`num_classes` should be a whole number of at least 1"),
            ({"dropout_rate": 1.0}, r"`dropout_rate` should be in \[0, 1\)"),
            ({"pooling": "avg"}, "`pooling` is for include_top=False"),
            ({"blocks": "r1_k3_s1_e1_i16_o16_c1"}, "`blocks` should be a list of block strings"),
            ({"activation": lambda x: x}, "`activation` should be a function with a name"),
            ({"num_classes": 0}, "`num_classes` should be a whole number of at least 1. Received: num_classes=0"),
            ({"num_classes": "10"}, "`num_classes` should be a whole number of at least 1. Received: num_classes='10'"),
            ({"feature_size": -5}, "`feature_size` should be a whole number of at least 1"),
            ({"image_size": 0}, "`image_size` should be a whole number of at least 1"),
            ({"pooling": "sum", "include_top": False}, "`pooling` should be None or one of .*'avg', 'max'"),
            ({"pooling": "avg", "features_only": True}, "`pooling` should be None with `features_only`.*'avg'"),
            ({"normalization": "layer"}, "`normalization` should be one of .*'batch', 'sync_batch', 'group'.*'layer'"),
            ({"width_coefficient": 0}, "`width_coefficient` should be above 0"),
            ({"depth_coefficient": -1}, "`depth_coefficient` should be above 0"),
            ({"blocks": ["r1_k3_s1_e1_i8_o8_x1"]}, "Unknown field 'x1'"),
            ({"blocks": []}, "at least one block string"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            get_model(**{"name": "testing", **arguments})


@pytest.fixture(scope="module")
def features(testing_model):
    return get_model("testing", features_only=True, weights=testing_model)


class TestFeaturesOnly:
    @pytest.mark.parametrize("size", [(32, 32), (33, 65), (50, 31), (1, 1), (7, 200)], ids=str)
    def test_are_the_outputs_before_each_reduction(self, testing_model, features, size):
        batch = np.random.default_rng(0).normal(size=[2, *size, 3]).astype(np.float32)
        outputs = features(batch)
        assert [*outputs] == [f"reduction_{number}" for number in range(1, 6)]
        ends = ["blocks_0", "blocks_2", "blocks_3", "blocks_5", "blocks_6"]
        whole = keras.Model(testing_model.input, [testing_model.get_layer(name).output for name in ends])
        for reduction, expected in zip(features.reductions, whole(batch), strict=True):
            found = outputs[reduction.name].numpy()
            np.testing.assert_allclose(found, expected, atol=1e-5)
            sides = [-(-side // reduction.stride) for side in size]
            assert found.shape == (2, *sides, reduction.channels)

    def test_their_list_needs_no_run(self, testing_model, features):
        assert testing_model.reductions == features.reductions
        assert [reduction[1:] for reduction in features.reductions] == [
            (2, 16, "blocks_0"),
            (4, 16, "blocks_2"),
            (8, 24, "blocks_3"),
            (16, 24, "blocks_5"),
            (32, 32, "blocks_6"),
        ]

    @pytest.mark.parametrize("include_top", [True, False])
    def test_there_is_no_head(self, testing_model, features, include_top):
        model = get_model("testing", features_only=True, include_top=include_top, num_classes=None)
        assert [v.path for v in model.weights] == [v.path for v in features.weights]
        left = {variable.path.split("/")[0] for variable in testing_model.weights[len(features.weights) :]}
        assert left == {"head_conv", "head_norm", "classifier"}
        assert model.dropout is None and model.features_only and not testing_model.features_only

    def test_of_other_blocks(self):
        blocks = ["r1_k3_s2_e1_i8_o8_c1", "r2_k5_s1_e2_i8_o16", "r1_k3_s2_e1_i16_o24"]
        outputs = get_model("testing", blocks=blocks, features_only=True, image_size=40)(images(40))
        assert {name: map_.shape for name, map_ in outputs.items()} == {
            "reduction_1": (2, 10, 10, 16),
            "reduction_2": (2, 5, 5, 24),
        }

    def test_train(self, features):
        """A loss on one of the maps reaches what comes before it, and nothing else."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(features(images(), training=True)["reduction_3"] ** 2)
        gradients = tape.gradient(loss, [variable.value for variable in features.trainable_variables])
        reached = [v.path for v, g in zip(features.trainable_variables, gradients, strict=True) if g is not None]
        assert reached[0] == "stem_conv/kernel" and reached[-1].startswith("blocks_3/")


class TestFiles:
    def test_weights(self, testing_model, tmp_path):
        path = str(tmp_path / "testing.weights.h5")
        testing_model.save_weights(path)
        model = get_model("testing", num_classes=10, weights=path)
        np.testing.assert_array_equal(model(images()), testing_model(images()))

    def test_weights_of_another_network(self, testing_model, tmp_path):
        path = str(tmp_path / "testing.weights.h5")
        testing_model.save_weights(path)
        with pytest.raises(ValueError, match=r"testing\.weights\.h5"):
            get_model("testing", width_coefficient=2, weights=path)
        with pytest.warns(UserWarning, match="no classifier for 11 classes"):
            model = get_model("testing", num_classes=11, weights=path)
        stem = testing_model.get_layer("stem_conv").kernel
        np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, stem)

    def test_config_round_trip(self):
        arguments = {"num_classes": 3, "dropout_rate": 0.4, "drop_connect_rate": 0.1, "activation": "relu"}
        shape = {"image_size": 48, "in_channels": 2, "width_coefficient": 0.6, "feature_size": 40}
        names = {"normalization": "group", "preprocessing": "finetune", "features_only": True}
        model = get_model("testing", **arguments, **shape, **names, blocks=["r1_k3_s2_e1_i8_o8_se0.3_c1"])
        copy = EfficientNet.from_config(json.loads(json.dumps(model.get_config())))
        assert copy.get_config() == model.get_config()
        assert [v.path for v in copy.weights] == [v.path for v in model.weights]
        assert (copy.blocks, copy.input_shape) == (model.blocks, (None, 48, 48, 2))

    @pytest.mark.slow
    def test_keras_files_open_in_a_fresh_process(self, run_python, tmp_path):
        """Every variant (reduced), and the ways in which a network without its top can be saved."""
        models = {name: get_model(name, **TINY) for name in VARIANTS}
        models["features"] = get_model("testing", include_top=False, pooling="max", activation="relu")
        models["blocks"] = get_model("testing", blocks=["r2_k3_s2_e3_i16_o16_se0.3_c1"], in_channels=3)
        models["group"] = get_model("testing", num_classes=3, normalization="group", preprocessing="finetune")
        models["synchronised"] = get_model("testing", num_classes=3, normalization="sync_batch")
        models["maps"] = get_model("testing", features_only=True, normalization="group")
        expected = {}
        for name, model in models.items():
            randomise(model).save(tmp_path / f"{name}.keras")
            expected[name] = flat(model(images()))
        np.savez(tmp_path / "expected.npz", **expected)
        np.save(tmp_path / "images.npy", images())
        code = f"""
import efficientnetv2_tf
import numpy as np, pathlib, sys
import tensorflow as tf
folder = pathlib.Path({str(tmp_path)!r})
expected = np.load(folder / "expected.npz")
for name in expected:
    model = tf.keras.models.load_model(folder / (name + ".keras"))
    outputs = model(np.load(folder / "images.npy"))
    outputs = np.concatenate([np.ravel(x) for x in (outputs.values() if isinstance(outputs, dict) else [outputs])])
    error = np.abs(outputs - expected[name]).max() / expected[name].std()
    print(name, type(model).__name__, model.normalization, model.preprocessing, error < 1e-5)
"""
        lines = run_python(code).split("\n")
        told = [f"{name} EfficientNet {m.normalization} {m.preprocessing} True" for name, m in models.items()]
        assert lines[:-1] == told

    def test_what_is_frozen_stays_frozen(self, tmp_path):
        freezers = {
            "classifier": freeze,
            "stage": lambda model: freeze(model, 2),
            "statistics": freeze_batch_norm,
            "both": lambda model: (freeze(model, 1), freeze_batch_norm(model)),
            "all": lambda model: setattr(model, "trainable", False),
            "nothing": lambda model: None,
        }
        for name, freezer in freezers.items():
            model = randomise(get_model("testing", num_classes=3))
            freezer(model)
            model.save(tmp_path / f"{name}.keras")
            copy = keras.models.load_model(tmp_path / f"{name}.keras")
            assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables], name
            before = [variable.numpy() for variable in copy.weights]
            copy(images(), training=True)
            moved = [v.path for v, b in zip(copy.weights, before, strict=True) if not np.array_equal(v, b)]
            statistics = [v.path for v in model.weights if v.path.endswith(("moving_mean", "moving_variance"))]
            gamma = {v.path for v in model.trainable_variables}
            assert moved == [path for path in statistics if f"{path.rpartition('/')[0]}/gamma" in gamma], name

    def test_files_of_before_open(self, testing_model):
        """Those without the fields that came later."""
        config = testing_model.get_config()
        for field in ("features_only", "normalization", "preprocessing", "frozen"):
            del config[field]
        assert EfficientNet.from_config(config).get_config() == testing_model.get_config()

    @pytest.mark.parametrize(
        "imports",
        [
            "import tensorflow as tf; import efficientnetv2_tf",
            "import efficientnetv2_tf; import importlib.util; importlib.util.find_spec('keras')",
            "from efficientnetv2_tf.networks.blocks import MBConv",
            "from efficientnetv2_tf import load_weights",
        ],
        ids=["TensorFlow first", "Keras looked for but not loaded", "the blocks alone", "the weights alone"],
    )
    def test_the_order_of_imports_does_not_matter(self, run_python, tmp_path, testing_model, imports):
        testing_model.save(tmp_path / "model.keras")
        path = str(tmp_path / "model.keras")
        load = f"""
import sys
import tensorflow as tf
print(tf.keras.models.load_model({path!r}).count_params())
print([finder for finder in sys.meta_path if "efficientnetv2_tf" in type(finder).__module__])
"""
        # The network opens, and nothing of ours is left in the way of later imports.
        assert run_python(f"{imports}\n{load}").split() == [str(testing_model.count_params()), "[]"]


def test_whole_numbers_of_numpy():
    model = get_model("testing", num_classes=np.int64(5), in_channels=np.int32(1))
    assert model.output_shape == (None, 5)
    json.dumps(model.get_config())
