"""The real trainer in this process: what its step receives, how often it is traced, what a restart does."""

import csv
import io
import json
import os
import signal
from typing import get_args

import pytest
import rich.console
import tensorflow as tf

from efficientnetv2_tf.networks.normalization import NORMALIZATIONS
from efficientnetv2_tf.networks.preprocessing import STYLES
from efficientnetv2_tf.training import progress, trainer
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.evaluation import evaluate
from efficientnetv2_tf.training.hparams import ACTIVATIONS, OPERATIONS, DataConfig, ModelConfig
from efficientnetv2_tf.training.recipes import load_config
from efficientnetv2_tf.training.stopping import Interrupted

OVERRIDES = (
    "data.batch_size=240,train.epochs=4,progressive.stages=4,progressive.image_size=[20,32],train.eval_every_epochs=4"
)
STEPS = 1437 // 240


def console():
    return rich.console.Console(file=io.StringIO(), width=200)


@pytest.fixture
def seen(monkeypatch):
    """What the training steps received: {"traces": number, "sizes": [side of each step's images]}."""
    record = {"traces": 0, "sizes": []}
    original = Classifier._train_step

    def step(self, images, labels):
        record["traces"] += 1

        def note(size):
            record["sizes"].append(int(size))
            return size

        size = tf.py_function(note, [tf.shape(images)[1]], tf.int32)
        with tf.control_dependencies([size]):
            return original(self, tf.identity(images), labels)

    monkeypatch.setattr(Classifier, "_train_step", step)
    return record


@pytest.mark.slow
def test_one_trace_and_the_planned_sizes_step_by_step(seen, tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(trainer.callbacks, "release_free_memory", lambda: released.append(len(seen["sizes"])))
    summary = trainer.train(load_config("testing", OVERRIDES), tmp_path / "run", console=console())
    assert seen["sizes"] == [20] * STEPS + [24] * STEPS + [28] * STEPS + [32] * STEPS
    assert 1 <= seen["traces"] <= 2
    assert released == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]
    assert summary["steps"] == 4 * STEPS
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["image_size"] for row in rows] == ["20", "24", "28", "32"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)


