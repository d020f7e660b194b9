"""The steps of a progressive training: what counts as a stall, and a real training."""

import json

import pytest

from efficientnetv2_tf.benchmark import stage_switch
from efficientnetv2_tf.training.hparams import ConfigError

# (epoch, image size, seconds of each of its steps)
EPOCHS = [(0, 32, [9, 1, 1]), (1, 32, [4, 1, 1]), (2, 64, [8, 2, 2]), (3, 64, [2.4, 2, 2])]


@pytest.fixture
def steps():
    ends, now = [], 0.0
    for epoch, size, seconds in EPOCHS:
        for second in seconds:
            now += second
            ends.append((epoch, size, now))
    return stage_switch._as_steps(ends, 0.0)


def test_steps_from_their_ends(steps):
    assert [step["seconds"] for step in steps] == pytest.approx([9, 1, 1, 4, 1, 1, 8, 2, 2, 2.4, 2, 2])
    assert [number for number, step in enumerate(steps) if step["first_of_epoch"]] == [0, 3, 6, 9]
    assert [number for number, step in enumerate(steps) if step["first_of_size"]] == [0, 6]


def test_a_stall_is_named_and_the_first_step_of_a_size_is_none(steps):
    found = stage_switch.summarize(steps)
    assert [(step["epoch"], step["image_size"]) for step in found["stalls"]] == [(1, 32)]
    small, large = found["sizes"]
    assert (small["median"], small["first"], small["epoch_first"], small["longest"]) == pytest.approx((1, None, 4, 1))
    assert (large["median"], large["first"], large["epoch_first"], large["longest"]) == pytest.approx((2, 8, 2.4, 2))
    result = {
        "dataset": "digits",
        "steps": 3,
        "stall": 2.0,
        "noticed": 0.5,
        "models": {"testing": found},
        "left_out": {},
    }
    (table,) = stage_switch.tables(result)
    assert table.rows[1] == ("testing", "64", "2.000", "8.000 (4.0 x)", "2.400 (1.2 x)", "2.000 (1.0 x)")
    assert table.note.endswith("Stalls: testing at 32 px, epoch 2: 4.0 s.")


def test_there_are_pictures_for_all_steps(recipe, steps, console, monkeypatch):
    assert [stage_switch.steps_per_epoch(size) for size in (1, 179, 180, 718, 719, 1437)] == [8, 8, 7, 2, 1, 1]
    with pytest.raises(ConfigError, match=r"expected at most 1437 in the part stage_switch.* Received: 1438"):
        stage_switch.measure(recipe("benchmark.batch_size=1438"), console)

    def ask(module, config):
        assert config["data"]["train_split"] == "train[:1400]" and config["train"]["ema_decay"] == 0.9999
        if config["model"]["name"] == "testing":
            raise ConfigError("no more memory")
        return steps

    monkeypatch.setattr(stage_switch, "ask", ask)
    large = recipe("benchmark.batch_size=200,benchmark.models=[testing,efficientnetv2-b0]")
    result = stage_switch.measure(large, console)
    assert result["steps"] == 7 and result["left_out"] == {"testing": "no more memory"}
    (table,) = stage_switch.tables(result)
    assert "steps an epoch: 7" in table.note and table.note.endswith("Left out: testing (no more memory).")
    with pytest.raises(ConfigError, match="testing: no more memory"):
        stage_switch.measure(recipe("benchmark.batch_size=200,benchmark.models=[testing]"), console)


@pytest.mark.slow
def test_a_real_training_switches_twice(recipe, console):
    small = "benchmark.models=[testing],benchmark.image_size=48,benchmark.batch_size=16"
    from efficientnetv2_tf.data.digits import NUM_TRAIN

    assert stage_switch.PICTURES == NUM_TRAIN
    result = stage_switch.measure(recipe(small), console)
    json.dumps(result, allow_nan=False)
    steps = result["models"]["testing"]["steps"]
    assert [step["image_size"] for step in steps] == [32] * 16 + [40] * 16 + [48] * 16
    assert [step["epoch"] for step in steps] == [number // 8 for number in range(48)]
    assert all(step["seconds"] > 0 for step in steps)
