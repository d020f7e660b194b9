"""The exponential moving average of a network's weights."""

import contextlib

import tensorflow as tf


class MovingAverage:
    """Averages all weights of a network, batch normalisation's statistics included.

    Keras' `use_ema` leaves the statistics out and overwrites the raw weights at the end of `fit`, hence this.
    The decay grows with the steps as min(decay, (1 + step) / (10 + step)), as in the official release
    (tf.train.ExponentialMovingAverage with num_updates), so that short trainings are averaged too.

    Made within a strategy's scope, each replica moves its own copy. The copies stay equal, as those of the weights do,
    so there is nothing to aggregate.

    Args:
        variables: the network's weights (Keras variables); the averages begin with their values.
        decay: in (0, 1).
    """

    def __init__(self, variables, decay):
        if not 0 < decay < 1:
            raise ValueError(f"`decay` should be between 0 and 1. Received: decay={decay}")
        self.decay = decay
        self._pairs = [
            (v, tf.Variable(v.value, trainable=False, name="average"))
            for v in variables
            if v.dtype == "float32"
        ]

    @property
    def averages(self):
        """The averages by the path of their variable."""
        return {variable.path: average for variable, average in self._pairs}

    def update(self, step):
        """Moves the averages towards the weights; part of the training step.

        Args:
            step: training steps done before this one, a tensor or number.
        """
        step = tf.cast(step, tf.float32)
        rate = 1.0 - tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for variable, average in self._pairs:
            average.assign_sub((average - variable.value) * rate)

    @contextlib.contextmanager
    def applied(self):
        """The network has the averages within the `with` block, and its own weights again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self):
        for variable, average in self._pairs:
            raw = variable.numpy()
            variable.assign(average)
            average.assign(raw)
