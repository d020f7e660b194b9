"""The official release's names."""

import re

import pytest

from efficientnetv2_tf.training.hparams import Config, ConfigError, flat, resolve
from efficientnetv2_tf.training.recipes import list_recipes, load_config
from efficientnetv2_tf.training.release_keys import EvalShare, recipe_for_dataset, translate


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("train.batch_size=64", {"data.batch_size": 64}),
        ("eval.batch_size=8", {"data.eval_batch_size": 8}),
        ("eval.isize=384", {"data.eval_image_size": 384}),
        ("train.isize=300", {"progressive.image_size.1": 300}),
        ("train.isize=300.0", {"progressive.image_size.1": 300}),
        ("train.isize=0.8", {"progressive.image_size.1": EvalShare(0.8)}),
        ("data.ibase=96", {"progressive.image_size.0": 96}),
        ("train.stages=4", {"progressive.stages": 4}),
        ("train.stages=0", {"progressive.stages": 1}),
        ("train.lr_sched=cosine", {"train.lr_schedule": "cosine"}),
        ("train.lr_base=0.008", {"train.lr_per_256_images": 0.008}),
        ("train.lr_decay_epoch=2.4", {"train.lr_decay_epochs": 2.4}),
        ("train.lr_warmup_epoch=1", {"train.lr_warmup_epochs": 1}),
        ("train.lr_min=1e-4", {"train.lr_min_per_256_images": 1e-4}),
        ("train.gclip=0", {"train.gradient_clip": 0}),
        ("train.ft_init_ckpt=/a/b", {"train.init_weights": "/a/b"}),
        ("train.split=minival", {"data.train_split": "minival"}),
        ("train.split=train", {"data.train_split": None}),
        ("eval.split=test", {"data.eval_split": "test"}),
        ("eval.split=eval", {"data.eval_split": None}),
        ("data.ram=15", {"progressive.randaugment.1": 15}),
        ("data.mixup_alpha=0.2", {"progressive.mixup.1": 0.2}),
        ("data.cutmix_alpha=None", {"progressive.cutmix.1": 0}),
        ("data.ra_num_layers=3", {"data.randaugment_layers": 3}),
        ("data.augname=ra_aa", {"data.augment": "ra_aa"}),
        ("data.cache=True", {"data.cache": "memory"}),
        ("data.cache=false", {"data.cache": "none"}),
        ("data.multiclass=false", {"data.multi_label": False}),
        ("train.loss_type=sigmoid", {"data.multi_label": True}),
        ("train.loss_type=softmax", {}),
        ("train.loss_type=None", {}),
        ("data.num_classes=10", {"model.num_classes": 10}),
        ("data.num_classes=None", {}),
        ("data.ds_name=flowers", {"data.dataset": "flowers102"}),
        ("data.tfds_name=oxford_flowers102", {"data.dataset": "flowers102"}),
        ("data.ds_name=cifar10", {"data.dataset": "cifar10"}),
        ("data.tfds_name=cars196", {"data.dataset": "cars196"}),
        ("data.tfds_name=mnist", {"data.dataset": "tfds:mnist"}),
        ("data.tfds_name=None", {}),
        ("data.splits.train.num_images=100", {"data.num_train_images": 100}),
        ("model.model_name=efficientnetv2-m", {"model.name": "efficientnetv2-m"}),
        ("model.act_fn=swish", {"model.activation": "silu"}),
        ("model.act_fn=relu6", {"model.activation": "relu6"}),
        ("model.act_fn=None", {"model.activation": "silu"}),
        ("model.bn_type=None", {"model.normalization": "batch"}),
        ("model.bn_type=tpu_bn", {"model.normalization": "sync_batch"}),
        ("model.bn_type=gn", {"model.normalization": "group"}),
        ("model.survival_prob=0.8", {"model.drop_connect_rate": 0.2}),
        ("model.survival_prob=1.0", {"model.drop_connect_rate": 0}),
        ("model.survival_prob=None", {"model.drop_connect_rate": 0}),
        ("model.blocks_args=r1_k3|r2_k3", {"model.blocks": ["r1_k3", "r2_k3"]}),
        ("train.label_smoothing=0.2", {"train.label_smoothing": 0.2}),
        ("train.optimizer=momentum", {"train.optimizer": "sgd"}),
        ("runtime.strategy=gpus", {"runtime.strategy": "auto"}),
        ("runtime.strategy=tpu", {"runtime.strategy": "tpu"}),
        ("runtime.mixed_precision=True", {"runtime.mixed_precision": "auto"}),
        ("runtime.mixed_precision=False", {"runtime.mixed_precision": "float32"}),
        ("runtime.keep_checkpoint_max=5", {"train.keep_checkpoints": 5}),
    ],
)
def test_renamed_keys(theirs, ours):
    translated, notes = translate(theirs)
    assert translated == ours
    assert [type(value) for value in translated.values()] == [type(value) for value in ours.values()] or all(
        value == 0 for value in ours.values()
    )
    assert notes == []


