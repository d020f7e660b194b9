"""The callback of a training that is told to stop."""

import keras

from efficientnetv2_tf.training.strategy import any_worker, num_workers


class StopWhenTold(keras.callbacks.Callback):
    """Saves after the step in which a signal came, and stops; in evaluation, all is saved already.

    Of several workers, one that was told tells the others with the next step's sums, so that all stop after the same
    one and the chief saves it. An evaluation they leave together at its end.

    Args:
        signals: the `StopSignals`, held.
        checkpointing: the `Checkpointing` callback.
        strategy: of `make_strategy`.
    """

    def __init__(self, signals, checkpointing, strategy):
        super().__init__()
        self._signals = signals
        self._checkpointing = checkpointing
        self._strategy = strategy
        self._alone = num_workers(strategy) == 1

    def on_train_batch_end(self, batch, logs=None):
        told = self._signals.received is not None
        if self._alone:
            self._stop_if(told)
            return
        finite = self.model.finite
        self._stop_if(finite.stop_anywhere.numpy())
        if told:
            finite.stop.assign(1.0)

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if(self._alone and self._signals.received is not None)

    def on_test_end(self, logs=None):
        self._stop_if(any_worker(self._strategy, self._signals.received is not None))

    def _stop_if(self, told):
        if told:
            self._checkpointing.save_now()
            self._signals.stop()
