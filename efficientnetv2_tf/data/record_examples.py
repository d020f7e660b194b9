"""From a record, which is a serialized `tf.train.Example`, to its picture and label."""

import collections
import dataclasses

import tensorflow as tf
from google.protobuf.message import DecodeError

from efficientnetv2_tf.data.sources import DataError

_KINDS = {"bytes_list": "bytes", "int64_list": "int64", "float_list": "float"}
_SHOWN = 5  # labels


@dataclasses.dataclass(frozen=True)
class Features:
    """Where an example has what.

    Attributes:
        image_key: feature with the encoded picture.
        label_key: feature with the label, or the labels: int64, or text that is among the class names.
        label_offset: the number of the first class.
        multi_label: whether there are many labels, or none.
    """

    image_key: str
    label_key: str
    label_offset: int = 0
    multi_label: bool = False


def check_examples(records, where, features, class_names):
    """Looks into some records, so that wrong keys are found before a training.

    Args:
        records: list of bytes.
        where: the path of their file.
        features: `Features` to find in them.
        class_names: in the order of the labels.

    Returns:
        The labels' type, tf.int64 or tf.string.

    Raises:
        DataError: the features are not there, or cannot be what they should be.
    """
    found = _features(records, where)
    has = ", ".join(f"{key} ({_kind(values)})" for key, values in sorted(found.items())) or "none"
    hint = f"Its first records have: {has}. Name the feature with data.{{}}, and --dataset=tfrecord:GLOB."
    images = found.get(features.image_key, [])
    if _kind(images) != "bytes" or all(len(image.bytes_list.value) != 1 for image in images):
        raise DataError(
            f"{where}: expected a feature {features.image_key!r} with one encoded picture, as bytes. "
            f"{hint.format('image_key')}"
        )
    labels = found.get(features.label_key)
    if labels is None or _kind(labels) == "float" or (not labels and not features.multi_label):
        raise DataError(
            f"{where}: expected a feature {features.label_key!r} with labels, as int64 or text. "
            f"{hint.format('label_key')}"
        )
    return _check_labels(labels, where, features, class_names)


def _features(records, where):
    """Key -> the features of that name that are not empty."""
    examples = [example for record in records if (example := _example(record)) is not None]
    if not examples:
        raise DataError(f"{where}: expected records that are tf.train.Examples, found others.")
    found = {}
    for example in examples:
        for key, feature in example.features.feature.items():
            values = found.setdefault(key, [])
            if feature.WhichOneof("kind"):
                values.append(feature)
    return found


def _example(record):
    try:
        return tf.train.Example.FromString(record)
    except DecodeError:
        return None


def _kind(values):
    """What most of them are: a single one of another type is a bad image, which the pipeline tells of."""
    kinds = collections.Counter(_KINDS[value.WhichOneof("kind")] for value in values)
    return kinds.most_common(1)[0][0] if kinds else "empty"


def _check_labels(labels, where, features, class_names):
    is_text = _kind(labels) == "bytes"
    lists = [list(label.bytes_list.value if is_text else label.int64_list.value) for label in labels]
    if not features.multi_label and any(len(values) > 1 for values in lists):
        raise DataError(
            f"data.multi_label: expected true, because {where} has up to {max(map(len, lists))} labels in "
            f"{features.label_key!r}. Received: False"
        )
    known, key, expected = _known_labels(is_text, features.label_offset, class_names)
    seen = sorted({value for values in lists for value in values})
    if seen and not any(value in known for value in seen):
        shown = ", ".join(value.decode(errors="replace") if is_text else str(value) for value in seen[:_SHOWN])
        raise DataError(f"{key}: expected {expected}. The first labels of {where} are: {shown}.")
    return tf.string if is_text else tf.int64


def _known_labels(is_text, first, class_names):
    """(the labels that there can be, the key of the configuration that decides it, what it means)."""
    if is_text:
        return {name.encode() for name in class_names}, "data.class_names", "the labels' texts"
    last = first + len(class_names) - 1
    return range(first, last + 1), "data.label_offset", f"labels from {first} to {last}"


def parser(features, class_names, label_type):
    """A function from a record to its picture and label.

    Args:
        features: `Features`.
        class_names: in the order of the labels.
        label_type: tf.int64 or tf.string, as the records have it.

    Returns:
        A function from a string scalar to (picture: string scalar, label: int64 scalar, or int64 [labels]). What is
        missing, or there more than once, gives an empty picture or the label -1. It fails where the record is no
        example, or has a feature of another type.
    """
    # A sequence of any length, because an error here would not tell which record it was.
    spec = {
        features.image_key: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
        features.label_key: tf.io.FixedLenSequenceFeature([], label_type, allow_missing=True),
    }
    numbers = _numbers_of(class_names) if label_type == tf.string else lambda labels: labels - features.label_offset

    def parse(record):
        example = tf.io.parse_single_example(record, spec)
        labels = numbers(example[features.label_key])
        image = _only(example[features.image_key], tf.constant(b""))
        return image, labels if features.multi_label else _only(labels, tf.constant(-1, tf.int64))

    return parse


def _numbers_of(class_names):
    names = tf.constant(class_names)
    table = tf.lookup.KeyValueTensorInitializer(names, tf.range(len(class_names), dtype=tf.int64))
    return tf.lookup.StaticHashTable(table, default_value=-1).lookup


def _only(values, otherwise):
    return tf.cond(tf.size(values) == 1, lambda: values[0], lambda: otherwise)
