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
    "MBConv": "efficientnetv2_tf.networks.layers",
    "FusedMBConv": "efficientnetv2_tf.networks.layers",
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
    "evaluate": "efficientnetv2_tf.training.trainer",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


@wrapt.when_imported("keras")
def _register(_):
    """Lets `load_model` find our classes, which register themselves when their module loads."""
    importlib.import_module("efficientnetv2_tf.networks.model")
