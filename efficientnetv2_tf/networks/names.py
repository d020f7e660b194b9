"""What a variable of ours is called elsewhere: in the official release, in Keras and in timm.

Ours are readable paths such as "blocks_3/expand_conv/kernel". Each naming is a function from (model, path) to one
name, so weights are moved by name and never by order.
"""

import re

from efficientnetv2_tf.networks.normalization import has_statistics

_BLOCK = re.compile(r"blocks_(\d+)/(.+)/(\w+)")


def official_name(model, variable, check=True):
    """Name of a variable in the official release, such as "efficientnetv2-s/blocks_0/conv2d/kernel".

    Args:
        model: an `EfficientNet`.
        variable: one of `model.weights`, or its path.
        check: False skips the look into the model, for a path that is known to be one of such a network.

    Returns:
        The name without ":0".

    Raises:
        ValueError: the model has no such variable.
    """
    fixed = _OFFICIAL_FIXED if has_statistics(model.normalization) else _OFFICIAL_GROUP
    return f"{model.variant}/{_name(model, variable, fixed, _official_block, check)}"


def object_name(model, variable, check=True):
    """Name of a variable in the release's object-based (Keras 2) checkpoints, such as "_fc/kernel".

    Args:
        model: an `EfficientNet`.
        variable: one of `model.weights`, or its path.
        check: False skips the look into the model, for a path that is known to be one of such a network.

    Raises:
        ValueError: the model has no such variable.
    """
    return _name(model, variable, _OBJECT_FIXED, _object_block, check)


def keras_name(model, variable, check=True):
    """Name of a variable in keras.applications, such as "block2a_expand_conv/kernel".

    Args:
        model: an `EfficientNet`.
        variable: one of `model.weights`, or its path.
        check: False skips the look into the model, for a path that is known to be one of such a network.

    Raises:
        ValueError: the model has no such variable.
    """
    return _name(model, variable, _KERAS_FIXED, _keras_block, check)


def timm_name(model, variable, check=True):
    """Name of a variable in timm's `tf_efficientnet*` models, such as "blocks.1.0.conv_exp.weight".

    The values are laid out for PyTorch: `weights_timm.py` turns them.

    Args:
        model: an `EfficientNet`.
        variable: one of `model.weights`, or its path.
        check: False skips the look into the model, for a path that is known to be one of such a network.

    Raises:
        ValueError: the model has no such variable.
    """
    name = _name(model, variable, _TIMM_FIXED, _timm_block, check)
    layer, leaf = name.rsplit(".", 1)
    return f"{layer}.{_TIMM_LEAVES.get(leaf, leaf)}"


_OFFICIAL_FIXED = {
    "stem_conv": "stem/conv2d",
    "stem_norm": "stem/tpu_batch_normalization",
    "head_conv": "head/conv2d",
    "head_norm": "head/tpu_batch_normalization",
    "classifier": "head/dense",
}
# The release names its layers in blocks itself, whatever their kind, and leaves these two to TensorFlow.
_OFFICIAL_GROUP = {
    **_OFFICIAL_FIXED,
    "stem_norm": "stem/group_normalization",
    "head_norm": "head/group_normalization_1",
}
_OBJECT_FIXED = {
    "stem_conv": "_stem/_conv_stem",
    "stem_norm": "_stem/_norm",
    "head_conv": "_head/_conv_head",
    "head_norm": "_head/_norm",
    "classifier": "_fc",
}
_KERAS_FIXED = {
    "stem_conv": "stem_conv",
    "stem_norm": "stem_bn",
    "head_conv": "top_conv",
    "head_norm": "top_bn",
    "classifier": "predictions",
}
_TIMM_FIXED = {
    "stem_conv": "conv_stem.",
    "stem_norm": "bn1.",
    "head_conv": "conv_head.",
    "head_norm": "bn2.",
    "classifier": "classifier.",
}
_TIMM_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _name(model, variable, fixed, block_name, check):
    path = getattr(variable, "path", variable)
    if check and not _has(model, path):
        raise ValueError(f"{model.name} has no variable {path!r}. Expected one of `model.weights`, or its path.")
    match = _BLOCK.fullmatch(path)
    if match:
        index = int(match[1])
        return block_name(*_places(model)[index], index, match[2], match[3])
    layer, _, leaf = path.partition("/")
    separator = "" if fixed[layer].endswith(".") else "/"
    return f"{fixed[layer]}{separator}{leaf}"


def _has(model, path):
    """Whether a variable has that path; only the weights of its own layer are gone through."""
    name = str(path).partition("/")[0]
    return any(path == variable.path for layer in model.layers if layer.name == name for variable in layer.weights)


def _places(model):
    """(spec, stage, place in the stage) of each block."""
    return [(spec, stage, place) for stage, specs in enumerate(model.blocks) for place, spec in enumerate(specs)]


def _built(spec):
    """The convolutions and normalisations that a block has, in their order."""
    parts = ("project",) if spec.fused else ("depthwise", "project")
    return parts if spec.expand_ratio == 1 else ("expand", *parts)


def _numbered(name, number):
    return name if number == 0 else f"{name}_{number}"


def _official_block(spec, stage, place, index, part, leaf):
    kind, _, layer = part.partition("_")
    if part.startswith("se/"):
        name = "se/conv2d" if part == "se/reduce" else "se/conv2d_1"
    elif part == "depthwise_conv":
        name, leaf = "depthwise_conv2d", "depthwise_kernel"
    elif layer == "conv":  # the depthwise convolution is not counted among them
        name = _numbered("conv2d", [x for x in _built(spec) if x != "depthwise"].index(kind))
    else:
        name = _numbered("tpu_batch_normalization", _built(spec).index(kind))
    return f"blocks_{index}/{name}/{leaf}"


def _object_block(spec, stage, place, index, part, leaf):
    kind, _, layer = part.partition("_")
    if part.startswith("se/"):
        name = f"_se/_se_{part.removeprefix('se/')}"
    elif layer == "conv":
        name = f"_{part}"
        leaf = "depthwise_kernel" if kind == "depthwise" else leaf
    else:  # numbered from the expansion's, whether the block has one or not
        order = ("expand", "project") if spec.fused else ("expand", "depthwise", "project")
        name = f"_norm{order.index(kind)}"
    return f"_blocks/{index}/{name}/{leaf}"


def _keras_block(spec, stage, place, index, part, leaf):
    kind, _, layer = part.partition("_")
    if part.startswith("se/"):
        name = part.replace("/", "_")
    elif part == "depthwise_conv":
        name = "dwconv"
    elif part == "depthwise_norm":
        name = "bn"
    else:
        name = part if layer == "conv" else f"{kind}_bn"
    return f"block{stage + 1}{chr(ord('a') + place)}_{name}/{leaf}"


def _timm_block(spec, stage, place, index, part, leaf):
    kind, _, layer = part.partition("_")
    if part.startswith("se/"):
        name = f"se.conv_{part.removeprefix('se/')}"
    elif layer == "norm":
        name = f"bn{_built(spec).index(kind) + 1}"
    elif spec.fused:
        name = "conv" if spec.expand_ratio == 1 else {"expand": "conv_exp", "project": "conv_pwl"}[kind]
    elif spec.expand_ratio == 1:
        name = {"depthwise": "conv_dw", "project": "conv_pw"}[kind]
    else:
        name = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}[kind]
    return f"blocks.{stage}.{place}.{name}.{leaf}"
