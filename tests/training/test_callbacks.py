"""What happens around the steps, in real trainings of one matrix."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import plan_stages
from efficientnetv2_tf.training import callbacks
from efficientnetv2_tf.training.schedule import WarmupSchedule


@pytest.fixture
def progress():
    plan = plan_stages(5, 2, image_size=(16, 32), magnitude=(2, 6))
    return ProgressiveLearning(plan, StageControls(plan[0]))


def fit(classifier, batches, steps, epochs, first=0):
    classifier.fit(batches, epochs=epochs, initial_epoch=first, callbacks=steps, verbose=0, shuffle=False)


class Recorder(keras.callbacks.Callback):
    """The logs of the epochs, as callbacks before it left them."""

    def __init__(self):
        super().__init__()
        self.epochs = {}

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = dict(logs)


# --- Evaluation ---


@pytest.mark.parametrize("every, evaluated", [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (9, [4])])
def test_evaluates_every_few_epochs_and_after_the_last(make_linear, feature_batches, every, evaluated):
    classifier, recorder = make_linear(ema_decay=0.9), Recorder()
    fit(classifier, feature_batches, [callbacks.Evaluation(feature_batches, every, 5), recorder], 5)
    assert [epoch for epoch, logs in recorder.epochs.items() if "val_loss" in logs] == evaluated
    assert all(("val_accuracy" in logs) == ("val_loss" in logs) for logs in recorder.epochs.values())


def test_evaluates_averaged_weights(make_linear, features, feature_batches):
    classifier = make_linear(ema_decay=0.999)
    classifier.network.trainable_variables[0].assign(np.zeros([4, 3]))  # the average is still the old kernel
    recorder = Recorder()
    fit(classifier, feature_batches, [callbacks.Evaluation(feature_batches, 1, 1), recorder], 1)
    averages = list(classifier.average.averages.values())
    raw = classifier.network.get_weights()
    shown = recorder.epochs[0]["val_loss"]
    assert callbacks.evaluate_averaged(classifier, feature_batches)["loss"] == pytest.approx(shown)
    for weight, before in zip(classifier.network.get_weights(), raw, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert classifier.evaluate(feature_batches, verbose=0, return_dict=True)["loss"] != pytest.approx(shown)
    classifier.network.set_weights([a.numpy() for a in averages])
    assert classifier.evaluate(feature_batches, verbose=0, return_dict=True)["loss"] == pytest.approx(shown)


def test_without_average_the_raw_weights_are_evaluated(make_linear, feature_batches):
    classifier = make_linear()
    expected = classifier.evaluate(feature_batches, verbose=0, return_dict=True)
    assert callbacks.evaluate_averaged(classifier, feature_batches) == expected


# --- Checkpointing ---


class FakeCheckpoints:
    def __init__(self):
        self.saved = []

    def save(self, epoch, batch=0):
        self.saved.append((epoch, batch))


@pytest.mark.parametrize(
    "every, offset, expected",
    [
        (0, 0, [(0, 3), (1, 3)]),
        (2, 0, [(0, 2), (0, 3), (1, 2), (1, 3)]),
        (1, 5, [(0, 6), (0, 7), (0, 8), (1, 1), (1, 2), (1, 3)]),
    ],
)
def test_positions_of_checkpoints(make_linear, feature_batches, every, offset, expected):
    checkpoints = FakeCheckpoints()
    fit(make_linear(), feature_batches, [callbacks.Checkpointing(checkpoints, every, first_batch=offset)], 2)
    assert checkpoints.saved == expected


def test_minutes_between_checkpoints(make_linear, feature_batches, monkeypatch):
    now = iter(range(0, 1000, 40))  # seconds
    # Only the module's own clock: TensorFlow's threads ask theirs too.
    monkeypatch.setattr(callbacks, "time", types.SimpleNamespace(monotonic=lambda: next(now)))
    checkpoints = FakeCheckpoints()
    fit(make_linear(), feature_batches, [callbacks.Checkpointing(checkpoints, every_minutes=1)], 2)
    assert checkpoints.saved == [(0, 2), (0, 3), (1, 2), (1, 3)]


# --- the log ---


def scalars(folder):
    """{tag: {step: value}} of TensorBoard's event files."""
    found = {}
    for file in sorted(folder.iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture
def logged(make_linear, feature_batches, progress, tmp_path):
    """A finished training of 3 epochs: classifier, folder."""
    classifier = make_linear(keras.optimizers.SGD(WarmupSchedule(0.5, "cosine", total_steps=9), name="optimizer"))
    log = callbacks.MetricsLog(tmp_path / "metrics.csv", tmp_path / "tensorboard")
    fit(classifier, feature_batches, [progress, callbacks.Evaluation(feature_batches, 2, 3), log], 3)
    return classifier, tmp_path


def test_csv(logged):
    _, folder = logged
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("epoch,learning_rate,seconds,")
    rows = callbacks.read_metrics(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["stage"] for row in rows] == [0, 0, 1]
    assert [row["image_size"] for row in rows] == [16, 16, 32]
    assert [row["magnitude"] for row in rows] == [2, 2, 6]
    expected = [0.5 * 0.5 * (1 + np.cos(np.pi * step / 9)) for step in (3, 6, 9)]
    np.testing.assert_allclose([row["learning_rate"] for row in rows], expected, rtol=1e-5, atol=1e-8)
    assert ["val_accuracy" in row for row in rows] == [False, True, True]
    assert all(0 <= row["accuracy"] <= 1 and row["loss"] > 0 and row["seconds"] >= 0 for row in rows)


def test_tensorboard(logged):
    _, folder = logged
    rows, found = callbacks.read_metrics(folder / "metrics.csv"), scalars(folder / "tensorboard")
    assert set(found) == {name for row in rows for name in row}
    for name, values in found.items():
        assert values == pytest.approx({row["epoch"]: row[name] for row in rows if name in row}), name
    assert found["image_size"] == {1: 16, 2: 16, 3: 32}


def test_rows_are_redone_after_a_restart(logged, feature_batches, progress):
    classifier, folder = logged
    before = callbacks.read_metrics(folder / "metrics.csv")
    log = callbacks.MetricsLog(folder / "metrics.csv", folder / "tensorboard", first_epoch=2)
    assert log.rows == before[:2]
    fit(classifier, feature_batches, [progress, log], 4, first=2)
    after = callbacks.read_metrics(folder / "metrics.csv")
    assert [row["epoch"] for row in after] == [1, 2, 3, 4]
    assert after[:2] == before[:2]
    assert after[2]["loss"] != before[2]["loss"]


def test_rows_survive_writing_and_reading(tmp_path):
    rows = [
        {"epoch": 1, "loss": 0.1 + 0.2, "rate": 1e-30},
        {"epoch": 2, "loss": -3.5, "val_loss": float("inf"), "stage": -1},
    ]
    path = tmp_path / "deep" / "metrics.csv"
    callbacks.write_metrics(path, rows)
    assert callbacks.read_metrics(path) == rows
    assert [type(value) for value in callbacks.read_metrics(path)[0].values()] == [int, float, float]
    assert path.read_text().splitlines()[0] == "epoch,loss,rate,val_loss,stage"
