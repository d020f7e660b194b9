"""Where in a network the numbers stopped being finite."""

import keras
import tensorflow as tf

from efficientnetv2_tf.networks.layers import SqueezeExcite
from efficientnetv2_tf.networks.precision import dtype_policy


def find_cause(classifier, images, labels, parts=1):
    """Computes a training step once more, in a copy of the network, and names what is not finite.

    Random masks (dropout, stochastic depth) are drawn anew.

    Args:
        classifier: a compiled `Classifier`; nothing in it changes.
        images: float32 [batch, height, width, channels].
        labels: float32 [batch, classes].
        parts: replicas that share the batch, each with its own statistics of it.

    Returns:
        A sentence.
    """
    if not _is_finite(images):
        return "The images are not finite themselves."
    try:
        network = _copy(classifier.network)
        for some in zip(tf.split(images, parts), tf.split(labels, parts), strict=True):
            if cause := _cause(classifier, network, *some):
                return cause
    except tf.errors.OpError as error:  # such as too little memory on one device
        return f"The layer could not be found out ({type(error).__name__})."
    return "Computed once more, with other random masks, all was finite."


def _cause(classifier, network, images, labels):
    bad = []
    _watch(network, bad)
    weights = network.trainable_variables
    with tf.GradientTape() as tape:
        logits = network(images, training=True)
        losses = classifier.training_losses(labels, logits)
        objective = classifier.optimizer.scale_loss(tf.reduce_mean(losses))
    if bad:
        layer = bad[0]
        reason = "" if all(map(_is_finite, layer.weights)) else ", and neither are its weights"
        return f"The first layer whose output is not finite is {layer.path}{reason}."
    if not _is_finite(losses):
        return "The outputs of all layers are finite; the cross entropy is not."
    for variable, gradient in zip(weights, tape.gradient(objective, [v.value for v in weights]), strict=True):
        if not _is_finite(gradient):
            return f"The outputs of all layers are finite; the gradient of {variable.path} is the first that is not."
    return None


def _copy(network):
    with dtype_policy(network.dtype_policy):
        copy = network.from_config(network.get_config())
    copy.set_weights(network.get_weights())
    return copy


def _watch(network, bad):
    """Has each layer add itself to `bad` when it gives something that is not finite; those inside come first."""

    def watched(layer, call):
        def wrapper(*args, **kwargs):
            outputs = call(*args, **kwargs)
            if not all(map(_is_finite, tf.nest.flatten(outputs))):
                bad.append(layer)
            return outputs

        return wrapper

    for layer in network._flatten_layers(include_self=False):
        if isinstance(layer, SqueezeExcite):
            layer.fused = False
        if not isinstance(layer, keras.layers.InputLayer):
            layer.call = watched(layer, layer.call)


def _is_finite(values):
    return bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(values))))
