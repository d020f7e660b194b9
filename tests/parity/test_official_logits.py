"""The official release's own numbers: the same weights and image give the same features and logits."""

import ast
import importlib.util
import pathlib

import keras
import numpy as np
import pytest

REFERENCE = pathlib.Path(__file__).parent / "reference"
MODELS = sorted(path.stem for path in REFERENCE.glob("*.npz"))
CONVOLUTIONS = ("expand_conv", "project_conv")
NORMS = ("expand_norm", "depthwise_norm", "project_norm")
KINDS = {"conv": "conv2d", "norm": "tpu_batch_normalization", "classifier": "dense"}


def load_fill():
    spec = importlib.util.spec_from_file_location("fill", REFERENCE / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbered(name, position):
    """The release's names of equal layers of a block: `name`, `name_1`, `name_2`."""
    return f"{name}_{position}" if position else name


def official_name(path, layers_of_block):
    """The release's name of our variable `path`, without the model's name.

    Args:
        path: such as "blocks_3/se/reduce/kernel".
        layers_of_block: for each block the names of its layers that exist.
    """
    *where, leaf = path.split("/")
    if len(where) == 1:
        place = "stem" if where[0].startswith("stem") else "head"
        return f"{place}/{KINDS[where[0].split('_')[-1]]}/{leaf}"
    block, layer = where[0], where[-1]
    if where[1] == "se":
        return f"{block}/se/{numbered('conv2d', ('reduce', 'expand').index(layer))}/{leaf}"
    if layer == "depthwise_conv":
        return f"{block}/depthwise_conv2d/depthwise_kernel"
    order = CONVOLUTIONS if layer in CONVOLUTIONS else NORMS
    position = [name for name in order if name in layers_of_block[block]].index(layer)
    return f"{block}/{numbered(KINDS[layer.split('_')[-1]], position)}/{leaf}"


def official_names(model):
    """{our path: the release's name} of all variables of a model."""
    paths = [variable.path for variable in model.weights]
    layers_of_block = {}
    for path in paths:
        layers_of_block.setdefault(path.split("/")[0], set()).add(path.split("/")[1])
    return {path: f"{model.name}/{official_name(path, layers_of_block)}" for path in paths}


def last_of_each_reduction(model):
    """The layers whose outputs the release calls reduction_1 to reduction_5."""
    blocks = [block for stage in model.blocks for block in stage]
    ends = [i for i, block in enumerate(blocks) if i + 1 == len(blocks) or blocks[i + 1].stride == 2]
    return [model.get_layer(f"blocks_{index}") for index in ends]


@pytest.fixture(scope="module", params=MODELS)
def filled(request, full_model):
    """(our network with the reference's weights, the reference)."""
    model, fill = full_model(request.param), load_fill().fill
    reference = np.load(REFERENCE / f"{request.param}.npz")
    names = official_names(model)
    for variable in model.weights:
        variable.assign(fill(names[variable.path], variable.shape))
    return model, reference


def test_there_are_references():
    assert MODELS == ["efficientnet-b0", "efficientnet-b4", "efficientnetv2-b0", "efficientnetv2-s"]


def test_variables(filled):
    model, reference = filled
    names = official_names(model)
    mine = {names[variable.path]: tuple(variable.shape) for variable in model.weights}
    shapes = [tuple(ast.literal_eval(text)) for text in reference["shapes"]]
    assert mine == dict(zip(reference["names"], shapes, strict=True))
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert (trainable, model.count_params()) == (reference["trainable"], reference["total"])


def test_features_and_logits(filled):
    model, reference = filled
    reductions = last_of_each_reduction(model)
    assert len(reductions) == 5
    network = keras.Model(model.input, [*(layer.output for layer in reductions), model.output])
    *features, logits = network(load_fill().image(128, 96))
    for number, feature in enumerate(features, start=1):
        expected = reference[f"reduction_{number}_mean"]
        np.testing.assert_allclose(np.mean(feature, axis=(1, 2)), expected, atol=1e-4 * expected.std())
    np.testing.assert_allclose(logits, reference["logits"], atol=1e-4 * reference["logits"].std(), rtol=0)