@pytest.mark.parametrize(
    "augname, augment, preprocessing, crop",
    [
        ("randaug", "randaugment", "v2", "random_area"),
        ("autoaug", "autoaugment", "v2", "random_area"),
        ("None", "none", "v2", "random_area"),
        ("", "none", "v2", "random_area"),
        ("effnetv1_autoaug", "autoaugment", "v1", "random_area"),
        ("effnetv1_randaug", "randaugment", "v1", "random_area"),
        ("ft", "erase", "finetune", "none"),
        ("ft_cutout", "erase", "finetune", "none"),
        ("ft_autoaug", "autoaugment", "finetune", "none"),
        ("ft_randaug", "randaugment", "finetune", "none"),
    ],
)
def test_the_augmentation_decides_the_preprocessing_too(augname, augment, preprocessing, crop):
    translated, notes = translate(f"data.augname={augname}")
    assert translated == {"data.augment": augment, "data.preprocessing": preprocessing, "data.crop": crop}
    assert notes == []
    assert load_config(None, f"data.augname={augname}", model="efficientnetv2-b0").data.preprocessing == preprocessing


def test_an_augmentation_that_is_not_here_is_refused():
    with pytest.raises(ConfigError, match=r"data\.augment: expected 'none'.*Received: 'ra_aa'"):
        load_config(None, "data.augname=ra_aa")


def test_our_own_keys_and_values_pass_unchanged():
    ours = flat(resolve(Config()))
    assert translate(ours) == (ours, [])


def test_nested_dictionaries_are_flattened_in_order():
    translated, _ = translate({"train": {"lr_base": 0.1, "rho": 0.8}, "data": {"ram": 3}})
    assert list(translated.items()) == [
        ("train.lr_per_256_images", 0.1),
        ("train.rho", 0.8),
        ("progressive.randaugment.1", 3),
    ]


@pytest.mark.parametrize(
    "key",
    [
        "runtime.iterations_per_loop",
        "runtime.skip_host_call",
        "runtime.use_async_checkpointing",
        "model.data_format",
        "train.sched",
    ],
)
def test_keys_without_meaning_are_ignored_with_a_note(key):
    translated, notes = translate({key: 1})
    assert translated == {}
    assert len(notes) == 1 and notes[0].startswith(f"ignored: {key} (")


def test_a_section_without_meaning_has_one_note():
    translated, notes = translate({"data": {"splits": {"eval": {"num_images": 5, "files": "val*"}}}})
    assert translated == {}
    assert notes == ["ignored: data.splits.* (use data.train_split and data.eval_split)"]


