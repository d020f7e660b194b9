"""Where pictures come from: each source gives encoded bytes and a label, in an order that never changes.

TensorFlow is imported only when a source is opened, so that names can be checked before.
"""

import contextlib
import dataclasses
import difflib
import io
import typing
from collections.abc import Callable

from absl import logging

if typing.TYPE_CHECKING:
    import tensorflow as tf

# Our name -> (TFDS name, training split, evaluation split): the official release's fine-tuning sets.
_TFDS_SETS = {
    "cifar10": ("cifar10", "train", "test"),
    "cifar100": ("cifar100", "train", "test"),
    "flowers102": ("oxford_flowers102", "train+validation", "test"),
    "tf_flowers": ("tf_flowers", "train[:70%]", "train[70%:]"),
    "cars196": ("cars196", "train", "test"),
    "imagenet2012": ("imagenet2012", "train", "validation"),
}
_TFDS_PREFIX = "tfds:"
_DOWNLOAD_RETRIES = 4  # with doubling pauses, 6 s in all


class DataError(ValueError):
    """A data set that is unknown, missing or not usable; the message says what was looked for."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set to train on and to evaluate.

    Attributes:
        name: as given to `open_source`.
        class_names: one a class, in the order of the labels.
        num_train: training images.
        num_eval: evaluation images.
        train: makes the training examples (bytes: string scalar, label: int64 scalar), in a fixed order.
        eval: makes the evaluation examples, in a fixed order.
    """

    name: str
    class_names: tuple[str, ...]
    num_train: int
    num_eval: int
    train: Callable[[], "tf.data.Dataset"]
    eval: Callable[[], "tf.data.Dataset"]

    @property
    def num_classes(self):
        return len(self.class_names)


def list_sources():
    """The names of the built-in data sets; `tfds:NAME` takes any other of TensorFlow Datasets."""
    return ["digits", *_TFDS_SETS]


def open_source(name, *, data_dir=None, train_split=None, eval_split=None):
    """Opens a data set; what is missing and can be made or downloaded is.

    Args:
        name: one of `list_sources()`, or "tfds:NAME" or "tfds:NAME/CONFIG".
        data_dir: folder of TensorFlow Datasets; None is its own (TFDS_DATA_DIR or ~/tensorflow_datasets).
        train_split: TFDS split string; None is the data set's own.
        eval_split: likewise.

    Raises:
        DataError: unknown, or neither there nor to be had; the message names what was looked for.
    """
    if name == "digits":
        from efficientnetv2_tf.data.digits import Digits

        builder = Digits(data_dir=data_dir)
        with _silence():  # nothing is downloaded, and it takes a second
            _prepare(builder)
        return _from_builder(name, builder, train_split or "train", eval_split or "test")
    if name in _TFDS_SETS:
        tfds_name, train, evaluation = _TFDS_SETS[name]
    elif name.startswith(_TFDS_PREFIX):
        tfds_name, train, evaluation = name.removeprefix(_TFDS_PREFIX), "train", "test"
    else:
        raise DataError(_unknown(name))
    return _from_builder(
        name, _builder(tfds_name, data_dir), train_split or train, eval_split or evaluation
    )


def check_source_name(name):
    """Raises DataError for a name that `open_source` does not know, without loading anything."""
    if name not in list_sources() and not name.startswith(_TFDS_PREFIX):
        raise DataError(_unknown(name))


def _unknown(name):
    if name in ("imagenet", "imagenet21k") or name.startswith(("folder:", "tfrecord:")):
        return f"The data set {name!r} cannot be read yet. What can: {', '.join(list_sources())}, tfds:NAME."
    near = difflib.get_close_matches(name, list_sources(), n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    available = f"{', '.join(list_sources())}, or any of TensorFlow Datasets as tfds:NAME"
    return f"Unknown data set {name!r}.{hint} Available: {available}."


def _builder(tfds_name, data_dir):
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(tfds_name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)  # those are listed in the cloud
        near = difflib.get_close_matches(tfds_name.split("/")[0], known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise DataError(f"TensorFlow Datasets has no {tfds_name!r}.{hint}") from error


def _from_builder(name, builder, train_split, eval_split):
    _prepare(builder)
    for key, split in (("train", train_split), ("eval", eval_split)):
        try:
            images = builder.info.splits[split].num_examples
        except (KeyError, ValueError) as error:
            raise DataError(
                f"data.{key}_split: expected a split of {name!r}, of {', '.join(builder.info.splits)}. "
                f"Received: {split!r}"
            ) from error
        if not images:
            raise DataError(f"data.{key}_split: expected images. Received: {split!r} of {name!r}, which has none.")
    label = builder.info.features["label"]
    return Source(
        name=name,
        class_names=tuple(label.names),
        num_train=builder.info.splits[train_split].num_examples,
        num_eval=builder.info.splits[eval_split].num_examples,
        train=lambda: _examples(builder, train_split),
        eval=lambda: _examples(builder, eval_split),
    )


def _prepare(builder):
    """Makes or downloads the data set, if it is not there."""
    import tensorflow_datasets as tfds

    if builder.data_path.exists():
        return
    try:
        # try_download_gcs would ask a cloud bucket first, and hang where there is no network.
        with _few_retries():
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # whatever a builder's download raises
        raise DataError(
            f"The data set {builder.info.full_name!r} is not in {builder.data_path} and could not be made or "
            f"downloaded: {type(error).__name__}: {error}. Prepare it there (tfds build {builder.name}) or give "
            "its folder with --data_dir."
        ) from error


@contextlib.contextmanager
def _few_retries():
    """Without a network, TFDS' own ten retries would take three and a half minutes; there is no argument for it."""
    from tensorflow_datasets.core.download import downloader

    before = downloader.MAX_RETRIES
    downloader.MAX_RETRIES = _DOWNLOAD_RETRIES
    try:
        yield
    finally:
        downloader.MAX_RETRIES = before


@contextlib.contextmanager
def _silence():
    """Hides TFDS' progress bars and notes."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _examples(builder, split):
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        # Interleaving files in parallel must not change their order: a restart counts on it.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, add_tfds_id=False),
    )
    return examples.map(lambda example: (example["image"], example["label"]))
