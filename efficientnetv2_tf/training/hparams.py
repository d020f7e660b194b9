"""The configuration: every field, its default, its unit and its range.

The defaults are the official release's ImageNet values (EfficientNetV2, ICML 2021, Section 5.1; the release's
configuration). None means "taken from the variant or the data set"; 0 is off, unless a comment says
otherwise. Loading from YAML files and overrides is in `recipes.py`. Nothing here imports TensorFlow or Keras.
"""

from typing import Annotated, Literal

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from efficientnetv2_tf.networks.block_string import expand
from efficientnetv2_tf.networks.pretrained import find
from efficientnetv2_tf.networks.variants import VARIANTS, get_variant

CONTRADICTION = "contradiction"  # pydantic's error type for values that are impossible only together


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists the problems and where they came from."""


def _as_pair(value):
    """(first stage, last stage); one number is a constant."""
    if type(value) in (int, float):
        return (value, value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise PydanticCustomError("pair", "Input should be one number or a pair [first stage, last stage]")
    return tuple(value)


def _as_tuple(value):
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("list", "Input should be a list")
    return tuple(value)


def _value_error(expected, hint):
    context = {"expected": expected, "hint": str(hint).removesuffix(".")}
    return PydanticCustomError("value", "Input should be {expected}. {hint}", context)


def _known_model(name):
    try:
        return get_variant(name).name
    except ValueError as error:
        raise _value_error("a known model", error) from error


def _buildable(blocks):
    try:
        expand(blocks)
    except ValueError as error:
        raise _value_error("block strings", error) from error
    return blocks


def among(kind, known):
    """A validator of a name, or of several."""

    def check(names):
        for name in (names,) if isinstance(names, str) else names:
            if name not in known:
                raise _value_error(f"{kind} among {', '.join(known)}", f"{name!r} is not")
        return names

    return pydantic.AfterValidator(check)


# What Keras knows by name and a network can be trained with; the tests compare both lists with their origin.
ACTIVATIONS = (
    "silu", "swish", "relu", "relu6", "gelu", "elu", "selu", "celu", "mish", "hard_silu", "hard_swish", "leaky_relu",
    "softplus", "tanh", "sigmoid",
)  # fmt: skip
OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "Cutout", "TranslateX", "TranslateY",
)  # fmt: skip
Count = Annotated[int, Field(ge=1)]
CountOrOff = Annotated[int, Field(ge=0)]  # 0 is off
Rate = Annotated[float, Field(ge=0, lt=1)]  # a share or probability; 0 is off
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]  # 0 is off
Positive = Annotated[float, Field(gt=0)]
Magnitude = Annotated[float, Field(ge=0, le=30)]  # RandAugment's scale
Strings = Annotated[tuple[str, ...], pydantic.BeforeValidator(_as_tuple)]
Models = Annotated[Strings, pydantic.AfterValidator(lambda names: tuple(map(_known_model, names)))]
Integers = Annotated[tuple[int, ...], pydantic.BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[float, ...], pydantic.BeforeValidator(_as_tuple)]
Blocks = Annotated[Strings, pydantic.AfterValidator(_buildable)]
SizePair = Annotated[tuple[Count | None, Count | Literal["eval"] | None], pydantic.BeforeValidator(_as_pair)]
MagnitudePair = Annotated[tuple[Magnitude, Magnitude], pydantic.BeforeValidator(_as_pair)]
AmountPair = Annotated[tuple[Amount, Amount], pydantic.BeforeValidator(_as_pair)]
RatePair = Annotated[tuple[Rate, Rate], pydantic.BeforeValidator(_as_pair)]


class Frozen(pydantic.BaseModel):
    """A section: frozen, typed, unknown keys forbidden."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Frozen):
    """The network. None: the variant's own value."""

    name: Annotated[str, pydantic.AfterValidator(_known_model)] = "efficientnetv2-s"
    num_classes: Count | None = None  # None: the data set's
    blocks: Blocks | None = None  # block strings, one a stage
    width_coefficient: Positive | None = None  # multiplies channels
    depth_coefficient: Positive | None = None  # multiplies blocks
    feature_size: Count | None = None  # channels of the last convolution, before width_coefficient
    dropout_rate: Rate | None = None  # before the classifier; progressive.dropout, where given, replaces it
    drop_connect_rate: Rate = 0.2  # stochastic depth; block i of n is skipped with probability rate * i / n
    activation: Annotated[str, among("the name of an activation", ACTIVATIONS)] = "silu"
    # sync_batch: statistics over all replicas; group: 8 groups, for small batches
    normalization: Literal["batch", "sync_batch", "group"] = "batch"
    # release: uniform +-1/sqrt(classes), made for 1,000 of them; with few classes its logits begin far from 0
    classifier_initializer: Literal["release", "zeros"] = "release"


