"""Whether what was exported gives what model.keras gives: the largest difference of a probability, file by file."""

import contextlib
import dataclasses
import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.table import Table

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.deploy.onnx import OnnxModel
from efficientnetv2_tf.deploy.saved_model import probabilities_of
from efficientnetv2_tf.deploy.tflite_model import TFLiteModel
from efficientnetv2_tf.training.hparams import ConfigError

PICTURES = 64
# Of a probability. The other modes of TFLite are for less precision, and are compared by agreement.
TOLERANCES = {"saved_model": 1e-5, "onnx": 1e-4, "tflite float32": 1e-4}
_BATCH_SIZE = 16
_WINDOW = 1024  # pictures that are drawn from


class ParityError(ConfigError):
    """What was exported does not give what the network gives."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        file: name of the file or folder.
        format: a key of `TOLERANCES`, or "tflite" with another mode.
        signature: of a SavedModel; "" for others.
        difference: the largest difference of a probability from model.keras.
    """

    file: str
    format: str
    signature: str
    difference: float

    @property
    def tolerance(self):
        """The largest difference that is accepted, or None."""
        return TOLERANCES.get(self.format)

    @property
    def passed(self):
        """Whether it is within; NaN never is."""
        return self.tolerance is None or self.difference <= self.tolerance


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Encoded pictures to compare on.

    Attributes:
        encoded: list of bytes, all of which can be decoded.
        source: in words, where they are from.
    """

    encoded: list
    source: str


def evaluation_pictures(source, count=PICTURES):
    """Evaluation pictures that can be decoded, drawn at random, always the same ones.

    Args:
        source: a `data.sources.Source`.
        count: how many, at most.

    Raises:
        DataError: there are none.
    """
    split = source.eval
    examples = split.open((0, 1)).shuffle(_WINDOW, seed=0, reshuffle_each_iteration=False)
    # Errors of reading are passed over like those of decoding.
    encoded = examples.map(lambda key, item, label: split.read(item)).ignore_errors()
    encoded = encoded.map(lambda item: (item, decode.decode(item))).ignore_errors().map(lambda item, _: item)
    found = list(encoded.take(count).as_numpy_iterator())
    if not found:
        raise DataError(f"None of the evaluation pictures of {source.name!r} can be decoded.")
    return Pictures(found, f"evaluation pictures of {source.name}")


def generated_pictures(count=PICTURES):
    """Pictures for where the data set is not: smooth random colours, of several sizes, as JPEG and PNG."""
    rng = np.random.default_rng(0)

    def encode(number):
        colours = Image.fromarray(rng.integers(0, 256, [4, 4, 3], dtype=np.uint8))
        file, size = io.BytesIO(), tuple(int(side) for side in rng.integers(48, 640, 2))
        colours.resize(size, Image.Resampling.BICUBIC).save(file, ("JPEG", "PNG")[number % 2])
        return file.getvalue()

    return Pictures([encode(number) for number in range(count)], "generated pictures")


@contextlib.contextmanager
def full_float32():
    """TensorFlow without TF32, which keeps 10 bits of a float32's mantissa on GPUs since Ampere."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


class Parity:
    """Compares files with a network.

    Args:
        bundle: the `Bundle`.
        pictures: `Pictures`.
    """

    def __init__(self, bundle, pictures):
        self._bundle, self._encoded = bundle, pictures.encoded
        images = [self._resized(encoded) for encoded in self._encoded]
        self._pixels = np.stack(images)
        self._inputs = decode.normalize(self._pixels, bundle.style).numpy()
        logits = bundle.network.predict(self._inputs, batch_size=_BATCH_SIZE, verbose=0)
        self._expected = probabilities_of(logits, bundle.multi_label).numpy()

    def saved_model(self, folder, file):
        """A `Row` for each signature.

        Args:
            folder: of the SavedModel.
            file: its name in the report.
        """
        signatures = tf.saved_model.load(str(folder)).signatures
        encoded = np.array(self._encoded, object)

        def classify(name):
            return lambda batch: signatures[name](image_bytes=tf.constant(batch))["probabilities"]

        def from_features(batch):
            features = signatures["features"](image_bytes=tf.constant(batch))["features"]
            return self._probabilities(self._bundle.network.get_layer("classifier")(features))

        def from_preprocessed(batch):
            return self._probabilities(signatures["preprocessed"](preprocessed=tf.constant(batch))["logits"])

        def from_images(batch):  # pictures of several sizes do not fit into one array
            images = decode.decode(tf.constant(batch[0]))[None]
            return signatures["images"](images=images)["probabilities"]

        calls = {
            "serving_default": (classify("serving_default"), encoded, _BATCH_SIZE),
            "images": (from_images, encoded, 1),
            "preprocessed": (from_preprocessed, self._inputs, _BATCH_SIZE),
            "features": (from_features, encoded, _BATCH_SIZE),
            "explain": (classify("explain"), encoded, _BATCH_SIZE),
        }
        return [Row(file, "saved_model", name, self._difference(*call)) for name, call in calls.items()]

    def tflite(self, path):
        """The `Row` of a .tflite file."""
        model = TFLiteModel(path)
        difference = self._difference(model.predict, self._pixels, _BATCH_SIZE)
        return Row(pathlib.Path(path).name, f"tflite {model.info['mode']}", "", difference)

    def onnx(self, path):
        """The `Row` of an .onnx file."""
        difference = self._difference(OnnxModel(path).predict, self._pixels, _BATCH_SIZE)
        return Row(pathlib.Path(path).name, "onnx", "", difference)

    def _resized(self, encoded):
        bundle, picture = self._bundle, decode.decode(tf.constant(encoded))
        return decode.resize_for_eval(picture, bundle.image_size, bundle.style, crop=bundle.crop).numpy()

    def _probabilities(self, logits):
        return probabilities_of(logits, self._bundle.multi_label)

    def _difference(self, classify, inputs, batch_size):
        batches = [inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size)]
        found = np.concatenate([np.asarray(classify(batch)) for batch in batches])
        return float(np.abs(found - self._expected).max())


def parity_report(rows, pictures):
    """The report as a dictionary for JSON."""
    results = [{**dataclasses.asdict(row), "tolerance": row.tolerance, "passed": row.passed} for row in rows]
    about = {"reference": "model.keras", "pictures": len(pictures.encoded), "source": pictures.source}
    return {**about, "measure": "largest absolute difference of a probability", "results": results}


def parity_table(rows, pictures):
    """The report as a `rich.table.Table`."""
    compared = f"{len(pictures.encoded)} {pictures.source}"
    table = Table(title=f"Largest difference of a probability from model.keras, {compared}")
    for column in ("file", "signature", "difference", "tolerance", ""):
        table.add_column(column, justify="right" if column in ("difference", "tolerance") else "left")
    for row in rows:
        verdict = "" if row.tolerance is None else "ok" if row.passed else "[red]too large[/red]"
        tolerance = "" if row.tolerance is None else f"{row.tolerance:.0e}"
        table.add_row(row.file, row.signature, f"{row.difference:.1e}", tolerance, verdict)
    return table


def check_parity(rows):
    """Raises a `ParityError` where a difference is larger than its tolerance."""
    failed = [row for row in rows if not row.passed]
    if failed:
        listed = "; ".join(
            f"{row.file} {row.signature}".strip() + f" differs by {row.difference:.1e}, more than {row.tolerance:.0e}"
            for row in failed
        )
        raise ParityError(f"What was exported does not give what the network gives, and was not published: {listed}.")
