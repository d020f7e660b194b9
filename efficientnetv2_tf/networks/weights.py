"""Weights from elsewhere: matched by name, checked as a whole, and only then put into the model."""

import contextlib
import dataclasses
import pathlib
import tempfile

import keras
import numpy as np

from efficientnetv2_tf.networks.names import official_name
from efficientnetv2_tf.networks.normalization import has_statistics
from efficientnetv2_tf.networks.weight_file import WeightsError, told
from efficientnetv2_tf.networks.weights_keras import from_keras_model, read_keras
from efficientnetv2_tf.networks.weights_official import ARCHIVES, CHECKPOINT_PART, read_official
from efficientnetv2_tf.networks.weights_timm import read_timm

__all__ = [
    "LoadReport",
    "WeightsError",
    "adapt_stem",
    "count_classes",
    "load_weights",
    "official_name",
    "save_official_checkpoint",
]

_HEAD = ("classifier/kernel", "classifier/bias")
_FEATURES_HEAD = (  # what a network with `features_only` leaves out besides
    "head_conv/kernel",
    "head_norm/gamma",
    "head_norm/beta",
    "head_norm/moving_mean",
    "head_norm/moving_variance",
)
_STATISTICS = ("moving_mean", "moving_variance", "running_mean", "running_var")
_STEM = "stem_conv/kernel"
_SHOWN = 4  # names in an error


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What happened to each variable, by our paths; `unused` and `head_unused` are the file's names.

    Attributes:
        path: the file.
        source: "official", "official objects", "keras", "own" or "timm".
        loaded: took the file's value.
        from_average: of those, the ones that took the moving average.
        adapted: of those, the stem's kernel, fitted to another number of channels (see `adapt_stem`).
        head_reset: the classifier's, where the file has none or one of other classes; they keep their values.
        missing: not in the file; they keep their values.
        mismatched: of another shape in the file; they keep their values.
        unused: in the file, and no variable asked for them. Not counted: optimizer slots, counters, raw values
            beside a moving average, and the preprocessing layers of keras.applications.
        head_unused: the file's classifier, where the model has none, and the rest of its head under `features_only`.
    """

    path: str
    source: str
    loaded: tuple[str, ...] = ()
    from_average: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    head_reset: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    head_unused: tuple[str, ...] = ()

    def __str__(self):
        """One line, and one more for each thing that one should know of."""
        averaged = f", {len(self.from_average)} of them moving averages" if self.from_average else ""
        kinds = [kind for kind in _TOLD if getattr(self, kind)]
        lines = [f"{kind.replace('_', ' ')}: {_shown(getattr(self, kind))}" for kind in kinds]
        return "\n  ".join([f"{self.path} ({self.source}): {len(self.loaded)} variables loaded{averaged}", *lines])

    @property
    def problems(self):
        """What strict loading does not accept, one text a kind."""
        kinds = ("missing", "mismatched", "unused")
        return [f"{kind}: {_shown(getattr(self, kind))}" for kind in kinds if getattr(self, kind)]


_TOLD = ("adapted", "head_reset", "missing", "mismatched", "unused", "head_unused")
_OUTCOMES = ("loaded", "from_average", *_TOLD)


def _shown(items):
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)} ({', '.join(items[:_SHOWN])}{more})"


def load_weights(model, path_or_name, source="auto", strict=True):
    """Loads weights by name. Either all that fits is put into the model, or nothing is changed.

    These give the same outputs for the same preprocessed images (`model.preprocessing`):

    - The official release's checkpoints, by names (moving averages are taken where they are) or by objects: the prefix,
      the folder, or the released .tgz.
    - keras.applications' EfficientNetV2* and EfficientNetB*, as .h5, .weights.h5, .keras or the model itself. Their
      preprocessing layers are left out: "v1" and "v2" in `model.preprocessing` are the same scalings, also that
      of EfficientNetB*, whose `Normalization` is followed by a second division where weights="imagenet". EfficientNetB3
      has 24 channels in its first stage, the release and `get_model` 16: give `blocks` with "o20" and "i20" there.
    - keras-cv's EfficientNetV2 backbones and classifiers, also as a model or its file.
    - timm's `tf_efficientnet*`, as .safetensors or .pth, in which no code is run.

    keras-hub's networks and timm's others (`efficientnet_*`) pad both sides alike and mostly have another batch norm
    epsilon: their weights are taken too, and the outputs are theirs only for an epsilon of 0.001 and images of 32 n + 1
    pixels. keras-cv's EfficientNetV1 has an activation after each projection, so with its weights outputs differ.

    Args:
        model: an `EfficientNet`.
        path_or_name: a file or folder, as above, `.keras` and `.weights.h5` of our own networks too; or a Keras model.
        source: "official", "keras", "timm", or "auto" to tell by the file.
        strict: whether it is an error if a variable has no value or one of another shape, a value finds no
            variable, or the file names another variant. The classifier is left out of this: without one for as
            many classes it keeps its values (`LoadReport.head_reset`).

    Returns:
        A `LoadReport`.

    Raises:
        WeightsError: the file is missing, damaged, or of another network; the model is unchanged.
        ValueError: `model` or `source` is something else.

    A model with other than three input channels gets the stem's kernel as `adapt_stem` makes it.
    """
    if not hasattr(model, "variant"):
        raise ValueError(f"`model` should be an EfficientNet, as get_model makes it. Received: {model!r}")
    path = _shown_path(path_or_name)
    with _opened(path_or_name, source) as file:
        if strict and file.variant not in (None, model.variant):
            raise WeightsError(
                f"{path} holds weights of another variant, {file.variant!r}. Expected {model.variant!r}. Build that "
                f"one with get_model({file.variant!r}), or pass strict=False to take what fits."
            )
        report, values = _match(model, file, path)
        reason = _difference(model, file)
    if strict and report.problems:
        raise WeightsError(
            f"{path} ({report.source}) does not hold the weights of {model.name} with {model.count_params():,} "
            f"parameters; {reason}. {'; '.join(report.problems)}. strict=False takes what fits."
        )
    if not report.loaded:
        raise WeightsError(f"{path} ({report.source}) holds nothing that fits {model.name}.")
    for variable in model.weights:
        if variable.path in values:
            variable.assign(values[variable.path])
    return report


def count_classes(path_or_name, source="auto"):
    """Number of classes of the classifier in a weights file, or None where it has none.

    Args:
        path_or_name: as in `load_weights`.
        source: as in `load_weights`.

    Raises:
        WeightsError: as in `load_weights`.
    """
    with _opened(path_or_name, source) as file:
        return file.classes


def _shown_path(path_or_name):
    named = hasattr(path_or_name, "weights")
    return f"Keras model {path_or_name.name!r}" if named else str(pathlib.Path(path_or_name))


# What to call it -> (reader, what the file should have been).
_READERS = {
    "official": (read_official, "a TensorFlow checkpoint"),
    "keras": (read_keras, "a Keras file (.h5, .weights.h5 or .keras)"),
    "timm": (read_timm, "a PyTorch state dict (.safetensors or .pth)"),
}


_EXPECTED = (
    "Expected an official checkpoint (its prefix, folder or .tgz), Keras' .h5, .weights.h5 or .keras, or timm's "
    ".safetensors or .pth."
)


@contextlib.contextmanager
def _opened(path, source="auto"):
    """Opens a weights file.

    Args:
        path: as `load_weights` takes it.
        source: a key of `_READERS`, or "auto" to tell by the file.

    Yields:
        A `WeightFile`, which can be read inside the block.

    Raises:
        WeightsError: the file is missing, damaged or no weights file of such a network.
        ValueError: there is no such source.
    """
    if source not in ("auto", *_READERS):
        raise ValueError(f"`source` should be auto, {', '.join(_READERS)}. Received: source={source!r}")
    if isinstance(path, keras.Model):
        yield from_keras_model(path)
        return
    path = pathlib.Path(path)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():  # a prefix is no file's name
        raise WeightsError(f"{path} was not found. {_EXPECTED}")
    kind = _guess(path) if source == "auto" else source
    reader, expected = _READERS[kind]
    with contextlib.ExitStack() as stack:
        with told(f"{path} cannot be read as {expected}"):
            file = reader(path, stack)
        yield file


def _guess(path):
    """The kind of file, by its name."""
    if path.suffix in (".safetensors", ".pth", ".pt", ".bin"):
        return "timm"
    if path.suffix in (".h5", ".hdf5", ".keras"):
        return "keras"
    if path.is_dir() or path.name.endswith(ARCHIVES) or not path.exists() or CHECKPOINT_PART.search(path.name):
        return "official"
    raise WeightsError(f"{path} is of no kind that its name tells. {_EXPECTED} Or name the kind with `source`.")


def _match(model, file, path):
    """(report, {our path: new value})."""
    values, outcome = {}, {kind: [] for kind in _OUTCOMES}
    for variable in model.weights:
        place, name = variable.path, file.name(model, variable)
        kind = _fit(model, variable, file, name)
        if kind == "mismatched":
            place = f"{place} {tuple(variable.shape)}, in the file {file.values[name].shape}"
        outcome[kind].append(place)
        if kind not in ("loaded", "adapted"):
            continue
        values[place] = file.read(name)
        if kind == "adapted":
            values[place] = adapt_stem(values[place], variable.shape[2])
            outcome["loaded"].append(place)
        if name in file.averages:
            outcome["from_average"].append(place)
    heads = {file.name(model, place) for place in (*_HEAD, *(_FEATURES_HEAD if model.features_only else ()))}
    left = sorted(set(file.values) - {file.name(model, variable) for variable in model.weights})
    outcome["unused"] = [name for name in left if name not in heads]
    outcome["head_unused"] = [name for name in left if name in heads]
    return LoadReport(path, file.kind, **{kind: tuple(items) for kind, items in outcome.items()}), values


def _difference(model, file):
    """The likely reason why a file does not fit."""
    statistics = any(name.endswith(_STATISTICS) for name in file.values)
    if statistics == has_statistics(model.normalization):
        return "perhaps those of another variant"
    has, wanted = ("batch", "group") if statistics else ("group", "batch")
    return f"its normalization is {has!r}, and {wanted!r} was expected: get_model(..., normalization={has!r}) takes it"


def _fit(model, variable, file, name):
    """Which of the outcomes a variable has."""
    place, shape = variable.path, tuple(variable.shape)
    if place in _HEAD and file.classes != model.output_shape[-1]:
        return "head_reset"
    if name not in file.values:
        return "missing"
    theirs = file.values[name].shape
    if theirs == shape:
        return "loaded"
    # A kernel is [height, width, channels, filters]; all but the channels have to be equal.
    adapts = place == _STEM and len(theirs) == 4 and (theirs[:2], theirs[3]) == (shape[:2], shape[3])
    return "adapted" if adapts else "mismatched"


def adapt_stem(kernel, channels):
    """Fits a first convolution to another number of input channels, so that the size of its sums stays.

    Args:
        kernel: [height, width, 3, filters]; any number of channels in place of 3.
        channels: wanted, at least 1.

    Returns:
        [height, width, channels, filters]: the sum over the channels for one, which is what a grey picture repeated
        three times would have given; else the channels in turn, times 3 / channels.
    """
    kernel = np.asarray(kernel)
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    given = kernel.shape[2]
    return kernel[:, :, np.arange(channels) % given] * np.float32(given / channels)


def save_official_checkpoint(model, prefix):
    """Writes a name-based TensorFlow checkpoint, as the official release has and reads.

    Args:
        model: an `EfficientNet`.
        prefix: path without ending; `PREFIX.data-00000-of-00001` and `PREFIX.index` are made, in a folder that is made
            as well. The folder's file "checkpoint" is written where there is none, so that its name can be given too.

    Returns:
        The prefix, a `pathlib.Path`.

    The index is renamed into place last: without it there is no checkpoint to read.
    """
    import tensorflow as tf

    prefix = pathlib.Path(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    variables = {official_name(model, x): keras.ops.convert_to_numpy(x) for x in model.weights}
    with tempfile.TemporaryDirectory(prefix=f".{prefix.name}-", dir=prefix.parent) as folder:
        written = pathlib.Path(folder) / prefix.name
        tf.raw_ops.SaveV2(
            prefix=str(written),
            tensor_names=[*variables],
            shape_and_slices=[""] * len(variables),
            tensors=[tf.constant(value) for value in variables.values()],
        )
        for part in sorted(written.parent.iterdir(), key=lambda part: part.suffix == ".index"):
            part.replace(prefix.parent / part.name)
    state = prefix.parent / "checkpoint"
    if not state.exists():
        state.write_text(f'model_checkpoint_path: "{prefix.name}"\n')
    return prefix
