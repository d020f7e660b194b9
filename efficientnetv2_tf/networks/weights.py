"""Weights from elsewhere: matched by name, checked as a whole, and only then put into the model."""

import contextlib
import dataclasses
import difflib
import os
import pathlib
import warnings

import keras
import numpy as np

from efficientnetv2_tf.networks import pretrained
from efficientnetv2_tf.networks.names import official_name
from efficientnetv2_tf.networks.normalization import has_statistics
from efficientnetv2_tf.networks.weight_file import WeightsError, check_model, told
from efficientnetv2_tf.networks.weights_keras import from_keras_model, read_keras
from efficientnetv2_tf.networks.weights_official import (
    ARCHIVES,
    CHECKPOINT_PART,
    read_official,
    save_official_checkpoint,
)
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

_CLASSIFIER = ("classifier/kernel", "classifier/bias")
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
        head_reset: the classifier's, where the file has none or one of other classes, and those of the last
            convolution and its normalization too where the file ends before them; they keep their values.
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
    - timm's `tf_efficientnet*`, as .safetensors, .pth or a training's .pth.tar, in which no code is run.

    keras-hub's networks and timm's others (`efficientnet_*`) pad both sides alike and mostly have another batch norm
    epsilon: their weights are taken too, and the outputs are theirs only for an epsilon of 0.001 and images of 32 n + 1
    pixels. keras-cv's EfficientNetV1 has an activation after each projection, so with its weights outputs differ.

    Args:
        model: an `EfficientNet`.
        path_or_name: a file or folder, as above, `.keras` and `.weights.h5` of our own networks too; a Keras model; or
            one of `pretrained.NAMES` ("imagenet" and so on), which is downloaded once. A file that is called like
            one of them is "./imagenet"; "~" is the home folder.
        source: "official", "keras", "timm", or "auto" to tell by the file. A name needs none.
        strict: whether it is an error if a variable has no value or one of another shape, a value finds no
            variable, or the file names another variant. The classifier is left out of this: without one for as
            many classes it keeps its values (`LoadReport.head_reset`). So does the whole head, seven variables with
            the last convolution, where the file has nothing of it, as those of `features_only`.

    Returns:
        A `LoadReport`.

    Raises:
        WeightsError: the file is missing, damaged, or of another network, or the name's cannot be had; the model is
            unchanged.
        ValueError: `model`, `path_or_name` or `source` is something else.

    Weights by name that were trained with another preprocessing than the model's are taken with a warning.
    A model with other than three input channels gets the stem's kernel as `adapt_stem` makes it.
    """
    check_model(model)
    _check_source(source)
    if known := pretrained.find(model.variant, path_or_name):
        path_or_name, source = _fetched(model, known), "auto"
    with _opened(path_or_name, source) as file:
        path = str(file.path)
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


def count_classes(path, source="auto"):
    """Number of classes of the classifier in a weights file, or None where it has none.

    Args:
        path: as in `load_weights`, but no name: `pretrained.find` tells the classes of those.
        source: as in `load_weights`.

    Raises:
        WeightsError: as in `load_weights`.
        ValueError: `path` or `source` is something else.
    """
    with _opened(path, source) as file:
        return file.classes


def _fetched(model, known):
    """The file of pretrained weights."""
    from efficientnetv2_tf.networks.pretrained_files import fetch  # which imports this module

    if known.preprocessing != model.preprocessing:
        warnings.warn(
            f"The weights {known.weights!r} were trained with preprocessing={known.preprocessing!r}, {model.name} has "
            f"{model.preprocessing!r}: get_model({model.variant!r}, weights={known.weights!r}) sets it.",
            stacklevel=3,
        )
    return fetch(known)


# What to call it -> (reader, what the file should have been).
_READERS = {
    "official": (read_official, "a TensorFlow checkpoint"),
    "keras": (read_keras, "a Keras file (.h5, .weights.h5 or .keras)"),
    "timm": (read_timm, "a PyTorch state dict (.safetensors, .pth or .pth.tar)"),
}
_TORCH = (".safetensors", ".pth", ".pth.tar", ".pt", ".bin")
_EXPECTED = (
    "Expected an official checkpoint (its prefix, folder or .tgz), Keras' .h5, .weights.h5 or .keras, or timm's "
    ".safetensors, .pth or .pth.tar."
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
        ValueError: there is no such source, or `path` is no path and no model.
    """
    _check_source(source)
    if isinstance(path, keras.Model):
        yield from_keras_model(path)
        return
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            "Weights should be a path, the name of pretrained weights, or a Keras 3 model. "
            f"Received: {path!r} of type {type(path).__name__}"
        )
    path = pathlib.Path(os.path.expanduser(path))
    if not path.exists() and not pathlib.Path(f"{path}.index").exists():  # a prefix is no file's name
        raise WeightsError(f"{path} was not found. {_EXPECTED}{_names_hint(path)}")
    kind = _guess(path) if source == "auto" else source
    reader, expected = _READERS[kind]
    with contextlib.ExitStack() as stack:
        with told(f"{path} cannot be read as {expected}"):
            file = reader(path, stack)
        yield file


