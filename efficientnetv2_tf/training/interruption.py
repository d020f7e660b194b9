"""Being told to stop: by SIGTERM, as schedulers do before they take a machine away, or by Ctrl-C."""

import contextlib
import signal
import threading

import keras

from efficientnetv2_tf.training.strategy import any_worker, num_workers


class Interrupted(KeyboardInterrupt):
    """A training was told to stop, and saved where it stands; the message says how to go on.

    Args:
        message: of the exception.
        exit_code: for the process: 143 after SIGTERM, 130 after Ctrl-C, as shells have it.
    """

    def __init__(self, message, exit_code):
        super().__init__(message)
        self.exit_code = exit_code


class StopSignals:
    """Within the `with` block SIGTERM and Ctrl-C raise `Interrupted`; a second Ctrl-C ends everything at once.

    Outside of the main thread, where Python allows no handlers, nothing changes.

    Args:
        tell: called with a text when one comes that is held.
        advice: the last sentence of the exception's message.

    Attributes:
        received: its number, or None.
    """

    def __init__(self, tell, advice):
        self.received = None
        self._tell = tell
        self._advice = advice
        self._held = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def held(self):
        """Within the block a signal is only noted. Who works there may `stop` at a good moment, else its end does."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.received is not None:
            self.stop()

    def stop(self):
        """Raises `Interrupted`, also where it was another worker that was told."""
        number = self.received or signal.SIGTERM
        raise Interrupted(
            f"Stopped by {signal.Signals(number).name}; where it stands is saved. {self._advice}", 128 + number
        )

    def _note(self, number, _):
        if self.received is not None:
            if number == self.received == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = number
        if not self._held:
            self.stop()
        with contextlib.suppress(OSError, RuntimeError):  # nobody may read it any more, or another text is on its way
            self._tell(f"{signal.Signals(number).name}: saving after this step ... (A second Ctrl-C ends at once.)")


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
