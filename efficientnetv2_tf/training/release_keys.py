"""The official release's hyper-parameter names and values, translated to ours.

Its `--hparam_str` strings, YAML files and saved config.yaml work wherever ours do. What has no counterpart is
reported: a key without any meaning here is ignored with a note; a key whose value would change the training
but cannot be honoured is an error.
"""

from efficientnetv2_tf.networks.block_string import BlockSpec, format_block
from efficientnetv2_tf.training.config_text import flatten, parse_overrides
from efficientnetv2_tf.training.hparams import ConfigError

# The release takes a train.isize of up to 16 for a share of the evaluation size, not for pixels, and rounds
# the result down to a multiple of 16.
_LARGEST_SHARE = 16
_SIZE_STEP = 16
_AUGNAME = "data.augname"
_AUGNAME_KEYS = ("data.augment", "data.preprocessing", "data.crop")  # all are decided by it in the release
_AUGMENTATIONS = {
    None: ("none", "v2", "random_area"),
    "randaug": ("randaugment", "v2", "random_area"),
    "autoaug": ("autoaugment", "v2", "random_area"),
    "effnetv1_randaug": ("randaugment", "v1", "random_area"),
    "effnetv1_autoaug": ("autoaugment", "v1", "random_area"),
    "ft": ("erase", "finetune", "none"),
    "ft_cutout": ("erase", "finetune", "none"),
    "ft_randaug": ("randaugment", "finetune", "none"),
    "ft_autoaug": ("autoaugment", "finetune", "none"),
}
_ACTIVATIONS = {None: "silu", "": "silu", "swish": "silu", "silu_native": "silu", "hswish": "hard_silu"}
_STRATEGIES = {None: "auto", "": "auto", "gpu": "auto", "gpus": "auto"}
_NORMALIZATIONS = {None: "batch", "": "batch", "tpu_bn": "sync_batch", "gn": "group"}
_DATASETS = {
    "imagenettfds": "imagenet2012",
    "flowers": "flowers102",
    "tfflowers": "tf_flowers",
    "cars": "cars196",
}
_TFDS_NAMES = {"oxford_flowers102": "flowers102"} | {
    name: name for name in ("cifar10", "cifar100", "tf_flowers", "cars196", "imagenet2012")
}
_OPTIMIZERS = {"momentum": "sgd", "adam": "adamw"}
_RECIPES = {  # data set (ours, or the release's --dataset_cfg in lower case) -> recipe
    "imagenet": "release",
    "imagenet2012": "release",
    "imagenetft": "imagenet_finetune",
    "cifar10ft": "cifar10",
    "cifar100ft": "cifar100",
    "flowersft": "flowers102",
    "oxford_flowers102": "flowers102",
    "tfflowersft": "tf_flowers",
    "carsft": "cars196",
    "digits": "digits",
    "mnist5k": "mnist5k",
    "imagenet21k": "imagenet21k",
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "flowers102": "flowers102",
    "tf_flowers": "tf_flowers",
    "cars196": "cars196",
}


class EvalShare(float):
    """An image size given as a share of the evaluation size, which only the whole configuration knows."""

    def pixels(self, eval_size):
        """The side in pixels: `eval_size` times the share, rounded down to a multiple of 16."""
        return int(eval_size * self) // _SIZE_STEP * _SIZE_STEP


def _same(value):
    return value


def _one_of(values):
    """Looks values up; one that is not there is passed on as it is, for the schema to judge."""
    return lambda value: values.get(value, value) if isinstance(value, str | None) else value


def _split(default):
    """The release's default split is our None, the data set's own: TFDS' "train" may be only a part of that."""
    return lambda value: None if value in (default, "") else value


def _tfds_dataset(name):
    """Our name for a data set of TensorFlow Datasets, "tfds:NAME" if it has none of its own."""
    return _TFDS_NAMES.get(name, f"tfds:{name}") if isinstance(name, str) else name


def _or_none(value):
    return value or None


def _zero_if_none(value):
    return 0 if value is None else value


def _clip(value):
    """The release takes the absolute value."""
    return abs(value) if isinstance(value, int | float) else _zero_if_none(value)


def _multi_label(loss_type):
    if loss_type != "sigmoid":
        raise ConfigError(
            f"train.loss_type: expected softmax, sigmoid (which is data.multi_label=true here) or None. "
            f"Received: {loss_type!r}."
        )
    return True


def _train_size(value):
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value <= _LARGEST_SHARE:
        return EvalShare(value)
    return int(value) if value == int(value) else value


