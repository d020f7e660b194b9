"""Being told to stop: SIGTERM and Ctrl-C end a search between two trials, or inside a training."""

import contextlib
import signal
import threading


class StopSignals:
    """Within the `with` block SIGTERM and Ctrl-C raise a `KeyboardInterrupt` with the process' `exit_code`.

    Optuna takes notes between trials, in which an exception would do harm; there they are held. Outside of the main
    thread, where Python allows no handlers, nothing changes.
    """

    def __init__(self):
        self._received = None
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
    def held(self, held=True):
        """Within the block a signal is only noted; with False it acts at once, also one that was noted before."""
        before, self._held = self._held, held
        try:
            self.check()
            yield
        finally:
            self._held = before

    def check(self):
        """Raises where a signal has come, unless they are held."""
        if self._received and not self._held:
            error = KeyboardInterrupt(f"Stopped by {signal.Signals(self._received).name}. The same command goes on.")
            error.exit_code = 128 + self._received
            raise error

    def _note(self, number, _):
        self._received = number
        self.check()
