"""Recording a few training steps for TensorBoard's profiler."""

import keras
import tensorflow as tf

_SKIPPED = 3  # steps at the start: the first one traces and compiles, the next ones still warm up


class ProfileSteps(keras.callbacks.Callback):
    """Records training steps: what ran when, on the host and on the devices.

    TensorBoard shows them with `pip install tensorboard-plugin-profile`; recording needs no more than TensorFlow.

    Args:
        folder: of TensorBoard's event files; the recording is put into `plugins/profile` there.
        steps: how many, at least 1. A training that ends before leaves what there was.
        tell: called with a line of text when it is done.
    """

    def __init__(self, folder, steps, tell):
        super().__init__()
        self._folder, self._steps, self._tell = str(folder), steps, tell
        self._seen = 0
        self._recording = False
        self._trace = None

    def on_train_batch_begin(self, batch, logs=None):
        if self._seen == _SKIPPED:
            tf.profiler.experimental.start(self._folder)
            self._recording = True
        if _SKIPPED <= self._seen < _SKIPPED + self._steps:
            # TensorBoard finds the steps by these names and numbers.
            self._trace = tf.profiler.experimental.Trace("train", step_num=self._seen, _r=1)
            self._trace.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        self._seen += 1
        if self._trace is not None:
            self._trace.__exit__(None, None, None)
            self._trace = None
        if self._seen == _SKIPPED + self._steps:
            self._stop(self._steps)

    def on_train_end(self, logs=None):
        if self._trace is not None:  # an error cut the step off
            self._trace.__exit__(None, None, None)
            self._trace = None
        if self._recording:
            self._stop(self._seen - _SKIPPED)
            self._seen = _SKIPPED + self._steps  # of two `fit`s only the first is recorded

    close = on_train_end

    def _stop(self, steps):
        self._recording = False
        tf.profiler.experimental.stop()
        self._tell(f"Recorded {steps} training steps for TensorBoard's profiler: tensorboard --logdir={self._folder}")
