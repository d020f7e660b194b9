"""Weights are moved by name, as a whole or not at all; what did not fit is told."""

import argparse
import io
import pathlib
import re
import shutil
import tarfile
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.names import official_name, timm_name
from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.networks.weights import (
    WeightsError,
    adapt_stem,
    count_classes,
    load_weights,
    save_official_checkpoint,
)

HEAD = ("classifier/kernel", "classifier/bias")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
WHOLE_HEAD = ("head_conv/kernel", *(f"head_norm/{leaf}" for leaf in NORM), *HEAD)
BLOCKS = (
    "r1_k3_s2_e1_i16_o16_c1",
    "r1_k3_s2_e4_i16_o16_c1",
    "r1_k3_s2_e1_i16_o16_se0.25",
    "r2_k5_s2_e4_i16_o24_se0.25",
)
ENDINGS = ("weights.h5", "keras", "official", "tgz", "safetensors", "pth")


def network(seed=1, num_classes=5, blocks=BLOCKS, **arguments):
    """A network with a value of its own in every place of every variable."""
    model = get_model("testing", blocks=blocks, num_classes=num_classes, **arguments)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def source():
    return network()


@pytest.fixture
def target():
    return network(seed=2)


def to_torch(name, value):
    """A value as PyTorch lays it out: [out, in / groups, height, width], and [out, in]."""
    if value.ndim == 4:
        return np.einsum("hwci->cihw" if "conv_dw" in name else "hwio->oihw", value)
    return value.T


def state_dict(model):
    values = {timm_name(model, variable): np.asarray(variable) for variable in model.weights}
    values = {name: np.ascontiguousarray(to_torch(name, value)) for name, value in values.items()}
    return {**values, "bn1.num_batches_tracked": np.array(3)}


def save(model, ending, folder):
    """Writes a model as a file of some kind; its path."""
    path = folder / f"file.{ending}"
    if ending == "weights.h5":
        model.save_weights(path)
    elif ending == "keras":
        model.save(path)
    elif ending == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(state_dict(model), path)
    elif ending == "pth":
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(value) for name, value in state_dict(model).items()}, path)
    else:
        path = save_official_checkpoint(model, folder / "checkpoint_folder" / "model")
    if ending == "tgz":
        path = folder / "file.tgz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder / "checkpoint_folder", "name")
    return path


def assert_same(a, b, but=()):
    for x, y in zip(a.weights, b.weights, strict=True):
        if x.path not in but:
            np.testing.assert_array_equal(x, y, err_msg=x.path)


def assert_same_by_path(a, b, but=()):
    """The variables of `a` have the values that they have in `b`, which may have more."""
    theirs = {variable.path: variable for variable in b.weights}
    for variable in a.weights:
        if variable.path not in but:
            np.testing.assert_array_equal(variable, theirs[variable.path], err_msg=variable.path)


def frozen(model):
    return [np.array(variable) for variable in model.weights]


def assert_unchanged(model, before):
    assert all(np.array_equal(variable, value) for variable, value in zip(model.weights, before, strict=True))


