"""Names, splits and what is said about what is missing."""

import os
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.sources import DataError, check_source_name, list_sources, open_source


def test_names():
    names = list_sources()
    assert names[0] == "digits"
    assert len(set(names)) == len(names)
    for name in [*names, "tfds:anything", "tfds:glue/cola"]:
        check_source_name(name)


@pytest.mark.parametrize("check", [check_source_name, open_source])
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
    assert "tfds:NAME" in message


def test_far_from_every_name():
    with pytest.raises(DataError, match=r"Unknown data set 'xyzzy'\. Available: digits"):
        check_source_name("xyzzy")


def test_checking_a_name_loads_nothing():
    code = (
        "import sys\n"
        "from efficientnetv2_tf.data.sources import check_source_name\n"
        "check_source_name('cifar10')\n"
        "print({'tensorflow', 'tensorflow_datasets', 'keras', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "set()\n"


# --- splits ---


def test_splits(digits_dir):
    source = open_source("digits", data_dir=digits_dir, train_split="train[:100]", eval_split="train[100:130]")
    assert (source.num_train, source.num_eval) == (100, 30)
    train, evaluation = list(source.train()), list(source.eval())
    assert (len(train), len(evaluation)) == (100, 30)
    assert source.train().element_spec == (tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64))
    assert [int(label) for _, label in source.train()] == [int(label) for _, label in train]  # a fixed order
    whole = [image.numpy() for image, _ in open_source("digits", data_dir=digits_dir).train().take(130)]
    assert [image.numpy() for image, _ in [*train, *evaluation]] == whole


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
