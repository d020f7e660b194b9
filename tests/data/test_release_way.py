"""The release's way does the same work as ours."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import augment, decode, image_ops, release_way
from efficientnetv2_tf.data.release_way import release_image


@pytest.fixture(scope="module")
def encoded():
    pixels = np.random.default_rng(0).integers(0, 256, [60, 80, 3], dtype=np.uint8)
    return tf.io.encode_png(tf.image.resize(pixels, [240, 320], "nearest"))


def test_plain(encoded):
    images = [release_image(encoded, 32, [0, number]) for number in range(8)]
    assert {(image.shape, image.dtype) for image in images} == {((32, 32, 3), tf.float32)}
    assert len({float(tf.reduce_sum(image)) for image in images}) == 8
    assert -1 <= np.min(images) < -0.5 and 0.5 < np.max(images) <= 1


@pytest.mark.parametrize("name", image_ops.OP_NAMES)
def test_operations_give_the_bytes_of_ours(name):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(low, high, [20, 30, 3], dtype=np.uint8) for low, high in ((0, 256), (90, 140), (7, 8))]
    arguments = [augment.randaugment_argument(name, magnitude) for magnitude in (3.0, 15.0, 30.0)]

    @tf.function
    def both(image):
        return [
            (release_way.apply(name, image, argument, seed=[1, 2]), image_ops.apply(name, image, argument, seed=[1, 2]))
            for argument in arguments
        ]

    for picture in pictures:
        for release, ours in both(tf.constant(picture)):
            difference = np.abs(release.numpy().astype(int) - ours.numpy())
            # A convolution adds up in another order; what that changes by one is then blended, by up to 5.5.
            assert difference.max() <= (6 if name == "Sharpness" else 0)
            assert np.mean(difference) < 0.2


def test_randaugment_applies_two_operations_as_ours_does(encoded):
    """As many pictures are left as they are, or nearly."""
    whole = tf.cast(tf.image.resize(decode.decode(encoded), [32, 32]), tf.uint8)

    @tf.function
    def both(number):
        seed = tf.stack([number, 7])
        ours = decode.normalize(augment.randaugment(whole, 15.0, seed), "v2")
        return release_image(encoded, 32, seed, 15.0), ours

    release, ours = zip(*(both(tf.constant(number)) for number in range(100)), strict=True)
    spread = [np.std([np.mean(image) for image in images]) for images in (release, ours)]
    assert 0.7 < spread[0] / spread[1] < 1.4
