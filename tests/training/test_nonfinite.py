"""What the guard says and does about steps that are not finite."""

import io

import keras
import numpy as np
import pytest
import rich.console
import tensorflow as tf

from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import plan_stages
from efficientnetv2_tf.training import trainer
from efficientnetv2_tf.training.accumulation import GradientAccumulation
from efficientnetv2_tf.training.callbacks import Checkpointing, read_metrics
from efficientnetv2_tf.training.checkpoint import Checkpoints
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.diagnosis import find_cause
from efficientnetv2_tf.training.nonfinite import NonFiniteError, NonFiniteGuard, fit_with_rollbacks
from efficientnetv2_tf.training.recipes import load_config
from efficientnetv2_tf.training.schedule import WarmupSchedule


@pytest.fixture
def progress():
    plan = plan_stages(5, 2, image_size=(16, 32))
    return ProgressiveLearning(plan, StageControls(plan[0]))


def fit(classifier, features, callbacks, *, bad=(), epochs=2, batches=3, first=0):
    """Epochs of so many batches of 3 examples; in the batches with the numbers `bad` the first one is not finite."""
    images, labels = (np.tile(x[:3], [epochs * batches, 1]) for x in features)
    for number in bad:
        images[3 * number] = np.nan
    start = tf.Variable(0, dtype=tf.int64)
    whole = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
    data = tf.data.Dataset.range(1).flat_map(lambda _: whole.skip(start).take(batches))
    data = data.apply(tf.data.experimental.assert_cardinality(batches))
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: start.assign(batches * epoch))
    classifier.fit(data, epochs=epochs, initial_epoch=first, callbacks=[begin, *callbacks], verbose=0, shuffle=False)


# --- the guard ---


def test_stop(make_linear, features, progress, tmp_path):
    classifier = make_linear(keras.optimizers.SGD(WarmupSchedule(0.5, "constant", total_steps=9), name="optimizer"))
    checkpoints, asked = Checkpoints(tmp_path, classifier), []

    def find_cause(*position):
        asked.append(position)
        return "Because."

    guard = NonFiniteGuard("stop", progress, find_cause, first_batch=0)
    with pytest.raises(NonFiniteError) as caught:
        fit(classifier, features, [progress, guard, Checkpointing(checkpoints, 1)], bad=[4])
    assert str(caught.value) == (
        "The loss is nan in stage 1 (16 px), epoch 2, at training step 5 (batch 2 of the epoch), with learning rate "
        "0.5 and no loss scale. Because."
    )
    assert asked == [(1, 1)]
    assert checkpoints.restore() == (1, 1)
    assert int(classifier.optimizer.iterations) == 4


def accumulating(classifier, parts):
    """The classifier; with more than one part it computes each batch in so many."""
    if parts > 1:
        classifier.accumulation = GradientAccumulation(classifier.network.trainable_variables, parts)
    return classifier


