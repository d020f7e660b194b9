"""The release's way does the same work as ours."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import augment, decode
from efficientnetv2_tf.data.release_way import release_image


@pytest.fixture(scope="module")
def encoded():
    pixels = np.random.default_rng(0).integers(0, 256, [60, 80, 3], dtype=np.uint8)
    return tf.io.encode_png(tf.image.resize(pixels, [240, 320], "nearest"))


def test_plain(encoded):
    images = [release_image(encoded, 32, [0, number]) for number in range(8)]
    assert {(image.shape, image.dtype) for image in images} == {((32, 32, 3), tf.float32)}
    assert len({float(tf.reduce_sum(image)) for image in images}) == 8
    assert np.min(images) >= 0 and np.max(images) <= 255


def test_randaugment_applies_two_operations_as_ours_does(encoded):
    """As many pictures are left as they are, or nearly."""
    whole = tf.cast(tf.image.resize(decode.decode(encoded), [32, 32]), tf.uint8)

    @tf.function
    def both(number):
        seed = tf.stack([number, 7])
        return release_image(encoded, 32, seed, 15.0), augment.randaugment(whole, 15.0, seed)

    release, ours = zip(*(both(tf.constant(number)) for number in range(100)), strict=True)
    assert release[0].dtype == ours[0].dtype == tf.uint8
    spread = [
        np.std([float(tf.reduce_mean(tf.cast(image, tf.float32))) for image in images]) for images in (release, ours)
    ]
    assert 0.7 < spread[0] / spread[1] < 1.4
