"""Pictures that are read inside a graph, broken ones among them."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.deploy.decoding import read_pictures

SIZE = 32


@pytest.fixture(scope="module")
def read():
    """`read_pictures` in a graph, as a server runs it."""
    specs = [tf.TensorSpec([None], tf.string)]
    graph = tf.function(lambda image_bytes: read_pictures(image_bytes, SIZE, "v2", True), input_signature=specs)
    return lambda encoded: [values.numpy() for values in graph(tf.constant(encoded, tf.string))]


def test_good_pictures_are_read_as_evaluation_reads_them(read, encode):
    kinds = ["JPEG", "PNG", "GIF", "BMP", "WEBP"]
    encoded = [encode(kind, seed, size=(60 + 9 * seed, 50)) for seed, kind in enumerate(kinds)]
    rows, images, sides = read(encoded)
    np.testing.assert_array_equal(rows, range(5))
    np.testing.assert_array_equal(sides, [[50, 60 + 9 * seed] for seed in range(5)])
    expected = [decode.preprocess_eval(picture, SIZE, "v2") for picture in encoded]
    np.testing.assert_array_equal(decode.normalize(images, "v2"), expected)


def test_broken_pictures_leave_the_others_alone(read, encode, broken):
    good = [encode(seed=seed) for seed in range(len(broken))]
    mixed = [picture for pair in zip(broken.values(), good, strict=True) for picture in pair]
    rows, images, _ = read(mixed)
    np.testing.assert_array_equal(rows, range(1, len(mixed), 2))
    np.testing.assert_array_equal(images, read(good)[1])


@pytest.mark.parametrize("encoded", [[], [b""], [b"text", b"\xff\xd8\xff\xe0"]])
def test_nothing_good_is_no_error(read, encoded):
    rows, images, sides = read(encoded)
    assert (rows.shape, images.shape, sides.shape) == ((0,), (0, SIZE, SIZE, 3), (0, 2))
