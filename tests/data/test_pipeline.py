"""Batches: the same ones anywhere for the same seed, and each picture once."""

import csv
import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.bad_images import BadImages
from efficientnetv2_tf.data.pipeline import eval_dataset, train_dataset
from efficientnetv2_tf.data.sources import DataError, Source, Split, open_source
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import Stage
from efficientnetv2_tf.training.hparams import DataConfig
from efficientnetv2_tf.training.strategy import distribute_epochs

COUNT = 50


def flat_picture(value):
    """PNG of one grey level: what remains of it tells which example it is."""
    return tf.io.encode_png(tf.fill([8, 8, 3], tf.constant(value, tf.uint8))).numpy()


def make_source(pictures, labels, classes="abcde"):
    """A source with the same examples to train and to evaluate; shards take turns."""
    keys, labels = np.arange(len(pictures)), np.array(labels, np.int64)

    def examples(shard=(0, 1), seed=None):
        whole = tf.data.Dataset.from_tensor_slices((keys, pictures, labels))
        return whole.shard(shard[1], shard[0])

    def sizes(shards):
        return [len(keys[index::shards]) for index in range(shards)]

    split = Split(len(keys), examples, sizes, lambda key: f"example {key}", fingerprint=str(labels))
    return Source("levels", tuple(classes), split, split)


@pytest.fixture(scope="module")
def levels():
    """A source whose example i is a picture of level 4 i and of class i % 5, in both splits."""
    return make_source([flat_picture(4 * i) for i in range(COUNT)], [i % 5 for i in range(COUNT)])


def config(**changes):
    return DataConfig(**{"batch_size": 8, "crop": "none", "flip": False, "augment": "none", **changes})


def stage(**changes):
    return Stage(**{"index": 0, "first_epoch": 0, "epochs": 9, "image_size": 16, **changes})


def batches_of(source, data_config, controls, seed=0, style="v2"):
    dataset = train_dataset(source, data_config, controls, style=style, seed=seed)
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def examples_of(batches):
    """Numbers of the examples, from the levels of normalised pictures."""
    return [int(np.round((image.mean() * 128 + 128) / 4)) for images, _ in batches for image in images]


def checksum(batches):
    digest = hashlib.sha256()
    for images, labels in batches:
        digest.update(images.tobytes())
        digest.update(labels.tobytes())
    return digest.hexdigest()


EVERYTHING = {"crop": "random_area", "flip": True, "augment": "randaugment"}
STRONG = {"magnitude": 12.0, "mixup_alpha": 0.4, "cutmix_alpha": 0.4}


# --- order ---


def test_each_example_at_most_once_an_epoch(levels):
    found = examples_of(batches_of(levels, config(), StageControls(stage())))
    assert len(found) == 48  # 6 whole batches
    assert len(set(found)) == 48
    assert found != sorted(found)


def test_labels_belong_to_their_pictures(levels):
    batches = batches_of(levels, config(), StageControls(stage()))
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels.argmax(axis=-1), np.array(examples_of(batches)) % 5)


def test_epochs_differ_and_repeat(levels):
    controls = StageControls(stage())
    dataset = train_dataset(levels, config(), controls, style="v2", seed=0)
    orders = []
    for epoch in (0, 1, 2, 0):
        controls.epoch.assign(epoch)
        orders.append(tuple(examples_of([(images.numpy(), None) for images, _ in dataset])))
    assert orders[0] == orders[3]
    assert len(set(orders)) == 3


def test_small_shuffle_buffer_loses_nothing(levels):
    found = examples_of(batches_of(levels, config(shuffle_buffer=4, batch_size=10), StageControls(stage())))
    assert sorted(found) == list(range(COUNT))
    assert max(abs(place - example) for place, example in enumerate(found) if example > place) <= 4


# --- seeds ---


