"""Export to TFLite: `export_tflite` reads as a table of contents. Importing this needs no TensorFlow."""

import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib

from rich.console import Console
from rich.progress import track

import efficientnetv2_tf
from efficientnetv2_tf.deploy.tflite_advice import advice
from efficientnetv2_tf.deploy.tflite_file import INSTALL, with_metadata
from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.run_folder import write_json

# Mode -> what the file holds.
MODES = {
    "float32": "float32 throughout",
    "float16": "weights in float16, computed in float32 where the processor has no float16",
    "dynamic": "weights in int8, one scale for each output channel; activations in float32, quantised on the fly",
    "int8": "weights in int8, one scale for each output channel, and activations in int8",
    "int8_mixed": "as int8, with the parts in float32 that int8 hurts most",
    "int16x8": "weights in int8, one scale for each output channel, and activations in int16",
}
DEFAULT_MODES = tuple(mode for mode in MODES if mode != "int8_mixed")
CALIBRATED = ("int8", "int8_mixed", "int16x8")
_AGREEMENT = 0.98  # what int8_mixed aims above where none is asked for


class AgreementError(ConfigError):
    """A file agrees with the float network on fewer pictures than was asked for."""


def check_tflite(modes=DEFAULT_MODES, *, uint8_io=False, min_agreement=None):
    """Checks what can be checked before anything is loaded.

    Args:
        modes: of `MODES`.
        uint8_io: as in `export_tflite`.
        min_agreement: likewise.

    Raises:
        ConfigError: a mode is unknown or given twice, a value impossible, or ai-edge-litert not installed.
    """
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes or len({*modes}) < len(modes):
        raise ConfigError(f"TFLite modes should be among {', '.join(MODES)}, each once. Received: {', '.join(modes)}")
    if uint8_io and "int8" not in modes:
        raise ConfigError(f"uint8 input and output need the TFLite mode int8. Received: {', '.join(modes)}")
    if min_agreement is not None and not 0 < min_agreement <= 1:
        raise ConfigError(f"min_agreement should be in (0, 1], such as 0.98. Received: {min_agreement}")
    try:
        importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(f"TFLite needs ai-edge-litert, which is not installed: {INSTALL}") from error


def export_tflite(
    bundle,
    folder,
    modes=DEFAULT_MODES,
    *,
    evaluation_batches,
    calibration_images=None,
    calibration_seed=None,
    uint8_io=False,
    min_agreement=None,
    saved_model=None,
    threads=(1, 2),
    console=None,
):
    """Converts a network to TFLite, compares every file with it, and writes the files and `tflite_report.json`.

    All files are named after network and mode, such as `efficientnetv2-b0-int8.tflite`. They take pixels in 0..255 and
    give probabilities (see `tflite_convert`), with labels, preprocessing and how they were made inside (`tflite_file`).
    `tflite_data` makes the pictures from a training's data set.

    Args:
        bundle: a `Bundle`.
        folder: to write to; it is made.
        modes: of `MODES`.
        evaluation_batches: (pixels: float32 [batch, size, size, channels] in 0..255, labels: float32 [batch, classes])
            to compare on; iterated once, and once more for what `min_agreement` asks for.
        calibration_images: float32 [n, size, size, channels] in 0..255, for the modes in `CALIBRATED`. One or two
            hundred will do; not those of the evaluation.
        calibration_seed: of their draw, for the report.
        uint8_io: whether the mode int8 takes and gives uint8; otherwise float32, as all others.
        min_agreement: share of the evaluation pictures, in (0, 1], on which the top class of every file must be the
            float network's; None asks for nothing.
        saved_model: path of a SavedModel of `write_saved_model` to be timed as well, or None.
        threads: numbers of CPU threads to measure latencies with; none of them, no latencies.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        The report, as in `tflite_report.json`.

    Raises:
        ConfigError: see `check_tflite`; calibration pictures are missing; or a mode cannot convert the network.
        AgreementError: a file agrees less than `min_agreement`. Nothing is written.
    """
    check_tflite(modes, uint8_io=uint8_io, min_agreement=min_agreement)
    if {*modes} & {*CALIBRATED} and (calibration_images is None or not len(calibration_images)):
        raise ConfigError(f"The TFLite modes {', '.join(CALIBRATED)} need calibration pictures. Received none.")
    from efficientnetv2_tf.deploy.tflite_convert import converter_of
    from efficientnetv2_tf.deploy.tflite_report import report_json, report_table, tensorflow_rows

    console = console or Console()
    with converter_of(bundle, calibration_images, uint8_io=uint8_io) as converter:
        export = _Export(bundle, converter, calibration_seed, min_agreement, console)
        files = [export.convert(mode) for mode in modes]
        comparison, rows = export.compare(files, evaluation_batches)
        export.refuse_too_little(rows, comparison, evaluation_batches)
    if threads:
        console.print("Measuring latencies ...")
    picture = next(iter(evaluation_batches))[0][0]
    rows = [row.timed(file.content, picture, threads) for row, file in zip(rows, files, strict=True)]
    rows = [*tensorflow_rows(bundle, saved_model, threads, comparison.accuracy), *rows]
    console.print(report_table(rows, export.title(comparison)))
    report = report_json(rows, {**export.about, "evaluation_images": comparison.images})
    _write(pathlib.Path(folder), files, report)
    return report


