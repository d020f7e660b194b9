"""Export of a training: `export` reads as a table of contents. Importing this needs no TensorFlow.

    OUTPUT/NAME/VERSION/        SavedModel for TF Serving; NAME holds nothing but versions
    OUTPUT/NAME-MODE.tflite     TFLite, one file a mode
    OUTPUT/NAME.onnx            ONNX
    OUTPUT/model_card.json      what was exported, how to feed it, where it is from, checksums of the files
    OUTPUT/parity_report.json   how far each file is from model.keras
    OUTPUT/tflite_report.json   sizes, latencies, agreement and accuracy of the TFLite files
    OUTPUT/reports/NAME/NUMBER/ the same three of each export of this name, as the next export replaces those above
    OUTPUT/serving/             files to run TF Serving with

A SavedModel carries its own card and parity report in assets.extra, so that they stay with their version.
"""

import errno
import itertools
import pathlib
import re
import shutil
import tempfile

from rich.console import Console

from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.deploy import model_card, onnx, serving_files, tflite
from efficientnetv2_tf.deploy.bundle import load_bundle
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.run_folder import RunFolder, write_json

FORMATS = ("saved_model", "tflite", "onnx")
PARITY_REPORT = "parity_report.json"
REPORTS = "reports"  # folder of what the exports before have to say
_TAKEN = (serving_files.FOLDER, REPORTS)  # names in the output folder that no model may have
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_export(formats, *, name=None, tflite_modes=None, uint8_io=False, min_agreement=None):
    """Checks what can be checked before anything is loaded; arguments and errors as for `export`."""
    unknown = [format for format in formats if format not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"Formats should be among {', '.join(FORMATS)}. Received: {', '.join(formats) or 'none'}")
    if name is not None and (not _NAME.fullmatch(name) or name in _TAKEN or name.isdigit()):
        raise ConfigError(
            f"The name should be of letters, digits, '.', '_' and '-', neither a number nor {' or '.join(_TAKEN)}. "
            f"Received: {name!r}"
        )
    if "tflite" in formats:
        modes = tflite.DEFAULT_MODES if tflite_modes is None else tflite_modes
        tflite.check_tflite(modes, uint8_io=uint8_io, min_agreement=min_agreement)
    else:
        about = {"tflite_modes": tflite_modes, "uint8_io": uint8_io or None, "min_agreement": min_agreement}
        if given := [argument for argument, value in about.items() if value is not None]:
            raise ConfigError(
                f"{', '.join(given)}: of TFLite files alone. Received with formats {', '.join(formats)}: add tflite."
            )
    if "onnx" in formats:
        onnx.check_onnx()


def export(
    model_dir,
    output,
    formats=("saved_model",),
    *,
    name=None,
    tflite_modes=None,
    uint8_io=False,
    min_agreement=None,
    tflite_images=None,
    data_dir=None,
    console=None,
):
    """Writes what a training left in formats for production, and compares each with the network itself.

    Everything is written to a temporary folder in `output` first, and published by renaming when all of it has passed.

    Args:
        model_dir: folder of the training.
        output: folder to write to; it is made.
        formats: of `FORMATS`.
        name: of the model's folder and files; None is the network's. Letters, digits, ".", "_" and "-"; no number.
        tflite_modes: of `tflite.MODES`; None is `tflite.DEFAULT_MODES`.
        uint8_io: whether TFLite's mode int8 takes and gives uint8.
        min_agreement: share of the evaluation pictures, in (0, 1], on which every TFLite file's top class must be the
            network's; None asks for nothing.
        tflite_images: evaluation pictures on which TFLite is compared, at most; None takes all.
        data_dir: where the training's data set lies now; None is where it was.
        console: a `rich.console.Console` for what happens; None prints to the terminal.

    Returns:
        The model card, as in model_card.json; its `files` say what was written.

    Raises:
        ConfigError: an argument is impossible, a package missing, or there is no finished training in `model_dir`.
        DataError: TFLite needs the data set, and it is not to be had.
        ParityError: a file gives other probabilities than the network; nothing is published.
        AgreementError: a TFLite file agrees less than `min_agreement`; nothing is published.
        OSError: `output` cannot be written to.
    """
    check_export(formats, name=name, tflite_modes=tflite_modes, uint8_io=uint8_io, min_agreement=min_agreement)
    console, output = console or Console(), pathlib.Path(output)
    bundle = _load(model_dir, name)
    task = _open_data(model_dir, data_dir, needed="tflite" in formats, console=console)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output) as temporary:
        job = _Job(bundle, task, pathlib.Path(temporary), console)
        if "saved_model" in formats:
            job.write_saved_model()
        if "tflite" in formats:  # after the SavedModel, which its report times as well
            job.write_tflite(tflite_modes or tflite.DEFAULT_MODES, uint8_io, min_agreement, tflite_images)
        if "onnx" in formats:
            job.write_onnx()
        job.compare()
        card = job.publish(output)
    _tell(card, output, console)
    return card


def _load(model_dir, name):
    """The `Bundle`, under the name of the export."""
    from efficientnetv2_tf.deploy.explain import check_classifier

    bundle = load_bundle(model_dir)
    network = bundle.network
    check_classifier(network)
    if network.preprocessing != bundle.style:
        raise ConfigError(
            f"{bundle.origin}: the network expects preprocessing {network.preprocessing!r}, and config.yaml says "
            f"{bundle.style!r}. They should be of one training."
        )
    if network.output_shape[-1] != len(bundle.class_names):
        raise ConfigError(
            f"{bundle.origin}: the network has {network.output_shape[-1]} classes, and classes.json "
            f"{len(bundle.class_names)}. They should be of one training."
        )
    network.name = name or network.name
    return bundle