def test_same_seed_same_batches_in_fresh_pipelines(digits_dir):
    small = open_source("digits", data_dir=digits_dir, train_split="train[:48]")
    sums = [
        checksum(batches_of(small, config(**EVERYTHING, cache=cache), StageControls(stage(**STRONG)), seed))
        for seed, cache in ((3, "none"), (3, "none"), (3, "memory"), (4, "none"))
    ]
    assert sums[0] == sums[1] == sums[2]
    assert sums[0] != sums[3]


def test_disk_cache_gives_the_same_and_reads_once(levels, tmp_path):
    cached = config(**EVERYTHING, cache="disk", cache_dir=str(tmp_path))
    controls = StageControls(stage(**STRONG))
    expected = checksum(batches_of(levels, config(**EVERYTHING), controls))
    assert checksum(batches_of(levels, cached, controls)) == expected
    (copy,) = tmp_path.iterdir()

    def broken(shard=(0, 1), seed=None):
        return tf.data.Dataset.from_tensors((0, "", 0)).map(lambda *_: 1 / 0)

    unread = dataclasses.replace(levels, train=dataclasses.replace(levels.train, open=broken))
    assert checksum(batches_of(unread, cached, controls)) == expected
    other = dataclasses.replace(levels, train=dataclasses.replace(levels.train, fingerprint="other"))
    batches_of(other, cached, controls)
    assert len(list(tmp_path.iterdir())) == 2
    assert copy.exists()


def test_disk_cache_without_space(levels, tmp_path):
    (tmp_path / "file").write_text("")
    unusable = config(cache="disk", cache_dir=str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"could not be copied to .*file.cache.*data\.cache_dir or data\.cache=none"):
        train_dataset(levels, unusable, StageControls(stage()), style="v2", seed=0)


def test_same_seed_same_batches_in_another_process(levels, run_python):
    code = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("this", {__file__!r})
