"""The schema: defaults, types, ranges, contradictions, and what the variant fills in."""

import subprocess
import sys

import pydantic
import pytest

from efficientnetv2_tf.networks.variants import VARIANTS
from efficientnetv2_tf.training.hparams import PAIRS, Config, diff, flat, resolve


def config(**sections):
    return Config.model_validate(sections)


def error_of(**sections):
    with pytest.raises(pydantic.ValidationError) as caught:
        config(**sections)
    return str(caught.value)


def test_needs_neither_tensorflow_nor_keras_nor_long():
    code = (
        "import sys, time; start = time.process_time()\n"
        "import efficientnetv2_tf.training.hparams, efficientnetv2_tf.training.recipes\n"
        "import efficientnetv2_tf.training.release_keys, efficientnetv2_tf.training.config_text\n"
        "seconds = time.process_time() - start\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
        "print(seconds)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.0  # 0.13 s on an idle machine


def test_defaults_are_the_release_s():
    values = flat(Config())
    expected = {
        "train.epochs": 350,
        "data.batch_size": 4096,
        "train.optimizer": "rmsprop",
        "train.rho": 0.9,
        "train.momentum": 0.9,
        "train.lr_per_256_images": 0.016,
        "train.lr_schedule": "exponential",
        "train.lr_decay_factor": 0.97,
        "train.lr_decay_epochs": 2.4,
        "train.lr_warmup_epochs": 5,
        "train.ema_decay": 0.9999,
        "train.weight_decay": 1e-5,
        "train.label_smoothing": 0.1,
        "train.gradient_clip": 0,
        "data.randaugment_layers": 2,
        "progressive.stages": 4,
        "progressive.image_size": (128, None),
        "progressive.image_size_ramp": "release",
        "progressive.randaugment": (5, 10),
        "model.drop_connect_rate": 0.2,
        "model.activation": "silu",
    }
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(
    "section, field, value",
    [
        ("train", "epochs", "ten"),
        ("train", "epochs", 2.0),
        ("train", "epochs", True),
        ("train", "epochs", 0),
        ("train", "weight_decay", "1e-5"),
        ("train", "weight_decay", -1e-5),
        ("train", "weight_decay", float("nan")),
        ("train", "lr_per_256_images", 0),
        ("train", "lr_per_256_images", True),
        ("train", "ema_decay", 1.0),
        ("train", "lr_decay_factor", 1.1),
        ("train", "optimizer", "adam"),
        ("model", "dropout_rate", 1),
        ("model", "drop_connect_rate", -0.1),
        ("model", "blocks", ["r1_k3"]),
        ("model", "blocks", "r1_k3_s1_e1_i32_o16_c1"),
        ("model", "blocks", ["r1_k3_s1_e1_i16_o16_c1", "r1_k3_s1_e1_i24_o16_c1"]),
        ("data", "augment", "cutout"),
        ("data", "flip", 1),
        ("data", "dataset", ""),
        ("data", "batch_size", None),
        ("progressive", "randaugment", [5, 31]),
        ("progressive", "randaugment", [5, 10, 15]),
        ("progressive", "mixup", [0, -0.1]),
        ("progressive", "mixup", None),
        ("progressive", "dropout", [0.1, 1.0]),
        ("progressive", "image_size", [128, "large"]),
        ("progressive", "image_size", [0, 300]),
        ("progressive", "image_size_ramp", "cosine"),
        ("runtime", "mixed_precision", True),
        ("runtime", "seed", -1),
    ],
)
def test_impossible_values_are_refused(section, field, value):
    assert f"{section}.{field}" in error_of(**{section: {field: value}})


def test_unknown_fields_are_refused():
    assert "train.epoch" in error_of(train={"epoch": 3})


def test_unknown_model_shows_the_nearest():
    assert "efficientnetv2-s" in error_of(model={"name": "efficientnetv2s"})


def test_is_frozen_and_hashable():
    with pytest.raises(pydantic.ValidationError):
        Config().train.epochs = 3
    assert hash(Config()) == hash(Config())


def test_whole_numbers_become_floats():
    weight_decay = config(train={"weight_decay": 1}).train.weight_decay
    assert weight_decay == 1.0 and isinstance(weight_decay, float)


def test_one_number_is_a_constant_pair():
    progressive = config(progressive={"image_size": 160, "randaugment": 7, "dropout": 0.3}).progressive
    assert progressive.image_size == (160, 160)
    assert progressive.randaugment == (7.0, 7.0)
    assert progressive.dropout == (0.3, 0.3)


def test_pairs_are_the_fields_that_take_one_number_for_two():
    assert set(PAIRS) == {
        key
        for key in flat(Config())
        if key.startswith("progressive.") and not key.endswith(("stages", "ramp"))
    }


def test_contradictions_are_refused_together():
    text = error_of(
        train={"epochs": 3, "lr_warmup_epochs": 4, "lr_min_per_256_images": 1.0}, progressive={"stages": 5}
    )
    assert "train.lr_warmup_epochs: expected at most train.epochs (3). Received: 4" in text
    assert (
        "train.lr_min_per_256_images: expected at most train.lr_per_256_images (0.016). Received: 1" in text
    )
    assert "progressive.stages: expected at most train.epochs (3). Received: 5" in text


def test_whole_pictures_have_no_smallest_part():
    assert "data.crop_min_area: expected null" in error_of(data={"crop": "none", "crop_min_area": 0.5})


def test_the_parts_of_a_batch_are_equal():
    text = error_of(data={"batch_size": 30}, train={"accumulate_steps": 4})
    assert "train.accumulate_steps: expected a divisor of data.batch_size (30)" in text and "Received: 4" in text


def test_evaluation_takes_a_part_of_the_batch_at_a_time():
    sections = {"data": {"batch_size": 60}, "train": {"accumulate_steps": 4}}
    assert resolve(config(**sections)).data.eval_batch_size == 15


def test_sizes_must_not_shrink_also_against_the_variant_s_own():
    assert "progressive.image_size" in error_of(progressive={"image_size": [300, 128]})
    b0 = {"name": "efficientnetv2-b0"}
    assert "at most the last (192 for efficientnetv2-b0). Received: 193" in error_of(
        model=b0, progressive={"image_size": [193, None]}
    )
    assert config(model=b0, progressive={"image_size": [192, None]})
    one_stage = config(model=b0, progressive={"image_size": [193, None], "stages": 1})  # only the last counts
    assert resolve(one_stage).progressive.image_size == (192, 192)


def test_resolve_fills_what_the_variant_decides():
    resolved = resolve(config(model={"name": "efficientnetv2-m"}, data={"batch_size": 64}))
    assert resolved.progressive.image_size == (128, 384)
    assert resolved.data.eval_image_size == 480
    assert resolved.data.eval_batch_size == 64
    assert resolved.data.preprocessing == "v2"
    assert resolved.model.dropout_rate == 0.3
    assert resolved.model.num_classes is None
    assert resolve(resolved) == resolved


def test_resolve_keeps_what_is_given():
    given = config(
        model={"dropout_rate": 0},
        data={"eval_batch_size": 8, "eval_image_size": 224, "preprocessing": "finetune"},
        progressive={"image_size": [96, 160]},
    )
    assert resolve(given) == given


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_resolves(name):
    resolved = resolve(config(model={"name": name}, progressive={"image_size": [None, None]}))
    size = VARIANTS[name].train_size
    assert resolved.progressive.image_size == (size // 2, size)
    assert resolved.model.dropout_rate == VARIANTS[name].dropout_rate


def test_the_last_size_may_be_the_evaluation_size():
    pair = {"image_size": [None, "eval"]}
    assert resolve(config(progressive=pair)).progressive.image_size == (192, 384)
    assert resolve(config(progressive=pair, data={"eval_image_size": 224})).progressive.image_size == (
        112,
        224,
    )


def test_diff():
    other = config(train={"epochs": 30}, progressive={"mixup": 0.2})
    assert diff(Config(), other) == ["progressive.mixup: (0.0, 0.0) -> (0.2, 0.2)", "train.epochs: 350 -> 30"]
    assert diff(other, other) == []
