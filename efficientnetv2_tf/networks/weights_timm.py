"""Reads state dicts of timm's networks without running any code in them."""

import argparse
import pickle
import re

import numpy as np

from efficientnetv2_tf.networks import names
from efficientnetv2_tf.networks.weight_file import Value, WeightFile, optional_package, values_under


def read_timm(path, stack):
    """The `WeightFile` of a .safetensors file, which `stack` closes, or of one that torch.save wrote."""
    averages = frozenset()
    if path.suffix == ".safetensors":
        values = _safetensors(path, stack)
    else:
        values, averaged = _torch_values(path)
        averages = frozenset(values) if averaged else averages
    values = {name: value for name, value in values.items() if not name.endswith("num_batches_tracked")}
    root, values = values_under(values, "conv_stem.weight", path, "timm's names")

    def name(model, variable):
        return root + names.timm_name(model, variable, check=False)

    return WeightFile(path, "timm", name, values, f"{root}classifier.bias", averages)


def _safetensors(path, stack):
    safetensors = optional_package("safetensors", path)
    file = stack.enter_context(safetensors.safe_open(str(path), framework="np"))
    return {
        name: _torch_value(name, file.get_slice(name).get_shape(), lambda name=name: file.get_tensor(name))
        for name in file.keys()  # noqa: SIM118 (it is no dictionary)
    }


def _torch_values(path):
    """(values, whether they are moving averages), from a state dict or from one of timm's training checkpoints."""
    torch = optional_package("torch", path)
    state = _torch_load(torch, path)
    holder = next((key for key in ("state_dict_ema", "model_ema", "state_dict", "model") if key in state), None)
    tensors = state if holder is None else state[holder]
    values = {
        name: _torch_value(name, tensor.shape, lambda tensor=tensor: tensor.float().numpy())
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }
    return values, holder is not None and holder.endswith("_ema")


def _torch_load(torch, path):
    """What torch.save wrote, if it is tensors and plain values: no code in the file is run.

    timm's training checkpoints hold their command line as well, a `Namespace`, which is a bag of values.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text is long, has terminal codes, and advises to run the code
        found = re.search(r"GLOBAL (\S+)", str(error))
        more = f"it holds more than tensors ({found[1]})" if found else "it is damaged, or holds more than tensors"
        reason = f"{more}; what could run code is not read. Where it was made, save model.state_dict() instead"
        raise ValueError(reason) from None


def _torch_value(name, shape, read):
    """From PyTorch's [out, in, height, width] to Keras' [height, width, in, out]; depthwise [..., channels, 1]."""
    orders = {2: (1, 0), 4: (2, 3, 0, 1) if ".conv_dw." in name else (2, 3, 1, 0)}
    order = orders.get(len(shape), tuple(range(len(shape))))
    return Value(tuple(shape[axis] for axis in order), lambda: np.asarray(read(), np.float32).transpose(order))
