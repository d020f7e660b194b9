"""model_card.json: what an exported network is, how to feed it, and where its weights are from."""

import hashlib
import importlib.metadata
import json
import pathlib
import platform
import time

import efficientnetv2_tf
from efficientnetv2_tf.training.run_folder import RunFolder

FILE = "model_card.json"
_RESIZING = {"v1": "bicubic, corners not aligned"}  # others: bilinear
SCALING = {
    "v1": "(pixel - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375], of red, green and blue",
    "v2": "(pixel - 128) / 128",
    "finetune": "(pixel / 255 - 0.5) / 0.5",
}


def make_card(bundle, files):
    """Describes an export.

    Args:
        bundle: the `Bundle` that was exported, its network under the name of the export.
        files: {name in the card: path} of the files that were written.

    Returns:
        A dictionary for JSON.
    """
    network = bundle.network
    return {
        "name": network.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "network": network.variant,
        "parameters": network.count_params(),
        "blocks": network.get_config()["blocks"],
        "normalization": {"kind": network.normalization, "epsilon": network.get_layer("stem_norm").epsilon},
        "padding": "same, as TensorFlow does it",
        "image_size": bundle.image_size,
        "channels": "RGB",
        "preprocessing": {
            "style": bundle.style,
            "scaling": SCALING[bundle.style],
            "resizing": _RESIZING.get(bundle.style, "bilinear"),
            "crop": bundle.crop,
        },
        "multi_label": bundle.multi_label,
        "class_names": list(bundle.class_names),
        "weights": _weights(RunFolder(pathlib.Path(bundle.origin))),
        "versions": _versions(),
        "files": {key: {"bytes": path.stat().st_size, "sha256": sha256(path)} for key, path in files.items()},
    }


def sha256(path):
    """The checksum of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _weights(folder):
    config = folder.read_config()
    summary = json.loads(folder.summary.read_text(encoding="utf-8")) if folder.summary.exists() else {}
    return {
        "source": str(folder.model),
        "sha256": sha256(folder.model),
        "averaged": bool(config.train.ema_decay),
        "dataset": config.data.dataset,
        "initial_weights": config.train.init_weights,
        "epochs": summary.get("epochs"),
        "test_accuracy": summary.get("test_accuracy"),
    }


def _versions():
    packages = ("tensorflow", "keras", "numpy")
    return {
        "efficientnetv2_tf": efficientnetv2_tf.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
    }