@pytest.mark.parametrize(
    "key, honoured, refused",
    [
        ("model.gn_groups", "8", "32"),
        ("model.bn_momentum", "0.9", "0.99"),
        ("model.local_pooling", "false", "true"),
        ("train.ft_init_ema", "true", "false"),
        ("train.loss_type", "softmax", "custom"),
        ("train.varsexp", "None", ".*head"),
        ("train.weight_decay_inc", "0", "0.5"),
    ],
)
def test_keys_that_cannot_be_honoured_are_refused_unless_they_ask_for_what_is_done_anyway(key, honoured, refused):
    assert translate(f"{key}={honoured}") == ({}, [])
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}.*expected .*Received: "):
        translate(f"{key}={refused}")


@pytest.mark.parametrize(
    "override, translated, note",
    [
        (
            "train.optimizer=adam",
            {"train.optimizer": "adamw"},
            "changed: train.optimizer=adam (adamw, whose weight decay is decoupled from the gradients)",
        ),
        ("train.gclip=-5", {"train.gradient_clip": 5}, "changed: train.gclip=-5 (clips the norm of all gradients"),
        ("data.multiclass=true", {"data.multi_label": True}, "changed: data.multiclass=True (trains with the sigmoid"),
    ],
)
def test_what_is_different_here_is_said(override, translated, note):
    values, notes = translate(override)
    assert values == translated
    assert len(notes) == 1 and notes[0].startswith(note)


def test_the_number_of_classes_is_that_of_the_data_as_in_the_release():
    translated, notes = translate({"data": {"num_classes": 10}, "model": {"num_classes": 1000}})
    assert (translated, notes) == ({"model.num_classes": 10}, [])


def test_decoded_blocks_become_block_strings():
    block = {
        "kernel_size": 3,
        "num_repeat": 6,
        "input_filters": 64,
        "output_filters": 128,
        "expand_ratio": 4,
        "se_ratio": 0.25,
        "strides": 2,
        "conv_type": 0,
    }
    fused = {**block, "se_ratio": None, "conv_type": 1}
    translated, _ = translate({"model": {"blocks_args": [block, fused]}})
    assert translated["model.blocks"] == ["r6_k3_s2_e4_i64_o128_se0.25", "r6_k3_s2_e4_i64_o128_c1"]
    with pytest.raises(ConfigError, match=r"model\.blocks_args: expected a block"):
        translate({"model": {"blocks_args": [{"kernel_size": 3}]}})


@pytest.mark.parametrize("eval_size, share, pixels", [(224, 0.8, 176), (300, 0.8, 240), (300, 1.0, 288), (384, 1, 384)])
def test_shares_are_rounded_down_to_a_multiple_of_16(eval_size, share, pixels):
    assert EvalShare(share).pixels(eval_size) == pixels


@pytest.mark.parametrize(
    "overrides, size",
    [
        ("train.isize=0.8", 304),
        ("train.isize=0.8,eval.isize=224", 176),
        ("eval.isize=224,train.isize=0.8", 176),
        ("train.isize=1.0,model.model_name=efficientnetv2-b3", 288),
        ("train.isize=16", 6144),
        ("train.isize=17,data.ibase=8", 17),
    ],
)
def test_shares_are_of_the_evaluation_size_that_is_in_force(overrides, size):
    assert load_config(None, overrides).progressive.image_size[1] == size


def test_a_hparam_str_of_the_release_loads(caplog):
    config = load_config(
        "release",
        "train.batch_size=512,data.ram=15,train.stages=0,model.survival_prob=1.0,runtime.skip_host_call=True",
    )
    assert config.data.batch_size == 512
    assert config.progressive.randaugment == (5, 15)
    assert config.progressive.stages == 1
    assert config.model.drop_connect_rate == 0
    assert "ignored: runtime.skip_host_call (Estimator only)" in caplog.text


