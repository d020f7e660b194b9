"""The peers' networks: random weights, 1,000 classes, from normalised pictures to logits.

Each function imports its library, so that only the process that measures it does.
"""

import sys

from efficientnetv2_tf.benchmark.peers import CLASSES, LeftOutError
from efficientnetv2_tf.networks.block_string import parse_block
from efficientnetv2_tf.networks.variants import get_variant


def keras_applications(model, image_size):
    """keras.applications' network.

    Args:
        model: a resolved `ModelConfig`; with a width or depth coefficient, keras.applications' function for any.
        image_size: side in pixels.

    Raises:
        LeftOutError: it has no such network.
    """
    import keras

    suffix = _v2_suffix(model)
    options = {
        "weights": None,
        "include_preprocessing": False,
        "classifier_activation": None,
        "classes": CLASSES,
        "input_shape": (image_size, image_size, 3),
    }
    function = getattr(keras.applications, f"EfficientNetV2{suffix.upper()}", None)
    if function is None or model.blocks is not None:
        raise LeftOutError(f"it has no {model.name} with such blocks")
    if _is_scaled(model):
        width, depth = _coefficients(model)
        general = sys.modules[function.__module__].EfficientNetV2
        return general(width, depth, image_size, name=f"efficientnetv2-{suffix}", **options)
    return function(**options)


def keras_hub(model, image_size):
    """keras-hub's network with the variant's blocks; arguments and errors as for `keras_applications`."""
    import keras_hub

    kinds = ["cba" if spec.fused and spec.expand_ratio == 1 else _kind(spec) for spec in _specs(model)]
    backbone = keras_hub.models.EfficientNetBackbone(
        **_stages(model),
        stackwise_block_types=kinds,
        batch_norm_epsilon=1e-3,
        input_shape=(image_size, image_size, 3),
    )
    return keras_hub.models.EfficientNetImageClassifier(
        backbone=backbone, num_classes=CLASSES, activation=None, dropout=model.dropout_rate
    )


def keras_cv(model, image_size):
    """keras-cv's network with the variant's blocks; arguments and errors as for `keras_applications`."""
    import keras_cv

    backbone = keras_cv.models.EfficientNetV2Backbone(
        **_stages(model),
        stackwise_conv_types=[_kind(spec) for spec in _specs(model)],
        include_rescaling=False,
        input_shape=(image_size, image_size, 3),
    )
    return keras_cv.models.ImageClassifier(backbone=backbone, num_classes=CLASSES, activation=None)


def timm_network(model):
    """timm's port of the release's network, channels last, with the variant's dropout and stochastic depth.

    Args:
        model: a resolved `ModelConfig`.

    Raises:
        LeftOutError: timm has no such network.
    """
    import timm
    import torch

    name = f"tf_efficientnetv2_{_v2_suffix(model)}"
    if model.blocks is not None or _is_scaled(model) or name not in timm.list_models("tf_efficientnetv2_*"):
        raise LeftOutError(f"it has no {model.name} with such blocks and coefficients")
    rates = {"drop_rate": model.dropout_rate, "drop_path_rate": model.drop_connect_rate}
    return timm.create_model(name, num_classes=CLASSES, **rates).to(memory_format=torch.channels_last)


def _v2_suffix(model):
    name, _, suffix = model.name.partition("-")
    if name != "efficientnetv2":
        raise LeftOutError(f"the comparison is of EfficientNetV2, and not of {model.name}")
    return suffix


def _is_scaled(model):
    return (model.width_coefficient, model.depth_coefficient) != (None, None)


def _coefficients(model):
    variant = get_variant(model.name)
    return model.width_coefficient or variant.width_coefficient, model.depth_coefficient or variant.depth_coefficient


def _specs(model):
    if model.name.startswith("efficientnet-"):
        _v2_suffix(model)
    return [parse_block(block) for block in model.blocks or get_variant(model.name).blocks]


def _kind(spec):
    return "fused" if spec.fused else "unfused"


def _stages(model):
    """The arguments that keras-cv and keras-hub share."""
    specs = _specs(model)
    width, depth = _coefficients(model)
    return {
        "stackwise_kernel_sizes": [spec.kernel_size for spec in specs],
        "stackwise_num_repeats": [spec.repeats for spec in specs],
        "stackwise_input_filters": [spec.input_filters for spec in specs],
        "stackwise_output_filters": [spec.output_filters for spec in specs],
        "stackwise_expansion_ratios": [spec.expand_ratio for spec in specs],
        "stackwise_squeeze_and_excite_ratios": [spec.se_ratio for spec in specs],
        "stackwise_strides": [spec.stride for spec in specs],
        "width_coefficient": width,
        "depth_coefficient": depth,
    }
