"""Saving, damage, and going on as if nothing had happened."""

import contextlib
import logging
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data.pipeline import train_dataset
from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import plan_stages
from efficientnetv2_tf.training.callbacks import Checkpointing
from efficientnetv2_tf.training.checkpoint import CheckpointError, Checkpoints, find_damage
from efficientnetv2_tf.training.hparams import DataConfig

BATCH = tf.random.stateless_uniform([8, 16, 16, 3], (1, 2), -1, 1), tf.one_hot(tf.range(8), 10)


def state_of(classifier):
    """Everything that has to be the same after a restart."""
    return {
        "network": [v.numpy() for v in classifier.network.variables],  # seeds of dropout are among them
        "optimizer": [v.numpy() for v in classifier.optimizer.variables],
        "average": [v.numpy() for v in classifier.average.averages.values()] if classifier.average else [],
    }


def assert_equal(one, two):
    for group in one:
        for a, b in zip(one[group], two[group], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=group)


def differing(one, two):
    """The groups in which anything differs."""
    return {g for g in one if any((a != b).any() for a, b in zip(one[g], two[g], strict=True))}


def test_who_does_not_write_restores_what_another_wrote(make_classifier, tmp_path):
    classifier = make_classifier(0)
    reader = Checkpoints(tmp_path / "run", make_classifier(1), writes=False)
    assert reader.save(epoch=1) is None
    assert not (tmp_path / "run").exists()
    writer = Checkpoints(tmp_path / "run", classifier)
    writer.save(epoch=2, batch=1)
    assert reader.restore() == (2, 1)
    writer.save(epoch=3)
    assert reader.restore() == (3, 0)  # written since


# --- round trip ---


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw"])
def test_round_trip_into_a_fresh_classifier(make_classifier, tmp_path, optimizer):
    classifier = make_classifier(0, optimizer=optimizer)
    for _ in range(2):
        classifier.train_step(BATCH)
    saved = state_of(classifier)
    Checkpoints(tmp_path, classifier).save(epoch=3, batch=7)

    fresh = make_classifier(1, optimizer=optimizer)
    assert differing(state_of(fresh), saved) == {"network", "optimizer", "average"}
    assert Checkpoints(tmp_path, fresh).restore() == (3, 7)
    assert_equal(state_of(fresh), saved)
    assert int(fresh.optimizer.iterations) == 2

    for one in (classifier, fresh):  # also what is drawn next is the same
        one.train_step(BATCH)
    assert_equal(state_of(fresh), state_of(classifier))


def test_seeds_are_saved(make_classifier, tmp_path):
    classifier = make_classifier()
    seeds = [v for v in classifier.network.variables if "seed" in v.path]
    assert len(seeds) >= 2
    classifier.train_step(BATCH)
    before = [v.numpy() for v in seeds]
    checkpoints = Checkpoints(tmp_path, classifier)
    checkpoints.save(0, 1)
    classifier.train_step(BATCH)
    assert any((v.numpy() != was).any() for v, was in zip(seeds, before, strict=True))
    checkpoints.restore()
    for seed, was in zip(seeds, before, strict=True):
        np.testing.assert_array_equal(seed.numpy(), was)


def test_nothing_there(make_linear, tmp_path):
    classifier = make_linear()
    before = state_of(classifier)
    assert Checkpoints(tmp_path / "none", classifier).restore() is None
    assert_equal(state_of(classifier), before)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("keep", [1, 3])
def test_keeps_the_newest(make_linear, tmp_path, keep):
    classifier = make_linear()
    for epoch in range(2):
        Checkpoints(tmp_path, classifier, keep).save(epoch)  # a new run each time
    checkpoints = Checkpoints(tmp_path, classifier, keep)
    checkpoints.restore()
    for epoch in range(2, 6):
        checkpoints.save(epoch)
    assert len(list(tmp_path.glob("*.index"))) == keep
    assert len(list(tmp_path.glob("*.data-*"))) == keep
    assert Checkpoints(tmp_path, classifier, keep).restore() == (5, 0)


# --- a training that was interrupted ---


