"""The benchmark of the input pipeline measures, prints and draws."""

import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console
import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data import benchmark, decode
from efficientnetv2_tf.data.benchmark import benchmark_input
from efficientnetv2_tf.data.sources import DataError, open_source
from efficientnetv2_tf.progressive.stages import plan_stages
from efficientnetv2_tf.training.hparams import DataConfig


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(benchmark, "_IMAGES", 40)
    monkeypatch.setattr(benchmark, "_REPEATS", 1)
    monkeypatch.setattr(benchmark, "_COMPARED", ((24, None), (24, 15.0)))


@pytest.fixture
def photos(tmp_path):
    """Six JPEGs of two classes, and one that is cut."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, [60, 80, 3], dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "cut.jpg").write_bytes(path.read_bytes()[:900])
    return tmp_path / "photos"


@pytest.mark.slow
def test_measures_every_stage(quick, photos, tmp_path):
    console = rich.console.Console(file=io.StringIO(), width=160)
    plan = plan_stages(4, 2, image_size=(16, 24), magnitude=(5, 10))
    source = open_source(f"folder:{photos}")
    result = benchmark_input(source, DataConfig(), plan, style="v2", output=tmp_path, console=console)
    assert [(row["image_size"], row["magnitude"]) for row in result.stages] == [(16, 5), (24, 10)]
    assert all(row["plain"] > 0 and row["augmented"] > 0 for row in result.stages)
    assert [row["ratio"] for row in result.compared] == [row["ours"] / row["release"] for row in result.compared]
    without, with_randaugment = result.compared
    assert without["at_most"] == without["decoder"] / without["release"] > 0
    assert with_randaugment["decoder"] is None and with_randaugment["at_most"] is None
    assert result.images == 40
    assert json.loads((tmp_path / "benchmark_input.json").read_text())["parts"] == result.parts
    with Image.open(tmp_path / "benchmark_input.png") as picture:
        assert picture.size == (1650, 675)
    text = console.file.getvalue()
    assert "images/s" in text and "beside the official release's way" in text


def test_the_decoder_alone_decodes_the_parts_that_training_has(quick, photos, monkeypatch):
    pictures, sizes, decode_part = benchmark._in_memory(open_source(f"folder:{photos}")), [], decode.decode_part

    def watched(*arguments):
        part = decode_part(*arguments)
        sizes.append(int(tf.size(part)))
        return part

    for image_size in (8, 24):
        found = np.concatenate([batch.numpy() for batch in benchmark._decoder_alone(pictures, image_size)])
        with monkeypatch.context() as patch:
            patch.setattr(decode, "decode_part", watched)
            for key, item, _ in pictures.train.open():
                decode.decode_for_training(item, image_size, [int(key), 0], "v2", crop=True, flip=True)
        np.testing.assert_array_equal(found, sizes)
        assert len(set(sizes)) > 10
        sizes.clear()


def test_the_decoder_alone_is_that_of_jpegs(quick, photos, tmp_path):
    for number in range(6):  # some of which are trained with
        Image.new("RGB", (20, 20)).save(photos / "a" / f"{number}.png")
    assert benchmark._decoder_alone(benchmark._in_memory(open_source(f"folder:{photos}")), 24) is None


def test_without_a_good_picture(quick, photos, tmp_path):
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"no picture")
    source = open_source(f"folder:{photos}")
    with pytest.raises(DataError, match="has no picture that can be decoded"):
        benchmark_input(source, DataConfig(), plan_stages(1, 1, image_size=(16, 16)), style="v2", output=tmp_path)


def test_a_label_that_is_no_class_is_named(quick, photos, tmp_path):
    opened = open_source(f"folder:{photos}")
    source = dataclasses.replace(opened, class_names=("a",))
    with pytest.raises(DataError, match=r"b/1\.jpg: label 1: expected 0 to 0\. .*data\.on_bad_image=skip"):
        config = DataConfig(on_bad_image="error", shuffle_buffer=1)
        benchmark_input(source, config, plan_stages(1, 1, image_size=(16, 16)), style="v2", output=tmp_path)