@pytest.mark.parametrize("ending", ENDINGS)
class TestEveryKind:
    def test_moves_every_value(self, source, target, ending, tmp_path):
        path = save(source, ending, tmp_path)
        report = load_weights(target, path)
        assert_same(target, source)
        assert report.loaded == tuple(variable.path for variable in target.weights)
        assert not [*report.problems, *report.head_reset, *report.head_unused, *report.adapted, *report.from_average]
        assert count_classes(path) == 5

    def test_another_number_of_classes_resets_the_head(self, source, ending, tmp_path):
        model = network(seed=3, num_classes=9)
        head = [np.array(model.get_layer("classifier").kernel), np.array(model.get_layer("classifier").bias)]
        report = load_weights(model, save(source, ending, tmp_path))
        assert report.head_reset == HEAD and not set(HEAD) & {*report.loaded}
        assert "head reset: 2 (classifier/kernel, classifier/bias)" in str(report)
        np.testing.assert_array_equal(model.get_layer("classifier").kernel, head[0])
        np.testing.assert_array_equal(model.get_layer("classifier").bias, head[1])
        np.testing.assert_array_equal(model.get_layer("head_conv").kernel, source.get_layer("head_conv").kernel)

    def test_head_on_one_side_only(self, source, ending, tmp_path):
        features = get_model("testing", blocks=BLOCKS, include_top=False)
        path = save(source, ending, tmp_path)
        report = load_weights(features, path)
        assert len(report.head_unused) == 2 and not report.problems
        assert len(report.loaded) == len(features.weights)
        shutil.rmtree(tmp_path / "checkpoint_folder", ignore_errors=True)
        path = save(features, ending, tmp_path)
        assert count_classes(path) is None
        model = network(seed=4)
        assert load_weights(model, path).head_reset == HEAD

    def test_another_network_is_refused_and_nothing_changes(self, ending, tmp_path):
        other = network(blocks=[*BLOCKS[:3], "r2_k5_s2_e4_i16_o32_se0.25"])
        path, model = save(other, ending, tmp_path), network(seed=5)
        before = frozen(model)
        with pytest.raises(
            WeightsError,
            match=rf"{path.name}.*another size \(width_coefficient, depth_coefficient, feature_size\)\. "
            r"mismatched: .*\(1, 1, 64, 24\), in the file \(1, 1, 64, 32\)",
        ):
            load_weights(model, path)
        assert_unchanged(model, before)
        report = load_weights(model, path, strict=False)
        assert "blocks_3/project_conv/kernel (1, 1, 64, 24), in the file (1, 1, 64, 32)" in report.mismatched
        np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, other.get_layer("stem_conv").kernel)

    def test_a_deeper_and_a_shallower_network(self, source, ending, tmp_path):
        path, deeper = save(source, ending, tmp_path), network(blocks=[*BLOCKS, "r1_k3_s1_e4_i24_o24_se0.25"])
        before = frozen(deeper)
        with pytest.raises(WeightsError, match=r"missing: 19 .blocks_5/se/reduce/kernel.* and 15 more"):
            load_weights(deeper, path)
        assert_unchanged(deeper, before)
        shutil.rmtree(tmp_path / "checkpoint_folder", ignore_errors=True)
        path, shallow = save(deeper, ending, tmp_path), network(seed=6)
        before = frozen(shallow)
        with pytest.raises(WeightsError, match="unused: "):
            load_weights(shallow, path)
        assert_unchanged(shallow, before)
        assert len(load_weights(shallow, path, strict=False).unused) == 19  # 3 convolutions, 3 norms, se
        np.testing.assert_array_equal(shallow.get_layer("stem_conv").kernel, deeper.get_layer("stem_conv").kernel)

    def test_into_a_network_of_feature_maps(self, source, ending, tmp_path):
        features = get_model("testing", blocks=BLOCKS, features_only=True)
        path = save(source, ending, tmp_path)
        report = load_weights(features, path)
        assert len(report.head_unused) == 5 + 2 and not report.problems
        assert_same_by_path(features, source)
        shutil.rmtree(tmp_path / "checkpoint_folder", ignore_errors=True)
        path, model = save(features, ending, tmp_path), network(seed=4)
        before = dict(zip((variable.path for variable in model.weights), frozen(model), strict=True))
        report = load_weights(model, path)
        assert report.head_reset == WHOLE_HEAD and not report.problems
        assert_same_by_path(features, model)
        for variable in model.weights:
            if variable.path in WHOLE_HEAD:
                np.testing.assert_array_equal(variable, before[variable.path])
        with pytest.raises(WeightsError, match=r"missing: 5 \(head_conv/kernel, head_norm/gamma"):
            load_weights(get_model("testing", blocks=BLOCKS, include_top=False), path)  # its outputs would be random

    def test_another_normalisation_is_told(self, source, ending, tmp_path):
        group = network(seed=3, normalization="group")
        path, before = save(source, ending, tmp_path), frozen(group)
        with pytest.raises(WeightsError, match=r"its normalization is 'batch', and 'group' was expected: .*unused: "):
            load_weights(group, path)
        assert_unchanged(group, before)
        report = load_weights(group, path, strict=False)
        assert not report.mismatched
        kept = [place for place in report.missing if place.split("/")[0] in ("stem_norm", "head_norm")]
        assert list(report.missing) == kept  # an official checkpoint calls these two differently
        assert_same_by_path(group, source, but=kept)

        shutil.rmtree(tmp_path / "checkpoint_folder", ignore_errors=True)
        path, batch = save(group, ending, tmp_path), network(seed=4)
        with pytest.raises(WeightsError, match=r"its normalization is 'group', and 'batch' was expected: .*missing: "):
            load_weights(batch, path)
        load_weights(network(seed=5, normalization="group"), path)
        report = load_weights(batch, path, strict=False)
        assert {"blocks_0/project_norm/moving_mean", "head_norm/moving_variance"} <= {*report.missing}
        assert "blocks_3/project_norm/gamma" in report.loaded

    def test_a_cut_file_is_refused_and_nothing_changes(self, source, target, ending, tmp_path):
        path = save(source, ending, tmp_path)
        cut = path if path.exists() else path.with_name("model.data-00000-of-00001")
        data, before = cut.read_bytes(), frozen(target)
        for size in (0, 10, len(data) // 2, len(data) - 100):
            cut.write_bytes(data[:size])
            with pytest.raises(WeightsError, match=path.name):
                load_weights(target, path)
            assert_unchanged(target, before)

    def test_a_wrong_file_is_refused(self, target, ending, tmp_path):
        path, before = tmp_path / f"file.{ending}", frozen(target)
        if ending == "official":
            path = tmp_path / "model.index"
        if ending == "pth":
            pytest.importorskip("torch")
        path.write_bytes(b"<html>404</html>" * 100)
        with pytest.raises(WeightsError, match=f"{path.name} cannot be read as a "):
            load_weights(target, path)
        assert_unchanged(target, before)

    def test_channels(self, source, ending, tmp_path):
        path = save(source, ending, tmp_path)
        kernel = np.array(source.get_layer("stem_conv").kernel)
        model = network(seed=7, in_channels=1)
        report = load_weights(model, path)
        assert report.adapted == ("stem_conv/kernel",) and "stem_conv/kernel" in report.loaded
        stem = model.get_layer("stem_conv").kernel
        np.testing.assert_allclose(stem, kernel.sum(axis=2, keepdims=True), rtol=1e-6)
        picture = np.random.default_rng(0).normal(size=[1, 40, 40, 1]).astype(np.float32)
        np.testing.assert_allclose(model(picture), source(np.repeat(picture, 3, axis=3)), rtol=1e-3)


class TestAdaptStem:
    KERNEL = np.arange(2 * 2 * 3 * 5, dtype=np.float32).reshape(2, 2, 3, 5)

    def test_one_channel_is_the_sum(self):
        np.testing.assert_array_equal(adapt_stem(self.KERNEL, 1), self.KERNEL.sum(2, keepdims=True))

    @pytest.mark.parametrize("channels", [2, 4, 6, 7])
    def test_more_repeat_with_the_size_of_the_sums_kept(self, channels):
        adapted = adapt_stem(self.KERNEL, channels)
        assert adapted.shape == (2, 2, channels, 5) and adapted.dtype == np.float32
        for channel in range(channels):
            np.testing.assert_allclose(adapted[:, :, channel], self.KERNEL[:, :, channel % 3] * 3 / channels, rtol=1e-6)

    def test_three_stay(self):
        np.testing.assert_array_equal(adapt_stem(self.KERNEL, 3), self.KERNEL)


class TestOfficial:
    def write(self, values, prefix):
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=[*values],
            shape_and_slices=[""] * len(values),
            tensors=[tf.constant(value) for value in values.values()],
        )
        return prefix

    def values(self, model):
        return {official_name(model, variable): np.asarray(variable) for variable in model.weights}

    def test_averages_win_where_they_are(self, source, target, tmp_path):
        """With slots and counters beside them, and a variable that has no average."""
        values = self.values(source)
        raw = {name: value + 1 for name, value in values.items()}
        alone = "testing/stem/conv2d/kernel"
        averages = {f"{name}/ExponentialMovingAverage": value for name, value in values.items() if name != alone}
        slots = {f"{alone}/{slot}": values[alone] for slot in ("RMSProp", "RMSProp_1", "Momentum")}
        counters = {"global_step": np.int64(7), "beta1_power": np.float32(0.9)}
        path = self.write({**raw, **averages, **slots, **counters}, tmp_path / "model")
        report = load_weights(target, path)
        assert not report.problems
        assert {*report.loaded} - {*report.from_average} == {"stem_conv/kernel"}
        assert_same(target, source, but=["stem_conv/kernel"])
        np.testing.assert_array_equal(target.get_layer("stem_conv").kernel, raw[alone])

    def test_another_variant_s_name(self, source, target, tmp_path):
        """The same shapes and another name are told, and taken when that is wanted."""
        values = {name.replace("testing/", "efficientnetv2-b0/"): x for name, x in self.values(source).items()}
        path, before = self.write(values, tmp_path / "model"), frozen(target)
        with pytest.raises(WeightsError, match=r"another variant, 'efficientnetv2-b0'. Expected 'testing'"):
            load_weights(target, path)
        assert_unchanged(target, before)
        load_weights(target, path, strict=False)
        assert_same(target, source)

    @pytest.mark.parametrize("prefix", ["", "testing/model/"], ids=["no name", "the first release's"])
    def test_other_prefixes(self, source, target, prefix, tmp_path):
        values = {name.replace("testing/", prefix): value for name, value in self.values(source).items()}
        load_weights(target, self.write(values, tmp_path / "model"))
        assert_same(target, source)

    def test_a_variable_that_no_one_asked_for(self, source, target, tmp_path):
        path = self.write({**self.values(source), "testing/blocks_9/x/kernel": np.ones(3)}, tmp_path / "model")
        with pytest.raises(WeightsError, match=r"unused: 1 .testing/blocks_9/x/kernel"):
            load_weights(target, path)

    def test_something_else_in_a_checkpoint(self, target, tmp_path):
        path = self.write({"resnet/conv/kernel": np.ones([3, 3])}, tmp_path / "model")
        with pytest.raises(
            WeightsError, match=r"model does not hold the weights of one EfficientNet.*resnet/conv/kernel"
        ):
            load_weights(target, path)

    def test_a_flipped_bit(self, source, target, tmp_path):
        path = save(source, "official", tmp_path)
        data = path.with_name("model.data-00000-of-00001")
        damaged, before = bytearray(data.read_bytes()), frozen(target)
        damaged[-1] ^= 1
        data.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model is damaged: .* cannot be read"):
            load_weights(target, path)
        assert_unchanged(target, before)

    def test_export_without_the_top_and_into_a_file_in_the_way(self, tmp_path):
        model = get_model("testing", include_top=False, blocks=BLOCKS)
        names = tf.train.load_checkpoint(str(save_official_checkpoint(model, tmp_path / "a" / "b" / "model")))
        assert not [name for name in names.get_variable_to_shape_map() if "dense" in name]
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError):
            save_official_checkpoint(model, tmp_path / "file" / "model")

    def test_the_folder_names_the_newest_export(self, source, target, tmp_path):
        for name, model in [("b", target), ("a", source)]:
            save_official_checkpoint(model, tmp_path / name)
            assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / name)
        parts = [f"{name}.{part}" for name in "ab" for part in ("data-00000-of-00001", "index")]
        assert sorted(path.name for path in tmp_path.iterdir()) == [*parts, "checkpoint"]
        first, newest = network(seed=5), network(seed=6)
        load_weights(first, tmp_path / "b")
        assert_same(first, target)
        load_weights(newest, tmp_path)
        assert_same(newest, source)

    def test_export_of_another_model_makes_no_folder(self, tmp_path):
        model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
        with pytest.raises(ValueError, match="`model` should be an EfficientNet"):
            save_official_checkpoint(model, tmp_path / "new" / "model")
        assert not [*tmp_path.iterdir()]

    def test_export_is_float32_whatever_the_precision(self, source, tmp_path):
        with dtype_policy("bfloat16"):
            half = get_model("testing", blocks=BLOCKS, num_classes=5, weights=source)
        reader = tf.train.load_checkpoint(str(save_official_checkpoint(half, tmp_path / "model")))
        assert {*reader.get_variable_to_dtype_map().values()} == {tf.float32}
        for variable in half.weights:
            value = reader.get_tensor(official_name(half, variable))
            np.testing.assert_array_equal(value, keras.ops.convert_to_numpy(variable).astype(np.float32))

    def test_the_home_folder(self, source, target, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert save_official_checkpoint(source, "~/new/model") == tmp_path / "new" / "model"
        assert load_weights(target, "~/new/model").path == str(tmp_path / "new" / "model")
        assert_same(target, source)


class TestKeras:
    def test_a_model(self, source, target):
        report = load_weights(target, source)
        assert report.path == "Keras model 'testing'" and report.source == "own"
        assert_same(target, source)

    def test_our_network_inside_another_model(self, source, target, tmp_path):
        outer = keras.Sequential([keras.Input([32, 32, 3]), source, keras.layers.Softmax()])
        outer.save_weights(tmp_path / "outer.weights.h5")
        load_weights(target, tmp_path / "outer.weights.h5")
        assert_same(target, source)

    def test_an_optimizer_in_the_file_is_no_weight(self, source, target, tmp_path):
        copy = network()
        copy.compile("adam", "mse")
        copy.optimizer.build(copy.trainable_variables)
        copy.save(tmp_path / "compiled.keras")
        assert not load_weights(target, tmp_path / "compiled.keras").problems
        assert_same(target, source)

    def test_an_optimizer_of_a_network_inside_another_model(self, source, target, tmp_path):
        copy = network()
        copy.compile("adam", "mse", metrics=["mae"])
        copy.fit(np.zeros([2, 32, 32, 3]), np.zeros([2, 5]), verbose=0)
        keras.Sequential([keras.Input([32, 32, 3]), copy]).save(tmp_path / "wrapper.keras")
        assert not load_weights(target, tmp_path / "wrapper.keras").problems
        assert_same(target, copy)

    def test_half_precision(self, source, target, tmp_path):
        with dtype_policy("bfloat16"):
            half = get_model("testing", blocks=BLOCKS, num_classes=5, weights=source)
        half.save(tmp_path / "half.keras")
        load_weights(target, tmp_path / "half.keras")
        for a, b in zip(target.weights, source.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0.01)

    def test_two_networks_in_one_file(self, target, tmp_path):
        inputs = keras.Input([64, 64, 3])
        one, two = (keras.applications.EfficientNetB0(weights=None, include_top=False, name=name) for name in "ab")
        keras.Model(inputs, [one(inputs), two(inputs)]).save_weights(tmp_path / "two.weights.h5")
        with pytest.raises(WeightsError, match=r"two\.weights\.h5 holds .* twice. Expected the weights of one network"):
            load_weights(target, tmp_path / "two.weights.h5")

    def test_another_keras_model(self, target):
        other = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)], name="mlp")
        with pytest.raises(WeightsError, match="Keras model 'mlp' does not hold the weights of one EfficientNet"):
            load_weights(target, other)


