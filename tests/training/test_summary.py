"""summary.json tells how a run stands, whatever happens to it."""

import json
import time
import types

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.bad_images import BadImages
from efficientnetv2_tf.training.callbacks import write_metrics
from efficientnetv2_tf.training.hparams import Config
from efficientnetv2_tf.training.run_folder import RunFolder
from efficientnetv2_tf.training.summary import RunSummary

ROWS = [
    {"epoch": 1, "seconds": 4.0, "loss": 2.0, "stage": 0, "image_size": 16, "images_per_second": 80.0},
    {"epoch": 2, "seconds": 3.0, "loss": 1.5, "stage": 0, "image_size": 16, "images_per_second": 90.0,
     "val_loss": 1.6, "val_accuracy": 0.75},
    {"epoch": 3, "seconds": 5.0, "loss": 1.2, "stage": 1, "image_size": 32, "val_loss": 1.7, "val_accuracy": 0.5},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def summary_for(folder, *, ago=0.0):
    source = types.SimpleNamespace(name="digits")
    task = types.SimpleNamespace(
        config=Config(), source=source, epochs=3, steps_per_epoch=7, bad_images=BadImages(tell=print)
    )
    return RunSummary(folder, task, tf.distribute.get_strategy(), time.monotonic() - ago)


def read(folder):
    return json.loads(folder.summary.read_text())


def test_a_finished_run(folder):
    with summary_for(folder).recording() as summary:
        assert read(folder)["state"] == "running"
        write_metrics(folder.metrics, ROWS)
        summary.write(test_accuracy=0.5)
    found = read(folder)
    assert found == json.loads(json.dumps(summary.values))
    assert (found["state"], found["error"], found["sessions"], found["test_accuracy"]) == ("finished", None, 1, 0.5)
    assert (found["epochs"], found["epochs_done"], found["training_seconds"]) == (3, 3, 12.0)
    assert found["best"] == ROWS[1]
    assert found["last"] == ROWS[2]
    assert found["stages"] == [
        {"stage": 1, "image_size": 16, "epochs": 2, "seconds": 7.0, "images_per_second": 90.0},
        {"stage": 2, "image_size": 32, "epochs": 1, "seconds": 5.0, "images_per_second": None},
    ]
    assert found["config"]["train.epochs"] == 350 and found["seed"] == 0
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["peak_memory"] > 100 * 2**20


def test_bad_images_of_all_workers_are_counted_once(folder):
    split = types.SimpleNamespace(count=100, where=str)
    for worker, keys in ((0, [1, 2]), (1, [2, 3, 4])):  # shuffling gives an image to one worker, then to another
        log = BadImages(folder.bad_images(worker), limit=1.0, tell=print)
        for key in keys:
            log.report("train", split, key, "cut off")
    with summary_for(folder).recording() as summary:
        assert summary.values["bad_images"] == {"train": 4, "eval": 0}


def test_a_restart_keeps_what_is_known(folder):
    with summary_for(folder).recording() as summary:
        summary.write(test_accuracy=0.5, steps=21)
    with summary_for(folder).recording():
        found = read(folder)
        assert (found["state"], found["sessions"], found["test_accuracy"], found["steps"]) == ("running", 2, 0.5, 21)


def test_a_folder_that_is_gone_is_not_made_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    summary_for(folder).write()
    assert not folder.path.exists()


@pytest.mark.parametrize(
    "error, state, text",
    [
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(143), "interrupted", "SystemExit: 143"),
        (ValueError("The loss is nan."), "failed", "ValueError: The loss is nan."),
    ],
)
def test_how_a_run_ended(folder, error, state, text):
    with pytest.raises(type(error)), summary_for(folder).recording():
        raise error
    assert (read(folder)["state"], read(folder)["error"]) == (state, text)


def test_the_error_of_the_training_is_not_hidden_by_one_of_the_summary(folder, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    with pytest.raises(ValueError, match="loss"), summary_for(folder).recording():
        monkeypatch.setattr("efficientnetv2_tf.training.summary.write_json", full)
        raise ValueError("loss")


def test_sessions_add_up(folder):
    with pytest.raises(KeyboardInterrupt), summary_for(folder, ago=100.0).recording():
        raise KeyboardInterrupt
    first = read(folder)
    with summary_for(folder, ago=50.0).recording():
        assert (read(folder)["state"], read(folder)["error"]) == ("running", None)
    second = read(folder)
    assert (first["sessions"], second["sessions"]) == (1, 2)
    assert 100 <= first["seconds"] < 110 and first["seconds"] + 50 <= second["seconds"] < 165
    assert second["began"] == first["began"]


@pytest.mark.parametrize("text", ["", "[1]", '{"seconds": '])
def test_a_damaged_file_begins_anew(folder, text):
    folder.summary.write_text(text)
    with summary_for(folder).recording():
        pass
    assert read(folder)["sessions"] == 1


def test_the_callback_writes_each_epoch(folder, make_linear, feature_batches):
    with summary_for(folder).recording() as summary:
        make_linear().fit(feature_batches, epochs=2, verbose=0, shuffle=False, callbacks=[summary.callback()])
        assert (read(folder)["steps"], read(folder)["state"]) == (6, "running")
