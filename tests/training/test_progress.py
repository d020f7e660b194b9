"""What is printed where nobody watches, and the estimate of the time left."""

import io
import types

import pytest
import rich.console

from efficientnetv2_tf.progressive.callback import ProgressiveLearning
from efficientnetv2_tf.progressive.controls import StageControls
from efficientnetv2_tf.progressive.stages import plan_stages
from efficientnetv2_tf.training import progress as progress_module
from efficientnetv2_tf.training.callbacks import Evaluation
from efficientnetv2_tf.training.progress import ProgressDisplay


@pytest.fixture
def stages():
    plan = plan_stages(5, 2, image_size=(16, 32))  # 2 and 3 epochs
    return ProgressiveLearning(plan, StageControls(plan[0]))


@pytest.fixture
def console():
    return rich.console.Console(file=io.StringIO(), width=160, highlight=False)


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress_module, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def display_for(console, stages, **options):
    options = {"batch_size": 4, "steps_per_epoch": 3, "epochs": 5, **options}
    return ProgressDisplay(console, stages.plan, [0.25, 1.0], **options)


def test_one_line_an_epoch(make_linear, feature_batches, stages, console):
    display = display_for(console, stages)
    evaluation = Evaluation(feature_batches, 3, 5, [display])
    make_linear().fit(feature_batches, epochs=5, callbacks=[stages, evaluation, display], verbose=0, shuffle=False)
    display.close()
    text = console.file.getvalue()
    assert all(character == "\n" or character.isprintable() for character in text)
    lines = [line for line in text.splitlines() if "loss" in line]
    assert len(lines) == 5
    assert lines[0].startswith("epoch 1/5 · stage 1/2 · 16 px: ")
    assert lines[2].startswith("epoch 3/5 · stage 2/2 · 32 px: ")
    for line in lines:
        for part in (" images/s · ", "loss ", " · accuracy ", " · lr 0.1"):
            assert part in line
    assert ["test accuracy" in line for line in lines] == [False, False, True, False, True]
    assert "First training step done" in text


def drive(display, clock, epoch, steps, seconds):
    """Steps of an epoch at a constant speed."""
    display.on_epoch_begin(epoch)
    for step in range(steps):
        clock.now += seconds
        display.on_train_batch_end(step, {"loss": 1.0, "accuracy": 0.5})


def test_time_left(stages, console, clock):
    display = display_for(console, stages, steps_per_epoch=4, batch_size=310)
    display.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.01)))
    display.on_train_begin()
    clock.now += 500  # tracing does not count
    drive(display, clock, epoch=0, steps=2, seconds=31)
    drive(display, clock, epoch=3, steps=3, seconds=62)
    display.close()
    text = console.file.getvalue()
    lines = [line for line in text.splitlines() if " left" in line]
    assert [line for line in text.splitlines() if line.startswith("First step at")] == [
        "First step at 16 px: 31.0 s.",
        "First step at 32 px: 62.0 s.",
    ]
    # In stage 1, at a quarter of the cost: 2 of 8 steps are done and 12 steps of 4 times 31 s follow.
    first = 6 * 31 + 12 * 4 * 31
    assert f"{first // 3600}:{first % 3600 // 60:02}:{first % 60:02} left" in lines[0]
    assert "10 images/s" in lines[0]
    # In the second of the last stage's 3 epochs, after 2 or 3 of 4 steps, 62 s each.
    assert "step 2/4" in lines[1]
    assert "0:06:12 left" in lines[1]
    assert "5 images/s" in lines[1]
    assert "0:05:10 left" in lines[2]


@pytest.mark.parametrize("verbosity, lines", [(-2, 1), (-1, 1), (0, 10), (1, 20)])
@pytest.mark.parametrize("terminal", [False, True])
def test_more_lines_where_more_is_asked_for(stages, clock, monkeypatch, verbosity, lines, terminal):
    """21 steps of 5.5 s; the first one's line is that of its time."""
    monkeypatch.setattr(progress_module.logging, "get_verbosity", lambda: verbosity)
    console = rich.console.Console(file=io.StringIO(), width=160, force_terminal=terminal, highlight=False)
    display = display_for(console, stages, steps_per_epoch=21)
    display.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.01)))
    if not terminal:  # the bar writes the same words
        display.on_train_begin()
    display._began = clock.now
    drive(display, clock, epoch=0, steps=21, seconds=5.5)
    expected = 0 if terminal and verbosity < 0 else lines
    assert console.file.getvalue().count("/21 ") == expected


def test_a_long_evaluation_is_not_silent(stages, console, clock):
    display = display_for(console, stages)
    display.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.01)))
    display.on_train_begin()
    drive(display, clock, epoch=0, steps=2, seconds=1)
    for batch in range(10):
        clock.now += 31
        display.on_test_batch_end(batch)
    logs = {"loss": 1.0, "accuracy": 0.5}
    display.on_epoch_end(0, logs)
    display.close()
    found = [line.rpartition(": ")[2] for line in console.file.getvalue().splitlines() if "evaluating" in line]
    assert found == [f"evaluating, batch {number}" for number in (2, 4, 6, 8, 10)]
    assert logs["images_per_second"] == 4.0  # the evaluation does not count


@pytest.mark.parametrize("terminal", [False, True])
def test_an_evaluation_before_any_step_has_its_epoch(make_linear, feature_batches, stages, monkeypatch, terminal):
    monkeypatch.setattr(progress_module.logging, "get_verbosity", lambda: 1)
    console = rich.console.Console(file=io.StringIO(), width=160, force_terminal=terminal, highlight=False)
    display = display_for(console, stages, first_epoch=3)
    for _ in range(2):  # it can be shown again after it was closed
        make_linear().evaluate(feature_batches, callbacks=[display], verbose=0)
        display.close()
    text = console.file.getvalue()
    assert text.count("epoch 4/5 · stage 2/2 · 32 px: evaluating, batch 3\n") == 2
    assert text.count("\x1b[?25l") == (2 if terminal else 0)  # the bar hides the cursor when it begins


def test_restart_inside_an_epoch(stages, console, clock):
    display = display_for(console, stages, steps_per_epoch=4, first_batch=2)
    display.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.01)))
    display.on_train_begin()
    drive(display, clock, epoch=4, steps=2, seconds=61)
    assert "step 4/4" in console.file.getvalue()
    assert "0:00:00 left" in console.file.getvalue()
    display.close()


def test_a_terminal_gets_a_bar_and_the_same_lines(make_linear, feature_batches, stages):
    console = rich.console.Console(file=io.StringIO(), width=160, force_terminal=True, highlight=False)
    display = display_for(console, stages)
    make_linear().fit(feature_batches, epochs=5, callbacks=[stages, display], verbose=0, shuffle=False)
    display.close()
    text = console.file.getvalue()
    assert "\x1b[" in text
    assert text.count("epoch 5/5 · stage 2/2 · 32 px: ") >= 1