def _drop_connect_rate(survival_prob):
    if isinstance(survival_prob, bool) or not isinstance(survival_prob, int | float | None):
        return survival_prob
    if not survival_prob:  # the release's "off"
        return 0.0
    return round(1 - survival_prob, 10)  # 1 - 0.8 is 0.19999999999999996


def _cache(value):
    return ("memory" if value else "none") if isinstance(value, bool | None) else value


def _precision(value):
    return ("auto" if value else "float32") if isinstance(value, bool) else value


def _block_strings(blocks):
    """Block strings, also from the decoded blocks that the release's saved config.yaml holds."""
    if not isinstance(blocks, list | tuple):
        return [blocks] if isinstance(blocks, str) else blocks
    return [_block_string(block) if isinstance(block, dict) else block for block in blocks]


def _block_string(block):
    try:
        spec = BlockSpec(
            repeats=block["num_repeat"],
            kernel_size=block["kernel_size"],
            stride=block["strides"],
            expand_ratio=block["expand_ratio"],
            input_filters=block["input_filters"],
            output_filters=block["output_filters"],
            se_ratio=block.get("se_ratio") or 0.0,
            fused=bool(block.get("conv_type", 0)),
        )
        return format_block(spec)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"model.blocks_args: expected a block. Received: {block!r}.") from error


# The release's key -> (our key, our value from the release's). A key ending in .0 or .1 is one end of a pair.
_TABLE = {
    _AUGNAME: ("data.augment", _same),  # what is not in `_AUGMENTATIONS` is for the schema to judge
    "model.model_name": ("model.name", _same),
    "model.act_fn": ("model.activation", _one_of(_ACTIVATIONS)),
    "model.bn_type": ("model.normalization", _one_of(_NORMALIZATIONS)),
    "model.survival_prob": ("model.drop_connect_rate", _drop_connect_rate),
    "model.blocks_args": ("model.blocks", _block_strings),
    "data.num_classes": ("model.num_classes", _same),
    "data.ds_name": ("data.dataset", _one_of(_DATASETS)),
    "data.tfds_name": ("data.dataset", _tfds_dataset),
    "data.multiclass": ("data.multi_label", lambda value: False if value is None else value),
    "data.cache": ("data.cache", _cache),
    "data.ra_num_layers": ("data.randaugment_layers", _same),
    "data.splits.train.num_images": ("data.num_train_images", _same),
    "data.ram": ("progressive.randaugment.1", _zero_if_none),
    "data.mixup_alpha": ("progressive.mixup.1", _zero_if_none),
    "data.cutmix_alpha": ("progressive.cutmix.1", _zero_if_none),
    "data.ibase": ("progressive.image_size.0", _or_none),
    "train.isize": ("progressive.image_size.1", _train_size),
    "train.stages": ("progressive.stages", lambda value: value or 1),
    "train.batch_size": ("data.batch_size", _same),
    "train.split": ("data.train_split", _split("train")),
    "train.optimizer": ("train.optimizer", _one_of(_OPTIMIZERS)),
    "train.lr_sched": ("train.lr_schedule", _same),
    "train.lr_base": ("train.lr_per_256_images", _same),
    "train.lr_decay_epoch": ("train.lr_decay_epochs", _same),
    "train.lr_warmup_epoch": ("train.lr_warmup_epochs", _same),
    "train.lr_min": ("train.lr_min_per_256_images", _same),
    "train.gclip": ("train.gradient_clip", _clip),
    "train.loss_type": ("data.multi_label", _multi_label),
    "train.ft_init_ckpt": ("train.init_weights", _or_none),
    "eval.batch_size": ("data.eval_batch_size", _same),
    "eval.isize": ("data.eval_image_size", _same),
    "eval.split": ("data.eval_split", _split("eval")),
    "runtime.mixed_precision": ("runtime.mixed_precision", _precision),
    "runtime.strategy": ("runtime.strategy", lambda value: _STRATEGIES.get(value, value)),
    "runtime.keep_checkpoint_max": ("train.keep_checkpoints", _same),
}
_MEANS_NOTHING = {  # key -> the values that leave things as they are
    "data.ds_name": (None,),
    "data.tfds_name": (None,),
    "data.num_classes": (None,),
    "train.loss_type": (None, "softmax"),
}
_IGNORED = {  # key, or prefix ending in a dot -> why
    "model.data_format": "always channels_last",
    "train.sched": "every stage has its own RandAugment, mixup and cutmix; give a constant pair for none",
    "data.tfds_split": "use data.train_split and data.eval_split",
    "data.splits.": "use data.train_split and data.eval_split",
    "data.try_gcs": "use data.data_dir",
    "runtime.iterations_per_loop": "Estimator only",
    "runtime.skip_host_call": "Estimator only",
    "runtime.use_async_checkpointing": "Estimator only",
    "runtime.log_step_count_steps": "Estimator only",
    "runtime.keep_checkpoint_every_n_hours": "use train.keep_checkpoints",
}
_FIXED = {  # key -> (the only values that are honoured, why)
    "model.gn_groups": ((8,), "fixed"),
    "model.bn_momentum": ((0.9,), "fixed"),
    "model.bn_epsilon": ((1e-3,), "fixed"),
    "model.depth_divisor": ((8,), "fixed"),
    "model.min_depth": ((8, None), "fixed"),
    "model.local_pooling": ((False, None), "fixed"),
    "model.headbias": ((None, 0), "fixed"),
    "model.conv_dropout": ((None, 0), "fixed"),
    "train.weight_decay_inc": ((0, None), "weight decay is constant"),
    "train.weight_decay_exclude": ((".*(bias|gamma|beta).*",), "weight decay is of kernels only"),
    "train.ft_init_ema": ((True, None), "moving averages are taken where the checkpoint has them"),
    "train.varsexp": ((None, ""), "all variables are trained"),
    "data.resize": ((None,), "fixed"),
}
_CHANGED = {  # key -> (whether a value of the release is affected, what is different here)
    "train.optimizer": (lambda value: value == "adam", "adamw, whose weight decay is decoupled from the gradients"),
    "train.gclip": (bool, "clips the norm of all gradients together, not that of each variable's before"),
    "data.multiclass": (bool, "trains with the sigmoid loss, as the release with train.loss_type=sigmoid"),
}


