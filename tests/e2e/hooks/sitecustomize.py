"""Changes the trainer of a test's process: with DEATH set by `death.py`, with SPY_FOLDER by `spy.py`.

Python imports a module of this name at its start, from PYTHONPATH, long before the trainer. The trainer itself is the
product's, untouched.
"""

import importlib.abc
import importlib.util
import os
import sys

TRAINER = "efficientnetv2_tf.training.trainer"
HOOKS = {"DEATH": "death", "SPY_FOLDER": "spy"}


class _Finder(importlib.abc.MetaPathFinder):
    """Runs hooks on the trainer when it has been imported."""

    def find_spec(self, name, path=None, target=None):
        if name != TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), _run_hooks(module))
        return spec


def _run_hooks(trainer):
    for variable, module in HOOKS.items():
        if variable in os.environ:
            importlib.import_module(module).install(trainer)


if HOOKS.keys() & os.environ.keys():
    sys.meta_path.insert(0, _Finder())