class DataConfig(Frozen):
    """From files to batches."""

    dataset: Annotated[str, Field(min_length=1)] = "digits"
    data_dir: str | None = None  # folder or gs:// address of the data; None: the data set's own
    train_split: str | None = None  # None: the data set's own
    eval_split: str | None = None
    eval_fraction: Share = 0.1  # folder and tfrecord, without an evaluation split: this share is split off for it ...
    split_seed: CountOrOff = 0  # ... by this seed
    class_names: Strings | None = None  # in the order of the labels; None: the data set's own
    image_key: Annotated[str, Field(min_length=1)] = "image/encoded"  # tfrecord: name of the feature
    label_key: Annotated[str, Field(min_length=1)] = "image/class/label"  # tfrecord: name of the feature
    label_offset: int = 0  # tfrecord: the label of the first class
    batch_size: Count = 4096  # images of one step, that is one update, over all replicas
    eval_batch_size: Count | None = None  # None: batch_size / train.accumulate_steps
    eval_image_size: Count | None = None  # side in pixels; None: the variant's
    num_train_images: Count | None = None  # for planning without opening the data; None: count them
    # scaling of pixel values and way of resizing, see data/decode.py; None: the pretrained weights' or the variant's
    preprocessing: Literal["v1", "v2", "finetune"] | None = None
    crop: Literal["random_area", "none"] = "random_area"  # none: whole pictures, in evaluation too
    crop_min_area: Share | None = None  # share of the area, at least; None: the release's 5 % (v1: 10 %)
    flip: bool = True  # left and right, with probability 1/2
    augment: Literal["none", "randaugment", "autoaugment", "erase"] = "randaugment"
    randaugment_layers: CountOrOff = 2  # operations an image
    randaugment_exclude: Annotated[Strings, among("operations", OPERATIONS)] = ()  # never drawn, such as Invert
    randaugment_scale_pixels: bool = False  # scale lengths given in pixels from 224 px to the image's size
    multi_label: bool = False  # several labels an image: sigmoid loss
    shuffle_buffer: Count = 16384  # images
    cache: Literal["none", "memory", "disk"] = "none"  # keep the encoded images; disk: copy them to cache_dir
    cache_dir: str | None = None  # None: ~/.cache/efficientnetv2_tf
    on_bad_image: Literal["skip", "error"] = "skip"  # what does not decode, or has no valid label
    bad_image_limit: Fraction = 0.01  # a larger share of bad images ends the run


class ProgressiveConfig(Frozen):
    """What changes from stage to stage (ICML 2021, Section 4 and Table 6): pairs (first stage, last stage).

    One number is a constant pair. With one stage only the last values count.

    `image_size`, sides in pixels: a last of None is the variant's training size, a last of "eval" the
    evaluation size, and a first of None half of the last. `image_size_ramp`: "linear" starts at the first
    size; "release" is int(first + (last - first) * (stage + 1) / stages), in stage 0 already above the first.
    """

    stages: Count = 4  # 1: off
    image_size: SizePair = (128, None)
    image_size_ramp: Literal["linear", "release"] = "release"
    randaugment: MagnitudePair = (5.0, 10.0)  # magnitude, 0..30
    mixup: AmountPair = (0.0, 0.0)  # alpha of the Beta distribution
    cutmix: AmountPair = (0.0, 0.0)  # alpha of the Beta distribution
    dropout: RatePair | None = None  # None: model.dropout_rate in all stages