@pytest.fixture(scope="module")
def told_to_stop(tmp_path_factory):
    """[(exit code, summary, output)] of starts of a training: told to stop in two places, and not told."""
    folder, starts = tmp_path_factory.mktemp("told") / "run", []
    small = "data.augment=none,model.blocks=[r1_k3_s2_e1_i16_o16_c1,r1_k3_s2_e4_i16_o24_se0.25]"
    config = load_config("testing", f"data.batch_size=240,progressive.image_size=[20,24],{small}")
    for place in ("build_classifier", "_evaluate", None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(progress.logging, "get_verbosity", lambda: 1)  # a line each batch
            patch.setattr(trainer, "draw_preview", lambda *_: None)  # takes as long as the rest
            if place:
                patch.setattr(trainer, place, told(getattr(trainer, place)))
            output, code = io.StringIO(), 0
            try:
                trainer.train(config, folder, console=rich.console.Console(file=output, width=200))
            except Interrupted as error:
                code = error.exit_code
        starts.append((code, json.loads((folder / "summary.json").read_text()), output.getvalue()))
        if place == "_evaluate":
            # As if the second epoch's evaluation had been cut off, and the file been lost.
            (folder / "metrics.csv").unlink()
    return starts


def told(function):
    """The function, told to stop when it is called."""

    def call(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments)

    return call


@pytest.mark.slow
def test_told_to_stop_outside_of_training_steps(told_to_stop):
    assert [code for code, *_ in told_to_stop] == [143, 143, 0]
    summaries = [summary for _, summary, _ in told_to_stop]
    assert [summary["state"] for summary in summaries] == ["interrupted", "interrupted", "finished"]
    assert all("Stopped by SIGTERM; where it stands is saved." in summary["error"] for summary in summaries[:2])
    assert [summary["epochs_done"] for summary in summaries] == [0, 2, 1]
    assert summaries[2]["test_accuracy"] == summaries[2]["last"]["val_accuracy"]


@pytest.mark.slow
def test_every_evaluation_is_shown_with_its_epoch(told_to_stop):
    outputs = [output for *_, output in told_to_stop]
    assert "SIGTERM: saving after this step" in outputs[1]
    first, last = (f"epoch {n}/2 · stage {n}/2 · {px} px: evaluating, batch 1\n" for n, px in ((1, 20), (2, 24)))
    # Each epoch's, and at the end that of the raw weights, in which it was told to stop.
    assert [outputs[1].count(text) for text in (first, last)] == [1, 2]
    # What was cut off is made up for; then there are those of raw and averaged weights.
    assert [outputs[2].count(text) for text in (first, last)] == [0, 3]


def test_each_worker_keeps_its_own_list_of_bad_images(monkeypatch, tmp_path):
    """What a worker does not know of after a restart shifts its batches."""
    tasks = []
    monkeypatch.setattr(trainer, "_run", lambda task, *_: tasks.append(task))
    monkeypatch.setattr(trainer, "is_chief", lambda _: False)

    def start(worker):
        monkeypatch.setattr(trainer, "worker_index", lambda _: worker)
        trainer.train(load_config("testing", OVERRIDES), tmp_path / "run", console=console())
        return tasks[-1]

    task = start(1)
    task.bad_images.report("train", task.source.train, 7, "cut off")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["bad_images-1.csv"]
    assert start(1).bad_images.known("train") == [7]
    assert start(2).bad_images.known("train") == []


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_evaluates_to_the_same_accuracy_again(tmp_path, policy):
    import keras

    overrides = f"{OVERRIDES},runtime.mixed_precision={policy}"
    summary = trainer.train(load_config("testing", overrides), str(tmp_path / "run"), console=console())
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "run" / "metrics.csv").open())]
    assert len(losses) == 4 and all(1 < loss < 4 for loss in losses)  # 2.3 is chance; not finite would be out of it too
    assert summary["steps"] > 0.9 * 4 * STEPS  # a loss scale that is too large costs a step or two
    results = evaluate(str(tmp_path / "run"), console=console())
    assert results["accuracy"] == summary["test_accuracy"]
    assert results["images"] == 360
    outputs = keras.models.load_model(tmp_path / "run" / "model.keras")(tf.zeros([1, 32, 32, 3]))
    assert outputs.dtype == tf.float32


@pytest.mark.slow
def test_preprocessing_of_the_documentation_gives_the_accuracy(tmp_path):
    import keras

    from efficientnetv2_tf.data.decode import preprocess_eval
    from efficientnetv2_tf.data.sources import open_source

    summary = trainer.train(
        load_config("testing", "train.epochs=3,runtime.profile_steps=2"), tmp_path / "run", console=console()
    )
    assert len(list((tmp_path / "run" / "tensorboard").glob("plugins/profile/*/*.xplane.pb"))) == 1
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    examples = list(open_source("digits").eval.open())
    images = tf.stack([preprocess_eval(image, 32, "v2", crop=False) for _, image, _ in examples])
    right = tf.argmax(model.predict(images, verbose=0), -1) == tf.stack([label for *_, label in examples])
    assert float(tf.reduce_mean(tf.cast(right, tf.float32))) == pytest.approx(summary["test_accuracy"], abs=1e-6)


def test_names_checked_without_tensorflow_are_those_that_exist():
    import keras

    from efficientnetv2_tf.data.image_ops import OP_NAMES

    assert sorted(OPERATIONS) == sorted(OP_NAMES)
    assert all(callable(keras.activations.get(name)) for name in ACTIVATIONS)
    assert get_args(ModelConfig.model_fields["normalization"].annotation) == NORMALIZATIONS
    styles, none = get_args(DataConfig.model_fields["preprocessing"].annotation)
    assert {*get_args(styles)} == {*STYLES} and none is type(None)


@pytest.mark.slow
def test_the_network_carries_what_it_was_trained_with(seen, tmp_path):
    import keras

    other = (
        "train.epochs=1,progressive.stages=1,model.normalization=group,data.preprocessing=finetune,"
        "train.accumulate_steps=2,train.rematerialize=blocks"
    )
    summary = trainer.train(load_config("testing", other), tmp_path / "run", console=console())
    assert summary["steps"] == summary["steps_per_epoch"] == 22  # of whole batches,
    assert seen["traces"] == 0  # which are trained on in parts
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert (model.normalization, model.preprocessing) == ("group", "finetune")
