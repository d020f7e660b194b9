"""The time of every step of a real training whose pictures grow: what stalls, and where.

`measure` runs `python -m` of this module, which trains through the package's own pipeline, inside one `fit`.
"""

import statistics
import time

from efficientnetv2_tf.benchmark import turns
from efficientnetv2_tf.benchmark.bars import OURS
from efficientnetv2_tf.benchmark.peers import network_config
from efficientnetv2_tf.benchmark.processes import ask
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.training import left_out_note
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.training.hparams import Config, ConfigError

_STAGES, _EPOCHS_A_STAGE, _STEPS = 3, 2, 8  # steps an epoch, where there are as many pictures
PICTURES = 1437  # of digits' training split, whose module loads TensorFlow
_SMALLEST = 32  # px
_STALL, _NOTICED = 2.0, 0.5  # times the median of its size, and s above it: who waits for less does not notice
_NOTE = (
    "Pictures of {dataset}, steps an epoch: {steps}, two epochs a size, in one fit. A step is from the end of the one "
    "before to its own end, so that all between two epochs counts. A stall: more than {stall:g} times the median of "
    "its size and {noticed:g} s above it, but for the first step of a size. The first step of all is in the part "
    "first_step."
)


def measure(recipe, console):
    """See the package; arguments as for `training.measure`.

    Returns:
        {"models": {model: {"steps": [{"epoch", "image_size", "first_of_size", "first_of_epoch", "seconds"}], "sizes":
        [{"image_size", "median", "first", "epoch_first", "longest": seconds}], "stalls": [a step]}}, and the settings}.
        "first" is the first step of a size, None of the first one; "epoch_first" the longest of those that begin other
        epochs, "longest" of the others. "left_out" is {model: reason}.

    Raises:
        ConfigError: there are no pictures for a single step, or no model could be measured.
    """
    number = steps_per_epoch(recipe.benchmark.batch_size)

    def measure_one(model):
        found = summarize(_measure(recipe, model, number))
        console.print(f"  {model}: {len(found['steps'])} steps, {len(found['stalls'])} stalls")
        return found

    models, left_out = turns.measure_each(recipe.benchmark.models, measure_one, console)
    settings = {"dataset": "digits", "steps": number, "stall": _STALL, "noticed": _NOTICED}
    return {**settings, "models": models, "left_out": left_out}