@dataclasses.dataclass(frozen=True)
class _File:
    """A file that is not written yet.

    Attributes:
        mode: of `MODES`.
        content: bytes.
        details: what the report says of it besides what is measured.
    """

    mode: str
    content: bytes
    details: dict


class _Export:
    """What the steps of one `export_tflite` share."""

    def __init__(self, bundle, converter, calibration_seed, min_agreement, console):
        from efficientnetv2_tf.deploy.tflite_convert import classify_function

        self._bundle, self._converter, self._console = bundle, converter, console
        self._min_agreement = min_agreement
        self._classify = classify_function(bundle)
        images = converter.calibration_images
        self._calibration = None if images is None else {"images": len(images), "seed": calibration_seed}
        packages = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "ai-edge-litert")}
        self.about = {
            "network": bundle.network.name,
            "image_size": bundle.image_size,
            "calibration": self._calibration,
            "versions": {"efficientnetv2_tf": efficientnetv2_tf.__version__, **packages},
        }

    def float_probabilities(self, pixels):
        """float32 [batch, classes] of float32 [batch, size, size, channels], by the network itself."""
        return self._classify(pixels)["probabilities"].numpy()

    def title(self, comparison):
        """Of the report's table."""
        return f"{self._bundle.network.name}: {comparison.images} pictures of {self._bundle.image_size} px"

    def convert(self, mode):
        """The `_File` of a mode."""
        from efficientnetv2_tf.deploy.tflite_model import TFLiteModel

        self._console.print(f"Converting to TFLite, {mode} ...")
        content, details = self._mixed() if mode == "int8_mixed" else (self._converter.convert(mode), {})
        if mode in CALIBRATED:
            details = {**details, "calibration": self._calibration}
        content = with_metadata(content, self._info(mode, details), self._bundle.class_names)
        taken, given = TFLiteModel(content).dtypes
        name, digest = f"{self._bundle.network.name}-{mode}.tflite", hashlib.sha256(content).hexdigest()
        return _File(mode, content, {"file": name, "sha256": digest, "input": taken, "output": given, **details})

    def _info(self, mode, details):
        """What a file says of itself: how to feed it, and how it was made."""
        bundle = self._bundle
        return {
            "name": bundle.network.name,
            "description": f"{mode}: {MODES[mode]}",
            "mode": mode,
            "image_size": bundle.image_size,
            "style": bundle.style,
            "crop": bundle.crop,
            "multi_label": bundle.multi_label,
            **details,
            "versions": self.about["versions"],
        }

    def _mixed(self):
        from efficientnetv2_tf.deploy.tflite_mixed import convert_mixed

        # Halfway from what is wanted to everything, as the evaluation pictures are others.
        target = (1 + (self._min_agreement or _AGREEMENT)) / 2
        import numpy as np

        images = self._converter.calibration_images
        parts = [self.float_probabilities(images[start : start + 16]) for start in range(0, len(images), 16)]
        expected = np.concatenate(parts)
        mixed = convert_mixed(self._converter, expected, target, self._console)
        return mixed.content, {"float_parts": list(mixed.float_parts), "parts": mixed.parts}

    def compare(self, files, batches):
        """(the network's own `Comparison`, a `Row` for each file)"""
        from efficientnetv2_tf.deploy.tflite_model import TFLiteModel
        from efficientnetv2_tf.deploy.tflite_report import Row, compare

        console = self._console
        console.print("Comparing with the network on the evaluation pictures ...")
        watched = track(batches, "", total=None, console=console, transient=True, disable=not console.is_terminal)
        models = {file.mode: TFLiteModel(file.content, os.cpu_count() or 1).predict for file in files}
        comparisons, own = compare(models, self.float_probabilities, watched)
        rows = [
            Row(file.mode, len(file.content), **comparisons[file.mode].as_fields(), details=file.details)
            for file in files
        ]
        return own, rows

    def refuse_too_little(self, rows, comparison, batches):
        """Says what to do and raises an AgreementError, if a file agrees too little."""
        from efficientnetv2_tf.deploy.tflite_report import report_table

        failed = [row for row in rows if self._min_agreement is not None and row.agreement < self._min_agreement]
        if not failed:
            return
        mixed = None
        if "int8" in {row.name for row in failed} and "int8_mixed" not in {row.name for row in rows}:
            _, (mixed,) = self.compare([self.convert("int8_mixed")], batches)
        self._console.print(report_table([*rows, mixed] if mixed else rows, self.title(comparison)))
        for line in advice(failed, mixed, self._bundle.network):
            self._console.print(f"- {line}", soft_wrap=True, markup=False)
        shares = ", ".join(f"{row.name} on {row.agreement:.2%}" for row in failed)
        raise AgreementError(
            f"TFLite: expected every file to have the network's top class on at least {self._min_agreement:.2%} of "
            f"{comparison.images} pictures. Received: {shares}. Nothing was written."
        )


def _write(folder, files, report):
    for file in files:
        with replacing(folder / file.details["file"]) as temporary:
            temporary.write_bytes(file.content)
    write_json(folder / "tflite_report.json", report)
