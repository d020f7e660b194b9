"""The peers themselves: the same network and work, in real processes with small networks."""

import numpy as np
import pytest

from efficientnetv2_tf.benchmark import inference, peer_networks, turns
from efficientnetv2_tf.benchmark.peers import CLASSES, INFERENCE, LeftOutError, network_config
from efficientnetv2_tf.networks.block_string import expand
from efficientnetv2_tf.networks.cost import parameters
from efficientnetv2_tf.networks.variants import get_variant

B0 = "efficientnetv2-b0"
SMALL = (
    "model.width_coefficient=0.25,model.depth_coefficient=0.3,benchmark.image_size=32,benchmark.inference_image_size=32"
)


def test_work_is_the_same_whatever_the_recipe_says(recipe):
    config = network_config(recipe("train.label_smoothing=0.2,train.optimizer=sgd,benchmark.seed=3"), B0)
    train = config.train
    assert train.optimizer == "adamw" and train.label_smoothing == 0 and train.lr_schedule == "constant"
    assert train.lr_per_256_images * config.data.batch_size / 256 == pytest.approx(1e-3)
    assert config.model.num_classes == CLASSES and config.progressive.image_size == (128, 128)
    assert config.runtime.seed == 3


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
    inference.export(request)
    assert {path.name for path in tmp_path.iterdir()} >= {"saved_model", "float32.tflite", "int8.tflite"}
    names = ("saved_model", "tflite_int8")
    peers = [peer for peer in INFERENCE if peer.name in names]
    with turns.Field(inference.MODULE, peers, dict.fromkeys(names, request), console) as field:
        field.start()
        for batch_size in (1, 4):
            answers = field.take_turns({"batch_size": batch_size, "calls": 3}, 1)
            assert {*answers} == {*names}, field.left_out
            assert all(len(answer["seconds"]) >= 3 for (answer,) in answers.values())
