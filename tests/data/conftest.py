"""Data that the tests of this folder share."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from efficientnetv2_tf.data.sources import open_source


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A folder with the digits prepared."""
    folder = tmp_path_factory.mktemp("tfds")
    open_source("digits", data_dir=folder)
    return folder


@pytest.fixture(scope="session")
def digits(digits_dir):
    return open_source("digits", data_dir=digits_dir)


@pytest.fixture(scope="session")
def encoded_picture():
    """Encodes a picture: noise of a seed, 20 pixels wide and 16 high unless told otherwise."""

    def encode(kind="JPEG", seed=0, *, size=(20, 16), mode="RGB", **options):
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(file, kind, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def write_files(tmp_path):
    """Writes files below `tmp_path`, from a dictionary of path -> bytes; gives `tmp_path` as text."""

    def write(files):
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return str(tmp_path)

    return write


@pytest.fixture(scope="session")
def broken_pictures(encoded_picture):
    """What is wrong with a file -> the bytes of such a file."""
    jpeg = encoded_picture("JPEG", size=(200, 160))
    return {
        "empty": b"",
        "cut": jpeg[: len(jpeg) // 2],
        "damaged": jpeg[:400] + bytes([0xAA]) * 300 + jpeg[-2:],
        "not an image": b"<html>404 Not Found</html>",
        "other format": encoded_picture("TIFF"),
        "zero size": _png(0, 16),
        "decompression bomb": _png(60_000, 60_000),
    }


def _png(width, height):
    """A PNG without pixels, whatever size it announces."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
