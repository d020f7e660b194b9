"""The log of bad images, apart from the pipeline that writes it (see test_pipeline.py)."""

import types

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.bad_images import BadImages, usable
from efficientnetv2_tf.data.sources import DataError


def test_what_stopped_a_run_is_told_as_it_was():
    bad = BadImages(on_bad_image="error", tell=print)
    split = types.SimpleNamespace(count=10, where=lambda key: f"file {key}")
    with pytest.raises(DataError, match="file 3: cut off"), bad.telling():
        try:
            bad.report("train", split, 3, "cut off")
        except DataError as error:  # as TensorFlow does
            raise tf.errors.UnknownError(None, None, str(error)) from error


def test_other_errors_are_left_alone():
    with pytest.raises(tf.errors.InternalError, match="other"), BadImages(tell=print).telling():
        raise tf.errors.InternalError(None, None, "other")


PICTURE = tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8)).numpy()


@pytest.mark.parametrize(
    "item, label, reason",
    [
        (b"", 0, "empty, or its record cannot be read as an example"),
        (PICTURE, 3, "label 3: expected 0 to 2"),
        (PICTURE, -1, "label -1: expected 0 to 2"),
        (PICTURE, [1, 4], "label [1 4]: expected 0 to 2"),
        (PICTURE, 2, "can be decoded, but not be cut and resized"),
        (PICTURE, [], "can be decoded, but not be cut and resized"),
        (
            b"no picture",
            0,
            "Expected a picture in the format JPEG, PNG, GIF, BMP or WebP. Received another, of so many bytes: 10",
        ),
        (
            PICTURE[:16] + bytes(4) + PICTURE[20:],
            0,
            "Expected a picture of 1 to 89,478,485 pixels. Height and width in the header: 1 0",
        ),
    ],
    ids=["empty", "large label", "negative label", "one of its labels", "good", "without a label", "text", "no width"],
)
def test_reasons(item, label, reason):
    told = []
    split = types.SimpleNamespace(count=10, where=lambda key: f"file {key}", read=lambda item: item)
    checked = usable(BadImages(limit=1.0, tell=told.append), "train", split, 3)
    good = checked(tf.constant(False), tf.constant(7, tf.int64), tf.constant(item), tf.constant(label, tf.int64))
    assert not good
    assert told == [f"Bad image skipped (1 of 10 in train): file 7: {reason}"]
