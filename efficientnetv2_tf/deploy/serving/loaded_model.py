"""A SavedModel in a graph session, as TF Serving holds it."""

import contextlib
import threading

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2

from efficientnetv2_tf.deploy.serving.images import INPUT
from efficientnetv2_tf.deploy.serving.tensors import RequestError

_DEFAULT = "serving_default"
_HTTP_STATUS = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.NOT_FOUND: 404,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}  # others: 500


class LoadedModel:
    """One version of a model, ready to run.

    Args:
        path: folder with saved_model.pb; what is in it is run, so it should come from someone you trust.

    Raises:
        OSError: there is no SavedModel.
        tf.errors.OpError, RuntimeError: it cannot be loaded; it needs the tag "serve".
    """

    def __init__(self, path):
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default(), _without_deprecation_warnings():
            meta_graph = tf.compat.v1.saved_model.loader.load(self._session, [tf.saved_model.SERVING], str(path))
        self._signatures = dict(meta_graph.signature_def)
        self._needs_xla = _signatures_with_xla(meta_graph)
        self._callables = {}
        self._lock = threading.Lock()

    def inputs(self, signature=""):
        """A signature's inputs.

        Args:
            signature: name; "" is serving_default.

        Returns:
            Dictionary of name -> name of the type, such as "float32" or "string".

        Raises:
            RequestError: there is no such signature, or it has no inputs.
        """
        inputs = self._signature(signature).inputs
        if not inputs:
            raise RequestError(f"The signature {signature!r} has no inputs.")
        return {name: tf.dtypes.as_dtype(info.dtype).name for name, info in inputs.items()}

    def outputs(self, signature=""):
        """Names of a signature's outputs; arguments and errors as for `inputs`."""
        return [*self._signature(signature).outputs]

    def run(self, signature, tensors):
        """Runs a signature; may be called from several threads.

        Shapes are not compared with the signature's, as TF Serving does not do it either.

        Args:
            signature: name; "" is serving_default.
            tensors: dictionary of name -> array, of all its inputs.

        Returns:
            Dictionary of name -> array, of all its outputs.

        Raises:
            RequestError: there is no such signature, or the graph refuses the tensors.
        """
        names = self.outputs(signature)
        if (signature or _DEFAULT) in self._needs_xla:
            raise RequestError(
                f"The signature {signature or _DEFAULT!r} uses a function with jit_compile=True, which TF Serving does "
                "not run unless it was started with XLA allowed. Export it without.",
                status=500,
            )
        try:
            values = self._callable(signature or _DEFAULT)(*(tensors[name] for name in self.inputs(signature)))
        except tf.errors.OpError as error:
            reason = error.message.partition("\n\t [[")[0]  # what follows is where in the graph
            raise RequestError(reason, status=_HTTP_STATUS.get(error.error_code, 500)) from None
        return dict(zip(names, values, strict=True))

    def warm_up(self):
        """Runs each signature that takes encoded pictures once, as the first run of a graph may take seconds."""
        grey = tf.io.encode_jpeg(np.full([32, 32, 3], 128, np.uint8)).numpy()
        for name in self._signatures:
            with contextlib.suppress(RequestError):  # of a signature without inputs, or of one that takes other strings
                if self.inputs(name) == {INPUT: "string"}:
                    self.run(name, {INPUT: np.array([grey], object)})

    def signature_defs(self):
        """All signatures as a dictionary that JSON can hold, in the form of TF Serving's metadata."""
        return {
            name: json_format.MessageToDict(
                signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for name, signature in self._signatures.items()
        }

    def _signature(self, name):
        if (name or _DEFAULT) not in self._signatures:
            known = ", ".join(sorted(self._signatures))
            raise RequestError(f"There is no signature {name or _DEFAULT!r}. There are: {known}")
        return self._signatures[name or _DEFAULT]

    def _callable(self, name):
        with self._lock:
            if name not in self._callables:
                signature = self._signatures[name]
                options = config_pb2.CallableOptions(
                    feed=[info.name for info in signature.inputs.values()],
                    fetch=[info.name for info in signature.outputs.values()],
                )
                # Session.run would compare shapes with the placeholders', which TF Serving's session does not do.
                self._callables[name] = self._session._make_callable_from_options(options)
            return self._callables[name]


@contextlib.contextmanager
def _without_deprecation_warnings():
    """TensorFlow deprecates loading into a session for training; TF Serving does nothing else."""
    logger = tf.get_logger()

    def is_no_deprecation(record):
        return "is deprecated" not in record.getMessage()

    logger.addFilter(is_no_deprecation)
    try:
        yield
    finally:
        logger.removeFilter(is_no_deprecation)


def _signatures_with_xla(meta_graph):
    """Names of the signatures that call a function with jit_compile=True, however deep."""
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    return {
        name
        for name, signature in meta_graph.signature_def.items()
        if any(
            functions[called].attr["_XlaMustCompile"].b
            for called in _called(_upstream(signature, nodes), functions)
            if "_XlaMustCompile" in functions[called].attr
        )
    }


def _upstream(signature, nodes):
    """The nodes of the graph that a signature's outputs need."""
    found, waiting = {}, [info.name for info in signature.outputs.values()]
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name not in found:
            found[name] = nodes[name]
            waiting += nodes[name].input
    return found.values()


def _called(nodes, functions):
    """Names of the functions that nodes call, and of those that these call."""
    found, waiting = set(), [*nodes]
    while waiting:
        node = waiting.pop()
        names = {node.op, *(name for value in node.attr.values() for name in _function_names(value))}
        for name in names & functions.keys() - found:
            found.add(name)
            waiting += functions[name].node_def
    return found


def _function_names(value):
    return [value.func.name, *(function.name for function in value.list.func)]
