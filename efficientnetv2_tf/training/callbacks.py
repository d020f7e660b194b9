"""What happens around the training steps: evaluation, checkpoints, logs."""

import contextlib
import csv
import time

import keras
import tensorflow as tf

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.process_memory import release_free_memory


class Evaluation(keras.callbacks.Callback):
    """Evaluates the averaged weights every few epochs and after the last; adds `val_loss` and `val_accuracy`.

    Args:
        dataset: evaluation batches.
        every_epochs: at least 1.
        epochs: of the whole training.
        watchers: callbacks that are told of the evaluation's batches.
    """

    def __init__(self, dataset, every_epochs, epochs, watchers=()):
        super().__init__()
        self._watchers = watchers
        self._dataset = dataset
        self._every = every_epochs
        self._epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            results = evaluate_averaged(self.model, self._dataset, self._watchers)
            logs.update({f"val_{name}": value for name, value in results.items()})


def evaluate_averaged(classifier, dataset, watchers=()):
    """Loss and accuracy of the averaged weights, or of the raw ones where there is no average.

    Args:
        classifier: a compiled `Classifier`; it has its raw weights again afterwards.
        dataset: evaluation batches.
        watchers: callbacks that are told of the batches.
    """
    average = classifier.average.applied() if classifier.average else contextlib.nullcontext()
    with average:
        return classifier.evaluate(dataset, verbose=0, return_dict=True, callbacks=list(watchers))


class Checkpointing(keras.callbacks.Callback):
    """Saves each epoch, before its evaluation, and, if wanted, every so many steps or minutes since the last time.

    Args:
        checkpoints: a `Checkpoints`.
        every_steps: 0 is off.
        every_minutes: 0 is off.
        first_batch: batches of the first epoch that a restart leaves out.
    """

    def __init__(self, checkpoints, every_steps=0, every_minutes=0.0, first_batch=0):
        super().__init__()
        self._checkpoints = checkpoints
        self._every_steps = every_steps
        self._every_seconds = 60 * every_minutes
        self._offset = first_batch
        self._epoch = self._batch = self._steps = 0

    def on_train_begin(self, logs=None):
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._batch = self._offset

    def on_train_batch_end(self, batch, logs=None):
        self._batch = self._offset + batch + 1
        self._steps += 1
        due = self._every_seconds and time.monotonic() - self._saved_at >= self._every_seconds
        if due or self._steps == self._every_steps:
            self.save_now()

    def on_epoch_end(self, epoch, logs=None):
        self._offset = 0
        self.save_now()

    def save_now(self):
        """Saves where the training stands, unless that was the last thing it did."""
        if self._steps:
            self._checkpoints.save(self._epoch, self._batch)
            self._saved_at, self._steps = time.monotonic(), 0


class ReleaseMemory(keras.callbacks.Callback):
    """Gives back, after each epoch, the memory that it no longer uses; without it a process grows for ten epochs."""

    def on_epoch_end(self, epoch, logs=None):
        release_free_memory()


class MetricsLog(keras.callbacks.Callback):
    """Writes the epochs' values to a CSV file and to TensorBoard's event files.

    Args:
        path: of the CSV file; rows of epochs before `first_epoch` in it are kept, later ones are redone.
        tensorboard_dir: folder of the event files.
        first_epoch: the epoch that the training begins or goes on with.
    """

    def __init__(self, path, tensorboard_dir, first_epoch=0):
        super().__init__()
        self.rows = [row for row in read_metrics(path) if row["epoch"] <= first_epoch] if path.exists() else []
        self._path = path
        self._tensorboard_dir = str(tensorboard_dir)
        self._writer = None
        self._began = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        rate = float(self.model.optimizer.learning_rate)
        seconds = round(time.monotonic() - self._began, 3)
        self.rows.append({"epoch": epoch + 1, "learning_rate": rate, "seconds": seconds, **logs})
        write_metrics(self._path, self.rows)
        self._write_events(epoch + 1, self.rows[-1])

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_events(self, step, values):
        try:
            self._write(step, values)
        except tf.errors.OpError as error:
            message = f"Could not write TensorBoard's events into {self._tensorboard_dir}: {error.message}"
            raise OSError(message) from error

    def _write(self, step, values):
        self._writer = self._writer or tf.summary.create_file_writer(self._tensorboard_dir)
        # tf.summary.scalar needs the tensorboard package; what it writes is this.
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, tf.constant(float(value)), step=step, metadata=metadata)
        self._writer.flush()


def write_metrics(path, rows):
    """Writes rows of numbers as CSV; a column is there from the first row that has it on, empty where missing.

    Args:
        path: `pathlib.Path` of the file.
        rows: dictionaries from column to number.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_metrics(path):
    """Reads what `write_metrics` wrote.

    Args:
        path: `pathlib.Path` of the file.

    Returns:
        A list of dictionaries from column to number; empty cells are left out.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _number(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _number(text):
    return int(text) if text.lstrip("-").isdigit() else float(text)
