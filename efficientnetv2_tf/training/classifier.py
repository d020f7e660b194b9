"""The training step: a Keras model around a network."""

import keras
import tensorflow as tf

from efficientnetv2_tf.training.as_traced import as_traced
from efficientnetv2_tf.training.finite import FiniteSteps
from efficientnetv2_tf.training.optimizers import is_kernel
from efficientnetv2_tf.training.rematerialize import rematerialize_blocks
from efficientnetv2_tf.training.strategy import DistributedModel


class Classifier(DistributedModel):
    """Trains and evaluates a network that gives logits.

    A training step whose loss or gradient is not finite changes nothing but `finite.skipped`.

    Args:
        network: the `EfficientNet`, or any Keras model from images to logits.
        multi_label: sigmoid cross entropy over several labels an image, in place of softmax cross entropy.
        label_smoothing: in [0, 1), of the training labels only (Szegedy et al., CVPR 2016).
        l2: weight decay as a part of the loss, `l2 * sum(kernel ** 2) / 2` over all kernels; 0 is off.
        average: a `MovingAverage` to update in each step, or None.
        accumulation: a `GradientAccumulation`, or None to train on each batch at once.
        rematerialize: compute the blocks again in the backward pass, in place of keeping what they gave.
    """

    def __init__(
        self,
        network,
        *,
        multi_label=False,
        label_smoothing=0.0,
        l2=0.0,
        average=None,
        accumulation=None,
        rematerialize=False,
    ):
        super().__init__(name="classifier")
        self.network = network
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        self.l2 = l2
        self.average = average
        self.accumulation = accumulation
        # A method, in which Keras does not find the layers a second time.
        self._train_call = (rematerialize_blocks(network) if rematerialize else network).__call__
        self.loss_metric = keras.metrics.Mean("loss")
        self.accuracy_metric = keras.metrics.Mean("accuracy")
        self.finite = FiniteSteps(network, self.metrics)
        self.built = True

    @property
    def metrics(self):
        return [self.loss_metric, self.accuracy_metric]

    @property
    def seeds(self):
        """The tf.Variables from which dropout and stochastic depth draw, in the order of the network."""
        weights = {id(v) for v in self.network.weights}
        return [v.value for v in self.network.variables if id(v) not in weights]

    def call(self, images, training=False):
        return self.network(images, training=training)

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        if self.accumulation is None:
            super().make_train_function(force)
        else:
            self.train_function = self.accumulation.make_train_function(self)
        self.train_function = as_traced(self.train_function)

    def train_step(self, data):
        # When the data set ends, Keras runs a step without a batch, and what does not need the batch would happen
        # in it: the step counter, seeds and decoupled weight decay would be one step ahead after each epoch.
        with tf.control_dependencies(tf.nest.flatten(data)):
            return self._train_step(*data)

    def _train_step(self, images, labels):
        self.finite.begin()
        return self.update(self.part_gradients((images, labels)))

    def part_gradients(self, data):
        """Gradients of the mean loss of some examples, as the optimizer expects them; updates the metrics.

        Args:
            data: (images, labels).
        """
        images, labels = data
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._train_call(images, training=True)
            losses = self.training_losses(labels, logits)
            objective = tf.reduce_mean(losses)
            if self.l2:
                objective += self.l2 * tf.add_n([tf.nn.l2_loss(v.value) for v in variables if is_kernel(v)])
            # Each replica sees its share of the global batch, and the optimizer adds their gradients up.
            objective /= self.distribute_strategy.num_replicas_in_sync
            objective = self.optimizer.scale_loss(objective)
        self.finite.note(losses if self.accumulation is None else losses / self.accumulation.steps)
        self._update_metrics(labels, logits, losses)
        return tape.gradient(objective, [v.value for v in variables])

    def update(self, gradients):
        """One step of the optimizer and of the average, if the step was finite.

        Args:
            gradients: of the trainable variables.

        Returns:
            The metrics, as a dictionary.
        """
        self.finite.end(gradients, self._update, self.optimizer)
        return self._results()

    def _update(self, gradients):
        step = tf.identity(self.optimizer.iterations)
        self.optimizer.apply(gradients, self.network.trainable_variables)
        if self.average is not None:
            self.average.update(step)

    def test_step(self, data):
        images, labels, *weights = data  # weight 0: a row that only fills a batch up
        logits = self.network(images, training=False)
        self._update_metrics(labels, logits, self._cross_entropy(labels, logits), *weights)
        return self._results()

    def training_losses(self, labels, logits):
        """Loss of each example in training, float32 [batch]."""
        return self._cross_entropy(self._smoothed(labels), logits)

    def _smoothed(self, labels):
        """Labels pulled towards uniform: 1/classes for softmax, 1/2 for sigmoid."""
        share = 0.5 if self.multi_label else 1.0 / labels.shape[-1]
        return labels * (1.0 - self.label_smoothing) + self.label_smoothing * share

    def _cross_entropy(self, labels, logits):
        """Loss of each example, float32 [batch]."""
        if self.multi_label:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)  # [batch, classes]
            return tf.reduce_mean(losses, axis=-1)
        return tf.nn.softmax_cross_entropy_with_logits(labels, logits)

    def _update_metrics(self, labels, logits, losses, weights=None):
        self.loss_metric.update_state(losses, weights)
        # Right if the top prediction is the strongest label (of mixed pictures) or one of several.
        top = tf.gather(labels, tf.argmax(logits, axis=-1), axis=1, batch_dims=1)
        self.accuracy_metric.update_state(tf.cast(top >= tf.reduce_max(labels, axis=-1), tf.float32), weights)

    def _results(self):
        return {metric.name: metric.result() for metric in self.metrics}
