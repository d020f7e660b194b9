"""Batches: the same ones anywhere for the same seed, and each picture once."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.pipeline import eval_dataset, train_dataset
from efficientnetv2_tf.data.sources import Source, open_source
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import Stage
from efficientnetv2_tf.training.hparams import DataConfig

COUNT = 50


def flat_picture(value):
    """PNG of one grey level: what remains of it tells which example it is."""
    return tf.io.encode_png(tf.fill([8, 8, 3], tf.constant(value, tf.uint8))).numpy()


@pytest.fixture(scope="module")
def levels():
    """A source whose example i is a picture of level 4 i and of class i % 5, in both splits."""
    examples = [flat_picture(4 * i) for i in range(COUNT)], [i % 5 for i in range(COUNT)]

    def make():
        return tf.data.Dataset.from_tensor_slices((examples[0], tf.constant(examples[1], tf.int64)))

    return Source("levels", tuple("abcde"), COUNT, COUNT, make, make)


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
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    assert [len(images) for images, _ in batches] == sizes
    assert examples_of(batches) == list(range(COUNT))
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, np.eye(5, dtype=np.float32)[np.arange(COUNT) % 5])
    assert checksum(batches) == checksum([(images.numpy(), labels.numpy()) for images, labels in dataset])


# --- preprocessing ---


@pytest.mark.parametrize("style", decode.STYLES)
def test_pixel_values_are_scaled_once(levels, style):
    expected = decode.normalize(np.full([COUNT, 1, 1, 3], 4 * np.arange(COUNT)[:, None, None, None]), style).numpy()
    evaluated = np.concatenate(
        [x.numpy() for x, _ in eval_dataset(levels, config(), image_size=16, batch_size=20, style=style)]
    )
    np.testing.assert_allclose(evaluated, np.broadcast_to(expected, evaluated.shape), atol=1e-4)

    trained = batches_of(levels, config(batch_size=COUNT), StageControls(stage()), style=style)[0][0]
    order = np.argsort(trained[:, 0, 0, 0])
    np.testing.assert_allclose(trained[order], np.broadcast_to(expected, trained.shape), atol=1e-4)


@pytest.mark.parametrize("crop, whole", [("none", True), ("random_area", False)])
def test_evaluation_crops_only_if_training_does(crop, whole):
    columns = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], [64, 1, 3])
    png = tf.io.encode_png(columns).numpy()

    def make():
        return tf.data.Dataset.from_tensors((png, tf.constant(0, tf.int64)))

    source = Source("columns", ("a", "b"), 1, 1, make, make)
    ((images, _),) = eval_dataset(source, config(crop=crop), image_size=32, batch_size=1, style="v2")
    width = np.ptp(images.numpy()) * 128
    assert (width > 60) == whole
    assert whole or width == pytest.approx(32, abs=2)  # 32 / (32 + 32) of 64


# --- errors ---


def test_batch_larger_than_the_data_set(levels):
    with pytest.raises(ValueError, match=r"data.batch_size: expected at most the 50 training images of 'levels'.*51"):
        train_dataset(levels, config(batch_size=51), StageControls(stage()), style="v2", seed=0)
    assert len(batches_of(levels, config(batch_size=50), StageControls(stage()))) == 1
