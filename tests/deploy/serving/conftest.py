"""Models, and a server that the tests of this folder ask."""

import contextlib
import importlib.util
import io
import pathlib
import socket
import threading

import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image

from efficientnetv2_tf.deploy.serving.server import make_app
from efficientnetv2_tf.deploy.serving.store import ModelStore

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def make_models():
    """The module make_models.py."""
    spec = importlib.util.spec_from_file_location("make_models", HERE / "make_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def models_dir(make_models, tmp_path_factory):
    """A folder with the models tiny, echo and pictures."""
    folder = tmp_path_factory.mktemp("models")
    make_models.save_all(folder)
    return folder


@pytest.fixture(scope="session")
def store(models_dir):
    store = ModelStore(models_dir)
    store.refresh()
    return store


@pytest.fixture(scope="session")
def running():
    """Serves a store's models over HTTP while the block lasts; gives the address."""

    @contextlib.contextmanager
    def run(store):
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(make_app(store), log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            listener.close()

    return run


@pytest.fixture(scope="session")
def address(store, running):
    """Where the models are served."""
    with running(store) as address:
        yield address


@pytest.fixture
def ask(address):
    """POSTs a JSON object or raw bytes to a model's :predict; gives status and parsed answer."""

    def post(model, body, **options):
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        answer = requests.post(f"{address}/v1/models/{model}:predict", **data, **options, timeout=60)
        return answer.status_code, answer.json()

    return post


@pytest.fixture(scope="session")
def encoded_picture():
    """Encodes a picture of one colour, or of noise where the colour is None."""

    def encode(kind="PNG", colour=None, *, size=(40, 30)):
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise if colour is None else np.full_like(noise, colour)).save(file, kind)
        return file.getvalue()

    return encode
