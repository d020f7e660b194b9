"""Loading: a recipe, what it extends, its values for the chosen model, and overrides become one `Config`.

A recipe is a YAML file with the sections of `Config`, and lists only what differs from the defaults. Two more
keys are possible at its top: `extends: NAME`, the recipe to start from, and `per_model: {MODEL: {...}}`, of
which the chosen model's sections are merged over the rest of that file. A dotted key may end in .0 or .1 for
one end of a pair, as in progressive.randaugment.1. The official release's names work too (`release_keys.py`).
"""

import dataclasses
import difflib
import logging
import os
import pathlib
from typing import Any

import pydantic

from efficientnetv2_tf.networks.variants import VARIANTS
from efficientnetv2_tf.training.config_text import (
    read_yaml,
    split_overrides,
    write_yaml,
)
from efficientnetv2_tf.training.hparams import (
    CONTRADICTION,
    PAIRS,
    Config,
    ConfigError,
    flat,
)
from efficientnetv2_tf.training.release_keys import EvalShare, translate

# The repository's hparams/ folder. An installed package has none: give the path of a YAML file there.
RECIPES_DIR = pathlib.Path(__file__).resolve().parents[2] / "hparams"

_SIZES = "progressive.image_size"
_SEARCH = "search."  # a section that only an architecture search has
_COMPARISONS = ("greater", "less")
_DATASET = "data.dataset"
# What a recipe says of its own data set, and what is wrong for another one.
_OF_THE_DATASET = (
    "data.num_train_images", "data.train_split", "data.eval_split", "model.num_classes", "search.proxy_train_split",
    "search.proxy_eval_split", "search.max_parameters", "search.max_multiply_adds",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Values from one place, to be merged over those before it."""

    source: str  # for messages
    values: dict[str, Any]  # our dotted keys
    model: str | None = None  # only for this model


def load_config(recipe=None, overrides=(), *, model=None, dataset=None, data_dir=None, schema=Config):
    """Loads and validates a configuration.

    Merged in this order, later ones win: the defaults; the recipe (what it extends first, its `per_model`
    entry last); the overrides, one after the other; `model`, `dataset` and `data_dir`. What a file says of
    its own data set (number of images and classes, splits) is dropped where another one is chosen later.

    Args:
        recipe: path of a YAML file or name of a recipe in `RECIPES_DIR`; None for the defaults.
        overrides: strings, each either "train.epochs=20,data.batch_size=64" (commas separate, except in
            brackets), the path of a YAML file or a recipe's name. One string alone is a list of one.
        model: shorthand for model.name.
        dataset: shorthand for data.dataset.
        data_dir: shorthand for data.data_dir.
        schema: `Config`, or a subclass with more sections.

    Returns:
        A `schema`; `resolve` fills what depends on the variant.

    Raises:
        ConfigError: a file is missing or malformed, a key unknown, a value impossible. Unknown keys and
            impossible values come all at once, each with what was expected, received, and where it came from.
    """
    layers = _file_layers(recipe) if recipe is not None else []
    for override in [overrides] if isinstance(overrides, str | os.PathLike) else overrides:
        layers += _override_layers(os.fspath(override).strip())
    shorthands = {"model.name": model, _DATASET: dataset, "data.data_dir": data_dir and os.fspath(data_dir)}
    layers += [
        _Layer("the arguments", {key: value}) for key, value in shorthands.items() if value is not None
    ]
    return _build(layers, schema)


def is_override(text):
    """Whether a text is "KEY=VALUE, ..." rather than the path or name of a recipe."""
    return "=" in text and not os.path.isfile(text)


def list_recipes():
    """Names of the recipes in `RECIPES_DIR`, sorted."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.yaml"))


def find_recipe(recipe, beside=None):
    """The path of a recipe.

    Args:
        recipe: path of a YAML file, or a name such as "paper" with or without ".yaml".
        beside: a folder to look into before `RECIPES_DIR`.

    Raises:
        ConfigError: there is none; the message shows the nearest and all names.
    """
    text = os.fspath(recipe)
    folders = [pathlib.Path(), RECIPES_DIR] if beside is None else [beside, RECIPES_DIR]
    for path in [folders[0] / text, *(folder / f"{text.removesuffix('.yaml')}.yaml" for folder in folders)]:
        if path.is_file():
            return path
    names = list_recipes()
    raise ConfigError(
        f"{text!r} is neither a YAML file nor a recipe, nor KEY=VALUE.{_hint(text, names)} "
        f"Recipes in {RECIPES_DIR}: {', '.join(names) or 'none'}."
    )


def to_yaml(config):
    """Writes all fields of a `Config` as YAML; `load_config` of the written file gives the same back."""
    return write_yaml(config.model_dump(mode="json"))