# The fields with a value for the first and one for the last stage.
PAIRS = tuple(f"progressive.{name}" for name in ("image_size", "randaugment", "mixup", "cutmix", "dropout"))


class TrainConfig(Frozen):
    """The optimisation. Learning rates are for 256 images and grow with the batch size."""

    epochs: Count = 350
    min_steps: CountOrOff = 0  # train at least so many steps, with more epochs where needed
    optimizer: Literal["rmsprop", "adamw", "sgd"] = "rmsprop"
    rho: Rate = 0.9  # rmsprop: decay of the squared gradients' average
    momentum: Rate = 0.9  # rmsprop and sgd
    epsilon: Positive | None = None  # None: customary, 1e-3 for rmsprop and 1e-8 for adamw; sgd has none
    beta_1: Rate = 0.9  # adamw
    beta_2: Rate = 0.999  # adamw
    lr_per_256_images: Positive = 0.016  # the peak; times data.batch_size / 256
    lr_schedule: Literal["exponential", "cosine", "constant"] = "exponential"
    lr_decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.97  # exponential: once every lr_decay_epochs
    lr_decay_epochs: Positive = 2.4
    lr_warmup_epochs: Amount = 5.0  # linear from 0
    lr_min_per_256_images: Amount = 0.0  # floor of the schedule
    ema_decay: Rate = 0.9999  # moving average of all weights, a step; 0: off
    weight_decay: Amount = 1e-5  # of kernels only
    label_smoothing: Rate = 0.1
    gradient_clip: Amount = 0.0  # largest global norm; 0: off
    # parts of a batch that are computed one after another, to save memory; batch statistics are those of a part
    accumulate_steps: Count = 1
    # blocks: keep only the blocks' inputs and compute the rest again in the backward pass; same results, more time
    rematerialize: Literal["none", "blocks"] = "none"
    # what to start from: imagenet, imagenet21k, imagenet21k-ft1k (downloaded once), or a file that load_weights reads
    init_weights: str | None = None
    eval_every_epochs: Count = 1
    checkpoint_every_steps: CountOrOff = 0  # since the last one; 0: off. There is one at the end of each epoch
    checkpoint_every_minutes: Amount = 0.0  # since the last one; 0: off
    keep_checkpoints: Count = 3  # the newest; the best one is kept besides
    # a loss or gradient that is infinite or no number: end the run, leave the step out, or go back to a checkpoint
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"


class RuntimeConfig(Frozen):
    """The machine, or the machines."""

    # auto: multi_worker in a cluster, tpu where there is one, mirrored on several GPUs, else one_device
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker", "tpu"] = "auto"
    logical_cpus: Count = 1  # to try mirrored without GPUs: the CPU counts as so many devices
    tpu: str | None = None  # name or grpc:// address of the TPU; None: TPU_NAME, or the machine's own
    cluster_timeout: Positive = 300.0  # seconds that the workers wait for each other at the start
    kubernetes_selector: str | None = None  # label selector of the workers' pods, such as job-name=train
    kubernetes_workers: Count | None = None  # how many pods that gives
    seed: CountOrOff = 0  # of weights, shuffling and augmentation; 0 is a seed like any other
    # auto: mixed_bfloat16 where the accelerator has it, else float32
    mixed_precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    profile_steps: CountOrOff = 0  # training steps to record for TensorBoard's profiler, soon after the start
    onednn: bool = True  # sets TF_ENABLE_ONEDNN_OPTS before TensorFlow loads: up to 3.7x faster on CPUs


