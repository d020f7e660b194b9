"""How many pictures a second the input pipeline gives: stage by stage, part by part, and beside the release's way."""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import statistics
import time

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from efficientnetv2_tf.data import augment, decode, image_formats
from efficientnetv2_tf.data.bad_images import BadImages
from efficientnetv2_tf.data.pipeline import geometry_of, train_dataset
from efficientnetv2_tf.data.release_way import release_image
from efficientnetv2_tf.data.sources import DataError, Source, Split
from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.progressive.controls import StageControls

_IMAGES = 1024  # a measurement
_REPEATS = 5  # measurements, of which the median is shown
_BATCH = 32
# (side in pixels, RandAugment's magnitude or None) that are compared with the official release's way.
_COMPARED = ((128, None), (224, None), (224, 15.0))


@dataclasses.dataclass(frozen=True)
class InputSpeed:
    """Images a second, medians of measurements that took turns.

    Attributes:
        stages: of each stage, {"image_size", "magnitude", "plain", "augmented"}; plain is without augmentation and
            mixing.
        parts: milliseconds an image that each part takes on all cores, in the last stage.
        compared: rows of {"image_size", "magnitude", "release", "ours", "ratio", "decoder", "at_most"}: from encoded
            pictures to batches for the network, without shuffling and without passing over bad ones. "decoder" is
            TensorFlow's decoder alone, which is told what part to decode and gives that part to nobody, and "at_most"
            its ratio to the release; both are None with RandAugment, and unless all pictures are JPEGs that end as they
            should (of others all is decoded).
        images: pictures that were measured with, and `mean_bytes` of them.
        mean_bytes: size of an encoded picture.
        cores: of the machine.
    """

    stages: list[dict]
    parts: dict[str, float]
    compared: list[dict]
    images: int
    mean_bytes: float
    cores: int


def benchmark_input(source, config, plan, *, style, output, console=None):
    """Measures the input pipeline on pictures of a data set that are held in memory.

    Args:
        source: a `Source`.
        config: a `DataConfig`.
        plan: `Stage`s.
        style: preprocessing, one of `decode.STYLES`.
        output: folder for benchmark_input.json and benchmark_input.png.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        An `InputSpeed`.

    Raises:
        DataError: no picture of the data set can be decoded, or bad images stop the benchmark as they would stop the
            training.
    """
    console, output = console or Console(), pathlib.Path(output)
    pictures = _in_memory(source)
    config = config.model_copy(update={"batch_size": min(_BATCH, pictures.train.count), "cache": "none"})
    console.print(f"Measuring with {pictures.train.count} pictures of {source.name}, {os.cpu_count()} cores ...")
    items = [item.numpy() for _, item, _ in pictures.train.open()]
    bad_images = BadImages(on_bad_image=config.on_bad_image, limit=config.bad_image_limit, tell=console.print)
    batches = functools.partial(train_dataset, pictures, style=style, seed=0, bad_images=bad_images)
    with bad_images.telling():
        result = InputSpeed(
            stages=[_stage(batches, config, stage, console) for stage in plan],
            parts=_parts(pictures, batches, config, plan[-1], style),
            compared=[_compare(pictures, size, magnitude, console) for size, magnitude in _COMPARED],
            images=len(items),
            mean_bytes=float(np.mean([len(item) for item in items])),
            cores=os.cpu_count() or 1,
        )
    for table in _tables(result, source.name):
        console.print(table)
    with replacing(output / "benchmark_input.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n", encoding="utf-8")
    _draw(result, output / "benchmark_input.png", source.name)
    console.print(f"Wrote {output / 'benchmark_input.json'} and {output / 'benchmark_input.png'}")
    return result


