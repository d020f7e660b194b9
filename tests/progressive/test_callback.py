"""The callback in real trainings: what the train step receives, batch by batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.layers import ScheduledDropout
from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import plan_stages

BATCHES, BATCH_SIZE, CHANNELS = 3, 4, 8
EPOCHS = 7  # stages of 1, 2, 2 and 2 epochs
PLAN = plan_stages(
    EPOCHS,
    4,
    image_size=(16, 40),
    magnitude=(5, 20),
    mixup=(0, 0.3),
    cutmix=(0, 0.6),
    dropout=(0.1, 0.7),
)
SIZES = {0: 16, 1: 24, 2: 24, 3: 32, 4: 32, 5: 40, 6: 40}
MAGNITUDES = {0: 5, 1: 10, 2: 10, 3: 15, 4: 15, 5: 20, 6: 20}
RATES = {0: 0.1, 1: 0.3, 2: 0.3, 3: 0.5, 4: 0.5, 5: 0.7, 6: 0.7}


class Recorder(keras.Model):
    """Somebody's own model: writes down what each step of a compiled training really gets."""

    def __init__(self):
        super().__init__()
        self.drop = ScheduledDropout(0.9)
        self.dense = keras.layers.Dense(1)
        self.steps, self.traces = [], 0

    def call(self, images, training=False):
        return self.dense(tf.reduce_mean(self.drop(images, training=training), axis=(1, 2)))

    def train_step(self, data):
        self.traces += 1
        images, magnitudes = data
        dropped = self.drop(images, training=True)
        share = tf.reduce_mean(tf.cast(dropped == 0, tf.float32))  # the images are ones
        seen = [*tf.unstack(tf.shape(images)[1:3]), tf.reduce_min(magnitudes), tf.reduce_max(magnitudes), share]
        tf.py_function(self._write_down, seen, [])
        return super().train_step(data)

    def _write_down(self, *seen):
        self.steps.append([float(value) for value in seen])


def pipeline(controls):
    """Somebody's own pipeline, which reads the controls."""

    def example(_):
        side = controls.image_size
        return tf.ones([side, side, CHANNELS]), controls.magnitude

    numbers = tf.data.Dataset.range(BATCHES * BATCH_SIZE)
    return numbers.map(example, num_parallel_calls=2).batch(BATCH_SIZE).prefetch(4)


def train(model=None, plan=PLAN, callbacks=(), **arguments):
    model = model or Recorder()
    controls = StageControls()
    model.compile(optimizer=keras.optimizers.SGD(1e-4), loss="mse", jit_compile=False)
    history = model.fit(
        pipeline(controls),
        callbacks=[ProgressiveLearning(plan, controls), *callbacks],
        verbose=0,
        shuffle=False,
        **{"epochs": EPOCHS, **arguments},
    )
    return model, history, controls


@pytest.fixture(scope="module")
def training():
    keras.utils.set_random_seed(0)
    return train()


class TestOneTraining:
    def test_every_batch_has_its_epoch_s_size_and_magnitude(self, training):
        steps = np.array(training[0].steps)
        epochs = np.repeat(np.arange(EPOCHS), BATCHES)
        assert len(steps) == len(epochs)
        expected = [[SIZES[e], SIZES[e], MAGNITUDES[e], MAGNITUDES[e]] for e in epochs]
        np.testing.assert_array_equal(steps[:, :4], expected)

    def test_every_batch_has_its_epoch_s_dropout(self, training):
        for step, share in enumerate(np.array(training[0].steps)[:, 4]):
            draws = BATCH_SIZE * SIZES[step // BATCHES] ** 2 * CHANNELS
            assert share == pytest.approx(RATES[step // BATCHES], abs=5 * 0.5 / np.sqrt(draws))

    def test_the_step_is_traced_once_and_not_at_the_boundaries(self, training):
        assert 1 <= training[0].traces <= 2

    def test_the_logs_hold_the_stages(self, training):
        history = training[1].history
        assert history["stage"] == [0, 1, 1, 2, 2, 3, 3]
        assert history["image_size"] == [*SIZES.values()]
        assert history["magnitude"] == [*MAGNITUDES.values()]
        assert history["mixup_alpha"] == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
        assert history["cutmix_alpha"] == pytest.approx([0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6])
        assert history["dropout_rate"] == pytest.approx([*RATES.values()])
        assert len(history["loss"]) == EPOCHS

    def test_the_rate_is_no_weight(self, training):
        assert len(training[0].weights) == 2


def test_starting_in_the_third_stage():
    model, history, controls = train(initial_epoch=4)
    steps = np.array(model.steps)
    np.testing.assert_array_equal(steps[:, 0], np.repeat([SIZES[e] for e in (4, 5, 6)], BATCHES))
    np.testing.assert_array_equal(steps[:, 2], np.repeat([MAGNITUDES[e] for e in (4, 5, 6)], BATCHES))
    assert history.history["stage"] == [2, 3, 3]
    assert history.history["dropout_rate"] == pytest.approx([0.5, 0.7, 0.7])
    assert controls.epoch.numpy() == 6


def test_the_next_callback_sees_the_stage_s_values():
    seen = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["image_size"])))
    train(epochs=2, callbacks=[later])
    assert seen == [(0, 16), (1, 24)]


def test_training_on_after_the_plan_keeps_the_last_stage():
    model, history, _ = train(initial_epoch=6, epochs=9)
    assert {step[0] for step in model.steps} == {40.0}
    assert history.history["stage"] == [3, 3, 3]


def test_what_was_skipped_is_skipped_once():
    plan, controls = plan_stages(2, 2, image_size=(8, 8)), StageControls()
    callback = ProgressiveLearning(plan, controls)
    callback.set_model(Recorder())
    callback.on_train_begin()
    controls.first_batch.assign(5)
    callback.on_epoch_begin(0)
    assert controls.first_batch.numpy() == 5
    callback.on_epoch_end(0, {})
    assert controls.first_batch.numpy() == 0


def plain_model():
    inputs = keras.Input([None, None, CHANNELS])
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def test_a_plan_with_dropout_needs_a_layer_that_follows():
    with pytest.raises(ValueError, match=r"no ScheduledDropout layer. Use efficientnetv2_tf.ScheduledDropout"):
        train(plain_model())


def test_a_plan_without_dropout_leaves_layers_alone():
    plan = plan_stages(2, 2, image_size=(8, 16))
    _, history, _ = train(plain_model(), plan, epochs=2)
    assert history.history["image_size"] == [8, 16]
    assert "dropout_rate" not in history.history
    model, history, _ = train(plan=plan, epochs=2)
    assert model.drop.rate == pytest.approx(0.9)
    assert history.history["dropout_rate"] == pytest.approx([0.9, 0.9])


def test_a_dropout_deep_inside_is_found():
    plan, controls = plan_stages(2, 2, dropout=(0.2, 0.4)), StageControls()
    inner = ScheduledDropout(0.9)
    model = keras.Sequential([keras.Sequential([keras.layers.Dense(2), inner]), ScheduledDropout(0.8)])
    callback = ProgressiveLearning(plan, controls)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(1)
    assert inner.rate == model.layers[1].rate == pytest.approx(0.4)