this = importlib.util.module_from_spec(spec)
spec.loader.exec_module(this)
levels = this.levels.__wrapped__() if hasattr(this.levels, "__wrapped__") else this.levels.__pytest_wrapped__.obj()
controls = this.StageControls(this.stage(**this.STRONG))
print(this.checksum(this.batches_of(levels, this.config(**this.EVERYTHING), controls, 3)))
"""
    controls = StageControls(stage(**STRONG))
    here = checksum(batches_of(levels, config(**EVERYTHING), controls, 3))
    assert run_python(code).split()[-1] == here


def test_pictures_are_augmented_differently_each_epoch(levels):
    noisy = config(batch_size=COUNT, augment="randaugment")
    controls = StageControls(stage(magnitude=10.0))
    one = batches_of(levels, noisy, controls)[0][0]
    controls.epoch.assign(1)
    two = batches_of(levels, noisy, controls)[0][0]
    assert np.abs(np.sort(one.mean(axis=(1, 2, 3))) - np.sort(two.mean(axis=(1, 2, 3)))).max() > 0.01


# --- going on inside an epoch ---


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6])
def test_first_batch_leaves_out_exactly_what_was_done(digits_dir, first):
    small = open_source("digits", data_dir=digits_dir, train_split="train[:50]")
    controls = StageControls(stage(**STRONG))
    controls.epoch.assign(2)
    dataset = train_dataset(small, config(**EVERYTHING), controls, style="v2", seed=0)
    whole = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    controls.first_batch.assign(first)
    rest = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    assert len(whole) == 6
    assert len(rest) == 6 - first
    assert checksum(rest) == checksum(whole[first:])


# --- live controls ---


def test_stage_changes_apply_to_the_next_iterator(levels):
    controls = StageControls(stage())
    dataset = train_dataset(levels, config(augment="randaugment"), controls, style="v2", seed=0)
    assert dataset.element_spec[0] == tf.TensorSpec([8, None, None, 3], tf.float32)
    for size in (16, 24, 8):
        controls.assign(stage(image_size=size))
        assert {images.shape for images, _ in dataset} == {(8, size, size, 3)}


def test_epochs_of_one_iterator_are_those_of_iterators_of_their_own(levels):
    """As a `fit` on one device has them: a new stage must not come a batch too early or too late."""
    controls = StageControls(stage(**STRONG))

    def make(_):
        return train_dataset(levels, config(**EVERYTHING), controls, style="v2", seed=0)

    single = iter(distribute_epochs(tf.distribute.get_strategy(), make, COUNT // 8))
    for epoch, size in enumerate((16, 16, 24, 8)):
        controls.assign(stage(image_size=size, **STRONG), epoch)
        own = [(images.numpy(), labels.numpy()) for images, labels in make((0, 1))]
        assert own[0][0].shape == (8, size, size, 3)
        same = [(images.numpy(), labels.numpy()) for images, labels in itertools.islice(single, len(own))]
        assert checksum(same) == checksum(own)


def test_magnitude_0_is_off_and_a_change_switches_it_on(levels):
    controls = StageControls(stage(magnitude=0.0))
    dataset = train_dataset(levels, config(augment="randaugment"), controls, style="v2", seed=0)
    plain = checksum(batches_of(levels, config(augment="none"), StageControls(stage())))

    def now():
        return checksum([(images.numpy(), labels.numpy()) for images, labels in dataset])

    assert now() == plain
    controls.magnitude.assign(8.0)
    assert now() != plain
    controls.magnitude.assign(0.0)
    assert now() == plain


@pytest.mark.parametrize("augment", ["randaugment", "autoaugment", "erase"])
def test_each_augmentation_changes_pictures(levels, augment):
    plain = batches_of(levels, config(), StageControls(stage(magnitude=8.0)))
    changed = batches_of(levels, config(augment=augment), StageControls(stage(magnitude=8.0)))
    before, after = (np.concatenate([images for images, _ in batches]) for batches in (plain, changed))
    assert (before != after).any(axis=(1, 2, 3)).mean() > 0.3
    for (_, one), (_, two) in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(one, two)


# --- labels ---


@pytest.mark.parametrize("mixup, cutmix", [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)])
def test_labels(levels, mixup, cutmix):
    batches = batches_of(levels, config(), StageControls(stage(mixup_alpha=mixup, cutmix_alpha=cutmix)))
    labels = np.concatenate([labels for _, labels in batches])
    assert labels.dtype == np.float32
    assert labels.shape == (48, 5)
    np.testing.assert_allclose(labels.sum(axis=-1), 1, atol=1e-5)
    assert labels.min() >= 0
    mixed = ((labels > 0).sum(axis=-1) == 2).mean()
    assert mixed > 0.1 if mixup or cutmix else mixed == 0


def test_mixing_differs_from_batch_to_batch(levels):
    batches = batches_of(levels, config(), StageControls(stage(mixup_alpha=1.0)))
    strongest = np.array([labels.max(axis=-1) for _, labels in batches])
    assert len({tuple(np.sort(row).round(4)) for row in strongest}) == len(batches)


# --- evaluation ---


@pytest.mark.parametrize("batch_size, sizes", [(20, [20, 20, 10]), (50, [50]), (64, [50])])
def test_evaluation_has_every_picture_once_in_order(levels, batch_size, sizes):
    dataset = eval_dataset(levels, config(), image_size=16, batch_size=batch_size, style="v2")
    assert int(dataset.cardinality()) == len(sizes)
    batches = [(images.numpy(), labels.numpy()) for images, labels, _ in dataset]
    assert [len(images) for images, _ in batches] == sizes
    assert examples_of(batches) == list(range(COUNT))
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, np.eye(5, dtype=np.float32)[np.arange(COUNT) % 5])
    assert all((weights.numpy() == 1).all() for _, _, weights in dataset)
    assert checksum(batches) == checksum([(images.numpy(), labels.numpy()) for images, labels, _ in dataset])


# --- preprocessing ---


@pytest.mark.parametrize("style", decode.STYLES)
def test_pixel_values_are_scaled_once(levels, style):
    expected = decode.normalize(np.full([COUNT, 1, 1, 3], 4 * np.arange(COUNT)[:, None, None, None]), style).numpy()
    evaluated = np.concatenate(
        [x.numpy() for x, *_ in eval_dataset(levels, config(), image_size=16, batch_size=20, style=style)]
    )
    np.testing.assert_allclose(evaluated, np.broadcast_to(expected, evaluated.shape), atol=1e-4)

    trained = batches_of(levels, config(batch_size=COUNT), StageControls(stage()), style=style)[0][0]
    order = np.argsort(trained[:, 0, 0, 0])
    np.testing.assert_allclose(trained[order], np.broadcast_to(expected, trained.shape), atol=1e-4)


@pytest.mark.parametrize("crop, whole", [("none", True), ("random_area", False)])
def test_evaluation_crops_only_if_training_does(crop, whole):
    columns = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], [64, 1, 3])
    png = tf.io.encode_png(columns).numpy()

    source = make_source([png], [0])
    ((images, *_),) = eval_dataset(source, config(crop=crop), image_size=32, batch_size=1, style="v2")
    width = np.ptp(images.numpy()) * 128
    assert (width > 60) == whole
    assert whole or width == pytest.approx(32, abs=2)  # 32 / (32 + 32) of 64


# --- sharing the work ---


@pytest.mark.parametrize("shards, batch_size", [(1, 7), (2, 60), (3, 4), (3, 17), (7, 4)])
def test_shards_evaluate_every_picture_once(levels, shards, batch_size):
    found, lengths = [], set()
    for index in range(shards):
        dataset = eval_dataset(
            levels, config(), image_size=16, batch_size=batch_size, style="v2", shard=(index, shards)
        )
        batches = list(dataset)
        lengths.add(len(batches))
        assert {len(images) for images, *_ in batches} == {batch_size}
        for images, labels, weights in batches:
            real = weights.numpy() == 1
            assert (labels.numpy().sum(axis=-1) == real).all()
            found += examples_of([(images.numpy()[real], None)])
    assert sorted(found) == list(range(COUNT))
    assert len(lengths) == 1


def test_shards_train_on_different_pictures_in_as_many_batches(levels):
    found = []
    for index in range(3):
        dataset = train_dataset(
            levels, config(batch_size=12), StageControls(stage()), style="v2", seed=0, shard=(index, 3)
        )
        batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
        assert [len(images) for images, _ in batches] == [4] * (COUNT // 12)
        found += examples_of(batches)
    assert len(set(found)) == len(found)


def test_shards_together_have_the_batches_of_one_pipeline(levels):
    controls = StageControls(stage())
    options = {"style": "v2", "seed": 3}
    whole = [images.numpy() for images, _ in train_dataset(levels, config(batch_size=12), controls, **options)]
    shards = [train_dataset(levels, config(batch_size=12), controls, **options, shard=(i, 3)) for i in range(3)]
    parts = [[images.numpy() for images, _ in shard] for shard in shards]
    for batch, *shares in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch, np.concatenate(shares))


def test_shards_of_what_is_too_large_to_shuffle_at_once_read_their_own_part(levels):
    data = config(batch_size=12, shuffle_buffer=COUNT - 1)
    for index in range(3):
        dataset = train_dataset(levels, data, StageControls(stage()), style="v2", seed=0, shard=(index, 3))
        found = examples_of([(images.numpy(), labels.numpy()) for images, labels in dataset])
        assert len(found) == COUNT // 12 * 4
        assert all(example % 3 == index for example in found)


def test_batch_that_cannot_be_shared_out(levels):
    with pytest.raises(
        ValueError, match=r"data\.batch_size: expected a multiple of the 3 input pipelines\. Received: 8"
    ):
        train_dataset(levels, config(), StageControls(stage()), style="v2", seed=0, shard=(0, 3))


# --- bad images ---

BAD = (7, 20, 33)


@pytest.fixture(scope="module")
def with_bad_ones():
    """As `levels`: example 7 is no picture, 20 is empty, and 33 has a label beyond the classes."""
    pictures = [flat_picture(4 * i) for i in range(COUNT)]
    pictures[7], pictures[20] = b"no picture", b""
    return make_source(pictures, [5 if i == 33 else i % 5 for i in range(COUNT)])


def test_bad_images_are_left_out_and_the_epoch_filled_up(with_bad_ones, tmp_path):
    told = []
    bad_images = BadImages(tmp_path / "bad.csv", limit=0.1, tell=told.append)
    controls = StageControls(stage())
    dataset = train_dataset(with_bad_ones, config(), controls, style="v2", seed=0, bad_images=bad_images)
    for epoch in (0, 1):
        controls.epoch.assign(epoch)
        found = examples_of([(images.numpy(), None) for images, _ in dataset])
        assert len(found) == 48
        assert set(found) == set(range(COUNT)) - set(BAD)
    assert bad_images.known("train") == [*BAD]
    assert len(told) == 3  # once, not each epoch
    rows = {int(row["key"]): row for row in csv.DictReader((tmp_path / "bad.csv").open())}
    assert set(rows) == set(BAD)
    assert all(row["split"] == "train" and row["where"] == f"example {key}" for key, row in rows.items())
    assert rows[20]["reason"].startswith("empty")
    assert rows[33]["reason"] == "label 5: expected 0 to 4"
    assert "JPEG" in rows[7]["reason"]


@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_going_on_after_bad_images_gives_the_same_batches(with_bad_ones, tmp_path, shard):
    def start():
        bad_images = BadImages(tmp_path / "bad.csv", limit=0.1, tell=lambda _: None)
        options = {"style": "v2", "seed": 0, "shard": shard, "bad_images": bad_images}
        return train_dataset(with_bad_ones, config(), controls, **options)

    controls = StageControls(stage())
    whole = [(images.numpy(), labels.numpy()) for images, labels in start()]
    again = start()
    for first in (1, 3, 5):
        controls.first_batch.assign(first)
        assert checksum([(images.numpy(), labels.numpy()) for images, labels in again]) == checksum(whole[first:])


def test_bad_images_have_no_weight_in_evaluation(with_bad_ones):
    bad_images = BadImages(limit=0.1, tell=lambda _: None)
    dataset = eval_dataset(with_bad_ones, config(), image_size=16, batch_size=20, style="v2", bad_images=bad_images)
    weights = np.concatenate([weights.numpy() for *_, weights in dataset])
    assert [*np.flatnonzero(weights == 0)] == [*BAD]
    assert bad_images.known("eval") == [*BAD]


def test_an_error_in_reading_is_no_bad_image(levels):
    """A file that is gone is the end, and not a picture that can be passed over."""

    def open_examples(shard=(0, 1), seed=None):
        zero = tf.constant(0, tf.int64)
        gone = tf.data.TFRecordDataset("/no/such/file").map(lambda record: (zero, record, zero))
        return levels.eval.open(shard, seed).take(5).concatenate(gone)

    split = dataclasses.replace(levels.eval, open=open_examples)
    source = dataclasses.replace(levels, eval=split)
    dataset = eval_dataset(source, config(), image_size=16, batch_size=9, style="v2")
    with pytest.raises(tf.errors.NotFoundError, match="/no/such/file"):
        list(dataset)


def test_too_many_bad_images_stop_the_run(with_bad_ones, tmp_path):
    bad_images = BadImages(tmp_path / "bad.csv", limit=0.04, tell=lambda _: None)
    with pytest.raises(tf.errors.OpError):
        list(train_dataset(with_bad_ones, config(), StageControls(stage()), style="v2", seed=0, bad_images=bad_images))
    expected = r"3 of the 50 train images cannot be used, more than data\.bad_image_limit=0\.04 allows.*bad\.csv"
    with pytest.raises(DataError, match=expected):
        raise bad_images.error
    again = BadImages(tmp_path / "bad.csv", limit=0.04, tell=lambda _: None)
    with pytest.raises(DataError, match=r"3 of the 50 train images cannot be used.*bad\.csv.*delete that file"):
        train_dataset(with_bad_ones, config(), StageControls(stage()), style="v2", seed=0, bad_images=again)


def test_stopping_at_the_first_bad_image_at_every_start(with_bad_ones, tmp_path):
    for _ in range(2):
        bad_images = BadImages(tmp_path / "bad.csv", on_bad_image="error")
        assert bad_images.known("eval") == []
        with pytest.raises(tf.errors.OpError):
            list(eval_dataset(with_bad_ones, config(), image_size=16, batch_size=9, style="v2", bad_images=bad_images))
        with pytest.raises(DataError):  # from what was read ahead
            bad_images.report("eval", with_bad_ones.eval, 21, "empty")  # 20 may have been read ahead itself
        assert "example 7: " in str(bad_images.error)
        assert "data.on_bad_image=skip" in str(bad_images.error)


# --- memory ---


@pytest.mark.slow
def test_memory_stays_flat(run_python, tmp_path):
    """An epoch of 1,000 JPEGs, which as pixels would take 400 MB, five times."""
    Image.effect_noise((400, 340), 60).convert("RGB").save(tmp_path / "one.jpg")
    code = f"""
