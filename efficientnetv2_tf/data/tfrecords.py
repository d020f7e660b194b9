"""TFRecord files as sources: ImageNet's in the official release's layout, and any others."""

import dataclasses
import os

from absl import logging

from efficientnetv2_tf.data.record_examples import Features
from efficientnetv2_tf.data.record_files import describe_folder, find_files
from efficientnetv2_tf.data.record_split import Records
from efficientnetv2_tf.data.sources import RECORD_SETS, DataError, Source

_HELD_OUT = 20  # files: the first of a set, in the release's layout
_SPLIT_KEYS = ("data.train_split", "data.eval_split")


@dataclasses.dataclass(frozen=True)
class _RecordSet:
    """A data set in the release's layout (datasets.py of google/automl's efficientnetv2)."""

    splits: dict[str, tuple[tuple[str, ...], slice]]  # name -> (patterns of which the first counts, which files)
    default_splits: tuple[str, str]  # to train on and to evaluate
    features: Features
    num_classes: int


_ALL, _TRAIN, _VALIDATION = slice(None), ("train*", "train/train*"), ("val*", "validation/val*")
_21K = ("imagenet21k*",)
_SETS = {
    "imagenet": _RecordSet(
        splits={
            "trainval": (_TRAIN, _ALL),
            "train": (_TRAIN, slice(_HELD_OUT, None)),
            "minival": (_TRAIN, slice(_HELD_OUT)),
            "validation": (_VALIDATION, _ALL),
        },
        default_splits=("trainval", "validation"),
        features=Features("image/encoded", "image/class/label", label_offset=1),  # 0 is background
        num_classes=1000,
    ),
    "imagenet21k": _RecordSet(
        splits={
            "train": (_21K, slice(_HELD_OUT, None)),
            "minival": (_21K, slice(16, _HELD_OUT)),
            "validation": (_21K, slice(16)),
        },
        default_splits=("train", "validation"),
        features=Features("image", "labels", multi_label=True),
        num_classes=21843,
    ),
}


def open_tfrecords(
    name,
    *,
    data_dir=None,
    train_split=None,
    eval_split=None,
    eval_fraction=0.1,
    split_seed=0,
    class_names=None,
    num_classes=None,
    multi_label=False,
    image_key="image/encoded",
    label_key="image/class/label",
    label_offset=0,
):
    """Opens TFRecord files of `tf.train.Example`s with encoded pictures, plain or packed with gzip or zlib.

    "imagenet" has files train* and val*. Its splits are "trainval" (all of train*, 1,281,167 images), "minival" (of
    these the first 20 files), "train" (the others) and "validation". The release trains on "train" unless told
    otherwise; here it is "trainval". "imagenet21k" has files imagenet21k*, of which the first 16 are "validation", the
    next 4 "minival" and the others "train". Both have their own features, and leave the arguments for them alone.

    "tfrecord:GLOB" trains on the files that match; `eval_split` is another such pattern, or, where it is
    None, a part of the records is put aside for evaluation.

    A damaged record, and those behind it in its file, come as empty pictures, for the pipeline to tell of. So do
    records without a picture, with a label of another type than the first ones', and those that are no examples. Labels
    that are no class, or missing, come as they are, or as -1.

    The shards are whole files where that gives the smallest at least 3/4 of the largest; otherwise each has every n-th
    record.

    Args:
        name: "imagenet", "imagenet21k", or "tfrecord:GLOB", with a pattern of paths with *, ? and [].
        data_dir: folder of the files, local or gs://; for a pattern None is the working directory.
        train_split: one of the splits above; not for "tfrecord:GLOB".
        eval_split: one of the splits above, or a pattern.
        eval_fraction: share of the records of "tfrecord:GLOB" that is put aside for evaluation, in (0, 1).
        split_seed: by which they are drawn.
        class_names: in the order of the labels; None is ImageNet's synsets, and numbers for others.
        num_classes: needed for "tfrecord:GLOB" without class names.
        multi_label: whether an example has a list of labels, which may be empty.
        image_key: feature with the encoded picture.
        label_key: feature with the label or labels: numbers, or text that is among the class names.
        label_offset: the number of the first class.

    Returns:
        A `Source`. Its keys are file * 2**32 + record, counted from 0 in the sorted files of the split.

    Raises:
        DataError: there are no such files or splits, or they cannot be read; the message names what was looked for.
    """
    if name in _SETS:
        features, files = _of_a_set(name, data_dir, train_split, eval_split, multi_label)
        class_names = class_names or _class_names(name)
    else:
        features = Features(image_key, label_key, label_offset, multi_label)
        files = _of_patterns(name, data_dir, train_split, eval_split)
        class_names = class_names or _numbers(name, num_classes)
    if num_classes not in (None, len(class_names)):
        raise DataError(
            f"model.num_classes: expected {len(class_names)}, the classes of {name!r}, or null. Received: {num_classes}"
        )
    splits = [Records.of(found, features, class_names) for found in files]
    if len(splits) == 1:
        splits = splits[0].parted(eval_fraction, split_seed)
    train, evaluation = [records.split() for records in splits]
    return Source(name, tuple(class_names), train, evaluation, features.multi_label)


