"""Checking a whole data set: folders with every kind of broken file, TFRecords, TensorFlow Datasets."""

import csv
import io
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from efficientnetv2_tf.data import verify
from efficientnetv2_tf.data.bad_images import BadImages
from efficientnetv2_tf.data.pipeline import eval_dataset
from efficientnetv2_tf.data.sources import DataError, Source, Split, open_source
from efficientnetv2_tf.data.verify import verify_data
from efficientnetv2_tf.training.hparams import DataConfig


@pytest.fixture
def bad_folder(write_files, encoded_picture, broken_pictures):
    """train/ and val/ with every kind of broken file, and their root."""
    good = {f"{kind}/{number}.jpg": encoded_picture(seed=20 * kind + number) for kind in (0, 1) for number in range(10)}
    broken = {f"0/{problem}.jpg": content for problem, content in broken_pictures.items()}
    strange = {
        "1/really a png.jpg": encoded_picture("PNG", seed=100), "1/scan.tiff": encoded_picture("TIFF"),
        "1/deep/notes.txt": b"hello", "loose.jpg": good["0/0.jpg"], "2/.hidden": b"", "1/copy.jpg": good["1/3.jpg"],
        "1/of a zero.jpg": good["0/3.jpg"],
    }  # fmt: skip
    root = write_files({f"train/{path}": content for path, content in {**good, **broken, **strange}.items()})
    os.makedirs(f"{root}/train/2", exist_ok=True)
    write_files({"val/0/known.jpg": good["0/7.jpg"], "val/1/new.png": encoded_picture("PNG", seed=101, size=(40, 10))})
    os.symlink("/nowhere.jpg", f"{root}/val/1/unreadable.jpg")
    os.makedirs(f"{root}/val/2")
    return root


def run(name, options=None, **arguments):
    """(report, what was printed)."""
    text = io.StringIO()
    report = verify.run(name, options or {}, console=Console(file=text, width=200), **arguments)
    return report, text.getvalue()


def memory_split(items, labels):
    def examples(shard=(0, 1), seed=None):
        return tf.data.Dataset.from_tensor_slices((np.arange(len(items)), items, np.array(labels, np.int64)))

    return Split(len(items), examples, lambda shards: None, lambda key: f"example {key}")


# --- folders ---


def test_every_kind_of_broken_file_is_found(bad_folder, broken_pictures, tmp_path):
    report, text = run(f"folder:{bad_folder}", output=tmp_path / "out")
    bad = {finding.where: finding for finding in report.bad}
    assert len(bad) == len(report.bad) == len(broken_pictures) + 2
    for problem in broken_pictures:
        finding = bad[f"{bad_folder}/train/0/{problem}.jpg"]
        assert (finding.reason, finding.split, finding.class_name) == (problem, "train", "0")
        assert finding.detail and finding.key is not None
    unreadable = bad[f"{bad_folder}/val/1/unreadable.jpg"]
    assert (unreadable.reason, unreadable.split) == ("unreadable", "eval")
    assert "No such file" in unreadable.detail and "node" not in unreadable.detail
    empty = bad[f"{bad_folder}/train/2"]
    assert (empty.reason, empty.class_name, empty.key) == ("class folder empty", "2", None)
    assert all(problem in text for problem in [*broken_pictures, "unreadable", "class folder empty"])


def test_a_training_drops_what_is_bad_and_nothing_else(bad_folder):
    source = open_source(f"folder:{bad_folder}", eval_split="train", eval_fraction=0.5, allow_empty=True)
    log = BadImages(limit=1.0, tell=lambda line: None)
    config = DataConfig(crop="none", augment="none")
    rows = sum(1 for _ in eval_dataset(source, config, image_size=8, batch_size=1, style="v2", bad_images=log))
    found = {finding.key for finding in verify_data(source).bad if finding.split == "eval"}
    assert {*log.known("eval")} == found
    assert 2 <= len(found) < rows == source.eval.count


def test_notes(bad_folder, tmp_path):
    report, _ = run(f"folder:{bad_folder}", output=tmp_path / "out")
    notes = {(finding.reason, os.path.relpath(finding.where, bad_folder)): finding for finding in report.notes}
    assert set(notes) == {
        ("wrong ending", "train/1/really a png.jpg"),
        ("other ending", "train/1/scan.tiff"),
        ("other ending", "train/1/deep/notes.txt"),
        ("in no class folder", "train/loose.jpg"),
        ("class folder empty", "val/2"),
        ("copy", "train/1/copy.jpg"),
        ("copy in another class", "train/1/of a zero.jpg"),
        ("also in training", "val/0/known.jpg"),
    }
    assert notes["wrong ending", "train/1/really a png.jpg"].detail == "the file is a PNG"
    assert notes["copy", "train/1/copy.jpg"].detail == f"same bytes as {bad_folder}/train/1/3.jpg (1)"
    assert notes["also in training", "val/0/known.jpg"].detail == f"same bytes as {bad_folder}/train/0/7.jpg (0)"
    assert notes["other ending", "train/1/deep/notes.txt"].class_name == "1"


