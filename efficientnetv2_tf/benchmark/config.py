"""The configuration of a benchmark: a section `benchmark` beside those of a training."""

from typing import Annotated

import pydantic

from efficientnetv2_tf.training.hparams import Config, Count, CountOrOff, Frozen, Models, Strings, among

PARTS = ("training", "first_step", "stage_switch", "memory", "inference", "roofline", "growth", "progressive")
# `progressive` trains networks to the end, which takes long, so it is asked for by name.
DEFAULT_PARTS = tuple(part for part in PARTS if part != "progressive")
# With which this package is compared, where they are installed.
LIBRARIES = ("keras.applications", "keras-hub", "keras-cv", "timm")
Counts = Annotated[
    tuple[Count, ...],
    pydantic.Field(min_length=1),
    pydantic.BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class BenchmarkConfig(Frozen):
    """What is measured, and on how much work. All sides in pixels."""

    parts: Annotated[Strings, among("parts", PARTS), pydantic.Field(min_length=1)] = DEFAULT_PARTS
    models: Annotated[Models, pydantic.Field(min_length=1)] = ("efficientnetv2-b0", "efficientnetv2-s")
    libraries: Annotated[Strings, among("libraries", LIBRARIES)] = LIBRARIES
    image_size: Count = 128  # of training
    batch_size: Count = 32  # of training
    inference_image_size: Count = 224
    inference_batch_sizes: Counts = (1, 32)
    rounds: Count = 5  # in which each network takes its turn
    steps: Count = 3  # of a turn, after one that is not counted; the median over rounds is shown
    seed: CountOrOff = 0
    # Each is trained as it says, and with its image size or regularisation held at the last stage's.
    progressive_recipes: Annotated[Strings, pydantic.Field(min_length=1)] = ("benchmark_digits", "benchmark_mnist5k")
    progressive_seeds: Count = 3  # from benchmark.seed on


class BenchmarkRecipe(Config):
    """A `Config`, and what to measure."""

    benchmark: BenchmarkConfig = BenchmarkConfig()