def translate(overrides):
    """Translates the release's keys and values to ours; ours pass unchanged.

    Args:
        overrides: an override string such as "train.isize=300,data.ram=15", or a dictionary, nested or with
            dotted keys.

    Returns:
        (overrides, notes): a flat dictionary with our dotted keys, in the order given, in which
        "progressive.randaugment.1" is the last of that pair and an `EvalShare` a size that depends on the
        evaluation size; and a list of sentences on what was ignored or is different here.

    Raises:
        ConfigError: the string is malformed, or a key asks for what cannot be honoured.
    """
    given = parse_overrides(overrides) if isinstance(overrides, str) else flatten(overrides)
    if given.get("data.num_classes") is not None:
        given.pop("model.num_classes", None)  # in the release's saved config.yaml often still the default
    translated, notes = {}, []
    for key, value in given.items():
        note = _note(key, value)
        if note and note not in notes:
            notes.append(note)
        for ours, converted in _ours(key, value).items():
            translated.pop(ours, None)  # so that the last of two counts, also in order
            translated[ours] = converted
    return translated, notes


def _ours(key, value):
    """Our keys and values for one of the release's."""
    if _ignored(key) or key in _FIXED or value in _MEANS_NOTHING.get(key, ()):
        return {}
    if key == _AUGNAME and (value or None) in [*_AUGMENTATIONS]:
        return dict(zip(_AUGNAME_KEYS, _AUGMENTATIONS[value or None], strict=True))
    ours, convert = _TABLE.get(key, (key, _same))
    return {ours: convert(value)}


def _ignored(key):
    """The key of `_IGNORED` that covers a key, or None."""
    if key in _TABLE:
        return None
    return next((name for name in _IGNORED if key == name or (name.endswith(".") and key.startswith(name))), None)


def _note(key, value):
    """What to tell about a key, or None.

    Raises:
        ConfigError: the value cannot be honoured.
    """
    if key in _FIXED and value not in _FIXED[key][0]:
        allowed, why = _FIXED[key]
        raise ConfigError(
            f"{key} is a key of the official release that cannot be honoured ({why}): "
            f"expected {' or '.join(map(repr, allowed))}. Received: {value!r}. Leave it out."
        )
    if name := _ignored(key):
        return f"ignored: {name}{'*' if name.endswith('.') else ''} ({_IGNORED[name]})"
    if key in _CHANGED and _CHANGED[key][0](value):
        return f"changed: {key}={value} ({_CHANGED[key][1]})"
    return None


def recipe_for_dataset(name):
    """The recipe for a data set.

    Args:
        name: one of the release's `--dataset_cfg` names (Imagenet, Imagenet21k, ImagenetFt, Cifar10Ft, ...)
            or one of our data set names, in any case.

    Returns:
        The recipe's name, or None for an unknown data set.
    """
    if name.startswith(("folder:", "tfrecord:", "tfds:")):
        return "own_images"
    return _RECIPES.get(name.lower())