def _file_layers(recipe, beside=None, below=()):
    """The layers of a recipe, those of what it extends first."""
    try:
        path = find_recipe(recipe, beside).resolve()
    except ConfigError as error:
        raise ConfigError(f"{below[-1]}: extends: {error}" if below else str(error)) from None
    if path in below:
        raise ConfigError(f"{below[-1]}: extends {recipe!r}, which extends it in turn. Remove one `extends`.")
    try:
        document = read_yaml(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text file, but a recipe is YAML: {error}") from error
    parent, per_model = document.pop("extends", None), document.pop("per_model", None) or {}
    if not isinstance(parent, str | None):
        raise ConfigError(f"{path}: extends: expected the name of one recipe. Received: {parent!r}.")
    if not isinstance(per_model, dict) or not all(isinstance(entry, dict) for entry in per_model.values()):
        raise ConfigError(
            f"{path}: per_model: expected {{MODEL: {{SECTION: ...}}}}. Received: {per_model!r}."
        )
    layers = _file_layers(parent, path.parent, (*below, path)) if parent is not None else []
    layers.append(_layer(str(path), document))
    for name, entry in per_model.items():
        source = f"{path}, per_model.{name}"
        if name not in VARIANTS:
            raise ConfigError(f"{source}: {name!r} is not a model.{_hint(str(name), VARIANTS)}")
        layers.append(dataclasses.replace(_layer(source, entry), model=name))
        if "model.name" in layers[-1].values:
            raise ConfigError(f"{source}: model.name cannot be set here, as it decides which entry is taken.")
    return layers


def _override_layers(text):
    if not text:
        return []
    if is_override(text):
        return [_layer(f"override {item!r}", item) for item in split_overrides(text)]
    return _file_layers(text)


def _layer(source, overrides):
    """Translates the official release's names, and logs what could not be kept."""
    try:
        values, notes = translate(overrides)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    for note in notes:
        logging.getLogger(__name__).warning("%s: %s", source, note)
    return _Layer(source, values)


def _build(layers, schema):
    defaults, sections = flat(schema()), tuple(schema.model_fields)
    model = defaults["model.name"]
    for layer in layers:
        model = layer.values.get("model.name", model)
    problems = [problem for layer in layers for problem in _unknown_keys(layer, defaults, sections)]
    values, sources = _merge([layer for layer in layers if layer.model in (None, model)], defaults)
    values = _with_pixels(values, model)
    nested = {section: {} for section in sections}
    nested["model"]["name"] = model  # a schema may have a default of its own
    for key, value in values.items():
        section, _, name = key.partition(".")
        nested[section][name] = value
    try:
        config = schema.model_validate(nested)
    except pydantic.ValidationError as error:
        problems += _wrong_values(error, sources)
    if len(problems) > 1:
        raise ConfigError(f"The configuration has {len(problems)} problems:\n  " + "\n  ".join(problems))
    if problems:
        raise ConfigError(problems[0])
    return config


def _base_key(key):
    """progressive.mixup.1 -> (progressive.mixup, 1); train.epochs -> (train.epochs, None)."""
    base, _, index = key.rpartition(".")
    return (base, int(index)) if base in PAIRS and index in ("0", "1") else (key, None)


def _merge(layers, defaults):
    """Merges known keys; returns the values that differ from the defaults, and where each came from."""
    values, sources, datasets = {}, {}, {}
    for layer in layers:
        for key, value in layer.values.items():
            base, index = _base_key(key)
            if base not in defaults:
                continue
            if index is not None:
                value = _with_end(values.get(base, defaults[base]), index, value)
            values[base], sources[base] = value, layer.source
            datasets[base] = layer.values.get(_DATASET)
    for key in _OF_THE_DATASET:
        if datasets.get(key) not in (None, values.get(_DATASET)):
            del values[key]
    return values, sources


def _with_end(pair, index, value):
    """`pair` with one end replaced; a single value stands at both ends."""
    ends = list(pair) if isinstance(pair, list | tuple) and len(pair) == 2 else [pair, pair]
    ends[index] = value
    return ends


def _with_pixels(values, model):
    """Replaces image sizes given as a share of the evaluation size, the release's `train.isize=0.8`."""
    sizes, eval_size = values.get(_SIZES), values.get("data.eval_image_size")
    if not isinstance(sizes, list) or model not in VARIANTS:
        return values
    if not isinstance(eval_size, int):
        eval_size = VARIANTS[model].eval_size
    return {
        **values,
        _SIZES: [size.pixels(eval_size) if isinstance(size, EvalShare) else size for size in sizes],
    }


def _unknown_keys(layer, defaults, sections):
    for key, value in layer.values.items():
        if key in sections and value is not None:  # None: a section without keys
            yield f"{key}: expected keys below this section. Received: {value!r} (from {layer.source})"
        elif key.startswith(_SEARCH) and _SEARCH.rstrip(".") not in sections:
            yield f"{key} is a setting of --mode=search only (from {layer.source})"
        elif key not in sections and _base_key(key)[0] not in defaults:
            yield f"{key} is not a key.{_hint(key, defaults)} (from {layer.source})"


def _hint(name, known):
    """A suggestion: the nearest of `known`, also by the last part of a dotted key."""
    last, by_last = name.rpartition(".")[2], {key.rpartition(".")[2]: key for key in known}
    if last in by_last:  # the right name in the wrong section
        return f" Did you mean {by_last[last]}?"
    near = difflib.get_close_matches(name, known, n=1)
    near = near or [by_last[match] for match in difflib.get_close_matches(last, by_last, n=1)]
    return f" Did you mean {near[0]}?" if near else ""


def _wrong_values(error, sources):
    """One line for each key that pydantic complains about."""
    expected, received = {}, {}
    for item in error.errors(include_url=False):
        if item["type"] == CONTRADICTION:
            for key, problem in item["ctx"]["problems"]:
                yield f"{key}: {problem} ({_origin(key, sources)})"
            continue
        section, name, *rest = item["loc"]
        key = f"{section}.{name}" + "".join(f".{part}" for part in rest[:1] if isinstance(part, int))
        text = item["msg"].removeprefix("Input should be ")
        expected.setdefault(key, []).append(f"a number {text}" if text.startswith(_COMPARISONS) else text)
        received[key] = item["input"]
    for key, texts in expected.items():
        yield f"{key}: expected {' or '.join(texts)}. Received: {received[key]!r} ({_origin(key, sources)})"


def _origin(key, sources):
    source = sources.get(_base_key(key)[0])
    return f"from {source}" if source else "the default"
