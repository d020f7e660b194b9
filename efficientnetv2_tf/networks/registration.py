"""Tells Keras about our classes as soon as Keras is there, without loading Keras for it.

`keras.models.load_model` finds custom classes only among those registered, and a class registers itself when
its module is imported. This package imports nothing heavy by itself, so it asks to be called back: after
`import efficientnetv2_tf`, in whatever order with `import tensorflow` or `import keras`, our files load.
"""

import importlib
import importlib.abc
import importlib.util
import sys

_OUR_CLASSES = "efficientnetv2_tf.networks.model"  # it imports the layers too


def register_with_keras():
    """Registers the classes of `networks` with Keras: now if Keras is loaded, else once it has been."""
    if "keras" in sys.modules:
        importlib.import_module(_OUR_CLASSES)
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds `keras` where Python finds it anyway, and adds one step after it has been executed."""

    def __init__(self):
        self._searching = False

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "keras" or self._searching:
            return None
        self._searching = True  # the search below asks this finder too
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = False
        if spec is not None:
            self._add_step(spec.loader)
        return spec

    def _add_step(self, loader):
        execute = loader.exec_module

        def execute_and_register(module):
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            importlib.import_module(_OUR_CLASSES)

        loader.exec_module = execute_and_register