def assert_same(classifier, other):
    for a, b in zip(classifier.network.get_weights(), other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(classifier.average.averages.values(), other.average.averages.values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("parts", [1, 3])
def test_skip(make_linear, features, progress, parts):
    told, rows = [], []
    guard = NonFiniteGuard("skip", progress, lambda *_: "Because.", told.append)
    rest = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: rows.append(logs["skipped_steps"]))
    classifier, without = (accumulating(make_linear(ema_decay=0.9), parts) for _ in range(2))
    fit(classifier, features, [progress, guard, rest], bad=[1, 3, 5])
    fit(without, features, [], epochs=1)
    assert rows == [1, 2]
    assert len(told) == 1 and "batch 2 of the epoch" in told[0] and "skipped" in told[0]
    assert_same(classifier, without)  # as if the three steps had never been


@pytest.mark.parametrize("parts", [1, 3])
def test_rollback_undoes_what_came_after_the_checkpoint(make_linear, features, progress, tmp_path, parts):
    classifier, without = (accumulating(make_linear(ema_decay=0.9), parts) for _ in range(2))
    checkpoints, bad, positions = Checkpoints(tmp_path, classifier), [[4], []], []

    def resume():
        return checkpoints.restore() or (0, 0)

    def train(position):
        positions.append(position)
        guard = NonFiniteGuard("rollback", progress, lambda *_: "Because.")
        epoch = int(position == (0, 3))
        fit(classifier, features, [progress, guard, Checkpointing(checkpoints)], bad=bad.pop(0), first=epoch)

    fit_with_rollbacks(train, resume, checkpoints, "rollback", lambda _: None)
    assert positions == [(0, 0), (0, 3)]
    fit(without, features, [])
    assert int(classifier.optimizer.iterations) == 6
    assert_same(classifier, without)


def test_skipping_is_given_up(make_linear, features, progress):
    classifier = make_linear()
    guard = NonFiniteGuard("skip", progress, lambda *_: "Because.", lambda _: None)
    with pytest.raises(NonFiniteError, match=r"batch 21 of the epoch.*20 steps in a row"):
        fit(classifier, features, [progress, guard], bad=range(1, 40), epochs=1, batches=40)


# --- the cause ---


@pytest.fixture(scope="module")
def batch():
    images = tf.random.stateless_uniform([8, 16, 16, 3], (1, 2), -1, 1)
    return images, tf.one_hot(tf.range(8), 10)


def test_cause(make_classifier, batch):
    images, labels = batch
    classifier = make_classifier()
    before = [v.numpy() for v in classifier.network.variables]
    assert find_cause(classifier, images, labels, parts=2).endswith("with other random masks, all was finite.")
    for value, variable in zip(before, classifier.network.variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    # One picture of the second half whose squares, in the variance's slope, are too large for float32.
    large = tf.tensor_scatter_nd_update(images, [[6, 3, 3, 1]], [1e30])
    assert "finite; the gradient of stem_conv/kernel is the first" in find_cause(classifier, large, labels, parts=2)
    assert "The images are not finite" in find_cause(classifier, images / 0, labels)
    excite = next(layer for layer in classifier.network._flatten_layers() if layer.name == "se")
    before = excite.expand.bias.numpy()
    excite.expand.bias.assign(before + np.inf)  # the gate is 1, and hides it
    assert f"is {excite.path}/expand, and neither are its weights" in find_cause(classifier, images, labels)
    excite.expand.bias.assign(before)
    kernel = classifier.network.get_layer("blocks_1").project_conv.kernel
    kernel.assign(kernel * np.nan)
    sentence = find_cause(classifier, images, labels)
    assert sentence == (
        "The first layer whose output is not finite is blocks_1/project_conv, and neither are its weights."
    )


# --- the whole trainer ---


def train(folder, monkeypatch, policy, bad):
    """A training of 2 epochs of 5 steps, of whose steps (counted in this process) `bad` ones are not finite."""
    output, sums, step = io.StringIO(), [], Classifier._train_step

    def poisoned(self, images, labels):
        def note(images):
            sums.append(float(tf.reduce_sum(images)))
            return np.float32(np.nan if len(sums) - 1 in bad else 1.0)

        factor = tf.py_function(note, [images], tf.float32)
        return step(self, images * tf.reshape(factor, []), labels)

    monkeypatch.setattr(Classifier, "_train_step", poisoned)
    overrides = "data.batch_size=240,progressive.image_size=[20,24],train.checkpoint_every_steps=3"
    config = load_config("testing", f"{overrides},train.on_nonfinite={policy}")
    console = rich.console.Console(file=output, width=1000)
    try:
        return trainer.train(config, folder, console=console), sums, output.getvalue()
    except NonFiniteError as error:
        return str(error), sums, output.getvalue()


@pytest.mark.slow
def test_rollback(tmp_path, monkeypatch):
    summary, sums, output = train(tmp_path, monkeypatch, "rollback", [4, 6])
    # 0 1 2 3 4! back to 3: 3' 4'! back to 3: 3" 4", and the second epoch.
    assert len(sums) == 4 + 1 + 1 + 1 + 2 + 5
    assert len({round(x, 2) for x in (sums[3], sums[5], sums[7])}) == 3  # other pictures each time
    assert summary["steps"] == 10
    assert [row["epoch"] for row in read_metrics(tmp_path / "metrics.csv")] == [1, 2]
    assert "The loss is nan in stage 1 (20 px), epoch 1, at training step 5 (batch 5 of the epoch)" in output
    assert "Going back to the newest checkpoint, time 2 of at most 3." in output
    assert output.count("Going on from a checkpoint at epoch 1, step 4 of 5.") == 2


@pytest.mark.slow
def test_rollback_gives_up_and_remembers_that(tmp_path, monkeypatch):
    message, sums, _ = train(tmp_path, monkeypatch, "rollback", {1, 3, 9, 11})
    # Back to the beginning twice; after the checkpoint at step 3, once more; then it is over.
    assert len(sums) == 2 + 2 + 6 + 2
    assert "It went back 3 times already." in message and "train.lr_per_256_images" in message