def _in_memory(source):
    """A source of as many examples as are measured with: the data set's first good ones, in turns if it has fewer."""

    def whole(key, item, label):
        encoded = source.train.read(item)
        with tf.control_dependencies([decode.decode(encoded)]):
            return key, tf.identity(encoded), label

    found = list(source.train.open().map(whole).ignore_errors().take(_IMAGES))
    if not found:
        raise DataError(f"The data set {source.name!r} has no picture that can be decoded. Try --mode=verify_data.")
    examples = list(itertools.islice(itertools.cycle(found), _IMAGES))
    keys, items, labels = zip(*examples, strict=True)
    # Ragged slices cost time that a data set of single labels does not take.
    columns = tf.stack(items), tf.ragged.stack(labels) if source.multi_label else tf.stack(labels)

    def open_examples(shard=(0, 1), seed=None):
        return tf.data.Dataset.from_tensor_slices((tf.range(len(examples), dtype=tf.int64), *columns))

    def where(key):
        return source.train.where(int(keys[key]))

    split = Split(len(examples), open_examples, lambda shards: [len(examples)], where)
    return Source(source.name, source.class_names, split, split, source.multi_label)


def _median(datasets):
    """Images a second of each data set of batches, measured in turns after a first round that is not counted."""
    rates = [[] for _ in datasets]
    for repeat in range(_REPEATS + 1):
        for dataset, measured in zip(datasets, rates, strict=True):
            rate = _rate(dataset)
            if repeat:
                measured.append(rate)
    return [statistics.median(measured) for measured in rates]


def _rate(dataset):
    """Images a second in the middle half: the first batches wait for a start, the last ones lie ready in buffers."""
    times, sizes = [time.perf_counter()], []
    for batch in dataset:
        times.append(time.perf_counter())
        sizes.append(len(tf.nest.flatten(batch)[0]))
    first, last = len(sizes) // 4, len(sizes) - len(sizes) // 4
    return sum(sizes[first:last]) / (times[last] - times[first])


def _stage(batches, config, stage, console):
    def changed(**changes):
        controls = StageControls(dataclasses.replace(stage, **changes))
        return batches(config.model_copy(update={"augment": "none"} if changes else {}), controls)

    plain, augmented = _median([changed(mixup_alpha=0.0, cutmix_alpha=0.0), changed()])
    console.print(f"stage {stage.index + 1}, {stage.image_size} px: {augmented:.0f} images/s")
    sizes = {"image_size": stage.image_size, "magnitude": stage.magnitude}
    return {**sizes, "plain": plain, "augmented": augmented}


