"""Requests that TF Serving answers itself when it loads a version, so that the first client need not wait.

They lie in assets.extra/tf_serving_warmup_requests as a TFRecord of `PredictionLog` messages. These are written here
field by field, because tensorflow-serving-api would be a dependency for a few bytes; the numbers are those of TF
Serving's published prediction_log.proto, predict.proto and model.proto.
"""

import pathlib

import numpy as np
import tensorflow as tf

_PREDICT_LOG = 6  # of PredictionLog
_REQUEST = 1  # of PredictLog
_MODEL_SPEC, _INPUTS = 1, 2  # of PredictRequest
_NAME, _SIGNATURE_NAME = 1, 3  # of ModelSpec
_KEY, _VALUE = 1, 2  # of an entry of a map
_LENGTH_DELIMITED = 2  # the wire type of strings and messages, and nothing else occurs here


def write_warmup_requests(folder, name, image_size):
    """Writes one request for each signature of `saved_model.write_saved_model`.

    Args:
        folder: of the SavedModel.
        name: under which the model will be served.
        image_size: side of the network's input in pixels.
    """
    path = pathlib.Path(folder, "assets.extra", "tf_serving_warmup_requests")
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature_name, inputs in _requests(image_size).items():
            writer.write(prediction_log(name, signature_name, inputs))


def _requests(image_size):
    """{signature: {input: tensor}}, grey pictures of the network's size."""
    grey = np.full([image_size, image_size, 3], 128, np.uint8)
    encoded = {"image_bytes": np.array([tf.io.encode_jpeg(grey).numpy()], object)}
    return {
        "serving_default": encoded,
        "images": {"images": grey[None]},
        "preprocessed": {"preprocessed": np.zeros([1, image_size, image_size, 3], np.float32)},
        "features": encoded,
        "explain": encoded,
    }


def prediction_log(name, signature_name, inputs):
    """A request as TF Serving logs it.

    Args:
        name: of the model.
        signature_name: of the signature.
        inputs: dictionary from names to arrays.

    Returns:
        bytes, a `tensorflow.serving.PredictionLog`.
    """
    model_spec = _field(_NAME, name.encode()) + _field(_SIGNATURE_NAME, signature_name.encode())
    request = _field(_MODEL_SPEC, model_spec)
    for key, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(_KEY, key.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number, payload):
    """A field of a protocol buffer: its number and type, its length, its bytes."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _varint(number):
    """Seven bits a byte, the lowest first; the eighth bit says that there are more."""
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])
