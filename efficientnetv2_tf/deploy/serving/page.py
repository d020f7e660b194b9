"""The page for trying a model in a browser: one file, that needs nothing from elsewhere."""

import contextlib
import functools
import json
import pathlib

from efficientnetv2_tf.deploy.serving.images import INPUT
from efficientnetv2_tf.deploy.serving.tensors import RequestError

# The page may talk to this server and show pictures that it made itself, and nothing else.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DEFAULT, _EXPLAIN = "serving_default", "explain"  # signatures; see `deploy.saved_model` for what they give


def render(store):
    """The page's HTML.

    Args:
        store: a `ModelStore`. Offered are the models with a signature explain or serving_default that takes encoded
            pictures and gives probabilities.

    Returns:
        Text.
    """
    models = [offer for name in store.names() if (offer := _offer(store, name))]
    return _template().replace("$MODELS", json.dumps(models).replace("<", "\\u003c"))


@functools.cache
def _template():
    return pathlib.Path(__file__).with_suffix(".html").read_text(encoding="utf-8")


def _offer(store, name):
    with contextlib.suppress(RequestError):  # the model went away meanwhile
        version, model = store.get(name)
        for signature, outputs in ((_EXPLAIN, {"probabilities", "heatmap"}), (_DEFAULT, {"probabilities"})):
            if _can(model, signature, outputs):
                return {"name": name, "version": version, "signature": signature}
    return None


def _can(model, signature, outputs):
    try:
        return model.inputs(signature) == {INPUT: "string"} and outputs <= {*model.outputs(signature)}
    except RequestError:  # no such signature
        return False