def test_statistics(bad_folder, tmp_path):
    report, text = run(f"folder:{bad_folder}", output=tmp_path / "out")
    assert report.class_names == ("0", "1", "2")
    assert [counts.tolist() for counts in report.counts.values()] == [[10, 13, 0], [1, 1, 0]]
    assert dict(report.shapes) == {
        ("JPEG", "RGB", 20, 16): 23, ("PNG", "RGB", 20, 16): 1, ("PNG", "RGB", 40, 10): 1
    }  # fmt: skip
    assert {label: len(some) for label, some in report.samples.items()} == {0: 6, 1: 6, 2: 0}
    assert f"folder:{bad_folder}: 25 good images, 9 bad, 8 notes." in text


def test_what_is_written(bad_folder, tmp_path):
    output = tmp_path / "new" / "out"
    report, text = run(f"folder:{bad_folder}", output=output)
    assert sorted(os.listdir(output)) == ["data.png", "verify_data.csv"]
    with (output / "verify_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["bad"] * len(report.bad) + ["note"] * len(report.notes)
    cut = next(row for row in rows if row["reason"] == "cut")
    assert cut["where"] == f"{bad_folder}/train/0/cut.jpg" and cut["class"] == "0" and cut["split"] == "train"
    split = open_source(f"folder:{bad_folder}", allow_empty=True).train
    assert split.where(int(cut["key"])) == cut["where"]
    assert f"Wrote {output}/verify_data.csv and {output}/data.png" in text.replace("\n", "")


def test_good_data_have_no_bad_ones(write_files, encoded_picture, tmp_path):
    root = write_files({f"d/{i % 2}/{i}.png": encoded_picture("PNG", seed=i) for i in range(8)})
    report, text = run("folder:d", {"data_dir": root, "eval_fraction": 0.5, "class_names": ("1", "0")}, output=tmp_path)
    assert report.findings == []
    assert report.class_names == ("1", "0")
    assert {name: counts.tolist() for name, counts in report.counts.items()} == {"train": [2, 2], "eval": [2, 2]}
    assert "8 good images, 0 bad." in text
    assert (tmp_path / "verify_data.csv").read_text().count("\n") == 1  # so that no old findings stay


def test_folders_that_will_not_do_are_refused(write_files, tmp_path):
    root = write_files({"d/a/x.jpg": b"", "d/note.txt": b""})
    with pytest.raises(DataError, match="expected two class folders"):
        run(f"folder:{root}/d", output=tmp_path / "out")


def test_an_output_that_cannot_be_written_is_found_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run("folder:/nowhere", output=tmp_path / "file" / "out")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_files_of_somebody_else(write_files, encoded_picture):
    root = write_files({f"{i % 2}/{i}.png": encoded_picture("PNG", seed=i) for i in range(6)})
    os.chmod(root, 0o700)
    code = (
        "import os\n"
        "from efficientnetv2_tf.data.folder import open_folder\n"
        "from efficientnetv2_tf.data.verify import verify_data\n"
        f"source = open_folder('folder:{root}')\n"
        "if verify_data(source).bad: raise SystemExit('as root all is good')\n"  # and all that is needed is loaded
        "os.seteuid(65534)\n"
        "report = verify_data(source)\n"
        "print({finding.reason for finding in report.bad}, len(report.bad), report.bad[0].detail)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{'unreadable'} 6 ") and "ermission denied" in done.stdout


# --- other sources ---


def test_digits(digits_dir, tmp_path):
    options = {"data_dir": digits_dir, "train_split": "train[:300]", "eval_split": "test[:100]"}
    report, text = run("digits", options, output=tmp_path)
    assert report.findings == []
    assert [int(counts.sum()) for counts in report.counts.values()] == [300, 100]
    labels = [int(label) for _, _, label in open_source("digits", **options).train.open()]
    assert report.counts["train"].tolist() == np.bincount(labels).tolist()
    assert dict(report.shapes) == {("PNG", "RGB", 8, 8): 400}
    assert "digits: 400 good images, 0 bad." in text


@pytest.mark.parametrize("label", [-1, 3, 100])
def test_labels_out_of_range(encoded_picture, label):
    items = [encoded_picture(seed=seed) for seed in range(4)]
    source = Source("x", ("a", "b", "c"), memory_split(items, [0, 1, 2, label]), memory_split(items[:1], [0]))
    report = verify_data(source)
    assert [(x.reason, x.where, x.key) for x in report.bad] == [("label out of range", "example 3", 3)]
    assert report.bad[0].class_name == f"label {label}"
    assert str(label) in report.bad[0].detail and "3 classes" in report.bad[0].detail
    assert report.counts["train"].tolist() == [1, 1, 1]


def test_many_labels(encoded_picture):
    def examples(shard=(0, 1), seed=None):
        labels = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[0, 2], [], [1, 7]], dtype=tf.int64))
        items = tf.data.Dataset.from_tensor_slices([encoded_picture(seed=seed) for seed in range(3)])
        return tf.data.Dataset.zip((tf.data.Dataset.range(3), items, labels.map(lambda row: row)))

    split = Split(3, examples, lambda shards: None, str)
    report = verify_data(Source("x", ("a", "b", "c"), split, memory_split([b""], [[0, 1]]), multi_label=True))
    assert report.counts["train"].tolist() == [1, 0, 1]
    assert [(x.reason, x.class_name) for x in report.bad] == [("label out of range", "b, label 7"), ("empty", "a, b")]