def _batched(pictures, function, finish=tf.identity):
    """Batches of `function` of (encoded picture, seed), in parallel as in the pipeline, and then `finish` of each."""
    options = tf.data.Options()
    options.autotune.enabled = False

    def prepare(key, item, label):
        return function(item, _seed(key))

    mapped = pictures.train.open().map(prepare, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
    batches = mapped.batch(_BATCH).map(finish, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
    return batches.prefetch(2).with_options(options)


def _seed(key):
    return tf.stack([tf.cast(key, tf.int32), 0])


def _parts(pictures, batches, config, stage, style):
    """Milliseconds an image: from what each further part costs."""
    controls = StageControls(stage)
    geometry = geometry_of(config)
    plain = config.model_copy(update={"augment": "none"})
    unmixed = StageControls(dataclasses.replace(stage, mixup_alpha=0.0, cutmix_alpha=0.0))
    rates = _median(
        [
            _batched(pictures, lambda item, seed: item),
            _batched(
                pictures,
                lambda item, seed: decode.decode_for_training(item, controls.image_size, seed, style, **geometry),
            ),
            batches(plain, unmixed),
            batches(config, controls),
        ]
    )
    names = ("examples", "decode, crop, resize, flip", "shuffle, batch, scale", "augment, mix")
    times = [1000 / rate for rate in rates]
    # Differences of measurements: what is nothing can come out a little below.
    return {name: max(0.0, now - before) for name, now, before in zip(names, times, [0.0, *times], strict=False)}


def _compare(pictures, image_size, magnitude, console):
    """A row of `InputSpeed.compared`."""

    def ours(item, seed):
        image = decode.decode_for_training(item, image_size, seed, "v2", crop=True, flip=True)
        if magnitude is not None:
            image = augment.randaugment(image, magnitude, seed)
        return image

    ways = {
        "release": _batched(pictures, lambda item, seed: release_image(item, image_size, seed, magnitude)),
        "ours": _batched(pictures, ours, lambda images: decode.normalize_bytes(images, "v2")),
    }
    if magnitude is None and (alone := _decoder_alone(pictures, image_size)):
        ways["decoder"] = alone
    rates = dict(zip(ways, _median(ways.values()), strict=True))
    ratio = rates["ours"] / rates["release"]
    console.print(f"{image_size} px{' with RandAugment' if magnitude else ''}: {ratio:.2f} times the release")
    row = {"image_size": image_size, "magnitude": magnitude, "decoder": None, "at_most": None, **rates, "ratio": ratio}
    if row["decoder"]:
        row["at_most"] = row["decoder"] / row["release"]
    return row


def _decoder_alone(pictures, image_size):
    """Batches of nothing but what decoding the parts of JPEGs takes; None where others are among the pictures."""
    examples = pictures.train.open()
    if not all(examples.map(lambda key, item, label: image_formats.is_whole_jpeg(item))):
        return None

    def window(key, item, label):
        return decode.training_window(item, image_size, _seed(key), "v2")

    windows = tf.stack(list(examples.map(window)))

    def decode_part(item, seed):
        return tf.size(decode.decode_part(item, windows[seed[0]], image_size))

    return _batched(pictures, decode_part)


def _tables(result, name):
    stages = Table(title=f"{name}: images/s, {result.cores} cores", title_justify="left")
    for heading in ("stage", "image size", "magnitude", "without augmentation", "with augmentation"):
        stages.add_column(heading, justify="right")
    for number, row in enumerate(result.stages, start=1):
        rates = f"{row['plain']:.0f}", f"{row['augmented']:.0f}"
        stages.add_row(str(number), str(row["image_size"]), f"{row['magnitude']:.3g}", *rates)
    parts = Table(title="where the time goes in the last stage, ms an image", title_justify="left")
    for heading in result.parts:
        parts.add_column(heading, justify="right")
    parts.add_row(*(f"{milliseconds:.2f}" for milliseconds in result.parts.values()))
    compared = Table(title="beside the official release's way, images/s", title_justify="left")
    for heading in ("image size", "RandAugment", "release", "here", "ratio", "the JPEG decoder alone"):
        compared.add_column(heading, justify="right")
    for row in result.compared:
        magnitude = "-" if row["magnitude"] is None else f"{row['magnitude']:.3g}"
        rates = f"{row['release']:.0f}", f"{row['ours']:.0f}", f"{row['ratio']:.2f}"
        alone = f"{row['decoder']:.0f} ({row['at_most']:.2f})" if row["decoder"] else "-"
        compared.add_row(str(row["image_size"]), magnitude, *rates, alone)
    return stages, parts, compared


def _draw(result, path, name):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(f"{name}: images a second, {result.cores} cores")
    _bars(left, [f"{row['image_size']} px" for row in result.stages], result.stages, ("plain", "augmented"))
    left.set_title("each stage, without and with augmentation")
    labels = [
        f"{row['image_size']} px" + (f"\nRandAugment {row['magnitude']:.3g}" if row["magnitude"] else "")
        for row in result.compared
    ]
    _bars(right, labels, result.compared, ("release", "ours"))
    right.set_title("the official release's way, and ours")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)


def _bars(axis, labels, rows, keys):
    places = np.arange(len(rows))
    for offset, key, color in zip((-0.2, 0.2), keys, ("tab:gray", "tab:blue"), strict=True):
        bars = axis.bar(places + offset, [row[key] for row in rows], 0.38, label=key, color=color)
        axis.bar_label(bars, fmt="%.0f", fontsize=8)
    axis.set_xticks(places, labels)
    axis.set_ylim(0, 1.2 * max(row[key] for row in rows for key in keys))
    axis.legend(loc="upper right")
    axis.spines[["top", "right"]].set_visible(False)
