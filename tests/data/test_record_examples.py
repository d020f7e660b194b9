"""Pictures and labels out of records, and wrong keys found before a training."""

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.record_examples import Features, check_examples, parser
from efficientnetv2_tf.data.sources import DataError

NAMES = ("ant", "bee", "cat")
ONE = Features("image", "label")
MANY = Features("image", "label", multi_label=True)


def example(**values):
    """A serialized example: bytes, integers or floats by key, or lists of them; an empty list is without a type."""
    features = {}
    for key, value in values.items():
        value = value if isinstance(value, list) else [value]
        kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
        lists = {"bytes_list": tf.train.BytesList, "int64_list": tf.train.Int64List, "float_list": tf.train.FloatList}
        kind = kinds[type(value[0])] if value else None
        features[key] = tf.train.Feature(**{kind: lists[kind](value=value)} if kind else {})
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def parsed(record, features, label_type=tf.int64):
    """As in a data set: (picture, label)."""
    examples = tf.data.Dataset.from_tensors(record).map(parser(features, NAMES, label_type))
    image, label = next(iter(examples))
    return image.numpy(), label.numpy().tolist()


# --- parsing ---


def test_one_label():
    record = example(image=b"PNG", label=2, height=3, name=b"x", box=[0.5, 1.0])
    assert parsed(record, ONE) == (b"PNG", 2)
    assert parsed(record, Features("image", "label", label_offset=1)) == (b"PNG", 1)
    assert parsed(record, Features("name", "height")) == (b"x", 3)
    spec = tf.data.Dataset.from_tensors(record).map(parser(ONE, NAMES, tf.int64)).element_spec
    assert spec == (tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64))


@pytest.mark.parametrize("labels", [[], [5], [2, 0, 5]])
def test_many_labels(labels):
    assert parsed(example(image=b"PNG", label=labels), MANY) == (b"PNG", labels)
    shifted = Features("image", "label", label_offset=2, multi_label=True)
    assert parsed(example(image=b"PNG", label=labels), shifted) == (b"PNG", [label - 2 for label in labels])


def test_labels_as_text():
    assert parsed(example(image=b"PNG", label=b"cat"), ONE, tf.string) == (b"PNG", 2)
    assert parsed(example(image=b"PNG", label=b"dog"), ONE, tf.string) == (b"PNG", -1)
    assert parsed(example(image=b"PNG", label=[b"cat", b"dog", b"ant"]), MANY, tf.string) == (b"PNG", [2, -1, 0])


@pytest.mark.parametrize(
    ("record", "image", "label"),
    [
        (b"", b"", -1),
        (example(image=b"PNG"), b"PNG", -1),
        (example(label=1), b"", 1),
        (example(image=b"PNG", label=[0, 1]), b"PNG", -1),
        (example(image=[b"PNG", b"JPEG"], label=1), b"", 1),
    ],
    ids=["nothing", "no label", "no image", "two labels", "two images"],  # protocol buffers have no order
)
def test_what_is_missing_or_doubled_is_no_error(record, image, label):
    """But a picture or label that the pipeline can tell of, with the record's key."""
    assert parsed(record, ONE) == (image, label)


# --- checking ---


def error_of(records, features=ONE, names=NAMES):
    with pytest.raises(DataError) as caught:
        check_examples(records, "/data/a", features, names)
    return str(caught.value)


def test_types_of_labels():
    assert check_examples([example(image=b"PNG", label=1)], "/data/a", ONE, NAMES) == tf.int64
    assert check_examples([example(image=b"PNG", label=b"bee")], "/data/a", ONE, NAMES) == tf.string
    assert check_examples([example(image=b"PNG", label=[])], "/data/a", MANY, NAMES) == tf.int64
    records = [example(image=b"PNG", label=[]), example(image=b"PNG", label=[b"bee", b"dog"]), example(image=b"PNG")]
    assert check_examples(records, "/data/a", MANY, NAMES) == tf.string


@pytest.mark.parametrize("key", ["img", "label", "rate", "parts"])
def test_no_such_image(key):
    records = [example(image=b"PNG", label=1, rate=0.5, parts=[b"a", b"b"])]
    message = error_of(records, Features(key, "label"))
    assert f"/data/a: expected a feature {key!r} with one encoded picture" in message
    assert "have: image (bytes), label (int64), parts (bytes), rate (float)." in message
    assert "data.image_key" in message and "--dataset=tfrecord:GLOB" in message


@pytest.mark.parametrize("key", ["class", "rate", "nothing"])
def test_no_such_label(key):
    records = [example(image=b"PNG", label=1, rate=0.5, nothing=[])]
    message = error_of(records, Features("image", key))
    assert f"/data/a: expected a feature {key!r} with labels" in message
    assert "have: image (bytes), label (int64), nothing (empty), rate (float)." in message
    assert "data.label_key" in message


def test_a_key_that_no_example_has_is_refused_with_many_labels_too():
    assert "expected a feature 'labels' with labels" in error_of([example(image=b"PNG")], Features("image", "labels"))


def test_many_labels_where_one_is_expected():
    records = [example(image=b"PNG", label=1), example(image=b"PNG", label=[0, 1, 2])]
    message = error_of(records)
    assert "data.multi_label: expected true, because /data/a has up to 3 labels in 'label'" in message


def test_labels_that_are_no_class():
    message = error_of([example(image=b"PNG", label=label) for label in (7, 5, 7)])
    assert message == "data.label_offset: expected labels from 0 to 2. The first labels of /data/a are: 5, 7."
    message = error_of([example(image=b"PNG", label=0)], Features("image", "label", label_offset=1))
    assert "expected labels from 1 to 3" in message
    message = error_of([example(image=b"PNG", label=b"dog")])
    assert message == "data.class_names: expected the labels' texts. The first labels of /data/a are: dog."
    # A single wrong label is a bad image, which the pipeline tells of.
    check_examples([example(image=b"PNG", label=label) for label in (7, 1)], "/data/a", ONE, NAMES)


def test_records_of_another_kind():
    assert "/data/a: expected records that are tf.train.Examples" in error_of([b"\xff" * 20])
    assert "have: none." in error_of([b""])


@pytest.mark.parametrize(
    "odd",
    [b"\xff" * 20, example(image=b"PNG", label=b"bee"), example(image=0.5, label=1)],
    ids=["no example", "label as text", "image as number"],
)
def test_a_single_odd_record_is_no_error(odd):
    assert check_examples([odd, *[example(image=b"PNG", label=1)] * 2], "/data/a", ONE, NAMES) == tf.int64
