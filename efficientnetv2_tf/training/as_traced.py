"""Training steps that run as they were traced, without TensorFlow's graph optimizer, where there are only CPUs.

Grappler goes over a graph about twenty times before its first run, which for training steps of networks with hundreds
of layers takes as long as tracing them, or longer. On CPUs the step is as fast without: what Grappler joins are
convolutions with what follows them, which training has to keep apart for its gradients.
"""

import contextlib
import functools

import tensorflow as tf

_OFF = "disable_meta_optimizer"


def as_traced(function):
    """The function, called with Grappler switched off where there are only CPUs; elsewhere as it is.

    Args:
        function: runs a `tf.function`.
    """
    if len(tf.config.list_logical_devices()) > len(tf.config.list_logical_devices("CPU")):
        return function

    @functools.wraps(function)
    def run(*args):
        with without_graph_optimizer():
            return function(*args)

    return run


@contextlib.contextmanager
def without_graph_optimizer():
    """Switches Grappler off for the functions that are called meanwhile; the setting is one of the whole process.

    What holds when the runtime starts holds for tf.data's functions for ever. They would be optimized anew for each
    iterator, so for each epoch, and are as fast without.
    """
    before = tf.config.optimizer.get_experimental_options().get(_OFF, False)
    tf.config.optimizer.set_experimental_options({_OFF: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OFF: before})