def test_a_file_that_ends_too_early(encoded_picture, tmp_path):
    path = str(tmp_path / "records")
    with tf.io.TFRecordWriter(path) as writer:
        for seed in range(20):
            writer.write(encoded_picture(seed=seed))
    os.truncate(path, os.path.getsize(path) - 100)

    def examples(shard=(0, 1), seed=None):
        return tf.data.TFRecordDataset(path).enumerate().map(lambda key, item: (key, item, tf.constant(0, tf.int64)))

    split = Split(20, examples, lambda shards: None, str)
    report = verify_data(Source("x", ("a", "b"), split, memory_split([encoded_picture(seed=99)], [1])))
    assert report.counts["train"].tolist() == [19, 0]
    assert report.counts["eval"].tolist() == [0, 1]
    (finding,) = report.bad
    assert (finding.reason, finding.split, finding.where) == ("unreadable", "train", "x, train, behind 19 examples")
    assert "truncated" in finding.detail


# --- order, chance, threads ---


def test_one_thread_and_many_find_the_same(bad_folder):
    source = open_source(f"folder:{bad_folder}", allow_empty=True)
    one, many = [verify_data(source, workers=workers) for workers in (1, 5)]
    assert one.findings == many.findings
    assert one.samples == many.samples
    keys = [finding.key for finding in one.bad if finding.split == "train"]
    assert keys == sorted(keys)


def test_progress_counts_every_example(bad_folder):
    source = open_source(f"folder:{bad_folder}", allow_empty=True)
    calls = []
    report = verify_data(source, advance=calls.append)
    assert len(calls) == source.train.count + source.eval.count
    assert calls == sorted(calls) and calls[-1] == len(report.bad) > 0


def test_the_limit_of_pixels_is_passed_on(encoded_picture):
    split = memory_split([encoded_picture(size=(10, 10)), encoded_picture(size=(11, 10))], [0, 1])
    report = verify_data(Source("x", ("a", "b"), split, memory_split([], [])), max_pixels=100)
    assert [(x.reason, x.key) for x in report.bad] == [("decompression bomb", 1)]
    assert Image.MAX_IMAGE_PIXELS is not None


def test_pictures_to_show_are_drawn_evenly(encoded_picture):
    items = [encoded_picture("PNG", seed=seed, size=(2, 2)) for seed in range(24)]
    source = Source("x", ("a", "b"), memory_split(items[:18], [0] * 18), memory_split(items[18:], [0] * 6))
    chosen = np.zeros(24, int)
    for seed in range(60):
        some = verify_data(source, seed=seed).samples
        assert [*some] == [0, 1] and len(some[0]) == len({*some[0]}) == 6 and some[1] == []
        chosen += [item in some[0] for item in items]
    assert some[0] == verify_data(source, seed=59).samples[0]
    assert chosen.sum() == 360 and chosen.min() >= 4 and chosen.max() <= 28  # 15 each, 3.4 standard deviations


def test_of_many_classes_some_are_shown(encoded_picture):
    names = tuple(map(str, range(100)))
    report = verify_data(Source("x", names, memory_split([encoded_picture()], [0]), memory_split([], [])))
    assert [*report.samples] == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
