"""The handwritten digits: always the same ones in the same place."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data.sources import open_source

# Of labels and encoded pictures in their order. Another number means another data set: results are not comparable.
LABELS = "4efb0fce1b9596fe"
PIXELS = "5715a21f1bc8114c"


@pytest.fixture(scope="module")
def examples(digits):
    """{split: (list of PNG bytes, labels)}."""
    loaded = {}
    for name, split in (("train", digits.train), ("eval", digits.eval)):
        _, images, labels = zip(*split.open().as_numpy_iterator(), strict=True)
        loaded[name] = (images, np.array(labels))
    return loaded


def test_sizes(digits, examples):
    assert (digits.train.count, digits.eval.count, digits.num_classes) == (1437, 360, 10)
    assert digits.class_names == tuple("0123456789")
    assert [len(images) for images, _ in examples.values()] == [1437, 360]


def test_split_has_the_same_share_of_each_digit(examples):
    counts = {name: np.bincount(labels, minlength=10) for name, (_, labels) in examples.items()}
    np.testing.assert_allclose(counts["eval"] / 360, counts["train"] / 1437, atol=0.002)


def test_every_scan_is_in_one_split(examples):
    from sklearn.datasets import load_digits

    def key(image):
        return np.asarray(image).tobytes()

    scans = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    expected = sorted(key(scan) for scan in scans)
    pixels = [tf.io.decode_png(image).numpy() for images, _ in examples.values() for image in images]
    assert all((image == image[..., :1]).all() and image.shape == (8, 8, 3) for image in pixels)
    assert sorted(key(image[..., 0]) for image in pixels) == expected


def test_is_stable(examples):
    pixels, labels = hashlib.sha256(), hashlib.sha256()
    for images, numbers in examples.values():
        for image in images:
            pixels.update(tf.io.decode_png(image).numpy().tobytes())
        labels.update(numbers.astype(np.int64).tobytes())
    assert labels.hexdigest()[:16] == LABELS
    assert pixels.hexdigest()[:16] == PIXELS


def test_is_prepared_once(digits_dir):
    files = {path: path.stat().st_mtime_ns for path in digits_dir.rglob("*") if path.is_file()}
    assert len(files) >= 4
    open_source("digits", data_dir=digits_dir)
    assert {path: path.stat().st_mtime_ns for path in digits_dir.rglob("*") if path.is_file()} == files


def test_prints_nothing(tmp_path, capfd):
    open_source("digits", data_dir=tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
