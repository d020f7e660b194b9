"""Being told to stop: by SIGTERM, as schedulers do before they take a machine away, or by Ctrl-C."""

import contextlib
import signal
import threading


class Interrupted(KeyboardInterrupt):
    """What runs was told to stop, and where it stands is saved; the message says how to go on.

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
        tell: called with a text when one comes that is held; None says nothing.
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
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before
        if self.received is not None and not self._held:
            self.stop()

    @contextlib.contextmanager
    def acting(self):
        """Within the block, itself within `held`, a signal acts at once, also one that was noted before."""
        before, self._held = self._held, False
        try:
            if self.received is not None:
                self.stop()
            yield
        finally:
            self._held = before

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
        if self._tell is None:
            return
        with contextlib.suppress(OSError, RuntimeError):  # nobody may read it any more, or another text is on its way
            self._tell(f"{signal.Signals(number).name}: saving after this step ... (A second Ctrl-C ends at once.)")
