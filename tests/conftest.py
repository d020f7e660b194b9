"""What the tests of all folders share: a quiet TensorFlow, and networks that are built once."""

import os

# Read when TensorFlow loads, which the test files do after this one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# The variants that more than one test needs in full size; the others are dropped after use to save memory.
KEPT_VARIANTS = ("efficientnetv2-s", "efficientnetv2-b0", "efficientnet-b0", "efficientnet-b4")


@pytest.fixture(scope="session")
def run_python():
    """Runs Python code in a process of its own, from the repository's root; gives what it printed."""

    def run(code, **environment):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def testing_model():
    """The smallest network, for tests that leave its weights alone."""
    import keras

    from efficientnetv2_tf.networks.model import get_model

    keras.utils.set_random_seed(0)
    return get_model("testing", num_classes=10)


@pytest.fixture(scope="session")
def full_model():
    """Builds a variant in full size, with zeros for weights (random ones take longer than the rest)."""
    import keras

    from efficientnetv2_tf.networks import layers
    from efficientnetv2_tf.networks.model import get_model

    kept = {}

    def build(name):
        if name in kept:
            return kept[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layers, "conv_initializer", keras.initializers.Zeros)
            model = get_model(name, classifier_initializer="zeros")
        if name in KEPT_VARIANTS:
            kept[name] = model
        return model

    return build