def steps_per_epoch(batch_size):
    """How many steps an epoch has, of those that there are pictures for.

    Raises:
        ConfigError: there are none.
    """
    if batch_size > PICTURES:
        raise ConfigError(
            f"benchmark.batch_size: expected at most {PICTURES} in the part stage_switch, for digits has no more "
            f"pictures. Received: {batch_size}"
        )
    return min(_STEPS, PICTURES // batch_size)


def _measure(recipe, model, steps):
    """The steps of a training, in a process of its own."""
    config = _config(recipe, model, steps)
    return ask("efficientnetv2_tf.benchmark.stage_switch", config.model_dump(mode="json"))


def _config(recipe, model, steps):
    """A short progressive training of the network on pictures that need no download."""
    config, settings = network_config(recipe, model), recipe.benchmark
    count = settings.batch_size * steps
    sections = config.model_dump()
    sections["model"] |= {"num_classes": None}
    sections["data"] |= {"dataset": "digits", "train_split": f"train[:{count}]", "crop": "none", "flip": False}
    sections["progressive"] |= {
        "stages": _STAGES,
        "image_size": (min(max(_SMALLEST, settings.image_size // 2), settings.image_size), settings.image_size),
        "image_size_ramp": "linear",
    }
    sections["train"] |= {"epochs": _STAGES * _EPOCHS_A_STAGE}
    return Config.model_validate(sections)


def summarize(steps):
    """What `measure` gives of a model, from its steps."""
    kept = steps[1:]  # the first of all builds the step
    medians = {size: statistics.median(_seconds(kept, image_size=size)) for size in _sizes(steps)}
    stalls = [
        step for step in kept if not step["first_of_size"] and _is_stall(step["seconds"], medians[step["image_size"]])
    ]
    rows = []
    for size, median in medians.items():
        epochs = _seconds(kept, image_size=size, first_of_size=False, first_of_epoch=True)
        others = _seconds(kept, image_size=size, first_of_epoch=False)
        first = _seconds(kept, image_size=size, first_of_size=True)
        rows.append(
            {
                "image_size": size,
                "median": median,
                "first": max(first, default=None),
                "epoch_first": max(epochs, default=None),
                "longest": max(others, default=None),
            }
        )
    return {"steps": steps, "sizes": rows, "stalls": stalls}


def _is_stall(seconds, median):
    return seconds > max(_STALL * median, median + _NOTICED)


def _sizes(steps):
    return dict.fromkeys(step["image_size"] for step in steps)


def _seconds(steps, **wanted):
    return [step["seconds"] for step in steps if all(step[key] == value for key, value in wanted.items())]


def tables(result):
    """One table for all networks; see the package."""
    rows, stalls = [], []
    for model, found in result["models"].items():
        for row in found["sizes"]:
            rows.append((model, f"{row['image_size']}", f"{row['median']:.3f}", *_cells(row)))
        stalls += [
            f"{model} at {step['image_size']} px, epoch {step['epoch'] + 1}: {step['seconds']:.1f} s"
            for step in found["stalls"]
        ]
    said = f" Stalls: {'; '.join(stalls)}." if stalls else " No step stalled."
    headings = ("", "px", "median step, s", "first of the size", "first of another epoch, longest", "others, longest")
    note = _NOTE.format(**result) + said + left_out_note(result["left_out"])
    return [Table("Steps of a progressive training, s (x median)", headings, tuple(rows), note)]


def _cells(row):
    for key in ("first", "epoch_first", "longest"):
        yield "-" if row[key] is None else f"{row[key]:.3f} ({row[key] / row['median']:.1f} x)"


def draw(figure, result):
    """Seconds of each step, in the order of the training; see the package."""
    figure.suptitle("Steps of a progressive training: seconds")
    axes = figure.subplots(len(result["models"]), 1, squeeze=False)[:, 0]
    for axis, (model, found) in zip(axes, result["models"].items(), strict=True):
        steps = found["steps"]
        kept = list(enumerate(steps))[1:]
        seconds = [step["seconds"] for _, step in kept]
        axis.plot([number for number, _ in kept], seconds, ".-", color=OURS, linewidth=0.8)
        for label, marker, color, wanted in (
            ("first of a size", "D", "tab:orange", lambda step: step["first_of_size"]),
            ("first of another epoch", "s", "tab:green", lambda s: s["first_of_epoch"] and not s["first_of_size"]),
        ):
            points = [(number, step["seconds"]) for number, step in kept if wanted(step)]
            if points:
                axis.plot(*zip(*points, strict=True), marker, color=color, markersize=5, label=label)
        edges = [number for number, step in enumerate(steps) if step["first_of_size"]]
        for edge, size in zip(edges, _sizes(steps), strict=True):
            place = {"xycoords": ("data", "axes fraction"), "xytext": (0, -4), "textcoords": "offset points"}
            axis.annotate(f"{size} px", (edge, 1), **place, va="top", fontsize=8)
        axis.set_ylim(bottom=0, top=1.25 * max(seconds))
        axis.set_title(model, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", fontsize=8)  # below the steps, of which the last are the longest
    axes[-1].set_xlabel("step (the first of all is left out)", fontsize=8)


def _train(config):
    """The steps of a training, in this process."""
    from efficientnetv2_tf.training.startup import load_tensorflow

    load_tensorflow(onednn=config.runtime.onednn)
    import io

    import keras
    import rich.console
    import tensorflow as tf

    from efficientnetv2_tf.progressive.callback import ProgressiveLearning
    from efficientnetv2_tf.progressive.controls import StageControls
    from efficientnetv2_tf.training.building import build_classifier
    from efficientnetv2_tf.training.callbacks import ReleaseMemory
    from efficientnetv2_tf.training.strategy import distribute_epochs
    from efficientnetv2_tf.training.task import make_task

    task = make_task(config, rich.console.Console(file=io.StringIO()))
    keras.utils.set_random_seed(config.runtime.seed)
    strategy = tf.distribute.get_strategy()
    classifier = build_classifier(task.config, strategy, task.steps_per_epoch, task.epochs)
    controls, ends = StageControls(task.plan[0]), []

    def note(step, logs):
        ends.append((len(ends) // task.steps_per_epoch, int(controls.image_size.numpy()), time.perf_counter()))

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    began = time.perf_counter()
    classifier.fit(
        distribute_epochs(strategy, lambda shard: task.train_batches(controls, shard), task.steps_per_epoch),
        epochs=task.epochs,
        steps_per_epoch=task.steps_per_epoch,
        callbacks=[ProgressiveLearning(task.plan, controls), watch, ReleaseMemory()],
        verbose=0,
        shuffle=False,
    )
    return _as_steps(ends, began)


def _as_steps(ends, began):
    """Steps from (epoch, image size, time of the end)."""
    steps, before = [], (None, None, began)
    for end in ends:
        firsts = {"first_of_epoch": end[0] != before[0], "first_of_size": end[1] != before[1]}
        steps.append({"epoch": end[0], "image_size": end[1], **firsts, "seconds": end[2] - before[2]})
        before = end
    return steps


if __name__ == "__main__":
    answer_lines(lambda lines, tell: tell(_train(Config.model_validate_json(next(lines)))))
