"""EfficientNetV2 for TensorFlow: train progressively, fine-tune, ship.

The names below are loaded at their first use, so that `import efficientnetv2_tf` costs nothing and needs no
TensorFlow.
"""

import importlib

import wrapt

__version__ = "0.1.0"

_HOME = {
    "get_model": "efficientnetv2_tf.networks.model",
    "EfficientNet": "efficientnetv2_tf.networks.model",
    "load_weights": "efficientnetv2_tf.networks.weights",
    "save_official_checkpoint": "efficientnetv2_tf.networks.weights",
    "list_models": "efficientnetv2_tf.networks.variants",
    "freeze": "efficientnetv2_tf.networks.freezing",
    "freeze_batch_norm": "efficientnetv2_tf.networks.freezing",
    "unfreeze": "efficientnetv2_tf.networks.freezing",
    "fold_normalization": "efficientnetv2_tf.networks.folding",
    "MBConv": "efficientnetv2_tf.networks.blocks",
    "FusedMBConv": "efficientnetv2_tf.networks.blocks",
    "SqueezeExcite": "efficientnetv2_tf.networks.layers",
    "StochasticDepth": "efficientnetv2_tf.networks.layers",
    "ScheduledDropout": "efficientnetv2_tf.networks.layers",
    "Stage": "efficientnetv2_tf.progressive.stages",
    "plan_stages": "efficientnetv2_tf.progressive.stages",
    "stage_at": "efficientnetv2_tf.progressive.stages",
    "StageControls": "efficientnetv2_tf.progressive.controls",
    "ProgressiveLearning": "efficientnetv2_tf.progressive.callback",
    "Config": "efficientnetv2_tf.training.hparams",
    "load_config": "efficientnetv2_tf.training.recipes",
    "train": "efficientnetv2_tf.training.trainer",
    "evaluate": "efficientnetv2_tf.training.evaluation",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


# The classes that `.keras` files may name.
_SAVED = ("EfficientNet", "MBConv", "FusedMBConv", "SqueezeExcite", "StochasticDepth", "ScheduledDropout")
_SAVED_IN = {
    **{name: _HOME[name] for name in _SAVED},
    **dict.fromkeys(("Activation", "BatchNormalization", "PointwiseConv2D"), "efficientnetv2_tf.networks.layers"),
}


class _Deferred:
    """Stands for a class of ours in Keras' registry until its module loads, which registers the class itself."""

    def __init__(self, name):
        self._name = name

    def from_config(self, config):
        return getattr(importlib.import_module(_SAVED_IN[self._name]), self._name).from_config(config)


@wrapt.when_imported("keras")
def _register(keras):
    """Lets `load_model` find our classes. Their modules are not loaded here: one of them may be loading Keras."""
    known = keras.saving.get_custom_objects()
    for name in _SAVED_IN:
        known.setdefault(f"efficientnetv2_tf>{name}", _Deferred(name))
