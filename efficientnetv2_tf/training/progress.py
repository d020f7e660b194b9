"""What a person sees while a training runs."""

import datetime
import time

import keras
from absl import logging
from rich.progress import BarColumn, Progress, TextColumn

from efficientnetv2_tf.progressive.stages import stage_at

_LINE_EVERY = {logging.INFO: 10.0, logging.DEBUG: 0.0}  # seconds, by verbosity; 60 below


class ProgressDisplay(keras.callbacks.Callback):
    """A progress bar on a terminal; elsewhere one line an epoch, and one a minute in long epochs and evaluations.

    With absl's verbosity at info there is a line every ten seconds, at debug one a step, on terminals too.

    Shown are stage, image size, images a second, loss, accuracy, learning rate and the time that is left,
    estimated from the measured steps and the stages' relative costs. The first step at each image size gets a line of
    its own with its time, from the epoch's beginning: making the first batch, and compiling for a new size. The epoch's
    `images_per_second` (without its first step) is added to the logs of `on_epoch_end`.

    Args:
        console: a `rich.console.Console`.
        plan: the training's `Stage`s.
        costs: relative cost of a picture in each stage.
        batch_size: images of a step.
        steps_per_epoch: steps of a whole epoch.
        epochs: of the whole training.
        first_epoch: where a restart goes on, counted from 0; the epoch of an evaluation that comes before any step.
        first_batch: batches of that epoch that a restart leaves out.
    """

    def __init__(self, console, plan, costs, *, batch_size, steps_per_epoch, epochs, first_epoch=0, first_batch=0):
        super().__init__()
        self._console = console
        level = min(logging.get_verbosity(), logging.DEBUG)
        self._lines = level >= logging.INFO or not console.is_terminal
        self._line_every = _LINE_EVERY.get(level, 60.0)
        self._plan = plan
        self._costs = costs
        self._batch_size = batch_size
        self._steps = steps_per_epoch
        self._epochs = epochs
        self._offset = first_batch
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[text]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=steps_per_epoch, text="", visible=False)
        self._first_step = True
        self._seen_sizes = set()
        self._seconds_per_step = None
        self._epoch = first_epoch
        self._last_line = time.monotonic()  # an evaluation may come before the first epoch

    def on_train_begin(self, logs=None):
        self._bar.start()
        self._began = time.monotonic()

    def on_train_end(self, logs=None):
        self._bar.stop()

    close = on_train_end

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._last_line = self._epoch_began = time.monotonic()
        self._timed_from, self._timed_steps = None, 0
        text = "tracing and compiling the training step, once a run" if self._first_step else "first step"
        self._bar.update(self._task, description=self._heading(), completed=self._offset, text=text, visible=True)
        if self._first_step and not self._console.is_terminal:
            self._console.print(f"{self._heading()}: {text} ...")

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self._first_step:
            self._first_step = False
            self._console.print(f"First training step done {now - self._began:.0f} s after fit began.")
        size = self._stage.image_size
        if size not in self._seen_sizes:
            self._seen_sizes.add(size)
            self._console.print(f"First step at {size} px: {now - self._epoch_began:.1f} s.")
        if self._timed_from is None:
            self._timed_from = now  # a stage's first step prepares the new size, and would spoil the average
            return
        self._timed_steps += 1
        self._seconds_per_step = (now - self._timed_from) / self._timed_steps
        text = f"{self._values(logs)} · {self._left(self._offset + batch + 1)} left"
        self._bar.update(self._task, completed=self._offset + batch + 1, text=text)
        self._line(f"step {self._offset + batch + 1}/{self._steps} · {text}")

    def on_test_begin(self, logs=None):
        self._bar.update(self._task, description=self._heading(), text="evaluating", visible=True)
        self._bar.start()  # where no epoch has

    def on_test_batch_end(self, batch, logs=None):
        text = f"evaluating, batch {batch + 1}"
        self._bar.update(self._task, text=text)
        self._line(text)

    def _line(self, text):
        """Prints a line where it is time for one."""
        now = time.monotonic()
        if self._lines and now - self._last_line > self._line_every:
            self._last_line = now
            self._console.print(f"{self._heading()}: {text}")

    def on_epoch_end(self, epoch, logs=None):
        self._offset = 0
        if self._timed_steps:
            logs["images_per_second"] = self._batch_size / self._seconds_per_step
        line = self._values(logs)
        if "val_accuracy" in logs:
            line += f" · test accuracy {logs['val_accuracy']:.4f}"
        self._console.print(f"{self._heading()}: {line}")

    @property
    def _stage(self):
        return stage_at(self._plan, self._epoch)

    def _heading(self):
        stage = self._stage
        return (
            f"epoch {self._epoch + 1}/{self._epochs} · stage {stage.index + 1}/{len(self._costs)} · "
            f"{stage.image_size} px"
        )

    def _values(self, logs):
        rate = float(self.model.optimizer.learning_rate)
        speed = f"{self._batch_size / self._seconds_per_step:.0f} images/s · " if self._timed_steps else ""
        return f"{speed}loss {logs['loss']:.3f} · accuracy {logs['accuracy']:.3f} · lr {rate:.2g}"

    def _left(self, step):
        """Time left, as text."""
        seconds = 0.0
        seconds_per_cost = self._seconds_per_step / self._costs[self._stage.index]
        for stage, cost in zip(self._plan, self._costs, strict=True):
            epochs = max(0, stage.end_epoch - max(stage.first_epoch, self._epoch))
            done = step if stage is self._stage else 0
            seconds += (epochs * self._steps - done) * cost * seconds_per_cost
        return str(datetime.timedelta(seconds=round(seconds)))