def _open_data(model_dir, data_dir, *, needed, console):
    """The training's `Task`; None where its data set is not to be had and not needed."""
    from efficientnetv2_tf.training.task import make_task

    config = RunFolder(pathlib.Path(model_dir)).read_config()
    if data_dir:
        config = config.model_copy(update={"data": config.data.model_copy(update={"data_dir": str(data_dir)})})
    try:
        return make_task(config, console)
    except DataError as error:
        if needed:
            raise
        console.print(f"Comparing on generated pictures, as the data set is not to be had: {error}", markup=False)
        return None


class _Job:
    """The steps of one export.

    Args:
        bundle: the `Bundle`.
        task: the `Task` with its data, or None.
        folder: temporary, empty.
        console: a `rich.console.Console`.
    """

    def __init__(self, bundle, task, folder, console):
        self._bundle, self._task, self._console = bundle, task, console
        self._name = bundle.network.name
        self._saved_model = folder / "saved_model"
        self._files = folder / "files"  # those that go to the output folder itself
        self._reports = folder / "reports"  # copies of those that the next export replaces
        self._files.mkdir()
        self._reports.mkdir()

    def write_saved_model(self):
        from efficientnetv2_tf.deploy.saved_model import write_saved_model
        from efficientnetv2_tf.deploy.warmup import write_warmup_requests

        self._console.print("Writing the SavedModel ...")
        write_saved_model(self._bundle, self._saved_model)
        write_warmup_requests(self._saved_model, self._name, self._bundle.image_size)

    def write_tflite(self, modes, uint8_io, min_agreement, limit):
        from efficientnetv2_tf.deploy import tflite_data

        self._console.print("Reading pictures for TFLite ...")
        seed, images = self._task.config.runtime.seed, None
        if {*modes} & {*tflite.CALIBRATED}:
            images = tflite_data.calibration_images(self._task, self._bundle, seed=seed)
        tflite.export_tflite(
            self._bundle,
            self._files,
            modes,
            evaluation_batches=tflite_data.evaluation_batches(self._task, self._bundle, limit=limit),
            calibration_images=images,
            calibration_seed=seed,
            uint8_io=uint8_io,
            min_agreement=min_agreement,
            saved_model=self._saved_model if self._saved_model.exists() else None,
            console=self._console,
        )

    def write_onnx(self):
        self._console.print("Converting to ONNX ...")
        onnx.write_onnx(self._bundle, self._files / f"{self._name}.onnx")

    def compare(self):
        """Compares with the network; reports it, and raises a ParityError where something differs."""
        from efficientnetv2_tf.deploy import parity

        pictures = parity.evaluation_pictures(self._task.source) if self._task else parity.generated_pictures()
        self._console.print("Comparing with model.keras ...")
        with parity.full_float32():
            comparison = parity.Parity(self._bundle, pictures)
            rows = comparison.saved_model(self._saved_model, self._name) if self._saved_model.exists() else []
            rows += [comparison.tflite(path) for path in sorted(self._files.glob("*.tflite"))]
            rows += [comparison.onnx(path) for path in sorted(self._files.glob("*.onnx"))]
        self._console.print(parity.parity_table(rows, pictures))
        parity.check_parity(rows)
        write_json(self._files / PARITY_REPORT, parity.parity_report(rows, pictures))

    def publish(self, output):
        """Renames everything to where it belongs, the SavedModel last; gives the model card."""
        self._complete_saved_model()
        for report in self._files.glob("*.json"):
            shutil.copyfile(report, self._reports / report.name)
        published = [path.replace(output / path.name) for path in sorted(self._files.iterdir())]
        if self._saved_model.exists():
            published += _files_below(publish_version(self._saved_model, output / self._name))
            serving_files.write_serving_files(output, self._name)
        card = model_card.make_card(self._bundle, {path.relative_to(output).as_posix(): path for path in published})
        for folder in (output, self._reports):
            write_json(folder / model_card.FILE, card)
        publish_version(self._reports, output / REPORTS / self._name)
        return card

    def _complete_saved_model(self):
        """Puts card and report into the SavedModel, where TF Serving leaves them alone."""
        if self._saved_model.exists():
            extra = self._saved_model / "assets.extra"
            shutil.copyfile(self._files / PARITY_REPORT, extra / PARITY_REPORT)
            files = {path.relative_to(self._saved_model).as_posix(): path for path in _files_below(self._saved_model)}
            write_json(extra / model_card.FILE, model_card.make_card(self._bundle, files))


def _files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def publish_version(source, base):
    """Renames a folder to the next free number.

    Args:
        source: the folder, on the file system of `base`.
        base: folder of the versions; it is made. Entries that are no numbers do not count.

    Returns:
        Its new path.
    """
    base.mkdir(parents=True, exist_ok=True)
    for version in itertools.count(max(_taken(base), default=0) + 1):
        try:
            return source.rename(base / str(version))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # of an export that was quicker
                raise


def _taken(base):
    return [int(path.name) for path in base.iterdir() if path.name.isascii() and path.name.isdigit()]


def _tell(card, output, console):
    size = sum(file["bytes"] for file in card["files"].values())
    console.print(f"Wrote {len(card['files'])} files, {size / 2**20:,.1f} MiB, to {output} (see {model_card.FILE}).")
    version = next((name for name in card["files"] if name.endswith("/saved_model.pb")), None)
    if version:
        console.print(
            f"SavedModel {output / version.rpartition('/')[0]}. In production, with Docker:\n"
            f"  {serving_files.docker_run(card['name'], output.resolve())}\n"
            f"To try it here: python tools/main.py --mode=serve --export={output}",
            soft_wrap=True,
            markup=False,
        )
