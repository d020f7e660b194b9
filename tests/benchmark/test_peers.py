"""The peers themselves: the same network and work, in real processes with small networks."""

import numpy as np
import pytest

from efficientnetv2_tf.benchmark import inference, inference_process, peer_networks, turns
from efficientnetv2_tf.benchmark.peers import (
    CLASSES,
    INFERENCE,
    LEARNING_RATE,
    WEIGHT_DECAY,
    LeftOutError,
    network_config,
)
from efficientnetv2_tf.benchmark.training_process import keras_optimizer, torch_optimizer
from efficientnetv2_tf.networks.block_string import expand
from efficientnetv2_tf.networks.cost import parameters
from efficientnetv2_tf.networks.variants import get_variant

B0 = "efficientnetv2-b0"
SMALL = (
    "model.width_coefficient=0.25,model.depth_coefficient=0.3,benchmark.image_size=32,benchmark.inference_image_size=32"
)


# Of each section, values that are other work than the default.
OTHER_WORK = """
runtime.mixed_precision=mixed_bfloat16,train.accumulate_steps=2,train.rematerialize=blocks,train.gradient_clip=1.0,
train.init_weights=imagenet,train.ema_decay=0,train.weight_decay=0.1,train.optimizer=sgd,train.label_smoothing=0.2,
train.lr_schedule=cosine,train.lr_per_256_images=0.5,train.lr_warmup_epochs=1,train.beta_1=0.5,
model.normalization=group,model.activation=relu,model.dropout_rate=0.5,model.drop_connect_rate=0,model.num_classes=7,
model.feature_size=32,model.classifier_initializer=zeros,data.multi_label=true,data.preprocessing=v1,
progressive.stages=3,progressive.image_size=[16,24],progressive.dropout=[0.1,0.4]
""".replace("\n", "")


def test_work_is_the_same_whatever_the_recipe_says(recipe):
    config = network_config(recipe(OTHER_WORK), B0)
    assert config == network_config(recipe(), B0)
    train = config.train
    assert (train.weight_decay, config.runtime.mixed_precision) == (WEIGHT_DECAY, "float32")
    assert train.ema_decay == 0.9999  # the row with the moving average has one
    assert (train.accumulate_steps, train.rematerialize, train.gradient_clip) == (1, "none", 0)
    assert train.optimizer == "adamw" and train.label_smoothing == 0 and train.lr_schedule == "constant"
    assert train.lr_per_256_images * config.data.batch_size / 256 == pytest.approx(1e-3)
    assert config.model.num_classes == CLASSES and config.progressive.image_size == (128, 128)
    assert config.model.dropout_rate == get_variant(B0).dropout_rate and config.progressive.dropout is None


def test_the_recipe_says_shape_seed_and_kind_of_network(recipe):
    said = "model.width_coefficient=0.5,model.blocks=[r1_k3_s2_e1_i16_o16],runtime.onednn=false,benchmark.seed=3"
    config = network_config(recipe(said, "benchmark.image_size=64,benchmark.batch_size=8"), B0, num_classes=10)
    assert (config.model.width_coefficient, config.model.blocks) == (0.5, ("r1_k3_s2_e1_i16_o16",))
    assert (config.model.num_classes, config.data.batch_size, config.progressive.image_size) == (10, 8, (64, 64))
    assert (config.runtime.onednn, config.runtime.seed) == (False, 3)


def test_keras_decays_kernels_only():
    import keras

    pictures = keras.Input([8, 8, 3])
    x = keras.layers.DepthwiseConv2D(3)(keras.layers.Conv2D(4, 3)(pictures))
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x)))
    model = keras.Model(pictures, x)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer = keras_optimizer(model)
    optimizer.learning_rate = 1 / WEIGHT_DECAY / 2  # large enough to see the decay
    optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables], model.trainable_variables)
    for variable in model.trainable_variables:
        np.testing.assert_allclose(variable, 0.5 if len(variable.shape) > 1 else 1.0, rtol=1e-6, err_msg=variable.path)


