"""TF Serving's REST interface: from a method, a path and a body to a status and a JSON object.

https://www.tensorflow.org/tfx/serving/api_rest; what it leaves open follows TF Serving 2.20.
"""

import dataclasses
import re
import urllib.parse

from efficientnetv2_tf.deploy.serving.images import check_pictures
from efficientnetv2_tf.deploy.serving.tensors import RequestError, parse_object, read_tensors, write_tensors

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "POST": re.compile(rf"/v1/models/(?P<model>[^/:]+){_VERSION}:(?P<verb>classify|regress|predict)", re.I | re.A),
    "GET": re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<verb>metadata))?", re.I | re.A),
}
_MAX_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Target:
    """What a request asks for.

    Attributes:
        verb: "predict", "classify", "regress", "metadata" or "status".
        model: name of the model.
        version: an integer, or None for the newest.
        label: of a version, or None.
    """

    verb: str
    model: str
    version: int | None = None
    label: str | None = None


def parse_target(method, target):
    """Reads the request line.

    Args:
        method: such as "GET".
        target: path with query, percent-encoded. As with TF Serving, a query is not cut off.

    Returns:
        A `Target`.

    Raises:
        RequestError: there is nothing of this kind.
    """
    match = _PATHS[method].fullmatch(target) if method in _PATHS else None
    if not match or (method == "POST" and match["verb"] not in _ANSWERS):  # the path's case is free, the verb's is not
        raise RequestError(f"Malformed request: {method} {target}")
    if not match["model"]:
        raise RequestError("The name of a model is missing: /v1/models/NAME")
    if match["version"] and int(match["version"]) > _MAX_VERSION:
        raise RequestError(f"A version should be at most {_MAX_VERSION}. Received: {match['version']}")
    return Target(
        verb=match["verb"] if match["verb"] in _ANSWERS else "status",
        model=urllib.parse.unquote(match["model"]),
        version=int(match["version"]) if match["version"] else None,
        label=urllib.parse.unquote(match["label"]) if match["label"] else None,
    )


def answer(store, target, body):
    """Answers a request.

    Args:
        store: a `ModelStore`.
        target: a `Target`.
        body: bytes.

    Returns:
        A dictionary for JSON.

    Raises:
        RequestError: the request cannot be answered; it has the HTTP status.
    """
    return _ANSWERS[target.verb](store, target, body)


def _predict(store, target, body):
    document = parse_object(body)
    signature = _signature_name(document)
    _, model = _find(store, target)
    by_row, tensors = read_tensors(document, model.inputs(signature))
    return write_tensors(model.run(signature, check_pictures(tensors)), by_row)


def _classify(store, target, body):
    """For signatures of TensorFlow 1 that take tf.train.Example; `tf.saved_model.save` writes none."""
    document = parse_object(body)
    _signature_name(document)
    examples = document.get("examples")
    if not isinstance(examples, list) or not examples or not all(isinstance(example, dict) for example in examples):
        raise RequestError(f"'examples' should be a list of at least one object for :{target.verb}.")
    _find(store, target)
    raise RequestError(f"The signatures of {target.model!r} take :predict, not :{target.verb}.")


def _status(store, target, _):
    # A label is passed over here: TF Serving answers with all versions.
    states = store.states(target.model, target.version)
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": state.state,
                "status": {"error_code": state.error_code, "error_message": state.error_message},
            }
            for version, state in states.items()
        ]
    }


def _metadata(store, target, _):
    version, model = _find(store, target)
    return {
        "model_spec": {"name": target.model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": model.signature_defs()}},
    }


def _find(store, target):
    if target.label is not None:
        raise RequestError(f"There is no version with the label {target.label!r}; labels are not served here.")
    return store.get(target.model, target.version)


def _signature_name(document):
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(f"'signature_name' should be a string. Received: {name!r:.80}")
    return name


_ANSWERS = {"predict": _predict, "classify": _classify, "regress": _classify, "status": _status, "metadata": _metadata}
