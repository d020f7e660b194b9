"""Pictures that are kept: the same ones, whatever cannot be read, and whoever else copies them."""

import csv
import dataclasses
import threading

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.bad_images import BadImages, usable
from efficientnetv2_tf.data.cache import cached
from efficientnetv2_tf.data.sources import DataError, Split, open_source

PICTURES = [b"one\0\0", b"", b"\0three", b"four"]


def make_split(broken_from=None):
    """The pictures, with their numbers as keys and labels; reading breaks off at a key."""

    def examples(shard=(0, 1), seed=None):
        numbers = tf.range(len(PICTURES), dtype=tf.int64)
        whole = tf.data.Dataset.from_tensor_slices((numbers, PICTURES, numbers))
        if broken_from is None:
            return whole
        return whole.map(lambda key, *rest: (tf.debugging.check_numerics(1 / (broken_from - key), "torn"), *rest))

    return Split(len(PICTURES), examples, lambda shards: [], str, fingerprint="some")


def examples_of(split):
    return [(int(key), split.read(tf.constant(item)).numpy(), int(label)) for key, item, label in split.open()]


def in_time(function):
    """The result or error of a function, which may hang."""
    results = []

    def run():
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "hangs"
    return results[0]


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_bytes_stay_as_they_are(where, tmp_path):
    kept = cached(make_split(), where, tmp_path, (0, 1))
    expected = [(key, picture, key) for key, picture in enumerate(PICTURES)]
    assert examples_of(kept) == expected
    assert examples_of(kept) == expected


@pytest.mark.parametrize("where", ["none", "memory", "disk"])
def test_a_file_that_cannot_be_read(where, write_files, encoded_picture, tmp_path):
    """It hinders no other, keeps its place, is told of with its reason, and is taken when it is there again."""
    files = {f"{kind}/{number}.jpg": encoded_picture(seed=number) for kind in "ab" for number in range(30)}
    folder = write_files({f"data/{path}": content for path, content in files.items()})
    gone = tmp_path / "data" / "a" / "07.jpg"
    gone.symlink_to(tmp_path / "nowhere")
    source = open_source("folder:data", data_dir=folder)
    split = in_time(lambda: cached(source.train, where, tmp_path / "cache", (0, 1)))

    examples = list(split.open().as_numpy_iterator())
    assert [key for key, *_ in examples] == list(range(source.train.count))
    (bad,) = [example for example in examples if split.where(example[0]) == str(gone)]
    for key, item, _ in examples:
        if key != bad[0]:
            assert split.read(tf.constant(item)).numpy() == files[split.where(key).partition("/data/")[2]]
    tell = usable(BadImages(tmp_path / "bad.csv", limit=1.0, tell=str), "train", split, 2)
    tell(tf.constant(False), *map(tf.constant, bad))
    with open(tmp_path / "bad.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["where"] == str(gone) and "No such file" in row["reason"]

    (tmp_path / "nowhere").write_bytes(b"there again")
    assert split.read(tf.constant(bad[1])).numpy() == b"there again"


def test_a_data_set_that_breaks_off_is_an_error(tmp_path):
    def broken():
        return cached(make_split(broken_from=2), "disk", tmp_path, (0, 1))

    error = in_time(broken)
    assert isinstance(error, DataError) and "cannot be read: " in str(error) and "torn" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_another_process_makes_the_same_copy(tmp_path):
    split = make_split()

    def overtaken(shard=(0, 1), seed=None):
        cached(split, "disk", tmp_path, shard)
        return split.open(shard)

    kept = cached(dataclasses.replace(split, open=overtaken), "disk", tmp_path, (0, 1))
    assert [picture for _, picture, _ in examples_of(kept)] == PICTURES
    assert len(list(tmp_path.iterdir())) == 1