def test_torch_decays_kernels_only():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    optimizer = torch_optimizer(model)
    found = {
        parameter.ndim > 1: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert found == {True: WEIGHT_DECAY, False: 0} and optimizer.param_groups[0]["lr"] == LEARNING_RATE
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6


def test_timm_has_the_variant_s_dropout_and_stochastic_depth(recipe):
    pytest.importorskip("timm")
    network = peer_networks.timm_network(network_config(recipe(), B0).model)
    assert network.drop_rate == get_variant(B0).dropout_rate
    rates = [
        block.drop_path.drop_prob
        for stage in network.blocks
        for block in stage
        if hasattr(block.drop_path, "drop_prob")
    ]
    assert rates == sorted(rates) and 0.18 < rates[-1] < 0.2


def test_without_a_converter_both_tflite_files_have_the_reason(recipe, tmp_path, monkeypatch):
    from efficientnetv2_tf.deploy import onnx, saved_model, tflite_convert

    def fail(*_):
        raise ImportError("no converter")

    monkeypatch.setattr(inference_process, "_load_tensorflow", lambda config: None)
    monkeypatch.setattr(saved_model, "write_saved_model", lambda bundle, folder: folder.mkdir())
    monkeypatch.setattr(onnx, "write_onnx", lambda bundle, path: path.touch())
    monkeypatch.setattr(tflite_convert, "converter_of", fail)
    small = recipe("benchmark.inference_image_size=32")
    inference_process._export({"image_size": 32, "folder": str(tmp_path)}, network_config(small, "testing"))
    assert {path.name for path in tmp_path.iterdir()} == {"saved_model", "model.onnx", "float32.reason", "int8.reason"}
    with pytest.raises(LeftOutError, match="it was not written: no converter"):
        inference_process._written(tmp_path / "int8.tflite")


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(inference_process.os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert inference_process.usable_cores() == 3
    monkeypatch.delattr(inference_process.os, "sched_getaffinity")
    monkeypatch.setattr(inference_process.os, "cpu_count", lambda: None)
    assert inference_process.usable_cores() == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["keras_applications", "keras_hub", "keras_cv"])
def test_networks_have_the_same_parameters(library, recipe):
    if library != "keras_applications":
        pytest.importorskip(library)
    model = network_config(recipe(SMALL), B0).model
    network = getattr(peer_networks, library)(model, 32)
    blocks = expand(get_variant(B0).blocks, 0.25, 0.3)
    expected, _ = parameters(blocks, feature_size=network.layers[-1].input.shape[-1])
    assert sum(np.prod(variable.shape) for variable in network.trainable_variables) == expected


@pytest.mark.parametrize("overrides", ["model.blocks=[r1_k3_s2_e1_i16_o16]", "benchmark.models=[efficientnet-b0]"])
def test_networks_that_a_peer_has_not_are_left_out(overrides, recipe):
    changed = recipe(overrides)
    with pytest.raises(LeftOutError, match=r"has no efficientnetv2-b0|comparison is of EfficientNetV2"):
        peer_networks.keras_applications(network_config(changed, changed.benchmark.models[0]).model, 32)


@pytest.mark.slow
def test_real_trainings_take_turns(recipe, console):
    names = ("ours", "keras_applications")
    with turns.training_field(recipe(SMALL), B0, console, names=names, warm_up=1) as field:
        field.start()
        facts = {name: process.facts for name, process in field.processes.items()}
        answers = field.take_turns({"steps": 2}, 2)
    assert field.left_out == {} and {*facts} == {*names}
    for name in names:
        assert 0 < facts[name]["imported"] < facts[name]["built"] < facts[name]["first_step"]
        assert facts[name]["parameters"] == facts["ours"]["parameters"]
        for answer in answers[name]:
            assert len(answer["seconds"]) == 2 and min(answer["seconds"]) > 0
            assert answer["peak_memory"] > facts[name]["memory_built"] > 2**26


@pytest.mark.slow
def test_real_exports_classify(recipe, console, tmp_path):
    pytest.importorskip("ai_edge_litert")
    small = recipe("benchmark.models=[testing],benchmark.inference_image_size=32")
    request = {"config": network_config(small, "testing").model_dump_json(), "image_size": 32, "folder": str(tmp_path)}
    inference.export(request, console)
    assert {path.name for path in tmp_path.iterdir()} >= {"saved_model", "float32.tflite", "int8.tflite"}
    names = ("saved_model", "tflite_int8")
    peers = [peer for peer in INFERENCE if peer.name in names]
    with turns.Field(inference.MODULE, peers, dict.fromkeys(names, request), console) as field:
        field.start()
        for batch_size in (1, 4):
            answers = field.take_turns({"batch_size": batch_size, "calls": 3}, 1)
            assert {*answers} == {*names}, field.left_out
            assert all(len(answer["seconds"]) >= 3 for (answer,) in answers.values())
