"""From a variant's name to a Keras model."""

import operator
import warnings

import keras
import numpy as np

from efficientnetv2_tf.networks import layers, pretrained
from efficientnetv2_tf.networks.block_string import BlockSpec, expand, format_block, round_filters
from efficientnetv2_tf.networks.blocks import block_layer
from efficientnetv2_tf.networks.freezing import freeze_layers, frozen_layers
from efficientnetv2_tf.networks.normalization import FOLDED, check_normalization, make_normalization
from efficientnetv2_tf.networks.preprocessing import check_style, normalize, scaled_range
from efficientnetv2_tf.networks.pretrained_files import fetch
from efficientnetv2_tf.networks.reductions import reductions
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

    It saves what it was made from rather than a list of layers, so `.keras` files stay small and readable. What
    `freeze` froze stays frozen in them; the precision policy is not kept, so a loaded network computes in the one that
    is set. `EfficientNet.from_config(model.get_config())` is a copy with new weights; `keras.models.clone_model` makes
    a plain functional model without what is listed below.

    Args:
        variant: name of the member of the family, in `list_models()`; its sizes and preprocessing come along.
        blocks: block strings or `BlockSpec`s, one a stage.
        width_coefficient: multiplies channels.
        depth_coefficient: multiplies blocks.
        feature_size: channels of the last convolution before `width_coefficient`.
        num_classes: outputs of the classifier.
        include_top: whether there are pooling, dropout and classifier.
        features_only: whether the outputs are the last feature map of each resolution; there is no head then, and no
            classifier whatever `include_top` says.
        pooling: None, "avg" or "max", of the features without the classifier.
        dropout_rate: before the classifier, in [0, 1).
        drop_connect_rate: stochastic depth's rate beyond the last block, in [0, 1).
        activation: Keras activation or its name.
        normalization: after each convolution, "batch", "sync_batch" or "group" (see `make_normalization`).
        classifier_initializer: "release", or the name of a Keras initializer.
        preprocessing: scaling of pixel values, "v2", "v1" or "finetune" (see `preprocess`); None is the variant's.
        image_size: side of the input in pixels, or None for any.
        in_channels: channels of the input.
        name: of the model.

    Input shape: `[batch, height, width, in_channels]`, floats that `preprocess` gives.
    Output shape: `[batch, num_classes]` logits in float32; without the top the features
        `[batch, ceil(height / 32), ceil(width / 32), channels]`, or `[batch, channels]` pooled. With `features_only` a
        dictionary from "reduction_1" and so on to `[batch, ceil(height / stride), ceil(width / stride), channels]`,
        with the strides and channels that `reductions` lists. Features have the type of the precision policy.
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
        features_only=False,
        pooling=None,
        dropout_rate=0.2,
        drop_connect_rate=0.2,
        activation="silu",
        normalization="batch",
        classifier_initializer="release",
        preprocessing=None,
        image_size=None,
        in_channels=3,
        name=None,
        **kwargs,
    ):
        preprocessing = preprocessing or get_variant(variant).preprocessing
        _check_names(pooling, features_only, normalization, preprocessing)
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"`dropout_rate` should be in [0, 1). Received: {dropout_rate}")
        if getattr(activation, "__name__", "") == "<lambda>":
            raise ValueError("`activation` should be a function with a name, which a saved model can be loaded with.")
        stages = expand(blocks, width_coefficient, depth_coefficient)
        inputs = keras.Input((image_size, image_size, in_channels), name="images")
        x = _stem(inputs, stages[0][0].input_filters, activation, normalization)
        outputs = _body(x, stages, drop_connect_rate, activation, normalization)
        if features_only:
            outputs = {reduction.name: outputs[reduction.layer] for reduction in reductions(stages)}
        else:
            *_, x = outputs.values()
            outputs = _head(x, round_filters(feature_size, width_coefficient), activation, normalization)
            if include_top:
                outputs = _classifier(outputs, num_classes, dropout_rate, classifier_initializer)
            elif pooling:
                outputs = _POOLINGS[pooling](name="pool")(outputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name or variant, **kwargs)
        self.variant = variant
        self.blocks = stages
        self._warned = False
        self._config = {
            "variant": variant,
            "blocks": [format_block(b) if isinstance(b, BlockSpec) else b for b in blocks],
            "width_coefficient": width_coefficient,
            "depth_coefficient": depth_coefficient,
            "feature_size": feature_size,
            "num_classes": num_classes,
            "include_top": include_top,
            "features_only": features_only,
            "pooling": pooling,
            "dropout_rate": dropout_rate,
            "drop_connect_rate": drop_connect_rate,
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            "normalization": normalization,
            "classifier_initializer": classifier_initializer,
            "preprocessing": preprocessing,
            "image_size": image_size,
            "in_channels": in_channels,
        }

    @property
    def preprocessing(self):
        """Which scaling of pixel values the network expects: "v2", "v1" or "finetune" (see `preprocess`)."""
        return self._config["preprocessing"]

    @property
    def normalization(self):
        """The normalisation after each convolution: "batch", "sync_batch" or "group"."""
        return self._config["normalization"]

    @property
    def features_only(self):
        """Whether the outputs are feature maps, and the network has no head."""
        return self._config["features_only"]

    @property
    def reductions(self):
        """The feature maps of `features_only`, whether the network gives them or not: `Reduction`s in their order.

        Each has `name`, `stride`, `channels`, and `layer`, the name of the layer that gives it.
        """
        return reductions(self.blocks)

    def preprocess(self, images):
        """Scales pixel values to what the network expects (its `preprocessing`); resizing is not included.

        Floats that look scaled already get a warning, once for each model, where they have values to look at.

        Args:
            images: [..., in_channels], numbers in 0..255 of any type: an array, or a tensor of the Keras backend or of
                TensorFlow, also in a `tf.data.Dataset`'s map.

        Returns:
            float32 of the same shape. "v2" gives (x - 128) / 128; "finetune" gives (x / 255 - 0.5) / 0.5; "v1" uses
            ImageNet's mean and standard deviation of red, green and blue, or for one channel their means; for other
            numbers of channels they take turns.

        Raises:
            ValueError: another number of channels.

        Example:
            >>> model(model.preprocess(images)).shape  # images: uint8 [8, 224, 224, 3]
            (8, 1000)
        """
        channels = self._config["in_channels"]
        shape = images.shape if hasattr(images, "shape") else np.shape(images)
        if shape[-1] not in (None, channels):
            raise ValueError(f"`images` should have {channels} channels, the last axis. Received: shape {shape}")
        found = None if self._warned else scaled_range(images)
        if found is not None:
            self._warned = True
            warnings.warn(
                f"`images` look scaled already: floats from {found[0]:.3g} to {found[1]:.3g}. `preprocess` scales "
                "pixel values in 0..255: give it those, or give scaled images to the model itself.",
                stacklevel=2,
            )
        return normalize(images, self.preprocessing, channels)

    @property
    def dropout(self):
        """The `ScheduledDropout` before the classifier; None without the top."""
        return next((layer for layer in self.layers if isinstance(layer, layers.ScheduledDropout)), None)

    def get_config(self):
        names = {"name": self.name, "trainable": self.trainable}
        return {**self._config, **names, "frozen": frozen_layers(self)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        arguments = dict(config)
        frozen = arguments.pop("frozen", ())
        model = cls(**arguments)
        freeze_layers(model, frozen)
        return model


def _count(key, value):
    """A whole number of at least 1 as an int, which a `.keras` file can hold; None stays."""
    if value is None:
        return None
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{key}` should be a whole number of at least 1. Received: {key}={value!r}")
    return number


def _check_names(pooling, features_only, normalization, preprocessing):
    if pooling is not None and pooling not in _POOLINGS:
        raise ValueError(f"`pooling` should be None or one of {[*_POOLINGS]}. Received: pooling={pooling!r}")
    if pooling and features_only:
        raise ValueError(
            f"`pooling` should be None with `features_only`, whose maps keep their size. Received: {pooling!r}"
        )
    check_normalization(normalization)
    check_style(preprocessing, "preprocessing")


def _stem(x, filters, activation, normalization):
    x = layers.conv(filters, 3, stride=2, use_bias=normalization == FOLDED, name="stem_conv")(x)
    x = make_normalization(normalization, "stem_norm")(x)
    return layers.Activation(layers.activation_of(activation, normalization), name="stem_activation")(x)


def _body(x, stages, drop_connect_rate, activation, normalization):
    """The output of each block, by its name."""
    specs, outputs = [spec for stage in stages for spec in stage], {}
    common = {"activation": activation, "normalization": normalization}
    for index, (spec, rate) in enumerate(zip(specs, drop_rates(len(specs), drop_connect_rate), strict=True)):
        name = f"blocks_{index}"
        outputs[name] = x = block_layer(spec, drop_rate=rate, name=name, **common)(x)
    return outputs


def _head(x, filters, activation, normalization):
    x = layers.conv(filters, use_bias=normalization == FOLDED, name="head_conv")(x)
    x = make_normalization(normalization, "head_norm")(x)
    return layers.Activation(layers.activation_of(activation, normalization), name="head_activation")(x)


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
    num_classes=None,
    include_top=True,
    weights=None,
    features_only=False,
    width_coefficient=None,
    depth_coefficient=None,
    feature_size=None,
    blocks=None,
    pooling=None,
    dropout_rate=None,
    drop_connect_rate=0.2,
    activation="silu",
    normalization="batch",
    classifier_initializer="release",
    preprocessing=None,
    image_size=None,
    in_channels=3,
):
    """Builds a network of the family.

    Args:
        name: one of `list_models()`, for example "efficientnetv2-s".
        num_classes: outputs of the classifier, at least 1. None is as many as pretrained weights by name have, and else
            1,000.
        include_top: False leaves out pooling, dropout and classifier.
        weights: None for random ones; "imagenet", "imagenet21k" (21,843 classes) or "imagenet21k-ft1k" (fine-tuned on
            ImageNet) for the official ones, which are downloaded once (`networks/pretrained.py` says which networks
            have them, and where they are kept); or what `load_weights` takes: an official checkpoint, a Keras file or
            model, or timm's state dict. A classifier for other classes stays random, with a warning.
        features_only: True gives the last feature map of each resolution in place of logits, and leaves out the head
            (last convolution, pooling, dropout and classifier), whatever `include_top` says. The outputs are a
            dictionary with "reduction_1" to "reduction_5", of strides 2, 4, 8, 16 and 32 and as many channels as
            `model.reductions` lists; 24, 48, 64, 160 and 256 for "efficientnetv2-s". For other `blocks` their number
            and strides may differ.
        width_coefficient: None is the variant's own, as for the next three.
        depth_coefficient: multiplies the number of blocks.
        feature_size: channels of the last convolution before `width_coefficient`.
        blocks: block strings in place of the variant's.
        pooling: None, "avg" or "max", when `include_top` is False.
        dropout_rate: in [0, 1); None is the variant's own.
        drop_connect_rate: stochastic depth, in [0, 1); 0 is off.
        activation: Keras activation or its name.
        normalization: after each convolution. "batch" is the published networks' batch normalisation; "sync_batch" the
            same with the statistics of all replicas' examples in training; "group" is group normalisation with 8
            groups, which needs no other examples and suits small batches.
        classifier_initializer: "release" is uniform within +-1 / sqrt(num_classes); "zeros", or another Keras
            initializer's name, suits a few classes better.
        preprocessing: "v2", "v1" or "finetune", the scaling of pixel values in the network's training, which
            `EfficientNet.preprocess` does; None is that of pretrained weights by name, and else the variant's own.
        image_size: side of the input in pixels; None leaves it open.
        in_channels: channels of the input.

    Returns:
        An `EfficientNet`, which gives logits.

    Raises:
        ValueError: unknown name (the nearest are shown), or an impossible value.
        WeightsError: `weights` is missing, damaged or of another network, or cannot be downloaded (the message says
            where to put the file by hand); a `ValueError` too.

    Example:
        >>> model = get_model("efficientnetv2-b0", num_classes=10)
        >>> model(model.preprocess(images)).shape  # images: uint8 [8, 224, 224, 3]
        (8, 10)
    """
    variant, known = get_variant(name), pretrained.find(name, weights)
    if isinstance(blocks, str):
        raise ValueError(f"`blocks` should be a list of block strings, one a stage. Received: {blocks!r}")
    if include_top and not features_only:
        num_classes = _count("num_classes", num_classes)
    if pooling and include_top and not features_only:
        raise ValueError(
            f"`pooling` is for include_top=False; the classifier has its own. Received: pooling={pooling!r}"
        )

    def own(value, default):
        return default if value is None else value

    num_classes = own(num_classes, known.classes if known else 1000)
    model = EfficientNet(
        variant=name,
        blocks=list(own(blocks, variant.blocks)),
        width_coefficient=own(width_coefficient, variant.width_coefficient),
        depth_coefficient=own(depth_coefficient, variant.depth_coefficient),
        feature_size=own(_count("feature_size", feature_size), variant.feature_size),
        num_classes=num_classes,
        include_top=include_top,
        features_only=features_only,
        pooling=pooling,
        dropout_rate=own(dropout_rate, variant.dropout_rate),
        drop_connect_rate=drop_connect_rate,
        activation=activation,
        normalization=normalization,
        classifier_initializer=classifier_initializer,
        preprocessing=own(preprocessing, known.preprocessing if known else None),
        image_size=_count("image_size", image_size),
        in_channels=_count("in_channels", in_channels),
    )
    if weights is not None:
        report = load_weights(model, fetch(known) if known else weights)
        if report.head_reset:
            warnings.warn(f"{report.path} has no classifier for {num_classes} classes; it starts random.", stacklevel=2)
    return model
