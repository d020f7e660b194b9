"""The text of configurations: YAML and override strings, read into flat dictionaries with dotted keys.

YAML is PyYAML's YAML 1.1 (`on`, `off`, `yes` and `no` are booleans) with two differences: 1e-3 is a number
(PyYAML wants 1.0e-3), and a key given twice is an error instead of silently the last.
"""

import re

import yaml

from efficientnetv2_tf.training.hparams import ConfigError

_FLOAT_TAG = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
_OPENING, _CLOSING = "[{", "]}"


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads; lists in one line."""


# Of both, as the dumper must quote the strings that the loader would take for numbers.
for _dialect in (_Loader, _Dumper):
    _dialect.add_implicit_resolver(_FLOAT_TAG, _EXPONENT, list("-+.0123456789"))
# The official release's saved config.yaml has slices of lists of files in it, which nothing here needs.
_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:builtins.slice", lambda loader, node: loader.construct_sequence(node)
)
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)


def read_yaml(text, source):
    """Parses a YAML document that must be a mapping; an empty one is {}.

    Args:
        text: the document.
        source: where it came from, for messages.

    Raises:
        ConfigError: the YAML is malformed (with file, line and column) or no mapping.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown line"
        raise ConfigError(f"{source}, {place}: not valid YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{source}: expected sections such as `train:` with keys below. Received: {value!r}."
        )
    return value


def write_yaml(mapping):
    """Writes a nested dictionary as YAML that `read_yaml` reads back unchanged, in the order given."""
    return yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def flatten(mapping, prefix=""):
    """Flattens nested dictionaries: {"train": {"epochs": 2}} -> {"train.epochs": 2}; empty ones vanish."""
    flat = {}
    for key, value in mapping.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def parse_overrides(text):
    """Parses "train.epochs=20,progressive.randaugment=[5,15]" into a flat dictionary.

    Commas separate, except inside brackets. Values are YAML; beyond it `5|15` is the list [5, 15] and None is
    null, as in the official release's override strings. The first `=` ends the key.

    Raises:
        ConfigError: an item is not KEY=VALUE.
    """
    overrides = {}
    for item in split_overrides(text):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise ConfigError(
                f"expected KEY=VALUE pairs separated by commas, such as train.epochs=20,data.batch_size=64 "
                f"(lists in brackets: [5,15]; a recipe needs an item of its own). Received: {item!r}."
            )
        overrides.pop(key, None)  # so that the last of two counts, also in order
        overrides[key] = _parse_value(value)
    return overrides


def split_overrides(text):
    """Splits "a.b=1,c.d=[2,3]" into ["a.b=1", "c.d=[2,3]"]: at commas outside brackets; drops empty items."""
    depth, items = 0, [""]
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == "," and depth <= 0:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items if item.strip()]


def _parse_value(text):
    if "|" in text:
        return [_parse_value(part.strip()) for part in text.split("|")]
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text  # no YAML, so a plain string
    if isinstance(value, list):
        return [None if item == "None" else item for item in value]
    return None if value == "None" else value