def fit(classifier, digits, folder, *, restore=False):
    """Two epochs of three steps at 16, then 24 px, with a checkpoint every second step."""
    config = DataConfig(batch_size=32, crop="none", flip=False, randaugment_scale_pixels=True)
    plan = plan_stages(2, 2, image_size=(16, 24), magnitude=(3, 6), mixup=(0, 0.2), dropout=(0.0, 0.3))
    controls = StageControls(plan[0])
    checkpoints = Checkpoints(folder, classifier, keep=9)
    epoch, batch = (checkpoints.restore() if restore else None) or (0, 0)
    controls.first_batch.assign(batch)
    batches = train_dataset(digits, config, controls, style="v2", seed=5)
    callbacks = [ProgressiveLearning(plan, controls), Checkpointing(checkpoints, 2, first_batch=batch)]
    classifier.fit(batches, epochs=2, initial_epoch=epoch, callbacks=callbacks, verbose=0, shuffle=False)
    return epoch, batch


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_goes_on_inside_an_epoch_as_if_nothing_had_happened(make_classifier, digits, tmp_path):
    whole = make_classifier(0)
    fit(whole, digits, tmp_path)
    positions = {path.stem: position(path) for path in tmp_path.glob("*.index")}
    assert sorted(positions.values()) == [(0, 2), (0, 3), (1, 2), (1, 3)]

    for name, where in positions.items():  # a crash in the second epoch
        if where > (1, 2):
            for file in tmp_path.glob(f"{name}.*"):
                file.unlink()
    (tmp_path / "checkpoint").unlink()
    resumed = make_classifier(1)
    assert fit(resumed, digits, tmp_path, restore=True) == (1, 2)
    assert int(resumed.optimizer.iterations) == 6
    assert_equal(state_of(resumed), state_of(whole))


