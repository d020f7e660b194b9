"""Folders as a source: labels, splits that stay, shards, and what is said of folders that will not do."""

import collections
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data.decode import decode
from efficientnetv2_tf.data.folder import find_folders, open_folder
from efficientnetv2_tf.data.sources import DataError, open_source

CLASSES = ("daisy", "rose", "tulip")


@pytest.fixture(scope="module")
def flowers(tmp_path_factory, encoded_picture):
    """A folder of 3 classes with 10 JPEGs each."""
    root = tmp_path_factory.mktemp("flowers")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(10):
            (root / name / f"{number}.jpg").write_bytes(encoded_picture(seed=10 * label + number))
    return root


def empty_files(**classes):
    """Files of classes, as many as said; their content does not matter."""
    return {f"{name}/{number:03d}.png": b"" for name, count in classes.items() for number in range(count)}


def paths(split):
    return [split.where(key) for key in range(split.count)]


def held_out(root, **options):
    """Paths of the evaluation pictures, relative to the folder."""
    source = open_folder(f"folder:{root}", **options)
    assert not {*paths(source.train)} & {*paths(source.eval)}
    return {os.path.relpath(path, root) for path in paths(source.eval)}


# --- examples ---


def test_examples(flowers):
    source = open_source(f"folder:{flowers}")
    assert (source.name, source.class_names, source.num_classes) == (f"folder:{flowers}", CLASSES, 3)
    assert not source.multi_label
    for split, count in ((source.train, 27), (source.eval, 3)):
        assert split.count == count and split.named_items
        dataset = split.open()
        scalar, text = tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)
        assert dataset.element_spec == (scalar, text, scalar)
        examples = list(dataset.as_numpy_iterator())
        assert [key for key, _, _ in examples] == [*range(count)]
        for key, item, label in examples:
            assert split.where(key) == item.decode()
            path = pathlib.Path(split.where(key))
            assert path.parent == flowers / CLASSES[label]
            assert split.read(tf.constant(item)).numpy() == path.read_bytes()
    assert paths(source.train) == sorted(paths(source.train))


def test_every_format_is_read(write_files, encoded_picture):
    kinds = {"bmp": "BMP", "GIF": "GIF", "jpeg": "JPEG", "JPG": "JPEG", "png": "PNG", "webp": "WEBP"}
    files = {f"{name}/x.{end}": encoded_picture(kind) for name in "ab" for end, kind in kinds.items()}
    source = open_folder("folder:" + write_files(files))
    assert source.train.count + source.eval.count == 12
    for split in (source.train, source.eval):
        for _, item, _ in split.open():
            assert decode(split.read(item)).shape == (16, 20, 3)


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards(flowers, shards):
    split = open_folder(f"folder:{flowers}").train
    whole = list(split.open().as_numpy_iterator())
    seed = tf.constant([1, 2], tf.int64)
    parts = [list(split.open((index, shards), seed).as_numpy_iterator()) for index in range(shards)]
    assert [len(part) for part in parts] == split.shard_sizes(shards)
    assert sorted(example for part in parts for example in part) == whole
    assert parts[-1] == whole[shards - 1 :: shards]
    classes = [collections.Counter(int(label) for _, _, label in part) for part in parts]
    assert all(len(counts) == 3 for counts in classes)  # every shard sees every class


def test_can_be_opened_inside_a_data_set(flowers):
    split = open_folder(f"folder:{flowers}").train
    nested = tf.data.Dataset.range(2).flat_map(lambda _: split.open((0, 2), tf.constant([1, 2], tf.int64)))
    assert [int(key) for key, _, _ in nested] == [*range(0, 27, 2)] * 2


# --- splits ---


def test_a_share_of_each_class_is_split_off(flowers):
    source = open_folder(f"folder:{flowers}", eval_fraction=0.3)
    for split, count in ((source.train, 7), (source.eval, 3)):
        labels = [int(label) for _, _, label in split.open()]
        assert labels == [0] * count + [1] * count + [2] * count


@pytest.mark.parametrize(
    "fraction, count, expected",
    [(0.1, 2, 1), (0.1, 10, 1), (0.1, 11, 2), (0.07, 100, 7), (0.3, 10, 3), (0.99, 3, 2), (0.5, 1, 0)],
)
def test_the_share(write_files, fraction, count, expected):
    root = write_files(empty_files(a=count, b=100))
    assert len([path for path in held_out(root, eval_fraction=fraction) if path.startswith("a")]) == expected


