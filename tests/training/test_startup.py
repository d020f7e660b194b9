"""Loading TensorFlow, in processes of their own."""

import os
import subprocess
import sys

QUIET_CODE = """
import os
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow()
import sys
import tensorflow as tf
print(os.environ["TF_ENABLE_ONEDNN_OPTS"], float(tf.reduce_sum(tf.ones([2, 2]))))
print("still here", file=sys.stderr)
"""


def run(code, **environment):
    unset = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**inherited, **environment}, check=False
    )


def test_loads_quietly():
    done = run(QUIET_CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 4.0\n"
    assert done.stderr == "still here\n"


def test_loads_without_packages_that_are_only_adapted():
    """Which are there afterwards."""
    code = """
import sys
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow()
import keras
print([name for name in ("jax", "matplotlib", "pandas", "sklearn") if name in sys.modules])
import matplotlib, sklearn
from sklearn import datasets
print(datasets.load_digits().images.shape)
"""
    assert run(code).stdout.splitlines() == ["[]", "(1797, 8, 8)"]


def test_a_package_that_was_imported_before_stays():
    code = """
import matplotlib
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow()
import sys
print(sys.modules["matplotlib"] is matplotlib)
"""
    assert run(code).stdout == "True\n"


def test_the_runtime_starts_without_graph_optimizer():
    """Which is what tf.data's functions then have; all others have it again."""
    code = """
import tensorflow as tf
from efficientnetv2_tf.training.startup import load_tensorflow
start = tf.config.list_logical_devices
def is_off():
    return tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
tf.config.list_logical_devices = lambda *kind: print("off:", is_off()) or start(*kind)
load_tensorflow()
print("off:", is_off())
"""
    assert run(code).stdout.splitlines() == ["off: True", "off: False"]


def test_says_more_where_asked():
    done = run(QUIET_CODE.replace("load_tensorflow()", "load_tensorflow(chatty=True)"))
    assert done.returncode == 0, done.stderr
    assert len(done.stderr) > len("still here\n") and done.stderr.endswith("still here\n")


def test_onednn_can_be_switched_off_and_the_environment_wins(monkeypatch):
    from efficientnetv2_tf.training import startup

    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    startup.load_tensorflow(onednn=False)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    startup.load_tensorflow(onednn=True)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_shows_what_was_held_back_if_loading_fails(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'from C++: no such driver\\n')\nraise ImportError('broken install')\n"
    )
    code = "from efficientnetv2_tf.training.startup import load_tensorflow\nload_tensorflow()"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(code, PYTHONPATH=path)
    assert done.returncode == 1
    assert "from C++: no such driver" in done.stderr
    assert "ImportError: broken install" in done.stderr