def _check_source(source):
    if source not in ("auto", *_READERS):
        raise ValueError(f"`source` should be auto, {', '.join(_READERS)}. Received: source={source!r}")


def _names_hint(path):
    """For a bare word, which may have been meant as a name: which names there are."""
    if path.suffix or path.name != str(path):
        return ""
    near = difflib.get_close_matches(path.name.lower(), pretrained.NAMES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f" Or the name of pretrained weights: {', '.join(pretrained.NAMES)}.{hint}"


def _guess(path):
    """The kind of file, by its name."""
    if path.name.endswith(_TORCH):
        return "timm"
    if path.suffix in (".h5", ".hdf5", ".keras"):
        return "keras"
    if path.is_dir() or path.name.endswith(ARCHIVES) or not path.exists() or CHECKPOINT_PART.search(path.name):
        return "official"
    raise WeightsError(f"{path} is of no kind that its name tells. {_EXPECTED} Or name the kind with `source`.")


def _match(model, file, path):
    """(report, {our path: new value})."""
    values, outcome, reset = {}, {kind: [] for kind in _OUTCOMES}, _reset(model, file)
    for variable in model.weights:
        place, name = variable.path, file.name(model, variable)
        kind = "head_reset" if place in reset else _fit(variable, file, name)
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
    heads = {file.name(model, place) for place in (*_CLASSIFIER, *(_FEATURES_HEAD if model.features_only else ()))}
    left = sorted(set(file.values) - {file.name(model, variable) for variable in model.weights})
    outcome["unused"] = [name for name in left if name not in heads]
    outcome["head_unused"] = [name for name in left if name in heads]
    return LoadReport(path, file.kind, **{kind: tuple(items) for kind, items in outcome.items()}), values


def _difference(model, file):
    """The likely reason why a file does not fit."""
    statistics = any(name.endswith(_STATISTICS) for name in file.values)
    if statistics == has_statistics(model.normalization):
        return (
            "perhaps those of another variant, or of another size (width_coefficient, depth_coefficient, feature_size)"
        )
    has, wanted = ("batch", "group") if statistics else ("group", "batch")
    return f"its normalization is {has!r}, and {wanted!r} was expected: get_model(..., normalization={has!r}) takes it"


def _reset(model, file):
    """Paths of the head that keep their values: its classifier, or all of it where the file has nothing of it."""
    if not any(variable.path in _CLASSIFIER for variable in model.weights):
        return ()
    head = (*_FEATURES_HEAD, *_CLASSIFIER)
    if not any(file.name(model, place) in file.values for place in head):
        return head
    return _CLASSIFIER if file.classes != model.output_shape[-1] else ()


def _fit(variable, file, name):
    """Which of the outcomes a variable has."""
    place, shape = variable.path, tuple(variable.shape)
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