def test_the_split_stays(flowers, tmp_path):
    first = held_out(flowers)
    assert held_out(flowers) == first
    os.symlink(flowers, tmp_path / "moved")
    assert held_out(tmp_path / "moved") == first
    assert held_out(flowers, split_seed=1) != first
    assert len({frozenset(held_out(flowers, split_seed=seed)) for seed in range(10)}) > 5


def test_later_files_leave_the_split_as_it_was(write_files):
    root = write_files(empty_files(a=100, b=50))
    before = held_out(root)
    write_files(empty_files(aa=30))
    assert {path for path in held_out(root) if not path.startswith("aa/")} == before
    write_files({"a/new.png": b""})
    after = {path for path in held_out(root) if not path.startswith("aa/")}
    assert len(after) == 11 + 5 and before <= after  # one more of 101 rounded up
    write_files({f"a/new{number}.png": b"" for number in range(9)})
    after = {path for path in held_out(root) if not path.startswith("aa/")}
    assert len(after) == 11 + 5 and len(before - after) <= 3


def test_the_share_is_spread_evenly(write_files):
    root = write_files(empty_files(a=1000, b=2))
    numbers = [int(path[2:5]) for path in held_out(root, eval_fraction=0.3) if path.startswith("a/")]
    assert len(numbers) == 300
    assert abs(np.mean(numbers) - 499.5) < 4 * 1000 / np.sqrt(12 * 300)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_folders_beside_train(write_files, name):
    root = write_files({f"train/{path}": b"" for path in empty_files(a=3, b=4)})
    write_files({f"{name}/b/x.jpg": b"", f"{name}/a/note.txt": b"", "annotations/x.jpg": b"", "a.jpg": b""})
    source = open_folder(f"folder:{root}")
    assert source.class_names == ("a", "b")
    assert source.train.count == 7
    assert paths(source.eval) == [f"{root}/{name}/b/x.jpg"]
    assert [int(label) for _, _, label in source.eval.open()] == [1]


def test_precedence(write_files):
    root = write_files({f"{name}/a/x.png": b"" for name in ("train", "val", "validation", "valid", "test", "more")})
    for name in ("val", "validation", "valid", "test"):
        assert find_folders(f"folder:{root}") == (f"{root}/train", f"{root}/{name}")
        os.rename(f"{root}/{name}", f"{root}/was_{name}")
    assert find_folders(f"folder:{root}") == (f"{root}/train", None)
    assert find_folders(f"folder:{root}", eval_split="was_test") == (f"{root}/train", f"{root}/was_test")
    assert find_folders(f"folder:{root}", train_split="more") == (f"{root}/more", None)


def test_named_folders(write_files):
    files = empty_files(a=10, b=10)
    root = write_files({f"{split}/{path}": b"" for split in ("train", "val", "new") for path in files})
    assert len(held_out(root)) == 20
    evaluation = held_out(root, eval_split="train")  # splits off from it, in spite of val/
    assert {os.path.dirname(path) for path in evaluation} == {"train/a", "train/b"} and len(evaluation) == 2
    source = open_folder(f"folder:{root}", train_split="new", eval_split="train")
    assert paths(source.train)[0] == f"{root}/new/a/000.png"
    assert paths(source.eval)[0] == f"{root}/train/a/000.png"


def test_train_as_a_class_of_vehicles(write_files):
    root = write_files(empty_files(car=5, ship=5, train=5))
    assert open_folder(f"folder:{root}").class_names == ("car", "ship", "train")


def test_relative_paths(flowers, monkeypatch):
    source = open_source(f"folder:{flowers.name}", data_dir=str(flowers.parent))
    assert paths(source.train)[0].startswith(f"{flowers}/daisy/")
    assert open_source(f"folder:{flowers}", data_dir="/nowhere").train.count == 27
    monkeypatch.chdir(flowers.parent)
    assert open_source(f"folder:{flowers.name}").train.count == 27
    monkeypatch.setenv("HOME", str(flowers.parent))
    assert open_source(f"folder:~/{flowers.name}").train.count == 27


# --- classes ---


def test_class_names_give_the_order(flowers):
    source = open_folder(f"folder:{flowers}", class_names=("tulip", "violet", "rose", "daisy"))
    assert source.class_names == ("tulip", "violet", "rose", "daisy")
    assert collections.Counter(int(label) for _, _, label in source.train.open()) == {0: 9, 2: 9, 3: 9}
    for _, item, label in source.train.open():
        assert f"/{source.class_names[label]}/" in item.numpy().decode()