class TestTimm:
    """The layout, with names written out; timm itself is compared with where it is installed."""

    def test_layouts(self, target, tmp_path):
        safetensors = pytest.importorskip("safetensors.numpy")
        values, rng = state_dict(target), np.random.default_rng(0)
        values["conv_stem.weight"] = rng.normal(size=[16, 3, 3, 3]).astype(np.float32)
        values["blocks.2.0.conv_dw.weight"] = rng.normal(size=[16, 1, 3, 3]).astype(np.float32)
        values["blocks.3.1.conv_pwl.weight"] = rng.normal(size=[24, 96, 1, 1]).astype(np.float32)
        values["classifier.weight"] = rng.normal(size=[5, 32]).astype(np.float32)
        values["blocks.3.0.bn2.running_var"] = rng.uniform(size=[64]).astype(np.float32)
        safetensors.save_file(values, tmp_path / "x.safetensors")
        load_weights(target, tmp_path / "x.safetensors")
        weights = {variable.path: np.asarray(variable) for variable in target.weights}
        for ours, theirs, axes in [
            ("stem_conv/kernel", "conv_stem.weight", (2, 3, 1, 0)),
            ("blocks_2/depthwise_conv/kernel", "blocks.2.0.conv_dw.weight", (2, 3, 0, 1)),
            ("blocks_4/project_conv/kernel", "blocks.3.1.conv_pwl.weight", (2, 3, 1, 0)),
            ("classifier/kernel", "classifier.weight", (1, 0)),
            ("blocks_3/depthwise_norm/moving_variance", "blocks.3.0.bn2.running_var", (0,)),
        ]:
            np.testing.assert_array_equal(weights[ours], values[theirs].transpose(axes))

    @pytest.mark.parametrize("key, averaged", [("state_dict", False), ("state_dict_ema", True)])
    def test_training_checkpoints(self, source, target, key, averaged, tmp_path):
        """With the command line that timm's training puts beside the weights."""
        torch = pytest.importorskip("torch")
        args = argparse.Namespace(model="x", lr=0.1, mean=[0.5], resume=None)
        tensors = {f"module.{name}": torch.from_numpy(value) for name, value in state_dict(source).items()}
        raw = {name: value + 1 for name, value in tensors.items()}
        torch.save({"epoch": 3, "arch": "x", "args": args, "state_dict": raw, key: tensors}, tmp_path / "last.pth.tar")
        report = load_weights(target, tmp_path / "last.pth.tar")
        assert_same(target, source)
        assert report.from_average == (report.loaded if averaged else ())

    def test_no_code_is_run(self, target, tmp_path):
        torch = pytest.importorskip("torch")
        trace = tmp_path / "trace"

        class Malicious:
            def __reduce__(self):
                return (pathlib.Path.touch, (trace,))

        args = argparse.Namespace(model=Malicious())
        for content in ({"conv_stem.weight": Malicious()}, {"state_dict": state_dict(target), "args": args}):
            torch.save(content, tmp_path / "x.pth")
            with pytest.raises(WeightsError, match=r"x\.pth cannot be read as a PyTorch state dict") as caught:
                load_weights(target, tmp_path / "x.pth")
            assert re.search(r"holds more than tensors \(.+\); .* save model\.state_dict\(\)", str(caught.value))
            assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
            assert not trace.exists()

    def test_half_precision(self, source, target, tmp_path):
        torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
        tensors = {name: torch.from_numpy(value).bfloat16() for name, value in state_dict(source).items()}
        torch.save(tensors, tmp_path / "x.pth")
        safetensors.save_file(tensors, tmp_path / "x.safetensors")
        for name in ("x.pth", "x.safetensors"):
            model = network(seed=8)
            load_weights(model, tmp_path / name)
            for a, b in zip(model.weights, source.weights, strict=True):
                np.testing.assert_allclose(a, b, rtol=0.01)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["tf_efficientnetv2_b0", "tf_efficientnet_b0"])
    def test_timm_s_own_network(self, name, tmp_path):
        torch = pytest.importorskip("torch")
        timm = pytest.importorskip("timm", exc_type=ImportError)
        theirs = timm.create_model(name, num_classes=5).eval()
        for value in theirs.state_dict().values():
            if value.ndim == 1:
                value.uniform_(0.5, 1.5)
        torch.save(theirs.state_dict(), tmp_path / "x.pth")
        variant = name.removeprefix("tf_").replace("_", "-")
        ours = get_model(variant, num_classes=5, weights=tmp_path / "x.pth")
        batch = np.random.default_rng(0).normal(size=[2, 65, 50, 3]).astype(np.float32)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(batch.transpose(0, 3, 1, 2))).numpy()
        np.testing.assert_allclose(ours(batch), expected, atol=1e-4 * expected.std(), rtol=0)


