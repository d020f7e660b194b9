"""From a variant's name to a Keras model."""

import warnings

import keras

from efficientnetv2_tf.networks import layers
from efficientnetv2_tf.networks.block_string import BlockSpec, expand, format_block, round_filters
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.networks.weights import load_weights

_POOLINGS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


def drop_rates(num_blocks, drop_connect_rate):
    """Stochastic depth's rate of each block: `drop_connect_rate * index / num_blocks`, as in the release.

    Args:
        num_blocks: blocks after depth scaling.
        drop_connect_rate: in [0, 1); 0 is off.

    Raises:
        ValueError: the rate is out of its range.
    """
    if not 0 <= drop_connect_rate < 1:
        raise ValueError(f"`drop_connect_rate` should be in [0, 1). Received: {drop_connect_rate}")
    return [drop_connect_rate * index / num_blocks for index in range(num_blocks)]


@keras.saving.register_keras_serializable(package="efficientnetv2_tf")
class EfficientNet(keras.Model):
    """EfficientNet V1 or V2 as a functional Keras model; `get_model` makes it.

    It saves what it was made from rather than a list of layers, so `.keras` files stay small and readable.

    Args:
        variant: name of the member of the family, in `list_models()`; its sizes and preprocessing come along.
        blocks: block strings or `BlockSpec`s, one a stage.
        width_coefficient: multiplies channels.
        depth_coefficient: multiplies blocks.
        feature_size: channels of the last convolution before `width_coefficient`.
        num_classes: outputs of the classifier.
        include_top: whether there are pooling, dropout and classifier.
        pooling: None, "avg" or "max", of the features without the classifier.
        dropout_rate: before the classifier, in [0, 1).
        drop_connect_rate: stochastic depth's rate beyond the last block, in [0, 1).
        activation: Keras activation or its name.
        classifier_initializer: "release", or the name of a Keras initializer.
        image_size: side of the input in pixels, or None for any.
        in_channels: channels of the input.
        name: of the model.

    Input shape: `[batch, height, width, in_channels]`, preprocessed floats.
    Output shape: `[batch, num_classes]` logits in float32; without the top the features
        `[batch, ceil(height / 32), ceil(width / 32), channels]`, or `[batch, channels]` pooled.
    """

    def __init__(
        self,
        *,
        variant,
        blocks,
        width_coefficient,
        depth_coefficient,
        feature_size,
        num_classes=1000,
        include_top=True,
        pooling=None,
        dropout_rate=0.2,
        drop_connect_rate=0.2,
        activation="silu",
        classifier_initializer="release",
        image_size=None,
        in_channels=3,
        name=None,
        **kwargs,
    ):
        if pooling is not None and pooling not in _POOLINGS:
            raise ValueError(f"`pooling` should be None or one of {[*_POOLINGS]}. Received: pooling={pooling!r}")
        stages = expand(blocks, width_coefficient, depth_coefficient)
        inputs = keras.Input((image_size, image_size, in_channels), name="images")
        x = _stem(inputs, stages[0][0].input_filters, activation)
        x = _body(x, stages, drop_connect_rate, activation)
        x = _head(x, round_filters(feature_size, width_coefficient), activation)
        if include_top:
            x = _classifier(x, num_classes, dropout_rate, classifier_initializer)
        elif pooling:
            x = _POOLINGS[pooling](name="pool")(x)
        super().__init__(inputs=inputs, outputs=x, name=name or variant, **kwargs)
        self.variant = variant
        self.blocks = stages
        self._config = {
            "variant": variant,
            "blocks": [format_block(b) if isinstance(b, BlockSpec) else b for b in blocks],
            "width_coefficient": width_coefficient,
            "depth_coefficient": depth_coefficient,
            "feature_size": feature_size,
            "num_classes": num_classes,
            "include_top": include_top,
            "pooling": pooling,
            "dropout_rate": dropout_rate,
            "drop_connect_rate": drop_connect_rate,
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            "classifier_initializer": classifier_initializer,
            "image_size": image_size,
            "in_channels": in_channels,
        }

    @property
    def preprocessing(self):
        """Which scaling of pixel values the network expects: "v2" or "v1" (see `Variant`)."""
        return get_variant(self.variant).preprocessing

    @property
    def dropout(self):
        """The `ScheduledDropout` before the classifier; None without the top."""
        return next((layer for layer in self.layers if isinstance(layer, layers.ScheduledDropout)), None)

    def get_config(self):
        return {**self._config, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def _stem(x, filters, activation):
    x = layers.conv(filters, 3, stride=2, name="stem_conv")(x)
    x = layers.batch_norm("stem_norm")(x)
    return keras.layers.Activation(activation, name="stem_activation")(x)


def _body(x, stages, drop_connect_rate, activation):
    specs = [spec for stage in stages for spec in stage]
    for index, (spec, rate) in enumerate(zip(specs, drop_rates(len(specs), drop_connect_rate), strict=True)):
        x = layers.block_layer(spec, drop_rate=rate, activation=activation, name=f"blocks_{index}")(x)
    return x


def _head(x, filters, activation):
    x = layers.conv(filters, name="head_conv")(x)
    x = layers.batch_norm("head_norm")(x)
    return keras.layers.Activation(activation, name="head_activation")(x)


def _classifier(x, num_classes, dropout_rate, initializer):
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.ScheduledDropout(dropout_rate, name="dropout")(x)
    # float32 whatever the precision policy: a softmax over bfloat16 logits loses the small probabilities.
    initializer = layers.dense_initializer() if initializer == "release" else initializer
    dense = keras.layers.Dense(num_classes, kernel_initializer=initializer, dtype="float32", name="classifier")
    return dense(x)


def get_model(
    name,
    *,
    num_classes=1000,
    include_top=True,
    weights=None,
    width_coefficient=None,
    depth_coefficient=None,
    feature_size=None,
    blocks=None,
    pooling=None,
    dropout_rate=None,
    drop_connect_rate=0.2,
    activation="silu",
    classifier_initializer="release",
    image_size=None,
    in_channels=3,
):
    """Builds a network of the family.

    Args:
        name: one of `list_models()`, for example "efficientnetv2-s".
        num_classes: outputs of the classifier, at least 1.
        include_top: False leaves out pooling, dropout and classifier.
        weights: None for random ones, or what `load_weights` takes: an official checkpoint, a Keras file or model, or
            timm's state dict. A classifier for other classes stays random, with a warning.
        width_coefficient: None is the variant's own, as for the next three.
        depth_coefficient: multiplies the number of blocks.
        feature_size: channels of the last convolution before `width_coefficient`.
        blocks: block strings in place of the variant's.
        pooling: None, "avg" or "max", when `include_top` is False.
        dropout_rate: in [0, 1); None is the variant's own.
        drop_connect_rate: stochastic depth, in [0, 1); 0 is off.
        activation: Keras activation or its name.
        classifier_initializer: "release" is uniform within +-1 / sqrt(num_classes); "zeros", or another Keras
            initializer's name, suits a few classes better.
        image_size: side of the input in pixels; None leaves it open.
        in_channels: channels of the input.

    Returns:
        An `EfficientNet`, which gives logits.

    Raises:
        ValueError: unknown name (the nearest are shown), or an impossible value.
        WeightsError: `weights` is missing, damaged or of another network; a `ValueError` too.

    Example:
        >>> model = get_model("efficientnetv2-b0", num_classes=10)
        >>> model(images).shape  # images: float32 [8, 224, 224, 3]
        (8, 10)
    """
    variant = get_variant(name)
    counts = {"feature_size": feature_size, "image_size": image_size, "in_channels": in_channels}
    for key, value in {**counts, "num_classes": num_classes if include_top else None}.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"`{key}` should be a whole number of at least 1. Received: {key}={value!r}")

    def own(value, default):
        return default if value is None else value

    model = EfficientNet(
        variant=name,
        blocks=list(own(blocks, variant.blocks)),
        width_coefficient=own(width_coefficient, variant.width_coefficient),
        depth_coefficient=own(depth_coefficient, variant.depth_coefficient),
        feature_size=own(feature_size, variant.feature_size),
        num_classes=num_classes,
        include_top=include_top,
        pooling=pooling,
        dropout_rate=own(dropout_rate, variant.dropout_rate),
        drop_connect_rate=drop_connect_rate,
        activation=activation,
        classifier_initializer=classifier_initializer,
        image_size=image_size,
        in_channels=in_channels,
    )
    if weights is not None:
        report = load_weights(model, weights)
        if report.head_reset:
            warnings.warn(f"{report.path} has no classifier for {num_classes} classes; it starts random.", stacklevel=2)
    return model
