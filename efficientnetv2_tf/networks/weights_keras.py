"""Reads Keras' files and models: our own networks, keras.applications', keras-cv's and keras-hub's."""

import functools
import io
import re
import zipfile

import keras
import numpy as np

from efficientnetv2_tf.networks import names
from efficientnetv2_tf.networks.weight_file import Value, WeightFile, WeightsError, values_under

_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# Layers of keras.applications' networks that come before the stem, and Keras' counters of random numbers.
_PREPROCESSING = r"(normalization|rescaling|seed_generator)(_\d+)?$"


def from_keras_model(model):
    """The `WeightFile` of a Keras model in memory."""
    values = {
        variable.path: Value(tuple(variable.shape), lambda x=variable: keras.ops.convert_to_numpy(x).astype("float32"))
        for variable in model.weights
    }
    return _keras_names(values, f"Keras model {model.name!r}")


def read_keras(path, stack):
    """The `WeightFile` of an .h5, .weights.h5 or .keras file, which `stack` closes."""
    import h5py

    stored = path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            stored = io.BytesIO(archive.read("model.weights.h5"))
    file = stack.enter_context(h5py.File(stored, "r"))
    root = file.get("model_weights", file)  # a whole model in the old format has its weights in there
    old = "layer_names" in root.attrs or "layer_names0" in root.attrs
    return _keras_names((_keras2_values if old else _keras3_values)(root), path)


def _h5_value(dataset):
    def read():
        value = dataset[()]
        if dataset.attrs.get("dtype") == "bfloat16":  # stored as two bytes without a meaning, a float32's upper half
            value = (value.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return np.asarray(value, np.float32)

    return Value(dataset.shape, read)


def _keras2_values(root):
    """One group a layer; in it, the weights by their names, such as "stem_conv/kernel:0"."""
    values = {}

    def visit(name, item):
        layer, _, rest = name.partition("/")
        if not hasattr(item, "shape") or layer in ("optimizer_weights", "top_level_model_weights"):
            return
        *inner, leaf = rest.removesuffix(":0").split("/")
        # TensorFlow numbered the names of a second network in one graph; the group has the layer's own name.
        if len(inner) == 1 and re.fullmatch(re.escape(layer) + r"_\d+", inner[0]):
            inner = [layer]
        values["/".join([*inner, leaf.replace("depthwise_kernel", "kernel")])] = _h5_value(item)

    root.visititems(visit)
    return values


def _keras3_values(root):
    """Groups by class and number, each with its layer's name as an attribute and its variables numbered."""
    layer_names, values = {}, {}

    def visit(path, item):
        layer, _, last = path.rpartition("/")
        if last == "vars" and layer and "optimizer" not in layer.split("/"):  # also that of a network inside another
            layer_names[layer] = item.attrs.get("name", layer.rpartition("/")[2])

    root.visititems(visit)
    for layer in layer_names:
        parts = layer.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        name = "/".join(layer_names[place] for place in above if place in layer_names)
        datasets = root[f"{layer}/vars"]
        for key, leaf in _leaves({key: datasets[key].shape for key in datasets}).items():
            values[f"{name}/{leaf}"] = _h5_value(datasets[key])
    return values


def _leaves(shapes):
    """{number: name} of one layer's variables, which Keras 3 numbers in the order in which their class makes them."""
    if [len(shape) for shape in shapes.values()] == [1] * len(_NORM):
        leaves = _NORM
    elif len(shapes.get("0", ())) >= 2:
        leaves = ("kernel", "bias")
    else:
        leaves = _NORM[:2] if len(shapes) == 2 else ()  # a group normalisation
    return {key: leaves[int(key)] if key.isdigit() and int(key) < len(leaves) else key for key in shapes}


def _keras_names(values, path):
    """Our own network's names, or those of keras.applications, keras-cv and keras-hub brought together."""
    if any(name.endswith("stem_norm/gamma") for name in values):
        root, values = values_under(values, "stem_conv/kernel", path, "our names")

        def name(model, variable):
            return root + getattr(variable, "path", variable)

        return WeightFile(path, "own", name, values, f"{root}classifier/bias")
    layers = {name: tuple(name.split("/")[-2:]) for name in values}
    simple = {layer.removesuffix("_conv") for layer, _ in layers.values() if re.fullmatch(r"block\d+._conv", layer)}
    named = {}
    for name, (layer, leaf) in ((name, pair) for name, pair in layers.items() if len(pair) == 2):
        if re.match(_PREPROCESSING, layer):
            continue
        key = f"{_keras_layer(layer, simple)}/{leaf}"
        if key in named:
            raise WeightsError(f"{path} holds {key!r} twice. Expected the weights of one network.")
        named[key] = values[name]
    values_under(named, "stem_conv/kernel", path, "keras.applications', keras-cv's or keras-hub's names")
    return WeightFile(path, "keras", functools.partial(names.keras_name, check=False), named, "predictions/bias")


def _keras_layer(layer, simple):
    """keras.applications' V1 name of a layer, for V2's and the other packages'.

    Args:
        layer: such as "block4a_dwconv2".
        simple: the blocks that keras-hub built of one convolution; only there "_bn" is the projection's.
    """
    block, _, part = layer.partition("_")
    if block in simple and part in ("conv", "bn"):
        return f"{block}_project_{part}"
    renamed = {"dwconv2": "dwconv", "dwconv_bn": "bn", "project": "project_conv"}
    return f"{block}_{renamed.get(part, part)}" if part else block
