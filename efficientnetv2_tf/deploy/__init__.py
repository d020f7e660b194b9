"""From a training to production: `export`, `predict`, `serve`, and `client` for machines without TensorFlow.

The names below are loaded at their first use, so that importing this needs no TensorFlow, nor the packages of a format
that is not asked for. `deploy.client.predict` asks a server; the other modules are the parts that these are made of.
"""

import importlib

_HOME = {
    "export": "efficientnetv2_tf.deploy.exporter",
    "predict": "efficientnetv2_tf.deploy.predictor",
    "Prediction": "efficientnetv2_tf.deploy.prediction",
    "open_model": "efficientnetv2_tf.deploy.runners",
    "serve": "efficientnetv2_tf.deploy.serving.server",
    "ParityError": "efficientnetv2_tf.deploy.parity",
    "AgreementError": "efficientnetv2_tf.deploy.tflite",
    "ServingError": "efficientnetv2_tf.deploy.client",
}
_MODULES = ("client",)  # that are meant for use under their own name
__all__ = [*_HOME, *_MODULES]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
