"""Folders of pictures as a source: one folder a class, or train/ and val/ of them."""

import hashlib
import math
import os

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.data.folder_listing import ENDINGS, entries, list_classes, some
from efficientnetv2_tf.data.sources import DataError, Source, Split, folder_path

EVAL_FOLDERS = ("val", "validation", "valid", "test")  # the first that is there


def open_folder(
    name,
    *,
    data_dir=None,
    train_split=None,
    eval_split=None,
    eval_fraction=0.1,
    split_seed=0,
    class_names=None,
    allow_empty=False,
):
    """Opens a folder of pictures: JPEG, PNG, GIF, BMP and WebP, told by their endings.

    Where there is no folder to evaluate on, a share of each class is split off: the files whose paths, hashed with
    the seed, come first. Files or classes that are added later leave nearly all others where they are.

    Args:
        name: "folder:PATH".
        data_dir: what a relative PATH is relative to; None is the working directory.
        train_split: name of the folder in PATH to train on; None is train/, or PATH itself where there is none.
        eval_split: of the folder in PATH to evaluate on. None is the first of `EVAL_FOLDERS` that stands beside train/.
            Where there is none, and where it is the training folder, a share of that is split off.
        eval_fraction: share of each class to split off, in (0, 1), rounded up; one picture always stays.
        split_seed: another one splits off other files.
        class_names: the classes and their order, among which the folder's have to be. None are the folder's, sorted by
            code point as Keras and torchvision do ("10" before "2").
        allow_empty: whether class folders without a picture are let through.

    Returns:
        A `Source` in the order of classes and paths. Its keys count in this order; shard i of n has every n-th file.

    Raises:
        DataError: there are no such folders, or their classes or names will not do.
    """
    if not 0 < eval_fraction < 1:
        raise DataError(f"data.eval_fraction: expected a share above 0 and below 1. Received: {eval_fraction}")
    train_folder, eval_folder = find_folders(name, data_dir=data_dir, train_split=train_split, eval_split=eval_split)
    listing = list_classes(train_folder)
    class_names = _check_classes(listing, class_names, allow_empty)
    if eval_folder is None:
        train, evaluation = _hold_out(listing.classes, eval_fraction, split_seed)
    else:
        train, evaluation = listing.classes, _matching(eval_folder, listing)
    return Source(
        name=name,
        class_names=class_names,
        train=_split(train_folder, train, class_names),
        eval=_split(eval_folder or train_folder, evaluation, class_names),
    )


def find_folders(name, *, data_dir=None, train_split=None, eval_split=None):
    """(path of the training folder, path of the evaluation folder or None), with `open_folder`'s arguments."""
    root = folder_path(name, data_dir)
    if train_split is None and eval_split is None and not _has_train_folder(root):
        return root, None
    train = _subfolder(root, "train_split", train_split or "train")
    beside = [folder for folder in EVAL_FOLDERS if os.path.isdir(os.path.join(root, folder))]
    if not eval_split and not beside:
        return train, None
    evaluation = _subfolder(root, "eval_split", eval_split or beside[0])
    return train, None if os.path.samefile(train, evaluation) else evaluation


def _has_train_folder(root):
    """Whether train/ is a folder of classes, and not the class of that name beside cars and ships."""
    names = {name for name, is_folder in entries(root) if is_folder}
    if "train" not in names:
        return False
    return names <= {"train", *EVAL_FOLDERS} or any(is_folder for _, is_folder in entries(root, "train"))


def _subfolder(root, key, name):
    path = os.path.join(root, name)
    if not os.path.isdir(path):
        there = sorted(name for name, is_folder in entries(root) if is_folder)
        raise DataError(
            f"data.{key}: expected a folder in {root}, which holds {some(there) or 'none'}. Received: {name!r}"
        )
    return path


def _check_classes(listing, expected, allow_empty):
    """The classes' names, in the order of the labels."""
    if not allow_empty:
        _check_none_is_empty(listing)
    if expected is not None:
        unknown = [name for name in listing.classes if name not in expected]
        if unknown:
            raise DataError(
                f"{listing.folder}: expected classes among {some(expected, most=20)}. Received also: {some(unknown)}"
            )
    class_names = tuple(listing.classes if expected is None else expected)
    if len(class_names) < 2:
        raise DataError(
            f"{listing.folder}: expected two class folders or more. Received: {some(class_names) or 'none'}. The "
            "folders directly in it are the classes, whatever is below."
        )
    return class_names


def _check_none_is_empty(listing):
    empty = [name for name, paths in listing.classes.items() if not paths]
    if empty:
        kinds = ", ".join(f"*{ending}" for ending in ENDINGS)
        found = [path for path in listing.others if path.split("/")[0] in empty]
        raise DataError(
            f"{listing.folder}: expected pictures in every class folder. There are none in {some(empty)} and the "
            f"folders below; looked for {kinds}, found {some(found) or 'nothing'}. Add some, or remove the folder."
        )


def _matching(folder, train):
    """The evaluation folder's pictures by class, if training knows all of their classes."""
    hint = f"data.eval_split={os.path.basename(train.folder)} splits a share off the training folder instead."
    try:
        listing = list_classes(folder)
    except DataError as error:
        raise DataError(f"{error} {hint}") from error
    unknown = [name for name, paths in listing.classes.items() if paths and name not in train.classes]
    if unknown:
        raise DataError(
            f"{folder}: expected classes that {train.folder} has too. Received also: {some(unknown)}. {hint}"
        )
    return listing.classes


def _hold_out(classes, fraction, seed):
    """(training, evaluation) pictures by class."""
    train, evaluation = {}, {}
    for name, paths in classes.items():
        # Rounded before it is rounded up: 0.07 * 100 is a little above 7.
        count = min(math.ceil(round(fraction * len(paths), 6)), len(paths) - 1)
        held_out = {*sorted(paths, key=lambda path: _hash(path, seed))[: max(count, 0)]}
        train[name] = [path for path in paths if path not in held_out]
        evaluation[name] = sorted(held_out)
    return train, evaluation


def _hash(path, seed):
    return hashlib.blake2b(f"{seed}/{path}".encode(), digest_size=8).digest()


def _split(folder, classes, class_names):
    by_label = [classes.get(name, []) for name in class_names]
    paths = [f"{folder}/{path}" for paths in by_label for path in paths]
    if not paths:
        raise DataError(
            f"{folder}: expected pictures to train on and others to evaluate on. There are too few in the folders "
            f"{some(list(classes))}."
        )
    keys = tf.range(len(paths), dtype=tf.int64)
    items = tf.constant(np.array(paths, dtype=object))
    labels = tf.repeat(tf.range(len(by_label), dtype=tf.int64), [len(paths) for paths in by_label])

    def examples(shard=(0, 1), seed=None):
        index, shards = shard
        with tf.init_scope():  # inside a graph they would be copied into it
            tensors = [tensor[index::shards] for tensor in (keys, items, labels)]
        return tf.data.Dataset.from_tensor_slices(tuple(tensors))

    return Split(
        count=len(paths),
        open=examples,
        shard_sizes=lambda shards: [len(range(index, len(paths), shards)) for index in range(shards)],
        where=lambda key: items[key].numpy().decode(),
        read=tf.io.read_file,
        named_items=True,
        fingerprint=_fingerprint(paths, class_names),
    )


def _fingerprint(paths, class_names):
    """Of the names only: looking at the files would take minutes where they are far away."""
    digest = hashlib.sha256(repr(class_names).encode())
    for path in paths:
        digest.update(f"{path}\0".encode())
    return digest.hexdigest()