def position(index):
    reader = tf.train.load_checkpoint(str(index.with_suffix("")))
    return tuple(int(reader.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE")) for name in ("epoch", "batch"))


# --- damage ---


@pytest.fixture
def three(make_linear, tmp_path):
    """A folder with the checkpoints of epochs 1, 2 and 3, whose weights are 1, 2 and 3."""
    classifier = make_linear()
    checkpoints = Checkpoints(tmp_path / "run", classifier)
    for epoch in (1, 2, 3):
        classifier.network.trainable_variables[0].assign(np.full([4, 3], epoch))
        checkpoints.save(epoch)
    return tmp_path / "run"


def data_of(folder, number):
    return folder / f"ckpt-{number}.data-00000-of-00001"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


DAMAGES = {
    "data cut in half": lambda folder, n: cut(data_of(folder, n)),
    "one bit of the data": lambda folder, n: flip(data_of(folder, n), 50),
    "last byte of the data": lambda folder, n: flip(data_of(folder, n), -1),
    "data empty": lambda folder, n: data_of(folder, n).write_bytes(b""),
    "data missing": lambda folder, n: data_of(folder, n).unlink(),
    "index cut in half": lambda folder, n: cut(folder / f"ckpt-{n}.index"),
    "one bit of the index": lambda folder, n: flip(folder / f"ckpt-{n}.index", 100),
    "index missing": lambda folder, n: (folder / f"ckpt-{n}.index").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_one_is_passed_over(make_linear, three, damage, caplog):
    damage(three, 3)
    classifier = make_linear()
    checkpoints = Checkpoints(three, classifier)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.restore() == (2, 0)
    assert "ckpt-3 is damaged" in caplog.text
    assert (classifier.network.trainable_variables[0].numpy() == 2).all()
    checkpoints.save(3)  # takes the damaged one's place
    assert Checkpoints(three, make_linear()).restore() == (3, 0)


def test_every_flipped_bit_is_found_or_harmless(make_linear, three):
    path = data_of(three, 3)
    for place in range(0, path.stat().st_size, 7):
        flip(path, place)
        assert find_damage(str(three / "ckpt-3")), place
        flip(path, place)
    assert find_damage(str(three / "ckpt-3")) is None


def test_all_damaged(make_linear, three):
    for number in (1, 2, 3):
        cut(data_of(three, number))
    classifier = make_linear()
    before = state_of(classifier)
    with pytest.raises(CheckpointError, match=r"None of the 3 checkpoints in .*run can be read"):
        Checkpoints(three, classifier).restore()
    assert_equal(state_of(classifier), before)


@pytest.mark.parametrize("content", [None, "", "garbage{", 'model_checkpoint_path: "ckpt-3"\nall_model_check', "half"])
def test_damaged_list_does_not_start_the_training_again(make_linear, three, content):
    listing = three / "checkpoint"
    if content is None:
        listing.unlink()
    elif content == "half":
        cut(listing)
    else:
        listing.write_text(content)
    checkpoints = Checkpoints(three, make_linear())
    assert checkpoints.restore() == (3, 0)
    checkpoints.save(4)
    assert sorted(p.stem for p in three.glob("*.index")) == ["ckpt-2", "ckpt-3", "ckpt-4"]


def test_moved_folder(make_linear, three, tmp_path):
    shutil.move(three, tmp_path / "elsewhere")
    assert Checkpoints(tmp_path / "elsewhere", make_linear()).restore() == (3, 0)


# --- of something else ---


def test_another_network(make_linear, three):
    classifier = make_linear(classes=5)
    before = state_of(classifier)
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(three, classifier).restore()
    message = str(caught.value)
    assert "ckpt-3 is of another network or optimizer" in message
    assert "network/dense/kernel: [4, 3] -> [4, 5]" in message.replace("linear/", "")
    assert len(message) < 1000  # no weights in it
    assert_equal(state_of(classifier), before)


def test_another_optimizer_and_no_average(make_linear, three):
    momentum = keras.optimizers.SGD(0.1, momentum=0.9, name="optimizer")
    with pytest.raises(CheckpointError, match=r"of another network or optimizer[^$]*optimizer/.*: none -> \[4, 3\]"):
        Checkpoints(three, make_linear(momentum)).restore()
    with pytest.raises(CheckpointError, match=r"of another network or optimizer[^$]*average/.*: none -> \[4, 3\]"):
        Checkpoints(three, make_linear(ema_decay=0.5)).restore()


# --- what cannot be written ---


@contextlib.contextmanager
def full_disk(size):
    """Files larger than `size` bytes cannot be written: EFBIG in place of a full disk's ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk(make_linear, three):
    before = {path.name: path.read_bytes() for path in three.iterdir()}
    checkpoints = Checkpoints(three, make_linear())
    checkpoints.restore()
    with full_disk(200), pytest.raises(CheckpointError) as caught:
        checkpoints.save(4)
    message = str(caught.value)
    assert f"Could not write a checkpoint into {three}" in message
    assert f"The newest one is {three}/ckpt-3" in message
    assert {name: (three / name).read_bytes() for name in before} == before
    assert Checkpoints(three, make_linear()).restore() == (3, 0)
    checkpoints.save(4)  # there is room again
    assert Checkpoints(three, make_linear()).restore() == (4, 0)


def test_vanished_folder(make_linear, three, tmp_path):
    checkpoints = Checkpoints(three, make_linear())
    checkpoints.restore()
    shutil.move(three, tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"run is no longer there, so nothing was saved.*unmounted"):
        checkpoints.save(4)
    assert not three.exists()
    shutil.move(tmp_path / "elsewhere", three)
    checkpoints.save(4)
    assert Checkpoints(three, make_linear()).restore() == (4, 0)
    with pytest.raises(CheckpointError, match=r"none is no longer there"):
        Checkpoints(tmp_path / "none" / "checkpoints", make_linear()).save(1)
    assert not (tmp_path / "none").exists()


def test_what_a_killed_save_left_is_removed(make_linear, three):
    (three / "ckpt-4_temp").mkdir()
    (three / "ckpt-4_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    assert Checkpoints(three, make_linear(), writes=False).restore() == (3, 0)
    assert (three / "ckpt-4_temp").exists()  # the chief's business
    assert Checkpoints(three, make_linear()).restore() == (3, 0)
    assert not (three / "ckpt-4_temp").exists()


def test_file_in_place_of_the_folder(make_linear, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"Could not write a checkpoint into .*file"):
        Checkpoints(tmp_path / "file", make_linear()).save(1)
    assert (tmp_path / "file").read_text() == "mine"
