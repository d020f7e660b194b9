"""The log of bad images, apart from the pipeline that writes it (see test_pipeline.py)."""

import types

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.bad_images import BadImages
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
