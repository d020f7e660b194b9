"""The variables that a data pipeline reads."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import Stage

STAGE = Stage(2, 5, 3, image_size=48, magnitude=7.5, mixup_alpha=0.2, cutmix_alpha=0.4, dropout_rate=0.3)
FIELDS = ("image_size", "magnitude", "mixup_alpha", "cutmix_alpha")


def values(controls):
    return {name: getattr(controls, name).numpy() for name in FIELDS}


def test_takes_over_a_stage():
    controls = StageControls(STAGE)
    assert values(controls) == pytest.approx({name: getattr(STAGE, name) for name in FIELDS})
    assert controls.epoch.numpy() == 5
    controls.assign(STAGE, epoch=7)
    assert controls.epoch.numpy() == 7


def test_everything_is_off_at_first():
    controls = StageControls()
    assert values(controls) == dict.fromkeys(FIELDS, 0)
    assert (controls.epoch.numpy(), controls.first_batch.numpy()) == (0, 0)


def test_types():
    controls = StageControls()
    assert controls.image_size.dtype == tf.int32
    assert {getattr(controls, name).dtype for name in FIELDS[1:]} == {tf.float32}
    assert controls.epoch.dtype == controls.first_batch.dtype == tf.int64
    assert not any(getattr(controls, name).trainable for name in (*FIELDS, "epoch", "first_batch"))


def test_a_pipeline_reads_what_holds_when_an_epoch_begins():
    controls = StageControls(STAGE)
    images = tf.data.Dataset.range(6).map(lambda _: tf.zeros([controls.image_size, 2])).batch(2).prefetch(2)
    assert images.element_spec.shape == [None, None, 2]
    assert [batch.shape for batch in images] == [(2, 48, 2)] * 3
    controls.assign(Stage(3, 8, 1, image_size=64))
    assert [batch.shape for batch in images] == [(2, 64, 2)] * 3


def test_a_skip_that_the_controls_steer():
    controls = StageControls()
    numbers = tf.data.Dataset.range(4).enumerate().filter(lambda index, _: index >= controls.first_batch)
    assert len(list(numbers)) == 4
    controls.first_batch.assign(3)
    np.testing.assert_array_equal([value for _, value in numbers], [3])


@pytest.mark.parametrize(
    "strategy",
    [lambda: tf.distribute.MirroredStrategy(["CPU:0"]), lambda: tf.distribute.OneDeviceStrategy("CPU:0")],
    ids=["mirrored", "one device"],
)
def test_not_inside_a_strategy(strategy):
    with strategy().scope(), pytest.raises(RuntimeError, match=r"outside of `strategy.scope\(\)`"):
        StageControls()
