"""What becomes of pictures that cannot be used: skipped, counted and written down, or the end of the run."""

import contextlib
import csv
import pathlib
import threading

import numpy as np
import tensorflow as tf
from absl import logging

from efficientnetv2_tf.data.decode import decode
from efficientnetv2_tf.data.image_check import error_text
from efficientnetv2_tf.data.sources import DataError

_COLUMNS = ("split", "key", "where", "reason")
_LONGEST_REASON = 200  # characters


class BadImages:
    """The log of one run's bad images; the pipeline reports to it from its own threads.

    An example is bad if its picture cannot be read or decoded, or its label is none of the classes.

    Args:
        path: of the CSV file that gets a line for each that is skipped, with split, key, where and reason; None writes
            none. What is in it already counts as known, until the file is deleted.
        on_bad_image: "skip", or "error" to stop at the first.
        limit: share of a split's examples, in [0, 1]; more bad ones than that stop the run.
        tell: called with a line of text for each.

    Attributes:
        error: the `DataError` that stopped the run, or None. TensorFlow turns it into an error of its own kind on the
            way to the caller.
    """

    def __init__(self, path=None, *, on_bad_image="skip", limit=0.01, tell=logging.warning):
        self.error = None
        # What stops a run is not listed: the next start would take it for known, and go past it.
        self._path = pathlib.Path(path) if path and on_bad_image == "skip" else None
        self._on_bad_image, self._limit, self._tell = on_bad_image, limit, tell
        self._keys = read_bad_images(self._path) if self._path else {}  # of each split
        self._lock = threading.Lock()

    def known(self, split_name):
        """Keys of the bad examples of a split, in ascending order."""
        return sorted(self._keys.get(split_name, ()))

    def check(self, split_name, split):
        """Checks what is known from an earlier start, before anything is read.

        Args:
            split_name: "train" or "eval".
            split: its `Split`.

        Raises:
            DataError: there are too many.
        """
        if self._too_many(split_name, split):
            raise DataError(
                f"{self._count(split_name, split)}: an earlier start listed them in {self._path}. Once they are "
                "mended or removed, delete that file. --mode=verify_data checks all images."
            )

    def report(self, split_name, split, key, reason):
        """Takes down one example.

        Args:
            split_name: "train" or "eval".
            split: its `Split`.
            key: of the example.
            reason: why it cannot be used.

        Raises:
            DataError: `on_bad_image` is "error", or there are too many.
        """
        with self._lock:
            keys = self._keys.setdefault(split_name, set())
            if key in keys:
                return
            keys.add(key)
            where, reason = split.where(key), " ".join(reason.split())[:_LONGEST_REASON].rstrip(".")
            self._write((split_name, key, where, reason))
            self._stop_at(split_name, split, where, reason)
        self._tell(f"Bad image skipped ({len(keys)} of {split.count} in {split_name}): {where}: {reason}")

    def _write(self, row):
        if not self._path:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self._path.exists()
        with self._path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([_COLUMNS, row] if is_new else [row])

    def _stop_at(self, split_name, split, where, reason):
        listed = f" All are listed in {self._path}." if self._path else ""
        if self.error:  # what reads ahead goes on until it is told
            raise self.error
        if self._on_bad_image == "error":
            self.error = DataError(
                f"{where}: {reason}. Mend or remove it, or pass over such images with data.on_bad_image=skip."
            )
        elif self._too_many(split_name, split):
            self.error = DataError(
                f"{self._count(split_name, split)}. The last one: {where}: {reason}.{listed} "
                "--mode=verify_data checks all of them."
            )
        if self.error:
            raise self.error

    def _too_many(self, split_name, split):
        return len(self._keys.get(split_name, ())) > self._limit * split.count

    def _count(self, split_name, split):
        return (
            f"{len(self._keys[split_name])} of the {split.count} {split_name} images cannot be used, more than "
            f"data.bad_image_limit={self._limit:g} allows"
        )

    @contextlib.contextmanager
    def telling(self):
        """Within the block, what stopped the run is raised as it was, and not as TensorFlow's error of it."""
        try:
            yield
        except tf.errors.OpError:
            if self.error:
                raise self.error from None
            raise


def read_bad_images(path):
    """Reads what `BadImages` wrote.

    Args:
        path: `pathlib.Path` of the CSV file.

    Returns:
        {name of the split: set of keys}; empty where there is no file.
    """
    keys = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["reason"]:  # a line that was cut off has none
                    keys.setdefault(row["split"], set()).add(int(row["key"]))
    return keys


def usable(bad_images, split_name, split, num_classes):
    """What reports bad examples while a data set is read.

    Args:
        bad_images: a `BadImages`.
        split_name: "train" or "eval".
        split: the `Split`.
        num_classes: labels have to be below it.

    Returns:
        A function of (good: bool scalar, key: int64 scalar, item: string scalar, label: int64), which gives `good` and
        reports the example where that is False.

    Raises:
        DataError: too many are known to be bad.
    """
    bad_images.check(split_name, split)

    def report(key, item, label):
        bad_images.report(split_name, split, int(key), _reason(split, item, label, num_classes))
        return False

    def checked(good, key, item, label):
        result = tf.cond(good, lambda: True, lambda: tf.numpy_function(report, [key, item, label], tf.bool))
        result.set_shape([])
        return result

    return checked


def _reason(split, item, label, num_classes):
    """Tries once more, to learn what went wrong."""
    try:
        encoded = split.read(tf.constant(item))
        if not encoded.numpy():
            return "empty, or its record cannot be read as an example"
        decode(encoded)
    except tf.errors.OpError as error:
        return error_text(error)
    if np.all((label >= 0) & (label < num_classes)):
        return "can be decoded, but not be cut and resized"
    return f"label {label}: expected 0 to {num_classes - 1}"
