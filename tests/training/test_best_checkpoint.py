"""The best checkpoint survives the newest ones."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.training.best_checkpoint import BestCheckpoint, read_best
from efficientnetv2_tf.training.checkpoint import Checkpoints, find_damage


def evaluated(classifier, folder, accuracies, first=0):
    """Epochs with these evaluations (None: without); the kernel is as large as the epoch's number from 1."""
    checkpoints = Checkpoints(folder, classifier, keep=2)
    best = BestCheckpoint(checkpoints)
    for epoch, accuracy in enumerate(accuracies, first):
        classifier.network.trainable_variables[0].assign(np.full([4, 3], epoch + 1.0))
        checkpoints.save(epoch, 3)
        best.on_epoch_end(epoch, {} if accuracy is None else {"val_accuracy": accuracy, "val_loss": 1 - accuracy})
    return read_best(folder)


def kernel(folder, best):
    name = "network/linear.Sdense.Skernel/.ATTRIBUTES/VARIABLE_VALUE"
    return tf.train.load_checkpoint(str(folder / best["checkpoint"])).get_tensor(name)


def test_survives(make_linear, tmp_path):
    best = evaluated(make_linear(), tmp_path, [0.3, 0.625, 0.5, None, 0.625, 0.25])
    assert best == {"checkpoint": "best/epoch-2", "epoch": 2, "val_accuracy": 0.625, "val_loss": 0.375}
    assert len(list(tmp_path.glob("ckpt-*.index"))) == 2
    assert {path.name for path in (tmp_path / "best").iterdir()} == {
        "best.json", "epoch-2.index", "epoch-2.data-00000-of-00001"
    }  # fmt: skip
    assert find_damage(str(tmp_path / best["checkpoint"])) is None
    assert (kernel(tmp_path, best) == 2).all()
    assert Checkpoints(tmp_path, make_linear()).restore() == (5, 3)  # it is not taken for one of the newest


def test_known_after_a_restart(make_linear, tmp_path):
    evaluated(make_linear(), tmp_path, [0.5])
    assert evaluated(make_linear(), tmp_path, [0.25, 0.375], first=1)["epoch"] == 1
    best = evaluated(make_linear(), tmp_path, [0.75], first=3)
    assert best["epoch"] == 4 and (kernel(tmp_path, best) == 4).all()


def test_an_epoch_that_comes_again_replaces_its_copy(make_linear, tmp_path):
    """As after the checkpoint, and with it the copy, was damaged."""
    best = evaluated(make_linear(), tmp_path, [0.5])
    (tmp_path / f"{best['checkpoint']}.data-00000-of-00001").write_bytes(b"damaged")
    best = evaluated(make_linear(), tmp_path, [0.5])
    assert find_damage(str(tmp_path / best["checkpoint"])) is None


def test_without_hard_links(make_linear, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not here")

    monkeypatch.setattr("os.link", refuse)
    assert (kernel(tmp_path, evaluated(make_linear(), tmp_path, [0.5, 0.25, 0.25, 0.25])) == 1).all()


@pytest.mark.parametrize("content", [None, "{", json.dumps({"checkpoint": "best/epoch-9"})])
def test_nothing_known(tmp_path, content):
    if content:
        (tmp_path / "best").mkdir()
        pathlib.Path(tmp_path / "best" / "best.json").write_text(content)
    assert read_best(tmp_path) is None
