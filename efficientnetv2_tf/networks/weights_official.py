"""Reads and writes checkpoints of the official release, which are TensorFlow's, name-based or object-based."""

import os
import pathlib
import re
import tarfile
import tempfile

import keras
import numpy as np

from efficientnetv2_tf.networks import names
from efficientnetv2_tf.networks.weight_file import (
    SHOWN_NAMES,
    Value,
    WeightFile,
    WeightsError,
    check_model,
    values_under,
)

ARCHIVES = (".tgz", ".tar.gz")
CHECKPOINT_PART = re.compile(r"\.(index|data-\d+-of-\d+)$")
_AVERAGE = "/ExponentialMovingAverage"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # how TensorFlow ends a value's name in an object-based checkpoint
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_BOOKKEEPING = ("save_counter", "optimizer", "keras_api")


def read_official(path, stack):
    """The `WeightFile` of a checkpoint: its prefix, a file of it, its folder or an archive, which `stack` removes."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(_prefix(path, stack)))
    shapes = reader.get_variable_to_shape_map()

    def value(name):
        return Value(tuple(shapes[name]), lambda: np.asarray(reader.get_tensor(name), np.float32))

    return (_object_based if _OBJECT_GRAPH in shapes else _name_based)(path, sorted(shapes), value)


def _name_based(path, stored, value):
    """Takes an average in place of the value beside it; leaves out optimizer slots and counters."""
    averages = {name.removesuffix(_AVERAGE): name for name in stored if name.endswith(_AVERAGE)}
    known = {*stored, *averages}
    # "x/kernel/RMSProp" is a slot of "x/kernel"; counters such as "global_step" have no slash.
    variables = {name: name for name in stored if "/" in name and name.rpartition("/")[0] not in known}
    values = {name: value(source) for name, source in sorted({**variables, **averages}.items())}
    root, values = values_under(values, "stem/conv2d/kernel", path, "the official release's names")

    def name(model, variable):
        return root + names.official_name(model, variable, check=False).partition("/")[2]

    variant = root.partition("/")[0] or None
    return WeightFile(path, "official", name, values, f"{root}head/dense/bias", frozenset(averages), variant)


def _object_based(path, stored, value):
    values = {
        name.removesuffix(_VALUE): value(name)
        for name in stored
        if name.endswith(_VALUE) and ".OPTIMIZER_SLOT" not in name
    }
    root, values = values_under(values, "_stem/_conv_stem/kernel", path, "the official release's objects")
    values = {name: x for name, x in values.items() if name.removeprefix(root).split("/")[0] not in _BOOKKEEPING}

    def name(model, variable):
        return root + names.object_name(model, variable, check=False)

    return WeightFile(path, "official objects", name, values, f"{root}_fc/bias")


def _prefix(path, stack):
    """The checkpoint's prefix, for one of its files, its folder or an archive with it."""
    if path.name.endswith(ARCHIVES):
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        return _prefix_in(folder, path)
    if path.is_dir():
        return _prefix_in(path, path)
    return path.with_name(CHECKPOINT_PART.sub("", path.name))


def _prefix_in(folder, path):
    import tensorflow as tf

    indexes = [index for index in sorted(folder.rglob("*.index")) if not index.name.startswith(".")]
    if len(indexes) == 1:
        return indexes[0].with_suffix("")
    latest = {tf.train.latest_checkpoint(str(parent)) for parent in {index.parent for index in indexes}} - {None}
    if len(latest) == 1:
        return pathlib.Path(latest.pop())
    found = ", ".join(str(index.relative_to(folder).with_suffix("")) for index in indexes[:SHOWN_NAMES]) or "none"
    raise WeightsError(f"{path} should hold one TensorFlow checkpoint. Found {found}. Name one by its prefix.")


def save_official_checkpoint(model, prefix):
    """Writes a name-based TensorFlow checkpoint, as the official release has and reads, in float32.

    Args:
        model: an `EfficientNet`.
        prefix: path without ending; `PREFIX.data-00000-of-00001` and `PREFIX.index` are made, in a folder that is made
            as well. The folder's file "checkpoint" names this one from then on, so that the folder's name can be given
            too; others that are there stay, and are read by their prefixes.

    Returns:
        The prefix, a `pathlib.Path`.

    Raises:
        ValueError: `model` is something else.
        OSError: the files cannot be written.

    The index is renamed into place after the values: without it there is no checkpoint to read.
    """
    import tensorflow as tf

    check_model(model)
    prefix = pathlib.Path(os.path.expanduser(prefix))
    values = {
        names.official_name(model, variable, check=False): np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
        for variable in model.weights
    }
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{prefix.name}-", dir=prefix.parent) as folder:
        written = pathlib.Path(folder)
        tf.raw_ops.SaveV2(
            prefix=str(written / prefix.name),
            tensor_names=[*values],
            shape_and_slices=[""] * len(values),
            tensors=[tf.constant(value) for value in values.values()],
        )
        parts = sorted(written.iterdir(), key=lambda part: part.suffix == ".index")
        state = written / "checkpoint"
        state.write_text(f'model_checkpoint_path: "{prefix.name}"\n')
        for part in (*parts, state):
            part.replace(prefix.parent / part.name)
    return prefix