class Config(Frozen):
    """The whole configuration: frozen, typed, unknown keys forbidden.

    Raises:
        pydantic.ValidationError: a value is impossible, or two of them contradict each other. `load_config`
            turns it into a `ConfigError` that also says where each value came from.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    progressive: ProgressiveConfig = ProgressiveConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @pydantic.model_validator(mode="after")
    def _check(self):
        problems = list(_contradictions(self))
        if problems:
            text = "; ".join(f"{key}: {problem}" for key, problem in problems)
            raise PydanticCustomError(CONTRADICTION, "{text}", {"text": text, "problems": problems})
        return self


def _contradictions(config):
    """Yields (dotted key, problem) for values that are possible alone but not together."""
    train, stages = config.train, config.progressive.stages
    first, last = _image_sizes(config)
    limits = (
        ("train.lr_warmup_epochs", train.lr_warmup_epochs, "train.epochs", train.epochs),
        (
            "train.lr_min_per_256_images",
            train.lr_min_per_256_images,
            "train.lr_per_256_images",
            train.lr_per_256_images,
        ),
        ("progressive.stages", stages, "train.epochs", train.epochs),
    )
    if (config.runtime.kubernetes_selector is None) != (config.runtime.kubernetes_workers is None):
        yield "runtime.kubernetes_workers", "expected a number with runtime.kubernetes_selector, and null without it"
    if config.data.crop == "none" and config.data.crop_min_area is not None:
        yield "data.crop_min_area", "expected null with data.crop=none, which takes whole pictures"
    if config.data.batch_size % train.accumulate_steps:
        yield (
            "train.accumulate_steps",
            f"expected a divisor of data.batch_size ({config.data.batch_size}), for the parts of a batch are equal. "
            f"Received: {train.accumulate_steps}",
        )
    for key, value, limit_key, limit in limits:
        if value > limit:
            yield key, f"expected at most {limit_key} ({limit}). Received: {value}"
    if first > last:
        yield (
            "progressive.image_size",
            f"expected a first size of at most the last ({last} for {config.model.name}). Received: {first}. "
            "Set progressive.image_size=[FIRST,LAST] to suit the network, or progressive.stages=1",
        )


def _eval_size(config):
    return config.data.eval_image_size or VARIANTS[config.model.name].eval_size


def _image_sizes(config):
    """Sides of the first and last stage's images in pixels."""
    first, last = config.progressive.image_size
    if last == "eval":
        last = _eval_size(config)
    last = last or VARIANTS[config.model.name].train_size
    first = first or max(1, last // 2)
    return (min(first, last) if config.progressive.stages == 1 else first), last


def resolve(config):
    """Fills what is None because the variant decides it.

    Args:
        config: a `Config`.

    Returns:
        A `Config` in which data.eval_batch_size, data.eval_image_size, both of progressive.image_size and
        model.dropout_rate are numbers, and data.preprocessing is a style. model.num_classes stays None until the data
        set is known.

    Raises:
        WeightsError: train.init_weights names pretrained weights that there are not of this network.
    """
    model, data, progressive = config.model, config.data, config.progressive
    dropout_rate = VARIANTS[model.name].dropout_rate if model.dropout_rate is None else model.dropout_rate
    pretrained = find(model.name, config.train.init_weights)
    sizes = {
        "preprocessing": data.preprocessing or (pretrained or VARIANTS[model.name]).preprocessing,
        "eval_batch_size": data.eval_batch_size or max(1, data.batch_size // config.train.accumulate_steps),
        "eval_image_size": _eval_size(config),
    }
    return config.model_copy(
        update={
            "model": model.model_copy(update={"dropout_rate": dropout_rate}),
            "data": data.model_copy(update=sizes),
            "progressive": progressive.model_copy(update={"image_size": _image_sizes(config)}),
        }
    )


def flat(config):
    """All values of a `Config` as {dotted key: value}, in the order of the schema."""
    return {
        f"{section}.{name}": value
        for section, fields in config.model_dump().items()
        for name, value in fields.items()
    }


def diff(a, b):
    """The differences of two `Config`s, such as ["train.epochs: 20 -> 30"], in the order of the schema."""
    after = flat(b)
    return [f"{key}: {value} -> {after[key]}" for key, value in flat(a).items() if value != after[key]]
