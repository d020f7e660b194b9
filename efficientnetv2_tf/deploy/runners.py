"""Opens what can classify encoded pictures: a training, a .keras file, a SavedModel, TFLite or ONNX."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.deploy import model_card
from efficientnetv2_tf.deploy.bundle import Bundle, load_bundle, load_network
from efficientnetv2_tf.deploy.decoding import read_pictures
from efficientnetv2_tf.deploy.explain import check_classifier
from efficientnetv2_tf.deploy.onnx import OnnxModel
from efficientnetv2_tf.deploy.saved_model import TOP, Servable
from efficientnetv2_tf.deploy.serving_files import served_models, versions_in
from efficientnetv2_tf.deploy.tflite_model import TFLiteModel
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.run_folder import RunFolder

_PIXEL_MODELS = {".tflite": TFLiteModel, ".onnx": OnnxModel}


def open_model(model, *, explain=False):
    """A function from encoded pictures to what they show.

    Args:
        model: path of a training's folder; of a .keras file; of a SavedModel, its model's folder (the newest version is
            taken) or the export's folder if there is one model in it; of a .tflite or .onnx file. Exports are those of
            `export`.
        explain: whether `heatmap` and `region` are wanted.

    Returns:
        A function of an object array [pictures] of bytes, which gives a dictionary of arrays as the signatures
        serving_default and explain do (see `saved_model`). No picture of the array need be good.

    Raises:
        ConfigError: there is no such model, or it cannot explain.
    """
    path = pathlib.Path(model)
    if not path.exists():
        raise ConfigError(f"{path} was not found. Expected a training's folder, a .keras file, or an export.")
    if path.suffix in _PIXEL_MODELS and path.is_file():
        if explain:
            raise ConfigError(f"{path} gives no heat map: explain with the training's folder, or with a SavedModel.")
        return _from_pixels(_PIXEL_MODELS[path.suffix](path))
    signature = "explain" if explain else "serving_default"
    if path.suffix == ".keras":
        return _from_bytes(Servable(_keras_bundle(path)).signature(signature))
    if RunFolder(path).config.exists():
        return _from_bytes(Servable(load_bundle(path)).signature(signature))
    return _from_bytes(_load_signature(_saved_model_in(path), signature))


def _from_pixels(model):
    """Of a model from pixels to probabilities."""
    size, style, crop = (model.info[key] for key in ("image_size", "style", "crop"))
    read = tf.function(
        lambda image_bytes: read_pictures(image_bytes, size, style, crop)[:2],
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    names = np.array([name.encode() for name in model.class_names], object)
    top = min(TOP, len(names))

    def classify(encoded):
        rows, pixels = (values.numpy() for values in read(tf.constant(encoded)))
        classes, scores = np.full([len(encoded), top], b"", object), np.zeros([len(encoded), top], np.float32)
        if len(rows):
            probabilities = model.predict(pixels)
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            classes[rows], scores[rows] = names[best], np.take_along_axis(probabilities, best, axis=1)
        return {"classes": classes, "scores": scores}

    return classify


def _from_bytes(signature):
    """Of a signature that takes encoded pictures."""

    def classify(encoded):
        try:
            outputs = signature(image_bytes=tf.constant(encoded))
        except tf.errors.InvalidArgumentError:  # not one of them is good
            return {"classes": np.full([len(encoded), 1], b"", object), "scores": np.zeros([len(encoded), 1])}
        return {name: values.numpy() for name, values in outputs.items()}

    return classify


def _keras_bundle(path):
    """The `Bundle` of a .keras file: of its training, or by what the network says of itself."""
    folder = RunFolder(path.parent)
    if path.name == folder.model.name and folder.config.exists():
        return load_bundle(path.parent)
    try:
        network = load_network(path)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read as a Keras file: {error}") from error
    check_classifier(network)
    names = tuple(str(number) for number in range(network.output_shape[-1]))
    size = network.input_shape[1] or get_variant(network.variant).eval_size
    return Bundle(network, size, network.preprocessing, True, names, False, str(path))


def _load_signature(folder, name):
    """A signature of a SavedModel that `export` wrote."""
    _check_unchanged(folder)
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures.get(name)
    if signature is None or not {"classes", "scores"} <= {*signature.structured_outputs}:
        raise ConfigError(
            f"{folder} has no signature {name} with classes and scores. Expected a SavedModel of --mode=export."
        )
    signature.loaded = loaded  # which owns the variables
    return signature


def _check_unchanged(folder):
    """Compares the files with the model card that the export put beside them, if it is there."""
    card = folder / "assets.extra" / model_card.FILE
    if not card.exists():
        return
    for name, facts in json.loads(card.read_text(encoding="utf-8"))["files"].items():
        path = folder / name
        if not path.exists() or model_card.sha256(path) != facts["sha256"]:
            raise ConfigError(f"{path} is missing, or not the file that was exported: {card} has another checksum.")


def _saved_model_in(path):
    """The folder of the SavedModel: `path`, its newest version, or that of the only model in it."""
    if (path / "saved_model.pb").exists():
        return path
    names = served_models(path)
    if len(names) > 1:
        raise ConfigError(f"{path} holds several models: {', '.join(names)}. Name the folder of one.")
    versions = versions_in(path / names[0] if names else path)
    if not versions:
        raise ConfigError(f"{path} holds neither a training (config.yaml) nor a SavedModel (saved_model.pb).")
    return versions[max(versions)]
