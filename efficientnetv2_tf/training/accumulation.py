"""Gradient accumulation: a batch that does not fit into memory is trained on in parts.

The parts of one batch come one after the other, their gradients are added up, and then there is one update: learning
rate, moving average, weight decay, clipping and loss scale see steps of the whole batch, and know nothing of parts.
Keras' `gradient_accumulation_steps` counts every part as a step in all of them but the update itself, adds up what is
clipped already, and fails under `MirroredStrategy`.
"""

import tensorflow as tf


class GradientAccumulation:
    """Sums of gradients, and the training function that fills them.

    Made within a strategy's scope, each replica has sums of its own; they are added up once a batch, by the optimizer.

    Args:
        variables: the trainable variables.
        steps: parts of a batch, at least 2. A replica's share of the batch has to be a multiple of it.
    """

    def __init__(self, variables, steps):
        self.steps = steps
        self._sums = [
            tf.Variable(
                tf.zeros(v.shape, v.dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="gradient_sum",
            )
            for v in variables
        ]

    def make_train_function(self, model):
        """The function from an iterator of batches to the metrics, which Keras calls for each step.

        Args:
            model: has `distribute_strategy`, `finite`, which is told when a step begins, `part_gradients(data)` of a
                part of the batch, for the mean over the part, and `update(gradients)`, which gives the metrics. All
                are called for each replica.
        """
        strategy = model.distribute_strategy

        def reset():
            model.finite.begin()
            for total in self._sums:
                total.assign(tf.zeros_like(total))

        def add(data, index):
            part = tf.nest.map_structure(lambda x: self._part(x, index), data)
            for total, gradient in zip(self._sums, model.part_gradients(part), strict=True):
                total.assign_add(gradient / self.steps)

        def update(done):
            with tf.control_dependencies([done]):
                return model.update([total.read_value() for total in self._sums])

        @tf.autograph.experimental.do_not_convert
        def step(iterator):
            data = iterator.get_next()
            strategy.run(reset)

            def body(index):
                strategy.run(add, args=(data, index))
                return (index + 1,)

            # The loop is outside of the replicas, because within one TensorFlow cannot wait for the others. One part
            # at a time: TensorFlow would begin the next before the memory of the last is free.
            (done,) = tf.while_loop(lambda index: index < self.steps, body, (0,), parallel_iterations=1)
            results = strategy.run(update, args=(done,))
            return {name: strategy.reduce("MEAN", value, axis=None) for name, value in results.items()}

        return tf.function(step, reduce_retracing=True)

    def _part(self, x, index):
        # Every steps-th example: the same ones in a part, however many replicas there are.
        return tf.reshape(x, tf.concat([[-1, self.steps], tf.shape(x)[1:]], 0))[:, index]
