"""`--mode=benchmark` on the command line: what is wrong comes before the long work."""

import os
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
        (["--dataset=digits"], "leave --dataset and --model_dir out"),
        (["--model_dir=runs"], "leave --dataset and --model_dir out"),
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


def test_data_dir_is_the_recipes_and_no_tensorflow_is_needed(tmp_path):
    (tmp_path / "photos.yaml").write_text("data: {dataset: 'folder:photos', num_train_images: 8}\n")
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('TensorFlow is loaded')")
    hparams = f"benchmark.parts=[progressive],benchmark.progressive_recipes=[{tmp_path / 'photos.yaml'}]"
    command = [sys.executable, str(ROOT / "tools" / "main.py"), "--mode=benchmark", "--data_dir=/no/such/folder"]
    process = subprocess.run(
        [*command, f"--hparams={hparams}"], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert process.returncode == 1 and "No part could be measured" in process.stderr
    before, _, _ = process.stdout.partition("Measuring progressive (1 of 1)")
    assert "/no/such/folder/photos" in before
    assert "TensorFlow is loaded" not in process.stdout + process.stderr
