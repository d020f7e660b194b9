"""summary.json: what a training was and what came of it, for people and for programs that compare many of them."""

import contextlib
import datetime
import json
import platform
import time

import keras
import tensorflow as tf

import efficientnetv2_tf
from efficientnetv2_tf.data.bad_images import read_bad_images
from efficientnetv2_tf.training.best_checkpoint import read_best
from efficientnetv2_tf.training.callbacks import read_metrics
from efficientnetv2_tf.training.hparams import flat
from efficientnetv2_tf.training.process_memory import peak_device_memory, peak_memory
from efficientnetv2_tf.training.run_folder import write_json

_WRITE_EVERY = 30.0  # seconds, within an epoch
# What a training that is started again keeps, until there is something newer.
_KEPT = (
    "steps", "parameters", "test_images", "test_accuracy", "test_loss", "test_accuracy_raw", "test_loss_raw",
)  # fmt: skip


class RunSummary:
    """Keeps summary.json up to date, from the beginning of a run to its end.

    `state` is "running" (which a killed run leaves), "finished", "interrupted" (Ctrl-C or a signal) or "failed", with
    the error's text in `error`. Seconds and peak memory (bytes of the process, and of tensors on the fullest GPU) are
    those of all sessions, where a training was started again.

    Args:
        folder: the `RunFolder`.
        task: the `Task`.
        strategy: of `make_strategy`.
        began: when this session began, by `time.monotonic`.
    """

    def __init__(self, folder, task, strategy, began):
        self._folder, self._task, self._began = folder, task, began
        before = _read(folder.summary)
        self._seconds = before.get("seconds", 0.0)
        self._values = {
            **{key: before[key] for key in _KEPT if key in before},
            "state": "running",
            "error": None,
            "model": task.config.model.name,
            "dataset": task.source.name,
            "seed": task.config.runtime.seed,
            "began": before.get("began") or datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "sessions": before.get("sessions", 0) + 1,
            "replicas": strategy.num_replicas_in_sync,
            "epochs": task.epochs,
            "steps_per_epoch": task.steps_per_epoch,
            "peak_memory": before.get("peak_memory"),
            "peak_device_memory": before.get("peak_device_memory"),
        }
        self._last = {  # what comes last in the file
            "versions": {
                "efficientnetv2_tf": efficientnetv2_tf.__version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
                "python": platform.python_version(),
            },
            "config": flat(task.config),
        }

    @property
    def values(self):
        """What stands in the file, as a dictionary."""
        return {**self._values, **self._last}

    @contextlib.contextmanager
    def recording(self):
        """Notes how the block ends."""
        try:
            self.write()
            yield self
            self.write(state="finished")
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            # The error itself matters more than one in writing it down, such as that of a full disk.
            with contextlib.suppress(OSError):
                self.write(state="interrupted" if stopped else "failed", error=what)
            raise

    def write(self, **values):
        """Writes the file anew.

        Args:
            **values: to add or change.
        """
        self._values.update(values)
        rows = read_metrics(self._folder.metrics) if self._folder.metrics.exists() else []
        self._values.update(
            bad_images=self.count_bad_images(),
            **_of_epochs(rows),
            best_checkpoint=read_best(self._folder.checkpoints),
            seconds=round(self._seconds + time.monotonic() - self._began, 1),
            peak_memory=_larger(self._values.get("peak_memory"), peak_memory()),
            peak_device_memory=_larger(self._values.get("peak_device_memory"), peak_device_memory()),
        )
        if self._folder.path.exists():  # making it again would hide that it is gone, which the next checkpoint tells
            write_json(self._folder.summary, self.values)

    def count_bad_images(self):
        """How many each split has, by the lists of all workers: {"train": number, "eval": number}."""
        lists = [read_bad_images(path) for path in self._folder.all_bad_images()]
        own = self._task.bad_images  # it lists nothing with data.on_bad_image=error
        return {x: len(set(own.known(x)).union(*(keys.get(x, ()) for keys in lists))) for x in ("train", "eval")}

    def callback(self):
        """The Keras callback that writes the file while the training runs; after the one that writes metrics.csv."""
        return _Writing(self)


class _Writing(keras.callbacks.Callback):
    def __init__(self, summary):
        super().__init__()
        self._summary = summary
        self._written = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._written > _WRITE_EVERY:
            with contextlib.suppress(OSError):  # such as a full disk: no reason to lose the steps since a checkpoint
                self._write()

    def on_epoch_end(self, epoch, logs=None):
        self._write()

    def _write(self):
        self._written = time.monotonic()
        self._summary.write(steps=int(self.model.optimizer.iterations.numpy()))


def _read(path):
    """What an earlier session left, or {} where that is nothing to go by."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _larger(before, now):
    """Of two numbers that may be None."""
    return max((x for x in (before, now) if x is not None), default=None)


def _of_epochs(rows):
    """What the rows of metrics.csv sum up to."""
    evaluated = [row for row in rows if "val_accuracy" in row]
    best = max(evaluated, key=lambda row: row["val_accuracy"], default=None)
    return {
        "epochs_done": len(rows),
        "last": rows[-1] if rows else None,
        "best": best,
        "stages": [_of_stage(rows, number) for number in sorted({row["stage"] for row in rows})],
        "training_seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def _of_stage(rows, number):
    rows = [row for row in rows if row["stage"] == number]
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return {
        "stage": number + 1,
        "image_size": rows[0]["image_size"],
        "epochs": len(rows),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "images_per_second": round(sorted(speeds)[len(speeds) // 2], 1) if speeds else None,
    }
