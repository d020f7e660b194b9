"""The weights in a file, whatever its kind: what the readers of this package give."""

import contextlib
import dataclasses
import importlib
import itertools
from collections.abc import Callable

SHOWN_NAMES = 4  # in an error


class WeightsError(ValueError):
    """A file that is no weights file, or one of another network; the model keeps the weights it had."""


def check_model(model):
    """Raises a `ValueError` for what is no `EfficientNet`; its module imports this one."""
    if not hasattr(model, "variant"):
        raise ValueError(f"`model` should be an EfficientNet, as get_model makes it. Received: {model!r}")


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The weights in a file, in our layout.

    Attributes:
        path: of the file, for messages.
        kind: "official" (name-based), "official objects" (object-based), "keras", "own" or "timm".
        name: from (model, path of a variable) to the name in the file.
        values: from a name to its `Value`.
        head_bias: name of the classifier's bias, which has one value a class.
        averages: the names whose values are moving averages.
        variant: the network that the file says it is of, or None.
    """

    path: str
    kind: str
    name: Callable
    values: dict
    head_bias: str
    averages: frozenset = frozenset()
    variant: str | None = None

    def read(self, name):
        """The value called `name`, a float32 array; a `WeightsError` where it is damaged."""
        with told(f"{self.path} is damaged: {name} cannot be read"):
            return self.values[name].read()

    @property
    def classes(self):
        """Classes of the classifier, or None where there is none."""
        return self.values[self.head_bias].shape[0] if self.head_bias in self.values else None


@dataclasses.dataclass(frozen=True)
class Value:
    """One value: its shape in our layout, and `read`, which gives the float32 array."""

    shape: tuple[int, ...]
    read: Callable


@contextlib.contextmanager
def told(what):
    """Turns whatever a parser raises for a damaged file, from KeyError to zlib.error, into a `WeightsError`."""
    try:
        yield
    except (WeightsError, ImportError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise WeightsError(f"{what}: {reason}") from error


def values_under(values, anchor, path, expected):
    """(what stands before `anchor` in a name, the values whose name begins with it).

    The anchor is the first convolution's kernel, which every network has, whatever holds it.
    """
    roots = [name.removesuffix(anchor) for name in values if name == anchor or name.endswith(f"/{anchor}")]
    roots += [name.removesuffix(anchor) for name in values if name.endswith(f".{anchor}")]
    if len(roots) != 1:
        some = ", ".join(itertools.islice(values, SHOWN_NAMES)) or "nothing"
        raise WeightsError(
            f"{path} does not hold the weights of one EfficientNet. Expected {expected} with one {anchor!r}. Found "
            f"{len(roots)}, among {len(values)} values ({some} ...)."
        )
    return roots[0], {name: value for name, value in values.items() if name.startswith(roots[0])}


def optional_package(package, path):
    """Imports what reading `path` needs; a `WeightsError` that says how to install it where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(f"Reading {path} needs {package}: pip install {package}") from error
