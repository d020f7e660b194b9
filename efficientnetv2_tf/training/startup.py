"""Loading TensorFlow: what must be set before, and what it prints that nobody needs."""

import contextlib
import os
import sys
import tempfile

from efficientnetv2_tf.training.hparams import ConfigError

# Packages that TensorFlow and Keras import where they are installed, for adapters that no command of ours uses: with
# all four there, they take two fifths of the time that importing TensorFlow takes.
_ADAPTED = ("jax", "matplotlib", "pandas", "sklearn")


def load_tensorflow(*, onednn=True, logical_cpus=1, start=True, chatty=False):
    """Imports TensorFlow with settings that are read only once.

    Where it was not imported yet, it comes without what Keras offers around scikit-learn, pandas and matplotlib
    (`keras.wrappers`, data frames in `fit`, `keras.visualization`), and without TFLite from JAX. The packages
    themselves can be imported afterwards.

    Args:
        onednn: use oneDNN's kernels on CPUs. TensorFlow leaves them off on CPUs without AVX-512, where they make
            the backward passes of convolutions up to 3.7 times faster. TF_ENABLE_ONEDNN_OPTS, where set, wins.
        logical_cpus: as how many devices the CPU counts.
        start: False leaves the start of the runtime to the strategy, which for several workers has to come before it.
        chatty: lets TensorFlow say what it has to say about itself.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1" if onednn else "0")
    # Informational lines of the C++ runtime (level 0) and warnings (1) are about its own insides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if chatty else "2")
    with contextlib.nullcontext() if chatty else hidden_stderr():
        # Another backend of Keras than TensorFlow may need JAX.
        with _not_installed(_ADAPTED if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow" else ()):
            import tensorflow

        use_logical_cpus(logical_cpus)
        if start:
            from efficientnetv2_tf.training.as_traced import without_graph_optimizer

            with without_graph_optimizer():
                tensorflow.config.list_logical_devices()  # starts the runtime, which reports missing GPU drivers


@contextlib.contextmanager
def _not_installed(packages):
    """Importing these fails within the block, where they were not imported before."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # what `import` takes for a package that is not there
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


def use_logical_cpus(number):
    """Lets the CPU count as so many devices; 1 leaves it as it is.

    Raises:
        ConfigError: TensorFlow has started with another number.
    """
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    if number in (1, len(tf.config.get_logical_device_configuration(cpu) or [cpu])):
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    except RuntimeError as error:
        raise ConfigError(
            f"runtime.logical_cpus: expected the number that TensorFlow was started with. Received: {number}. Set it "
            "before anything is computed."
        ) from error


@contextlib.contextmanager
def hidden_stderr():
    """Holds back what C++ writes to the error stream; shows it after all if the block fails.

    The first lines come before TensorFlow has read TF_CPP_MIN_LOG_LEVEL, so no setting stops them.
    """
    sys.stderr.flush()
    keep = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(keep, held.read())
            raise
        finally:
            os.dup2(keep, 2)
            os.close(keep)
