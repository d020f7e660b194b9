"""A small client for TF Serving's REST interface, and for the stand-in: pictures in, names of classes out.

It needs `requests`, and no TensorFlow.
"""

import base64
import os
import pathlib
import re

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from efficientnetv2_tf.deploy.prediction import Prediction

BATCH_SIZE = 16  # pictures a request
_MAX_BYTES = 12 * 2**20  # of a request's files, unless one alone is larger; base64 makes 16 MiB of them
_BUSY = (429, 503, 504)  # statuses that may pass
_PICTURE = (400, 413)  # statuses that may be a single picture's fault
_URL = re.compile(r"(https?://[^/]+(?:/.*)?/v1/models/[^/:]+(?:/versions/\d+|/labels/[^/:]+)?)(?::predict)?/?")


class ServingError(RuntimeError):
    """A server that cannot be reached, or that answers with an error."""


def predict(paths, url, *, timeout=60.0, retries=3, progress=None):
    """Asks a server what pictures show.

    Args:
        paths: of the files: JPEG, PNG, or what else the model decodes. A single one may be given bare.
        url: of the model, http://HOST:PORT/v1/models/NAME, with /versions/N behind it if it should be a certain one.
            The model needs a signature serving_default from image_bytes to classes and scores, as --mode=export writes.
        timeout: seconds to wait for a connection, and then for an answer, in each try.
        retries: how often to try again if there is no connection or no answer, or if the server is busy (status 429,
            503 or 504); after 0.5 s, then twice as long each time.
        progress: called with the number of pictures that were dealt with, now and then; None for nothing.

    Returns:
        A list with a `Prediction` for each path, in their order. A file that cannot be read or decoded has a problem.

    Raises:
        ServingError: the address is none, the server cannot be reached, or it has no such model.
    """
    match = _URL.fullmatch(url)
    if not match:
        raise ServingError(f"Expected the address of a model, http://HOST:PORT/v1/models/NAME. Received: {url}")
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    predictions, paths = [], [pathlib.Path(path) for path in paths]
    with _Server(match[1], timeout, retries) as server:
        server.check_model()
        for batch in _batches(paths):
            predictions += _predict_batch(server, batch)
            if progress:
                progress(len(batch))
    return predictions


class _Server:
    """One model on a server."""

    def __init__(self, url, timeout, retries):
        self._url, self._timeout, self._session = url, timeout, requests.Session()
        policy = Retry(retries, backoff_factor=0.5, status_forcelist=_BUSY, allowed_methods=None, raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=policy))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    def check_model(self):
        """Whether there is the signature that is needed; so that later errors are the pictures'."""
        status, answer = self._ask("GET", "/metadata")
        if status != 200:
            raise ServingError(f"{self._url}: {_reason(status, answer)}")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
        except (KeyError, TypeError):
            raise ServingError(f"{self._url} does not answer like TF Serving.") from None
        signature = signatures.get("serving_default", {"inputs": {}, "outputs": {}})
        if {*signature["inputs"]} != {"image_bytes"} or not {"classes", "scores"} <= {*signature["outputs"]}:
            raise ServingError(
                f"{self._url}: expected a signature serving_default from image_bytes to classes and scores. Export the "
                "model with --mode=export."
            )

    def classify(self, contents):
        """(status, rows) or (status, reason)."""
        instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
        status, answer = self._ask("POST", ":predict", json={"instances": instances})
        if status == 200:
            return status, answer["predictions"]
        if status not in _PICTURE:
            raise ServingError(f"{self._url}: {_reason(status, answer)}")
        return status, _reason(status, answer)

    def _ask(self, method, verb, **content):
        try:
            response = self._session.request(method, self._url + verb, timeout=self._timeout, **content)
        except requests.RequestException as error:
            reason = getattr(error.args[0], "reason", error) if error.args else error
            raise ServingError(
                f"No answer from {self._url}: {reason}. Is the server running? --mode=serve starts one for trying."
            ) from None
        try:
            return response.status_code, response.json()
        except requests.JSONDecodeError:
            return response.status_code, {}


def _batches(paths):
    """Lists of (path, content or the OSError), not too many and not too large."""
    batch, size = [], 0
    for path in paths:
        content = _read(path)
        length = 0 if isinstance(content, OSError) else len(content)
        if batch and (len(batch) == BATCH_SIZE or size + length > _MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((path, content))
        size += length
    if batch:
        yield batch


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def _predict_batch(server, batch):
    found = {path: Prediction(path, problem=str(error)) for path, error in batch if isinstance(error, OSError)}
    readable = [(path, content) for path, content in batch if path not in found]
    if readable:
        found.update(_classify(server, readable))
    return [found[path] for path, _ in batch]


def _classify(server, files):
    """path -> `Prediction`. Where a request of several is refused each is asked alone, as one may be to blame."""
    status, answer = server.classify([content for _, content in files])
    if status == 200:
        return {path: _prediction(path, row) for (path, _), row in zip(files, answer, strict=True)}
    if len(files) == 1:
        return {files[0][0]: Prediction(files[0][0], problem=answer)}
    return {path: prediction for file in files for path, prediction in _classify(server, [file]).items()}


def _prediction(path, row):
    classes = tuple(_text(name) for name in row["classes"])
    if not any(classes):  # what the export gives for one bad picture among good ones
        return Prediction(path, problem="It cannot be decoded.")
    return Prediction(path, classes, tuple(row["scores"]))


def _text(name):
    """The stand-in writes each byte of a string as a character of its own; names in UTF-8 are put together again."""
    try:
        return name.encode("latin-1").decode()
    except UnicodeError:
        return name


def _reason(status, answer):
    reason = answer.get("error") if isinstance(answer, dict) else None
    return f"{reason or 'no reason given'} (status {status})"
