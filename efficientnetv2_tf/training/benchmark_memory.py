"""How much memory a training step takes, and how long: as it is, accumulating gradients, recomputing blocks, and both.

Each of the four is measured in a process of its own, on random pictures; `python -m` of this module is one of them.
"""

import dataclasses
import itertools
import json
import pathlib
import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from efficientnetv2_tf.child_process import ChildEndedError, ChildProcess, answer_lines
from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.hparams import Config, ConfigError, resolve

_STEPS = 5  # measured, after one with tiny pictures and one of full size
_PARTS = 4  # of a batch, where the configuration has no accumulation
_TINY = 32  # px, of the first step's pictures
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class StepCost:
    """What a training step costs.

    Attributes:
        variant: "none", "accumulation", "recomputation" or "both".
        accumulate_steps: parts of a batch.
        rematerialize: "none" or "blocks".
        peak: most memory of the process in bytes, or of tensors on the GPU if there is one.
        step: what of it came with the steps: without TensorFlow, the compiled step, weights, averages and optimizer.
        seconds: of a step, the median.
    """

    variant: str
    accumulate_steps: int
    rematerialize: str
    peak: int
    step: int
    seconds: float


def benchmark_memory(config, *, output, console=None):
    """Measures the four ways, prints them as a table and writes benchmark_memory.json.

    Args:
        config: a `Config`. The image size is the last stage's, and `train.accumulate_steps` is 4 where it is 1.
        output: folder for the file.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        A list of four `StepCost`s.

    Raises:
        ConfigError: the batch cannot be cut, or a process failed, for example for want of memory.
    """
    console, config = console or Console(), resolve(config)
    parts = config.train.accumulate_steps if config.train.accumulate_steps > 1 else _PARTS
    batch_size, size = config.data.batch_size, config.progressive.image_size[1]
    if batch_size % parts:
        raise ConfigError(f"data.batch_size: expected a multiple of the {parts} parts. Received: {batch_size}")
    console.print(f"Measuring training steps of {config.model.name} at {size} px, batch {batch_size} ...")
    ways = {
        "none": (1, "none"),
        "accumulation": (parts, "none"),
        "recomputation": (1, "blocks"),
        "both": (parts, "blocks"),
    }
    costs = []
    for name, way in ways.items():
        costs.append(_in_a_process(config, name, *way))
        console.print(f"{name}: {costs[-1].peak / _MIB:.0f} MiB, {costs[-1].seconds:.2f} s a step")
    console.print(_table(costs, f"{config.model.name}, {size} px, batch {batch_size}"))
    path = pathlib.Path(output) / "benchmark_memory.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps([dataclasses.asdict(c) for c in costs], indent=2) + "\n", encoding="utf-8")
    console.print(f"Wrote {path}")
    return costs


def _in_a_process(config, variant, accumulate_steps, rematerialize):
    way = {"accumulate_steps": accumulate_steps, "rematerialize": rematerialize}
    config = config.model_copy(update={"train": config.train.model_copy(update=way)})
    process = ChildProcess("efficientnetv2_tf.training.benchmark_memory")
    try:
        process.send(config.model_dump(mode="json"))
        return StepCost(variant, accumulate_steps, rematerialize, **process.receive())
    except ChildEndedError as error:
        raise ConfigError(
            f"The process that measured {variant!r} failed; try a smaller data.batch_size. It {error}"
        ) from error
    finally:
        process.close()


def _measure(config):
    """peak, step and seconds of a configuration, in this process."""
    import keras
    import tensorflow as tf

    from efficientnetv2_tf.training.building import build_classifier

    batch_size, size = config.data.batch_size, config.progressive.image_size[1]
    classes = config.model.num_classes or 1000
    config = config.model_copy(update={"model": config.model.model_copy(update={"num_classes": classes})})
    keras.utils.set_random_seed(config.runtime.seed)
    classifier = build_classifier(config, tf.distribute.get_strategy(), _STEPS, config.train.epochs)
    # A first step with tiny pictures compiles, and what that takes is not counted as the step's.
    shapes = [(config.train.accumulate_steps, _TINY)] + [(batch_size, size)] * (_STEPS + 1)
    batches = tf.data.Dataset.from_generator(
        lambda: (_batch(*shape, classes) for shape in shapes),
        output_signature=(tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, classes])),
    )
    times, before = [], []

    def note(batch, logs):
        times.append(time.perf_counter())
        if batch == 0:
            before.append(_memory())

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    classifier.fit(batches, steps_per_epoch=len(shapes), verbose=0, shuffle=False, callbacks=[watch])
    peak = _memory(peak=True)
    seconds = [later - earlier for earlier, later in itertools.pairwise(times)][1:]  # without the first of full size
    return {"peak": peak, "step": peak - before[0], "seconds": statistics.median(seconds)}


def _batch(batch_size, image_size, classes):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, [batch_size, image_size, image_size, 3]).astype(np.float32)
    return images, np.eye(classes, dtype=np.float32)[np.arange(batch_size) % classes]


def _memory(peak=False):
    import tensorflow as tf

    from efficientnetv2_tf.training.process_memory import current_memory, peak_memory

    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_memory_info(gpus[0].name)["peak" if peak else "current"]
    return peak_memory() if peak else current_memory()


def _table(costs, title):
    table = Table(title=title, title_justify="left")
    for heading in ("", "accumulate_steps", "rematerialize", "peak, MiB", "of the step", "ratio", "s a step", "ratio"):
        table.add_column(heading, justify="left" if heading in ("", "rematerialize") else "right")
    first = costs[0]
    for cost in costs:
        table.add_row(
            cost.variant,
            str(cost.accumulate_steps),
            cost.rematerialize,
            f"{cost.peak / _MIB:.0f}",
            f"{cost.step / _MIB:.0f}",
            f"{cost.step / first.step:.2f}",
            f"{cost.seconds:.2f}",
            f"{cost.seconds / first.seconds:.2f}",
        )
    return table


def _serve(lines, tell):
    from efficientnetv2_tf.training.startup import load_tensorflow

    config = Config.model_validate_json(next(lines))
    load_tensorflow(onednn=config.runtime.onednn)
    tell(_measure(config))


if __name__ == "__main__":
    answer_lines(_serve)
