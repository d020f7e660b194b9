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
    assert check_pictures(fits)["image_bytes"] is fits["image_bytes"]
    with pytest.raises(RequestError):
        check_pictures(pictures(announcing(side + 1, side + 1)))


@pytest.mark.parametrize("name", ["img", "inputs", "bytes"])
def test_a_bomb_is_found_whatever_the_input_is_called(announcing, encoded_picture, name):
    bomb, good = announcing(20_000, 20_000), encoded_picture("PNG")
    encoded = pictures(bomb, good, b"", b"\xff\xd8\xff").pop("image_bytes").reshape(2, 2)
    assert check_pictures({name: encoded})[name].tolist() == [[b"", good], [b"", b"\xff\xd8\xff"]]
    assert encoded[0, 0] == bomb  # the request itself is left alone
    with pytest.raises(RequestError, match=f"{name}: the header announces"):
        check_pictures({name: np.array(bomb, object)})


@pytest.mark.parametrize("tensors", [
    {}, {"text": np.array([b"x"] * 1000, object)}, {"image_bytes": np.empty(0, object)}, {"k": np.arange(3)},
])  # fmt: skip
def test_other_inputs_pass(tensors):
    checked = check_pictures(tensors)
    assert checked.keys() == tensors.keys()
    assert all(checked[name] is tensors[name] for name in tensors)


def test_the_number_of_pictures_has_a_limit(announcing):
    fits = pictures(*[b""] * MAX_PICTURES)
    assert check_pictures(fits)["image_bytes"] is fits["image_bytes"]
    with pytest.raises(RequestError, match="257"):
        check_pictures(pictures(*[b""] * (MAX_PICTURES + 1)))
    many = pictures(*[announcing(1, 1)] * (MAX_PICTURES + 1))
    with pytest.raises(RequestError, match="img: a request may have 256 pictures"):
        check_pictures({"img": many["image_bytes"]})