def test_a_saved_config_of_the_release_loads(tmp_path):
    """It has every key of the release's default configuration, so all are known."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "data: {augname: randaug, cache: true, cutmix_alpha: 0.2, data_dir: null,\n"
        "  ds_name: imagenet, ibase: 128, mixup_alpha: 0.2, multiclass: false,\n"
        "  num_classes: 1000, ra_num_layers: 2, ram: 15, resize: null,\n"
        "  splits: {eval: {files: 'val*', num_images: 50000, slice: null, tfds_split: null},\n"
        "    minival: {files: 'train*', num_images: 25021, slice: null, tfds_split: null},\n"
        "    train: {files: 'train*', num_images: 1281167, slice: null, tfds_split: null},\n"
        "    trainval: {files: 'train*', num_images: 1281167, slice: null, tfds_split: null}},\n"
        "  tfds_name: null, tfds_split: null, try_gcs: false}\n"
        "eval: {batch_size: 8, isize: 480, split: null}\n"
        "model: {act_fn: silu, blocks_args: null, bn_epsilon: 0.001, bn_momentum: 0.9, bn_type: null,\n"
        "  conv_dropout: null, data_format: channels_last, depth_coefficient: 1.0, depth_divisor: 8,\n"
        "  dropout_rate: 0.3, feature_size: 1280, gn_groups: 8, headbias: null, local_pooling: false, min_depth: 8,\n"
        "  model_name: efficientnetv2-m, num_classes: 1000, survival_prob: 0.8, width_coefficient: 1.0}\n"
        "runtime: {iterations_per_loop: 1000, keep_checkpoint_every_n_hours: 5, keep_checkpoint_max: 5,\n"
        "  log_step_count_steps: 64, mixed_precision: true, skip_host_call: false, strategy: tpu,\n"
        "  use_async_checkpointing: false}\n"
        "train: {batch_size: 4096, ema_decay: 0.9999, epochs: 350, ft_init_ckpt: null, gclip: 0,\n"
        "  ft_init_ema: true, isize: 384, label_smoothing: 0.1, loss_type: null, lr_base: 0.016,\n"
        "  lr_decay_epoch: 2.4, lr_decay_factor: 0.97, lr_min: 0,\n"
        "  lr_sched: exponential, lr_warmup_epoch: 5, min_steps: 0,\n"
        "  optimizer: rmsprop, sched: true, split: null, stages: 4, varsexp: null, weight_decay: 1.0e-05,\n"
        "  weight_decay_exclude: .*(bias|gamma|beta).*, weight_decay_inc: 0.0}\n"
    )
    theirs, ours = load_config(path), resolve(load_config("release", model="efficientnetv2-m"))
    assert theirs.progressive == ours.progressive
    assert theirs.data.eval_image_size == ours.data.eval_image_size == 480
    assert theirs.model.dropout_rate == ours.model.dropout_rate == 0.3
    assert theirs.train.model_copy(update={"keep_checkpoints": 3}) == ours.train
    assert theirs.data.dataset == "imagenet" and theirs.data.cache == "memory"
    assert theirs.data.model_copy(update={"cache": "none", "eval_batch_size": 4096}) == ours.data


@pytest.mark.parametrize(
    "name, recipe",
    [
        ("Imagenet", "release"),
        ("imagenet", "release"),
        ("imagenet2012", "release"),
        ("Imagenet21k", "imagenet21k"),
        ("ImagenetFt", "imagenet_finetune"),
        ("Cifar10Ft", "cifar10"),
        ("cifar10ft", "cifar10"),
        ("Cifar100Ft", "cifar100"),
        ("FlowersFt", "flowers102"),
        ("TFFlowersFt", "tf_flowers"),
        ("CarsFt", "cars196"),
        ("digits", "digits"),
        ("mnist5k", "mnist5k"),
        ("tf_flowers", "tf_flowers"),
        ("tfds:mnist", "own_images"),
        ("folder:/photos", "own_images"),
    ],
)
def test_recipe_for_dataset(name, recipe):
    assert recipe_for_dataset(name) == recipe
    assert recipe is None or recipe in list_recipes()
