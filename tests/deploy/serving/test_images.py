"""Pictures that a graph should not decode."""

import struct
import zlib

import numpy as np
import pytest

from efficientnetv2_tf.data.image_check import MAX_PIXELS
from efficientnetv2_tf.deploy.serving.images import MAX_PICTURES, check_pictures
from efficientnetv2_tf.deploy.serving.tensors import RequestError


@pytest.fixture(scope="module")
def announcing():
    """A PNG whose header announces a size, and that has no pixels."""

    def make(width, height):
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(b"")),
            (b"IEND", b""),
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )

    return make


def pictures(*encoded):
    array = np.empty(len(encoded), object)
    array[:] = encoded
    return {"image_bytes": array, "k": np.arange(3)}


def test_bombs_alone_are_refused(announcing):
    with pytest.raises(RequestError, match=f"{MAX_PIXELS:,} pixels") as caught:
        check_pictures(pictures(announcing(20_000, 20_000)))
    assert caught.value.status == 400


def test_a_bomb_among_others_becomes_empty(announcing, encoded_picture):
    good = encoded_picture("JPEG")
    checked = check_pictures(pictures(good, announcing(20_000, 20_000), b"no picture"))
    assert checked["image_bytes"].tolist() == [good, b"", b"no picture"]
    assert checked["k"].tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_is_that_of_the_training_data(announcing):
    side = int(MAX_PIXELS**0.5)
    fits = pictures(announcing(side, side))
    assert check_pictures(fits) is fits
    with pytest.raises(RequestError):
        check_pictures(pictures(announcing(side + 1, side + 1)))


@pytest.mark.parametrize("tensors", [{}, {"img": np.array([b"x"], object)}, {"image_bytes": np.empty(0, object)}])
def test_other_inputs_pass(tensors):
    assert check_pictures(tensors) is tensors


def test_the_number_of_pictures_has_a_limit():
    fits = pictures(*[b"x"] * MAX_PICTURES)
    assert check_pictures(fits) is fits
    with pytest.raises(RequestError, match="257"):
        check_pictures(pictures(*[b"x"] * (MAX_PICTURES + 1)))
