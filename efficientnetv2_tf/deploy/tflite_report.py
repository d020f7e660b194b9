"""What a conversion to TFLite costs and gains: size, latency, agreement with the float network, accuracy."""

import dataclasses
import functools
import os
import pathlib
import platform
import tempfile

import numpy as np
from rich.table import Table

from efficientnetv2_tf.deploy.latency import median_milliseconds, tensorflow_latencies
from efficientnetv2_tf.deploy.tflite_model import TFLiteModel


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the report; None is not measured.

    Attributes:
        name: "Keras", "SavedModel", or a mode of TFLite.
        size: in bytes.
        latency_ms: {threads: median milliseconds of one picture}.
        accuracy: share of the evaluation pictures of which the top class is right, in 0..1.
        agreement: share of them with the float network's top class, in 0..1.
        probability_difference: the largest difference of a probability from the float network's.
        details: what else the JSON file has to say.
    """

    name: str
    size: int
    latency_ms: dict[int, float] = dataclasses.field(default_factory=dict)
    accuracy: float | None = None
    agreement: float | None = None
    probability_difference: float | None = None
    details: dict = dataclasses.field(default_factory=dict)

    def timed(self, content, picture, threads):
        """The row with latencies.

        Args:
            content: bytes of the .tflite file.
            picture: [image_size, image_size, channels], 0..255.
            threads: numbers of CPU threads.
        """
        latencies = {}
        for number in threads:
            model = TFLiteModel(content, number)
            (image,) = model.as_input(np.asarray(picture)[None])
            latencies[number] = median_milliseconds(functools.partial(model.run, image))
        return dataclasses.replace(self, latency_ms=latencies)


@dataclasses.dataclass
class Comparison:
    """Adds up, batch by batch, how far a model is from the float network and from the truth."""

    images: int = 0
    correct: int = 0
    agreeing: int = 0
    difference: float = 0.0

    def add(self, probabilities, expected, labels):
        """Takes in one batch.

        Args:
            probabilities: float32 [batch, classes] of the model.
            expected: the same of the float network.
            labels: float32 [batch, classes], above 0 for the classes of a picture.
        """
        top = probabilities.argmax(axis=1)
        self.images += len(top)
        self.correct += int((np.take_along_axis(labels, top[:, None], axis=1) > 0).sum())
        self.agreeing += int((top == expected.argmax(axis=1)).sum())
        self.difference = max(self.difference, float(np.abs(probabilities - expected).max()))

    @property
    def accuracy(self):
        return self.correct / self.images

    def as_fields(self):
        """The fields of a `Row`."""
        return {
            "accuracy": self.accuracy,
            "agreement": self.agreeing / self.images,
            "probability_difference": self.difference,
        }


def compare(models, classify, batches):
    """Runs models and the float network over the same pictures, which are read once.

    Args:
        models: {name: function of float32 [batch, size, size, channels] in 0..255 that gives float32 [batch, classes]}.
        classify: the same function of the float network.
        batches: (pixels, labels), arrays or tensors.

    Returns:
        ({name: `Comparison`}, the float network's own `Comparison`).

    Raises:
        ValueError: there are no pictures.
    """
    comparisons, own = {name: Comparison() for name in models}, Comparison()
    for pixels, labels in batches:
        pixels, labels = np.asarray(pixels), np.asarray(labels)
        expected = classify(pixels)
        own.add(expected, expected, labels)
        for name, predict in models.items():
            comparisons[name].add(predict(pixels), expected, labels)
    if not own.images:
        raise ValueError("`batches` should have at least one evaluation picture. Received none.")
    return comparisons, own


def tensorflow_rows(bundle, saved_model, threads, accuracy):
    """The `Row`s of the network as a Keras file and, where there is one, as a SavedModel.

    Args:
        bundle: its `Bundle`.
        saved_model: path of a SavedModel, or None.
        threads: numbers of CPU threads.
        accuracy: of the network.
    """
    with tempfile.TemporaryDirectory(prefix="tflite-") as folder:
        path = pathlib.Path(folder) / "model.keras"
        bundle.network.save(path)
        latencies = {number: tensorflow_latencies(path, saved_model, bundle.image_size, number) for number in threads}
        rows = [Row("Keras", size_of(path), _of("keras", latencies), accuracy)]
    if saved_model:
        rows.append(Row("SavedModel", size_of(saved_model), _of("saved_model", latencies)))
    return rows


def report_table(rows, title):
    """The report as a `rich.table.Table`.

    Args:
        rows: `Row`s.
        title: of the table.
    """
    threads = sorted({number for row in rows for number in row.latency_ms})
    table = Table(title=title)
    table.add_column("format")
    table.add_column("size", justify="right")
    for number in threads:
        table.add_column(f"{number} thread{'s' * (number > 1)}", justify="right")
    for heading in ("agreement", "accuracy", "largest difference"):
        table.add_column(heading, justify="right")
    for row in rows:
        latencies = [_shown(row.latency_ms.get(number), "{:.2f} ms") for number in threads]
        shares = [_shown(share, "{:.2%}") for share in (row.agreement, row.accuracy)]
        difference = _shown(row.probability_difference, "{:.1e}")
        table.add_row(row.name, f"{row.size / 1e6:.2f} MB", *latencies, *shares, difference)
    return table


def report_json(rows, about):
    """The report as what `json` can write.

    Args:
        rows: `Row`s.
        about: dictionary that comes first.
    """
    described = [dataclasses.asdict(row) for row in rows]
    formats = {
        row.pop("name"): {
            "bytes": row.pop("size"),
            "latency_ms": {str(number): round(value, 3) for number, value in row.pop("latency_ms").items()},
            **row.pop("details"),
            **{key: value for key, value in row.items() if value is not None},
        }
        for row in described
    }
    return {**about, "machine": _machine(), "formats": formats}


def size_of(path):
    """Bytes of a file, or of all files in a folder."""
    path = pathlib.Path(path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _of(kind, latencies):
    return {number: values[kind] for number, values in latencies.items()}


def _shown(value, text):
    return "" if value is None else text.format(value)


def _machine():
    """What latencies depend on."""
    processor = platform.processor() or platform.machine()
    return {"processor": processor, "cpus": os.cpu_count(), "system": platform.system()}