class TestArguments:
    def test_what_is_not_there(self, target, tmp_path):
        with pytest.raises(WeightsError, match=r"nowhere was not found\. Expected an official checkpoint"):
            load_weights(target, tmp_path / "nowhere")
        with pytest.raises(WeightsError, match=r"nowhere\.weights\.h5 was not found"):
            load_weights(target, tmp_path / "nowhere.weights.h5")

    @pytest.mark.parametrize("path", [5, 0.5, None, b"weights.h5", ["weights.h5"]])
    def test_what_is_no_path(self, target, path):
        with pytest.raises(
            ValueError, match=r"should be a path, the name of pretrained weights, or a Keras 3 model\. R"
        ):
            load_weights(target, path)
        with pytest.raises(ValueError, match=f"of type {type(path).__name__}"):
            count_classes(path)

    def test_what_is_of_no_kind(self, target, tmp_path):
        (tmp_path / "readme.txt").write_text("hello")
        with pytest.raises(WeightsError, match="of no kind that its name tells"):
            load_weights(target, tmp_path / "readme.txt")

    def test_empty_folder_and_archive(self, target, tmp_path):
        with pytest.raises(WeightsError, match=r"should hold one TensorFlow checkpoint\. Found none"):
            load_weights(target, tmp_path)
        with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("empty"), io.BytesIO())
        with pytest.raises(WeightsError, match=r"x\.tgz should hold one"):
            load_weights(target, tmp_path / "x.tgz")

    def test_a_keras_file_without_weights(self, target, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
            archive.writestr("config.json", "{}")
        with pytest.raises(WeightsError, match=r"x\.keras cannot be read as a Keras file"):
            load_weights(target, tmp_path / "x.keras")

    def test_source_can_be_named(self, source, target, tmp_path):
        path = save(source, "weights.h5", tmp_path).rename(tmp_path / "weights")
        load_weights(target, path, source="keras")
        assert_same(target, source)
        with pytest.raises(WeightsError, match=r"cannot be read as a PyTorch state dict|needs torch"):
            load_weights(target, path, source="timm")
        with pytest.raises(ValueError, match=r"`source` should be auto, official, keras, timm\. Received"):
            load_weights(target, path, source="onnx")

    def test_another_model(self, source):
        with pytest.raises(ValueError, match="`model` should be an EfficientNet"):
            load_weights(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]), source)