def _of_a_set(name, data_dir, train_split, eval_split, multi_label):
    """(its features, [training files, evaluation files])."""
    known = _SETS[name]
    features = dataclasses.replace(known.features, multi_label=multi_label or known.features.multi_label)
    files = [
        _files_of_split(name, data_dir, key, split or default)
        for key, split, default in zip(_SPLIT_KEYS, (train_split, eval_split), known.default_splits, strict=True)
    ]
    _tell_overlap(*files)
    return features, files


def _files_of_split(name, folder, key, split):
    known = _SETS[name]
    if split not in known.splits:
        raise DataError(f"{key}: expected a split of {name!r}, of {', '.join(known.splits)}. Received: {split!r}")
    patterns, part = known.splits[split]
    files = find_files([os.path.join(folder, pattern) for pattern in patterns])
    if not files:
        raise DataError(
            f"{name!r} needs the TFRecord files {' or '.join(patterns)} of {split!r} in {folder}, and there are none. "
            f"{describe_folder(folder)} {RECORD_SETS[name][1]}"
        )
    if part != _ALL and len(files) <= _HELD_OUT:
        raise DataError(
            f"{key}: {split!r} of {name!r} is a part of the files {patterns[0]}, of which the first {_HELD_OUT} are "
            f"held out from training, so there should be more than those. {folder} has {len(files)} of them. "
            + ("All of them are the split 'trainval'." if name == "imagenet" else "Use --dataset=tfrecord:GLOB.")
        )
    return files[part]


def _of_patterns(name, folder, train_split, eval_split):
    """[training files, evaluation files], or [files] of which a part is to be put aside."""
    if train_split is not None:
        raise DataError(
            f"data.train_split: expected null, because {name!r} names the training files. Received: {train_split!r}"
        )
    files = []
    for key, pattern in (("data.dataset", name.removeprefix("tfrecord:")), ("data.eval_split", eval_split)):
        if pattern is None:
            continue
        path = os.path.join(folder or "", pattern)
        files.append(find_files([path]))
        if not files[-1]:
            raise DataError(f"{key}: no file matches {path!r}. {_describe_folder_of(path)}".rstrip())
    if eval_split is not None:
        _tell_overlap(*files)
    return files


def _describe_folder_of(pattern):
    folder = os.path.dirname(pattern)
    return "" if set("*?[") & set(folder) else describe_folder(folder)


def _tell_overlap(train, evaluation):
    if shared := set(train) & set(evaluation):
        logging.warning("%d of the %d evaluation files are training files too.", len(shared), len(evaluation))


def _class_names(name):
    if name != "imagenet":
        return tuple(map(str, range(_SETS[name].num_classes)))
    import tensorflow_datasets as tfds

    # The synsets in alphabetical order, as imagenet_to_gcs.py counts them.
    return tuple(tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text(encoding="utf-8").split())


def _numbers(name, num_classes):
    if num_classes is None:
        raise DataError(
            f"model.num_classes: expected the number of classes of {name!r}, or their names in data.class_names, "
            "because TFRecord files do not tell. Received: None"
        )
    return tuple(map(str, range(num_classes)))
