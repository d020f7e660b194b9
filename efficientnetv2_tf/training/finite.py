"""Training steps that change nothing where the loss or a gradient is not finite."""

import keras
import tensorflow as tf


class FiniteSteps:
    """Puts back what the forward pass of a step has changed, and leaves its update out, if the step went wrong.

    Weights, optimizer, averages, batch normalisation's statistics and metrics are then as they were. A gradient that
    overflows in float16 is no such step, as long as the loss scale can still be lowered, which Keras' optimizer does.

    Made within a strategy's scope; its methods are parts of the training step, called for each replica.

    Args:
        network: its batch normalisations' statistics are put back.
        metrics: Keras metrics to put back, with their variables made.

    Attributes:
        skipped: tf.Variable, how many steps went wrong so far, in this process.
        loss: tf.Variable, the loss of the last of them.
        stop: tf.Variable that is set to 1 where this worker is to stop; it travels with the sums of each step.
        stop_anywhere: tf.Variable, above 0 once any worker's was set.
    """

    def __init__(self, network, metrics):
        norms = [x for x in network._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
        statistics = [v for norm in norms for v in (norm.moving_mean, norm.moving_variance)]
        self._state = [v.value for v in (*statistics, *(v for metric in metrics for v in metric.variables))]
        self._before = [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False, name="before") for v in self._state]
        self._sum = tf.Variable(0.0, trainable=False, name="sum_of_losses")
        self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False, name="skipped")
        self.loss = tf.Variable(0.0, trainable=False, name="bad_loss")
        self.stop = tf.Variable(0.0, trainable=False, name="stop")
        self.stop_anywhere = tf.Variable(0.0, trainable=False, name="stop_anywhere")

    def begin(self):
        """Before the forward pass."""
        self._sum.assign(0.0)
        for before, variable in zip(self._before, self._state, strict=True):
            before.assign(variable)

    def note(self, losses):
        """After the forward pass.

        Args:
            losses: float32 [batch].
        """
        self._sum.assign_add(tf.reduce_mean(losses))

    def end(self, gradients, update, optimizer):
        """After the backward pass: calls `update`, or puts everything back, in all replicas alike.

        Args:
            gradients: of the trainable variables, as the optimizer expects them.
            update: from the gradients to nothing.
            optimizer: to be asked for its loss scale.
        """
        context = tf.distribute.get_replica_context()
        # One kernel a variable. It overflows from 1e19 on, where a float32 gradient is lost anyway.
        norm = tf.add_n([tf.nn.l2_loss(x) for x in gradients])
        loss = tf.identity(self._sum)
        if context.num_replicas_in_sync > 1:
            loss, norm, stop = context.all_reduce("MEAN", [loss, norm, tf.identity(self.stop)])
            self.stop_anywhere.assign(stop)
        finite, scale = tf.math.is_finite(norm), loss_scale(optimizer)
        if scale is not None:
            finite |= scale > 1.0
        finite &= tf.math.is_finite(loss)

        if not tf.distribute.has_strategy() or isinstance(context.strategy, tf.distribute.TPUStrategy):
            tf.cond(finite, lambda: _done(update(gradients)), lambda: _done(self._put_back(loss)))
            return

        # Outside of the replicas' threads, which cannot wait for each other within a condition.
        def choose(strategy, finite, loss, gradients):
            for_each = strategy.extended.call_for_each_replica
            return tf.cond(
                strategy.experimental_local_results(finite)[0],
                lambda: _done(for_each(update, args=(gradients,))),
                lambda: _done(for_each(self._put_back, args=(loss,))),
            )

        context.merge_call(choose, args=(finite, loss, gradients))

    def _put_back(self, loss):
        for before, variable in zip(self._before, self._state, strict=True):
            variable.assign(before)
        self.skipped.assign_add(1)
        self.loss.assign(loss)


def loss_scale(optimizer):
    """The dynamic loss scale as a tensor, or None where the loss is not scaled.

    Args:
        optimizer: of Keras, built.
    """
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return tf.convert_to_tensor(optimizer.dynamic_scale) if scaled else None


def _done(_):
    """What both branches of a condition may give."""
    return tf.constant(True)
