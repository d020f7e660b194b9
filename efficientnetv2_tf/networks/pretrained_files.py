"""Gets pretrained weights: downloaded once, checked, converted and kept in Keras' cache.

What is checked: the number of bytes and the MD5, where the server states them (Google Cloud Storage does, the MD5 for
files that were not put together of parts); keras.applications' MD5 for its own files, the second source of "imagenet",
which were converted from the same checkpoints. No hash is published for the official archives, but TensorFlow keeps a
checksum of every value in them. And the conversion takes only what has every name and shape of the network, with as
many classes. A kept file is opened before it is used, which shows if it was cut; its values are not summed again.
"""

import base64
import contextlib
import hashlib
import http.client
import logging
import math
import os
import pathlib
import random
import sys
import tempfile
import urllib.error
import urllib.request
import warnings

import keras

from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.networks.weight_file import WeightsError
from efficientnetv2_tf.networks.weights import count_classes, load_weights

_TIMEOUT = 30.0  # seconds, to connect and for each part of the answer
_PART = 1 << 20  # bytes
_MEGABYTE = 1_000_000
logger = logging.getLogger(__name__)


def fetch(known):
    """The kept file of pretrained weights; what is not kept yet is downloaded and converted first.

    A file that was put into `pretrained.cache_folder()` under its published name is taken in place of a download, and
    left there; what was downloaded is removed after the conversion. Nothing is kept that is not whole: everything is
    made in a folder of its own and renamed, so several processes can fetch at once.

    Args:
        known: a `Pretrained`, from `pretrained.find`.

    Returns:
        The path of a `.weights.h5` file, which needs no TensorFlow to be read.

    Raises:
        WeightsError: no source could be had or none was right, or the cache cannot be written to. The message says
            what was tried, where to put a file by hand, and how to load it from elsewhere.
    """
    kept, failures = known.kept, []
    if _is_whole(kept, known.classes):
        return kept
    with _work_folder(kept.parent) as work:
        for source in known.sources:
            placed = kept.parent / source.file_name
            if placed.exists():
                with _noting(failures, placed, work):
                    return _convert(known, source, placed, work)
        for source in known.sources:
            with _noting(failures, source.address, work):
                return _convert(known, source, _download(source, work), work)
    raise WeightsError(
        f"The weights {known.weights!r} of {known.variant} could not be had:\n  " + "\n  ".join(failures) + "\n"
        "Fetch one of these files by other means, put it here, and make the same call again:\n  "
        + "\n  ".join(f"{kept.parent / source.file_name}" for source in known.sources)
        + "\nOr load it from any other place with load_weights(model, path)."
    )


def _is_whole(kept, classes):
    if not kept.exists():
        return False
    try:
        found = count_classes(kept)
        reason = f"its classifier has {found} classes instead of {classes}"
    except WeightsError as error:
        found, reason = None, error
    if found != classes:
        warnings.warn(f"{kept} is damaged and will be fetched again: {reason}", stacklevel=4)
    return found == classes


@contextlib.contextmanager
def _work_folder(folder):
    """A folder inside of `folder` that is removed at the end; from there a file can be renamed into `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".", dir=folder)
    except OSError as error:
        raise WeightsError(
            f"Pretrained weights cannot be kept in {folder}: {_reason(error)}. Set the environment variable KERAS_HOME "
            "to a folder that can be written to."
        ) from error
    with work as name:
        yield pathlib.Path(name)


@contextlib.contextmanager
def _noting(failures, what, work):
    """Adds a failure of the block to `failures` and goes on; the folder that will be gone is left out of its text."""
    try:
        yield
    except (OSError, http.client.HTTPException, WeightsError) as error:
        failures.append(f"{what}: {_reason(error).replace(f'{work}{os.sep}', '')}")


def _reason(error):
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason
    return (str(error) or type(error).__name__).splitlines()[0]


def _convert(known, source, path, work):
    """Reads a file into its network, which checks every name and shape, and keeps what came out; the kept path."""
    from efficientnetv2_tf.networks.model import get_model  # which imports this module

    if source.md5 and _md5(path).hex() != source.md5:
        raise WeightsError(f"its MD5 is {_md5(path).hex()}, expected {source.md5}")
    with _aside():
        model = get_model(known.variant, num_classes=known.classes)
    if load_weights(model, path).head_reset:
        raise WeightsError(f"it has no classifier for {known.classes:,} classes")
    converted = work / known.kept.name
    model.save_weights(converted)
    converted.replace(known.kept)
    _tell(f"Kept as {known.kept}")
    return known.kept


@contextlib.contextmanager
def _aside():
    """Builds in float32, and draws no random numbers that a network which is built next would have drawn.

    Without it the same seed gave another network where the weights had to be fetched first.
    """
    state = random.getstate()
    try:
        with dtype_policy("float32"):
            yield
    finally:
        random.setstate(state)


def _md5(path):
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.digest()


def _download(source, work):
    """Fetches a file with one request and checks it by what the server states; its path.

    keras.utils.get_file has no timeout, does not show the answer's headers, and writes under the final name.
    """
    path = work / source.file_name
    with urllib.request.urlopen(source.address, timeout=_TIMEOUT) as response:
        size, md5 = int(response.headers.get("Content-Length", 0)), _stated_md5(response.headers)
        _tell(f"Downloading {source.address} ({size / _MEGABYTE:,.1f} MB)" if size else f"Downloading {source.address}")
        received = _receive(response, path, size)
    if size and received != size:
        raise WeightsError(f"broken off after {received:,} of {size:,} bytes")
    found = base64.b64encode(_md5(path)).decode()
    if md5 not in (None, found):
        raise WeightsError(f"its MD5 is {found}, the server states {md5}")
    return path


def _stated_md5(headers):
    """The MD5 that Google Cloud Storage states, in base64, or None; a file that it unpacks on the way has another."""
    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return None
    stated = ",".join(headers.get_all("x-goog-hash", []))
    return dict(item.strip().partition("=")[::2] for item in stated.split(",")).get("md5")


def _receive(response, path, size):
    """Writes what comes to a file; the number of bytes. A bar on a terminal or in a notebook, elsewhere one line."""
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    total = math.ceil(size / _MEGABYTE) or None
    bar = keras.utils.Progbar(total, verbose=1 if watched else 2, interval=0.2, unit_name="MB")
    received = 0
    try:
        with path.open("wb") as file:
            while part := response.read(_PART):
                file.write(part)
                received += len(part)
                bar.update(received // _MEGABYTE, finalize=False)
    finally:
        bar.update(math.ceil(received / _MEGABYTE), finalize=True)
    return received


def _tell(text):
    """Says something where Keras says what it downloads: on stdout, or in the log if Keras was told so."""
    if keras.config.is_interactive_logging_enabled():
        print(text, flush=True)
    else:
        logger.info(text)
