"""`--mode=benchmark` on the command line: what is wrong comes before the long work."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--hparams=benchmark.parts=[trainig]"], "parts among training, first_step"),
        (["--hparams=benchmark.libraries=[keras]"], "libraries among keras.applications, keras-hub"),
        (["--hparams=benchmark.inference_batch_sizes=[0]"], "benchmark.inference_batch_sizes"),
        (["--hparams=benchmark.parts=[]"], "benchmark.parts"),
        (["--model=efficientnetv2-z"], "efficientnetv2-s"),
        (["--output=/dev/null/out"], "Choose an --output that can be written to"),
    ],
)
def test_mistakes_are_explained_at_once(flags, expected, tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "main.py"), "--mode=benchmark", *flags]
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert expected in process.stderr and "Traceback" not in process.stderr
    assert "Measuring" not in process.stdout and list(tmp_path.iterdir()) == []
