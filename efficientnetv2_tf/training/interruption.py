"""Being told to stop: by SIGTERM, as schedulers do before they take a machine away, or by Ctrl-C."""

import contextlib
import signal
import threading

import keras


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
    """Within the `with` block SIGTERM and Ctrl-C are only noted; a second Ctrl-C ends everything at once.

    Outside of the main thread, where Python allows no handlers, nothing changes.

    Args:
        tell: called with a text when one comes.

    Attributes:
        received: its number, or None.
    """

    def __init__(self, tell):
        self.received = None
        self._tell = tell
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number, _):
        if self.received is not None:
            if number == self.received == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = number
        with contextlib.suppress(OSError, RuntimeError):  # nobody may read it any more, or another text is on its way
            self._tell(f"{signal.Signals(number).name}: saving after this step ... (A second Ctrl-C ends at once.)")


class StopWhenTold(keras.callbacks.Callback):
    """Saves after the step in which a signal came, and raises `Interrupted`; in evaluation, all is saved already.

    Of several workers, one that was told tells the others with the next step's sums, so that all stop after the same
    one and the chief saves it.

    Args:
        signals: the `StopSignals`.
        checkpointing: the `Checkpointing` callback.
        workers: how many there are.
        advice: the message's last sentence.
    """

    def __init__(self, signals, checkpointing, workers, advice):
        super().__init__()
        self._signals = signals
        self._checkpointing = checkpointing
        self._workers = workers
        self._advice = advice

    def on_train_batch_end(self, batch, logs=None):
        if self._workers == 1:
            self._stop_if(self._signals.received)
            return
        finite = self.model.finite
        self._stop_if(finite.stop_anywhere.numpy())
        if self._signals.received:
            finite.stop.assign(1.0)

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if(self._workers == 1 and self._signals.received)

    def on_train_end(self, logs=None):
        self._stop_if(self._workers == 1 and self._signals.received)

    def _stop_if(self, told):
        if not told:
            return
        self._checkpointing.save_now()
        number = self._signals.received or signal.SIGTERM  # of another worker
        raise Interrupted(
            f"Stopped by {signal.Signals(number).name}; where it stands is saved. {self._advice}",
            128 + number,
        )
