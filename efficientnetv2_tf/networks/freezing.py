"""Fine-tuning with a part of a network frozen: its weights and statistics stay as they are, to the bit."""

import math

import keras

from efficientnetv2_tf.networks.blocks import FusedMBConv, MBConv
from efficientnetv2_tf.networks.reductions import reductions


def freeze(model, until="head"):
    """Freezes a network from its input up to and including `until`, and makes the rest trainable.

    A frozen layer does in training what it does in inference: batch normalisations use their moving means and
    variances and leave them alone, and stochastic depth drops nothing. With `until="head"` the classifier so learns
    from just the features that it will see. Each call says for the whole network what is frozen, so `freeze(model, 4)`
    after `freeze(model)` thaws what comes after stage 4, and `freeze_batch_norm` comes after it.

    Compile the model that is trained again afterwards, with a new optimizer: an optimizer knows the variables that it
    was made for, and where this network is a part of another model, a training step that has run once goes on with the
    variables that it had. `.keras` files keep what is frozen, files of weights do not.

    Args:
        model: an `EfficientNet`.
        until: the last frozen part: "stem", a stage's number from 1, "reduction_1" and so on (see `model.reductions`),
            a block such as "blocks_3", or "head", the last convolution and its normalisation, which leaves only the
            classifier to train.

    Raises:
        ValueError: `model` is something else, or has no such part.

    Example:
        >>> model = get_model("efficientnetv2-b0", num_classes=10, weights="b0.keras")
        >>> freeze(model)
        >>> len(model.trainable_variables)  # the classifier's kernel and bias
        2
    """
    _check(model)
    last = _last_frozen(model, until)
    unfreeze(model)
    for layer in model.layers:
        if _place(layer) <= last:
            layer.trainable = False


def freeze_batch_norm(model):
    """Freezes the batch normalisations alone, as is usual where a few images make a batch; kernels stay trainable.

    They then use their moving means and variances in training too, and their scale and offset stay as they are. What
    is frozen besides stays frozen; group normalisation has no statistics, and is left alone. Compile again afterwards,
    as after `freeze`.

    Args:
        model: an `EfficientNet`.

    Raises:
        ValueError: `model` is something else.
    """
    _check(model)
    for _, layer in _parts(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    _forget_training_step(model)


def unfreeze(model):
    """Makes all of a network trainable again. Compile again afterwards, as after `freeze`.

    Args:
        model: an `EfficientNet`.

    Raises:
        ValueError: `model` is something else.
    """
    _check(model)
    for value in (False, True):  # Keras hands a value on to the layers inside only where it changes something
        for layer in (model, *model.layers):
            layer.trainable = value
    _forget_training_step(model)


def frozen_layers(model):
    """Names of what is frozen, such as "stem_conv", "blocks_3", or "blocks_4/expand_norm" in a block that is not."""
    return [name for name, layer in _parts(model) if not layer.trainable]


def freeze_layers(model, names):
    """Freezes what `frozen_layers` named."""
    for name, layer in _parts(model):
        if name in names:
            layer.trainable = False


def _check(model):
    if not hasattr(model, "variant"):
        raise ValueError(f"`model` should be an EfficientNet, as get_model makes it. Received: {model!r}")


def _forget_training_step(model):
    """Makes the next `fit` of the network itself trace its step anew; what was traced would train what is frozen."""
    if model.compiled:
        model.make_train_function(force=True)


def _parts(model):
    """(name, layer) of each layer of a network, and of the normalisations in each block that is not frozen."""
    for layer in model.layers:
        yield layer.name, layer
        if isinstance(layer, MBConv | FusedMBConv) and layer.trainable:
            yield from ((f"{layer.name}/{norm.name}", norm) for norm in layer.normalizations)


def _place(layer):
    """-1 for the stem's layers, a block's index, and beyond them the head's and at last the classifier's."""
    part, _, rest = layer.name.partition("_")
    if part == "blocks":
        return int(rest)
    return {"stem": -1, "head": math.inf}.get(part, math.nan)  # no number is as large as nan: never frozen


def _last_frozen(model, until):
    """The `_place` up to which layers are frozen."""
    ends, count = {"stem": -1, "head": math.inf}, 0
    for number, stage in enumerate(model.blocks, start=1):
        ends |= {f"blocks_{count + index}": count + index for index in range(len(stage))}
        count += len(stage)
        ends[number] = count - 1
    ends |= {reduction.name: ends[reduction.layer] for reduction in reductions(model.blocks)}
    if until not in ends:
        raise ValueError(
            f"`until` should be 'stem', a stage's number from 1 to {len(model.blocks)}, one of {_names(model)}, a "
            f"block from 'blocks_0' to 'blocks_{count - 1}', or 'head'. Received: until={until!r}"
        )
    return ends[until]


def _names(model):
    return ", ".join(repr(reduction.name) for reduction in reductions(model.blocks))