import tensorflow as tf
from efficientnetv2_tf.data.pipeline import train_dataset
from efficientnetv2_tf.data.sources import Source, Split
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import Stage
from efficientnetv2_tf.training.hparams import DataConfig
from efficientnetv2_tf.training.process_memory import peak_memory
def examples(shard=(0, 1), seed=None):
    return tf.data.Dataset.range(1000).map(lambda key: (key, "{tmp_path}/one.jpg", key % 3))
split = Split(1000, examples, lambda n: [1000 // n] * n, str, read=tf.io.read_file, named_items=True)
controls = StageControls(Stage(index=0, first_epoch=0, epochs=9, image_size=32))
config = DataConfig(batch_size=50, augment="none")
dataset = train_dataset(Source("x", tuple("abc"), split, split), config, controls, style="v2", seed=0)
for epoch in range(5):
    controls.epoch.assign(epoch)
    assert sum(1 for _ in dataset) == 20
    print(peak_memory() // 2**20)
"""
    peaks = [int(line) for line in run_python(code).split()]  # MB
    assert peaks[-1] < peaks[0] * 1.1


# --- several labels ---


def test_several_labels_an_image():
    pictures = [flat_picture(0), flat_picture(4), flat_picture(8)]
    rows = tf.ragged.constant([[0, 3], [], [2]], dtype=tf.int64)

    def examples(shard=(0, 1), seed=None):
        labels = tf.data.Dataset.from_tensor_slices(rows).map(lambda row: row)
        return tf.data.Dataset.zip((tf.data.Dataset.range(3), tf.data.Dataset.from_tensor_slices(pictures), labels))

    split = Split(3, examples, lambda _: [3], str)
    source = Source("many", tuple("abcd"), split, split, multi_label=True)
    ((_, labels, _),) = eval_dataset(source, config(), image_size=16, batch_size=3, style="v2")
    np.testing.assert_array_equal(labels, [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]])


# --- errors ---


def test_batch_larger_than_the_data_set(levels):
    with pytest.raises(ValueError, match=r"data.batch_size: expected at most the 50 training images of 'levels'.*51"):
        train_dataset(levels, config(batch_size=51), StageControls(stage()), style="v2", seed=0)
    assert len(batches_of(levels, config(batch_size=50), StageControls(stage()))) == 1
