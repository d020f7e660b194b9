"""The stand-in server: TF Serving's REST interface over HTTP, and a page for trying a model.

For production there is TF Serving itself. This server has no batching between requests, no gRPC, no authentication
and no TLS; it refuses requests that are too large to be meant well.
"""

import contextlib
import functools
import json
import logging
import os
import socket
import time
import warnings
import zlib

import anyio.to_thread
import uvicorn
from PIL import Image
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from efficientnetv2_tf.deploy.serving import metrics, page
from efficientnetv2_tf.deploy.serving.images import INPUT
from efficientnetv2_tf.deploy.serving.rest import answer, parse_target
from efficientnetv2_tf.deploy.serving.store import ModelStore
from efficientnetv2_tf.deploy.serving.tensors import RequestError
from efficientnetv2_tf.deploy.serving_files import check_base
from efficientnetv2_tf.training.hparams import ConfigError

MAX_BODY_BYTES = 32 * 2**20  # of a request, also once unpacked
# What is still read of a body that is too large: a client that is cut off while it sends may miss the answer.
_MAX_IGNORED_BYTES = 16 * MAX_BODY_BYTES
_GZIP = 16 + zlib.MAX_WBITS
_NOT_FOUND = "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")

_LOG = logging.getLogger(__name__)


def serve(base, *, host="127.0.0.1", port=8501, console=None):
    """Serves every model in a folder until it is interrupted (Ctrl-C).

    Args:
        base: folder with NAME/VERSION/saved_model.pb in it. What is in the files is run: serve only what you trust.
        host: address to listen on; the default takes requests from this machine only.
        port: to listen on; 0 takes a free one.
        console: a `rich.console.Console` for the address and an example; None prints to the terminal.

    Raises:
        ConfigError: nothing to serve, or an address that cannot be listened on.
    """
    console = console or Console()
    check_base(base)
    with contextlib.closing(_listen(host, port)) as listener:
        store = ModelStore(base)
        console.print(f"Loading the models in {base} ...", markup=False)
        store.refresh()
        if not store.names():
            raise ConfigError(f"None of the models in {base} can be loaded: {_problems(store)}")
        config = uvicorn.Config(make_app(store), log_config=None, access_log=False, timeout_graceful_shutdown=10)
        with store.polling(), warnings.catch_warnings(), contextlib.suppress(KeyboardInterrupt):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such pictures are refused
            _announce(console, store, host, listener.getsockname()[1])
            uvicorn.Server(config).run(sockets=[listener])  # passes Ctrl-C on once the running requests are answered
        console.print("Stopped.")


def make_app(store):
    """The server as an ASGI application.

    Args:
        store: a `ModelStore`.

    Returns:
        A `starlette.applications.Starlette`.
    """
    counters = metrics.Metrics()
    # Each works on a picture or a batch at a time, so that their number bounds the memory; TensorFlow has threads too.
    threads = anyio.CapacityLimiter(2 * (os.cpu_count() or 1))
    in_thread = functools.partial(anyio.to_thread.run_sync, limiter=threads)

    async def rest(request):
        target = _target(request)
        if not target.lower().startswith("/v1/"):
            return HTMLResponse(_NOT_FOUND, status_code=404)
        try:
            body = await _read_body(request)
        except RequestError as error:
            return _error(error)
        except ClientDisconnect:
            return Response()  # nobody reads it
        return await in_thread(_respond, store, counters, request.method, target, body)

    async def front_page(_):
        return HTMLResponse(await in_thread(page.render, store), headers=page.HEADERS)

    async def metrics_page(_):
        return PlainTextResponse(counters.page())

    return Starlette(
        routes=[
            Route("/", front_page, methods=["GET"]),
            Route(metrics.PATH, metrics_page, methods=["GET"]),
            Route("/{path:path}", rest, methods=_METHODS),
        ]
    )


def _respond(store, counters, method, path, body):
    """Answers one request to the REST interface; runs in a thread."""
    began = time.monotonic()
    target, status = None, 200
    try:
        target = parse_target(method, path)
        return _json(answer(store, target, body))
    except RequestError as error:
        status = error.status
        return _error(error)
    except Exception as error:
        status = 500
        _LOG.exception("%s %s failed", method, path)
        return _error(RequestError(f"{type(error).__name__}: {error}", status))
    finally:
        if target and target.verb == "predict" and target.model in store.names():
            counters.record(target.model, status, time.monotonic() - began)


def _error(error):
    return _json({"error": str(error)}, error.status)


def _json(document, status=200):
    return Response(json.dumps(document), status, media_type="application/json")


def _target(request):
    """Path and query as they were sent: TF Serving takes the query for a part of the path."""
    query = request.scope["query_string"]
    return (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")


async def _read_body(request):
    chunks, size = [], 0
    announced = int(request.headers.get("content-length", 0))
    if announced > MAX_BODY_BYTES and "100-continue" in request.headers.get("expect", ""):
        raise _too_large()  # before it is sent
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
        elif size > _MAX_IGNORED_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise _too_large()
    body = b"".join(chunks)
    return _unpack(body) if "gzip" in request.headers.get("content-encoding", "") else body


def _unpack(body):
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise RequestError(f"The body is not gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise _too_large()
    return unpacked


def _too_large():
    return RequestError(f"The body is larger than {MAX_BODY_BYTES:,} bytes, the limit of this server.", status=413)


def _listen(host, port):
    if not 0 <= port <= 65535:
        raise ConfigError(f"A port lies in 0..65535. Received: {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror.partition(" (")[0]  # Python adds the address
        raise ConfigError(
            f"Cannot listen on {host}, port {port}: {reason}. If another program has the port, end it or "
            "choose another one (--port=0 takes a free one)."
        ) from None


def _problems(store):
    found = {name: next(iter(store.states(name).values())) for name in store.known()}
    return "; ".join(f"{name}: {state.error_message}" for name, state in found.items())


def _announce(console, store, host, port):
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    console.print(
        f"Serving {', '.join(store.names())} from {store.base} at {address}\n"
        f"Open that in a browser, or try this in a shell:\n\n    {_example(store, address)}\n\n"
        "This server is for trying and testing; for production there is TF Serving. Ctrl-C ends it.",
        markup=False,
        soft_wrap=True,
    )


def _example(store, address):
    """A line for the shell."""
    for name in store.names():
        _, model = store.get(name)
        with contextlib.suppress(RequestError):  # some models have no serving_default
            if model.inputs() == {INPUT: "string"}:
                body = """printf '{"instances": [{"b64": "%s"}]}' "$(base64 < picture.jpg)" """
                return f"{body}| curl -d @- {address}/v1/models/{name}:predict"
    return f"curl {address}/v1/models/{store.names()[0]}/metadata"
