"""The learning rate against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.training.hparams import TrainConfig
from efficientnetv2_tf.training.schedule import WarmupSchedule, make_schedule

PEAK, TOTAL = 0.08, 1000


def values(schedule, steps):
    return np.array([float(schedule(tf.constant(step, tf.int64))) for step in steps])


def test_exponential_is_a_staircase():
    steps = np.array([0, 1, 99, 100, 101, 250, 299, 300, 999])
    schedule = WarmupSchedule(PEAK, "exponential", total_steps=TOTAL, decay_steps=100, decay_factor=0.9)
    np.testing.assert_allclose(values(schedule, steps), PEAK * 0.9 ** (steps // 100), rtol=1e-5)


def test_cosine():
    steps = np.array([0, 1, 250, 500, 999, 1000, 1500])
    schedule = WarmupSchedule(PEAK, "cosine", total_steps=TOTAL)
    expected = PEAK * 0.5 * (1 + np.cos(np.pi * np.minimum(steps / TOTAL, 1)))
    np.testing.assert_allclose(values(schedule, steps), expected, rtol=1e-5, atol=1e-8)
    assert expected[3] == pytest.approx(PEAK / 2)


def test_constant():
    schedule = WarmupSchedule(PEAK, "constant", total_steps=TOTAL)
    np.testing.assert_allclose(values(schedule, [0, 5, 2000]), PEAK, rtol=1e-6)


@pytest.mark.parametrize("kind", ["exponential", "cosine", "constant"])
def test_warms_up_linearly_from_0(kind):
    options = {"total_steps": TOTAL, "decay_steps": 30, "decay_factor": 0.9, "minimum": 0.001}
    schedule = WarmupSchedule(PEAK, kind, warmup_steps=100, **options)
    steps = np.arange(0, 100, 7)
    np.testing.assert_allclose(values(schedule, steps), PEAK * steps / 100, rtol=1e-5)
    after = [100, 101, 500]  # as if there had been no warm-up: the decay counts from the first step
    np.testing.assert_allclose(values(schedule, after), values(WarmupSchedule(PEAK, kind, **options), after))


def test_floor():
    schedule = WarmupSchedule(
        PEAK, "exponential", total_steps=TOTAL, decay_steps=10, decay_factor=0.5, minimum=0.02, warmup_steps=5
    )
    np.testing.assert_allclose(values(schedule, [0, 1, 10, 20, 30, 900]), [0, 0.016, 0.04, 0.02, 0.02, 0.02], rtol=1e-5)


def test_for_a_batch():
    config = TrainConfig(
        lr_per_256_images=0.016, lr_warmup_epochs=1.5, lr_decay_epochs=2.5, lr_decay_factor=0.9,
        lr_min_per_256_images=0.001,
    )  # fmt: skip
    schedule = make_schedule(config, batch_size=1024, steps_per_epoch=10, epochs=40)
    assert schedule.get_config() == {
        "peak": 0.064,
        "kind": "exponential",
        "total_steps": 400,
        "warmup_steps": 15,
        "decay_steps": 25.0,
        "decay_factor": 0.9,
        "minimum": 0.004,
    }
    np.testing.assert_allclose(
        values(schedule, [3, 24, 25, 60]), [0.064 * 3 / 15, 0.064, 0.064 * 0.9, 0.064 * 0.81], rtol=1e-5
    )


def test_decay_on_the_release_values_happens_at_the_right_step():
    # 2.4 epochs of 312 steps are 748.8 steps, so the k-th drop is at step ceil(748.8 k).
    schedule = make_schedule(TrainConfig(), batch_size=4096, steps_per_epoch=312, epochs=350)
    for k in (3, 50, 140):
        first = int(np.ceil(748.8 * k))
        before, after = values(schedule, [first - 1, first])
        assert after / before == pytest.approx(0.97, rel=1e-4)
        assert after == pytest.approx(0.016 * 16 * 0.97**k, rel=1e-4)


def test_round_trip():
    schedule = WarmupSchedule(PEAK, "cosine", total_steps=TOTAL, warmup_steps=50, minimum=0.001)
    data = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(data, custom_objects={"WarmupSchedule": WarmupSchedule})
    steps = [0, 20, 50, 400, 1000]
    np.testing.assert_array_equal(values(again, steps), values(schedule, steps))
    assert again.get_config() == schedule.get_config()


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"kind.*exponential.*cosine.*constant.*'linear'"):
        WarmupSchedule(PEAK, "linear", total_steps=TOTAL)
