"""The models in a folder, each in its newest version; new versions are picked up while serving."""

import contextlib
import dataclasses
import logging
import pathlib
import threading

import tensorflow as tf

from efficientnetv2_tf.deploy.serving.loaded_model import LoadedModel
from efficientnetv2_tf.deploy.serving.tensors import RequestError

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class VersionState:
    """What became of a version.

    Attributes:
        state: "LOADING", "AVAILABLE" or "END", as TF Serving calls them.
        error_code: "OK", or TensorFlow's name of what went wrong.
        error_message: "", or why it could not be loaded.
        files: what its folder held when it was loaded, see `_files`.
        model: the `LoadedModel` while it is available.
    """

    state: str
    error_code: str = "OK"
    error_message: str = ""
    files: frozenset = frozenset()
    model: LoadedModel | None = None


class ModelStore:
    """The models of BASE/NAME/VERSION/saved_model.pb.

    VERSION is an integer; folders of other names are passed over, and so are hidden ones. The highest version serves,
    and the former one goes on until it is there. A version that cannot be loaded is tried again when its files change.

    Args:
        base: folder of the models' folders.
    """

    def __init__(self, base):
        self.base = pathlib.Path(base)
        self._versions = {}  # name -> {version -> VersionState}; replaced as a whole, so that readers need no lock
        self._refreshing = threading.Lock()

    def known(self):
        """Names of all models that were ever seen, sorted."""
        return sorted(self._versions)

    def names(self):
        """Names of the models that can be asked, sorted."""
        return sorted(name for name in self._versions if self._newest(name) is not None)

    def get(self, name, version=None):
        """The model to ask.

        Args:
            name: of the model.
            version: an integer; None is the newest.

        Returns:
            (version, `LoadedModel`).

        Raises:
            RequestError: it is not served.
        """
        wanted = self._newest(name) if version is None else version
        state = self._versions.get(name, {}).get(wanted)
        if state is None or state.model is None:
            which = f"The model {name!r}" if version is None else f"Version {version} of the model {name!r}"
            served = ", ".join(self.names()) or "none"
            raise RequestError(f"{which} is not served. Models that are: {served}", status=404)
        return wanted, state.model

    def states(self, name, version=None):
        """What became of a model's versions.

        Args:
            name: of the model.
            version: an integer; None is all.

        Returns:
            Dictionary of version -> `VersionState`, newest first.

        Raises:
            RequestError: no such version was ever seen.
        """
        versions = self._versions.get(name, {})
        found = {key: versions[key] for key in sorted(versions, reverse=True) if version in (None, key)}
        if not found:
            which = "any version" if version is None else f"version {version}"
            raise RequestError(f"Could not find {which} of the model {name!r}.", status=404)
        return found

    def refresh(self):
        """Looks for models and versions that came or went; loads and drops them."""
        with self._refreshing:
            on_disk = _versions_on_disk(self.base)
            for name in sorted(on_disk.keys() | self._versions.keys()):
                self._refresh_model(name, max(on_disk.get(name, {}).items(), default=None))

    @contextlib.contextmanager
    def polling(self, seconds=1.0):
        """Refreshes in the background, every so many seconds, until the block ends."""
        done = threading.Event()

        def poll():
            while not done.wait(seconds):
                try:
                    self.refresh()
                except OSError as error:  # of a folder that goes away meanwhile, say
                    _LOG.warning("Cannot look for new versions in %s: %s", self.base, error)

        thread = threading.Thread(target=poll, name="model-store", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _newest(self, name):
        served = (version for version, state in self._versions.get(name, {}).items() if state.model)
        return max(served, default=None)

    def _refresh_model(self, name, newest):
        if newest is None:
            self._drop_all_but(name, None)
            return
        version, path = newest
        before, files = self._versions.get(name, {}).get(version), _files(path)
        if before and (before.model or (before.error_code != "OK" and before.files == files)):
            return
        self._set(name, version, VersionState("LOADING"))
        state = _load(path, files)
        self._set(name, version, state)
        if state.model:
            self._drop_all_but(name, version)
        else:
            _LOG.error("Cannot load version %s of %s: %s", version, name, state.error_message)

    def _drop_all_but(self, name, version):
        """Requests that are running keep the model that they got."""
        for other, state in self._versions.get(name, {}).items():
            if state.model and other != version:
                self._set(name, other, VersionState("END"))

    def _set(self, name, version, state):
        versions = {**self._versions.get(name, {}), version: state}
        self._versions = {**self._versions, name: versions}


def _versions_on_disk(base):
    """name -> {version -> path}."""
    found = {}
    for path in base.glob("[!.]*/*"):
        if path.name.isascii() and path.name.isdigit() and path.is_dir():
            found.setdefault(path.parent.name, {})[int(path.name)] = path
    return found


def _files(path):
    """(name, size, time) of every file: tells whether a folder changed, such as one that is still being copied."""
    stats = ((file, file.stat()) for file in path.rglob("*") if file.is_file())
    return frozenset((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)


def _load(path, files):
    try:
        model = LoadedModel(path)
        model.warm_up()
        return VersionState("AVAILABLE", files=files, model=model)
    except OSError as error:
        return VersionState("END", "NOT_FOUND", str(error), files)
    except tf.errors.OpError as error:
        return VersionState("END", "INVALID_ARGUMENT", error.message, files)
    except Exception as error:  # whatever a damaged file makes TensorFlow raise: others go on being served
        return VersionState("END", "UNKNOWN", f"{type(error).__name__}: {error}", files)
