"""The paper's ablation: what it costs to fuse the blocks of EfficientNet-B4's stages (arXiv 2104.00298, table 3).

A fused block has one k x k convolution where MBConv has a 1 x 1 expansion and a depthwise convolution: more arithmetic,
which accelerators do faster in the early stages, where pictures are large and channels few.
"""

import dataclasses
import json
import pathlib
import statistics
import time

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.networks.block_string import expand, format_block, parse_block, round_filters
from efficientnetv2_tf.networks.cost import multiply_adds, parameters
from efficientnetv2_tf.networks.variants import get_variant

BACKBONE = "efficientnet-b4"
_EARLY = 3  # stages whose fused blocks get 3 x 3 kernels
_REPEATS = 5  # measurements, of which the median is shown


@dataclasses.dataclass(frozen=True)
class Published:
    """The paper's row.

    Attributes:
        parameters: in millions.
        multiply_adds: in billions, at 380 px.
        top1: on ImageNet in percent.
        tpu: images/s on a TPUv3 core.
        v100: images/s on a V100.
    """

    parameters: float
    multiply_adds: float
    top1: float
    tpu: int
    v100: int


# Number of stages that are fused, from the first on -> the paper's figures.
PUBLISHED = {
    0: Published(19.3, 4.5, 82.8, 262, 155),
    3: Published(20.0, 7.5, 83.1, 362, 216),
    5: Published(43.4, 21.3, 83.1, 327, 223),
    7: Published(132.0, 34.4, 81.7, 254, 206),
}


@dataclasses.dataclass(frozen=True)
class FusedRow:
    """B4 with some of its stages fused.

    Attributes:
        name: which stages are.
        blocks: block strings, one a stage, before B4's width and depth are applied.
        parameters: trainable ones, with 1,000 classes.
        multiply_adds: of one image.
        published: the paper's figures.
    """

    name: str
    blocks: tuple[str, ...]
    parameters: int
    multiply_adds: int
    published: Published


def fused_table(image_size=380):
    """B4 with no stage fused, and with stages 1-3, 1-5 and 1-7.

    The paper does not say which kernels the fused blocks have. With 3 x 3 kernels in stages 1-3, and later ones keeping
    their own and all blocks their squeeze-and-excitation, both columns are within 3 % of the paper's; with B4's own
    5 x 5 kernels in stage 3 as well, stages 1-3 would take 29 % more multiply-adds than it says.

    Args:
        image_size: side in pixels; the paper's is 380.

    Returns:
        A list of `FusedRow`s.
    """
    variant = get_variant(BACKBONE)
    feature_size = round_filters(variant.feature_size, variant.width_coefficient)
    rows = []
    for fused, published in PUBLISHED.items():
        blocks = fused_blocks(fused)
        expanded = expand(blocks, variant.width_coefficient, variant.depth_coefficient)
        rows.append(
            FusedRow(
                name=f"stages 1-{fused}" if fused else "none",
                blocks=blocks,
                parameters=parameters(expanded, feature_size=feature_size)[0],
                multiply_adds=multiply_adds(expanded, image_size, feature_size=feature_size),
                published=published,
            )
        )
    return rows


def fused_blocks(stages):
    """B4's block strings with the blocks of the first so many stages fused."""
    specs = map(parse_block, get_variant(BACKBONE).blocks)
    return tuple(
        format_block(_fused(spec, number) if number <= stages else spec) for number, spec in enumerate(specs, start=1)
    )


def _fused(spec, number):
    return dataclasses.replace(spec, fused=True, kernel_size=3 if number <= _EARLY else spec.kernel_size)


def benchmark_fused(*, image_size=128, batch_size=16, output=".", console, **scaling):
    """Measures training and inference of `fused_table`'s networks on this device, in turns.

    Args:
        image_size: side in pixels.
        batch_size: images of a step.
        output: folder for benchmark_fused.json.
        console: a `rich.console.Console`.
        **scaling: `width_coefficient` and `depth_coefficient` of smaller networks; left out, they are B4's.

    Returns:
        A dictionary for each row: its fields, `train` and `infer` in images/s (medians), and `train_ratio` and
        `infer_ratio` to the first row's.
    """
    rows = fused_table()
    measured = _measure(rows, image_size, batch_size, console, scaling)
    results = [
        {
            **dataclasses.asdict(row),
            **rates,
            **{f"{kind}_ratio": rates[kind] / measured[0][kind] for kind in ("train", "infer")},
        }
        for row, rates in zip(rows, measured, strict=True)
    ]
    console.print(_table(results, f"B4 with fused stages, {image_size} px, batch {batch_size}"))
    with replacing(pathlib.Path(output) / "benchmark_fused.json") as temporary:
        content = {"image_size": image_size, "batch_size": batch_size, "device": _device(), "rows": results}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console.print(f"Wrote {pathlib.Path(output) / 'benchmark_fused.json'}")
    return results


def _measure(rows, image_size, batch_size, console, scaling):
    """Of each row, {"train", "infer"} in images a second."""
    steps = []
    for row in rows:
        began = time.perf_counter()
        steps.append(_steps(row, image_size, batch_size, scaling))
        for step in steps[-1].values():
            step()
        console.print(f"{row.name}: built and compiled in {time.perf_counter() - began:.0f} s")
    times = [{kind: [] for kind in step} for step in steps]
    for repeat in range(1, _REPEATS + 1):
        for taken, step in zip(times, steps, strict=True):
            for kind, run in step.items():
                began = time.perf_counter()
                run()
                taken[kind].append(time.perf_counter() - began)
        console.print(f"measurement {repeat} of {_REPEATS}")
    return [{kind: batch_size / statistics.median(found) for kind, found in taken.items()} for taken in times]


def _steps(row, image_size, batch_size, scaling):
    """Functions that run one training and one inference step of a row's network, to their end."""
    import keras
    import numpy as np

    from efficientnetv2_tf.networks.model import get_model

    keras.utils.set_random_seed(0)
    model = get_model(BACKBONE, blocks=list(row.blocks), num_classes=1000, **scaling)
    # XLA makes convolutions slower on CPUs.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss, jit_compile=_device() != "CPU")
    images = np.random.default_rng(0).uniform(-1, 1, [batch_size, image_size, image_size, 3]).astype(np.float32)
    labels = np.arange(batch_size) % 1000
    return {"train": lambda: model.train_on_batch(images, labels), "infer": lambda: model.predict_on_batch(images)}


def _device():
    import keras

    return "CPU" if "cpu" in str(keras.distribution.list_devices()[0]).lower() else "accelerator"


def _table(results, title):
    import rich.table

    first = PUBLISHED[0]
    table = rich.table.Table(title=title, title_justify="left")
    table.add_column("fused")
    for heading in (
        "parameters", "paper", "multiply-adds at 380 px", "paper", "train, images/s", "ratio", "infer, images/s",
        "ratio", "paper's TPU", "V100",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row, published in zip(results, PUBLISHED.values(), strict=True):
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.1f}M",
            f"{published.parameters:.1f}M",
            f"{row['multiply_adds'] / 1e9:.2f}B",
            f"{published.multiply_adds:.1f}B",
            f"{row['train']:.2f}",
            f"{row['train_ratio']:.2f}",
            f"{row['infer']:.2f}",
            f"{row['infer_ratio']:.2f}",
            f"{published.tpu / first.tpu:.2f}",
            f"{published.v100 / first.v100:.2f}",
        )
    return table
