"""Reads checkpoints of the official release, which are TensorFlow's, name-based or object-based."""

import pathlib
import re
import tarfile
import tempfile

import numpy as np

from efficientnetv2_tf.networks import names
from efficientnetv2_tf.networks.weight_file import SHOWN_NAMES, Value, WeightFile, WeightsError, values_under

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
        return root + names.official_name(model, variable).partition("/")[2]

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
        return root + names.object_name(model, variable)

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
