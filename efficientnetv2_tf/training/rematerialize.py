"""Recomputation: less memory for the training step, which computes the inside of each block twice.

Training keeps what each layer gave until the backward pass has used it. Here only the inputs of the blocks are
kept, and the backward pass computes a block again before it goes through it (Chen et al., "Training deep nets with
sublinear memory cost", 2016).

Keras' own (`keras.RematScope`, `keras.remat`) calls the block a second time as it is: in inference mode, because
nobody is there to say that it is training, and with its side effects, so that dropout draws another mask and the
statistics of batch normalisation move twice. Here a block is a function of values, computed twice alike.
"""

import keras
import tensorflow as tf

from efficientnetv2_tf.networks.blocks import FusedMBConv, MBConv


class Rematerialized(keras.layers.Layer):
    """A layer that is computed again in the backward pass.

    The values, gradients, random numbers and updates of its variables are those of the layer itself.

    Args:
        layer: a built Keras layer of one input and one output. Its variables stay its own.
    """

    def __init__(self, layer):
        super().__init__(name=f"rematerialized_{layer.name}", dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def call(self, inputs, training=False):
        if not training or isinstance(inputs, keras.KerasTensor):
            return self.layer(inputs, training=training)
        weights, state = self.layer.trainable_variables, self.layer.non_trainable_variables
        before = [(v, tf.convert_to_tensor(v.value)) for v in state]
        updates = []

        def compute(inputs, values):
            with keras.StatelessScope([*zip(weights, values, strict=True), *before]) as scope:
                outputs = self.layer(inputs, training=True)
            return outputs, [(v, scope.get_current_value(v)) for v, _ in before]

        @tf.custom_gradient
        def recomputed(inputs, *values):
            outputs, after = compute(inputs, values)
            updates.extend(after)

            def gradient(upstream):
                # Without a dependency the second computation would be found equal to the first, and merged with it.
                with tf.control_dependencies([upstream]):
                    again = [tf.identity(x) for x in (inputs, *values)]
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(again)
                    outputs, _ = compute(again[0], again[1:])
                return tape.gradient(outputs, again, upstream, unconnected_gradients="zero")

            return outputs, gradient

        outputs = recomputed(inputs, *(tf.convert_to_tensor(v.value) for v in weights))
        for (variable, old), (_, new) in zip(before, updates, strict=True):
            if new is not old:
                variable.assign(new)
        return outputs


def rematerialize_blocks(network):
    """A model of the same layers, and so of the same variables, whose blocks are computed again in the backward pass.

    Args:
        network: an `EfficientNet`.
    """

    def wrapped(layer):
        return Rematerialized(layer) if isinstance(layer, FusedMBConv | MBConv) else layer

    return keras.models.clone_model(network, clone_function=wrapped)