def test_numbers_are_sorted_as_text(write_files):
    root = write_files(empty_files(**{str(number): 2 for number in range(11)}))
    assert open_folder(f"folder:{root}").class_names[:4] == ("0", "1", "10", "2")


def test_options_of_other_sources_are_left_alone(flowers):
    options = {"num_classes": None, "multi_label": False, "image_key": "x", "label_key": "y", "label_offset": 1}
    assert open_source(f"folder:{flowers}", **options).train.count == 27


def test_fingerprint(flowers, write_files):
    def prints(*args, **options):
        source = open_folder(*args, **options)
        return [source.train.fingerprint, source.eval.fingerprint]

    base = prints(f"folder:{flowers}")
    assert prints(f"folder:{flowers}") == base and base[0] != base[1]
    seen = {*base, *prints(f"folder:{flowers}", split_seed=1)}
    seen |= {*prints(f"folder:{flowers}", class_names=CLASSES[::-1])}
    assert len(seen) == 6


# --- mistakes ---


@pytest.mark.parametrize(
    "files, options, said",
    [
        ({}, {}, ["should hold a folder of pictures for each class. It holds nothing"]),
        ({"a.jpg": b""}, {}, ["It holds pictures without a class: 'a.jpg'"]),
        (
            {"a/x.jpg": b"", "b/x.tiff": b"", "c/.x.jpg": b""},
            {},
            ["There are none in 'b', 'c'", "looked for *.bmp, *.gif, *.jpeg, *.jpg, *.png, *.webp, found 'b/x.tiff'"],
        ),
        ({"a/x.jpg": b"", "a/y.jpg": b""}, {}, ["expected two class folders or more. Received: 'a'"]),
        ({"a/x.jpg": b"", "b/y.jpg": b""}, {}, ["There are too few", "'a', 'b'"]),
        (empty_files(a=3, b=3), {"eval_fraction": 0}, ["data.eval_fraction", "Received: 0"]),
        (empty_files(a=3, b=3), {"eval_fraction": 1.0}, ["data.eval_fraction", "Received: 1.0"]),
        (
            empty_files(a=3, b=3),
            {"class_names": ("b", "c")},
            ["expected classes among 'b', 'c'. Received also: 'a'"],
        ),
        (
            {"train/a/x.jpg": b"", "train/b/x.jpg": b"", "val/a/x.jpg": b"", "val/c/x.jpg": b""},
            {},
            ["/val: expected classes that ", "/train has too. Received also: 'c'", "data.eval_split=train"],
        ),
        (
            {"train/a/x.jpg": b"", "train/b/x.jpg": b"", "test/1.jpg": b"", "test/2.jpg": b""},
            {},
            ["/test should hold a folder", "without a class: '1.jpg', '2.jpg'", "data.eval_split=train splits a share"],
        ),
        ({"train/1.jpg": b"", "val/2.jpg": b""}, {}, ["/train should hold", "'1.jpg'"]),
        (
            empty_files(a=3, b=3),
            {"train_split": "train[:90%]"},
            ["data.train_split: expected a folder in ", "which holds 'a', 'b'. Received: 'train[:90%]'"],
        ),
        (
            {"train/a/x.jpg": b"", "train/b/x.jpg": b""},
            {"eval_split": "dev"},
            ["data.eval_split: expected a folder in ", "which holds 'train'. Received: 'dev'"],
        ),
    ],
)
def test_mistakes(write_files, files, options, said):
    root = write_files(files)
    with pytest.raises(DataError) as caught:
        open_source(f"folder:{root}", **options)
    message = str(caught.value)
    assert all(part in message for part in said), message
    if "eval_fraction" not in options:
        assert root in message


@pytest.mark.parametrize("folder, data_dir", [("pictures", None), ("pictures", "data"), ("file", None)])
def test_missing_folder(write_files, monkeypatch, folder, data_dir):
    root = write_files({"file": b""})
    monkeypatch.chdir(root)
    path = f"{root}/data/pictures" if data_dir else f"{root}/{folder}"
    for opened in (open_source, open_folder):
        with pytest.raises(DataError, match=path):
            opened(f"folder:{folder}", data_dir=data_dir)


def test_empty_classes_can_be_let_through(write_files):
    root = write_files({**empty_files(a=3, b=3), "c/notes.txt": b""})
    source = open_folder(f"folder:{root}", allow_empty=True)
    assert source.class_names == ("a", "b", "c")
    assert (source.train.count, source.eval.count) == (4, 2)
