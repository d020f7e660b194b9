"""One uninterrupted training by the command line, which the others are compared with."""

import pathlib
import subprocess
import sys
import zipfile

import h5py
import pytest

ROOT = pathlib.Path(__file__).parents[2]
# 22 steps an epoch, 2 epochs, one checkpoint every 5 steps.
COMMAND = (
    "--mode=train", "--hparams=testing",
    "--hparams=train.checkpoint_every_steps=5,progressive.mixup=[0,0.2],train.epochs=2",
)  # fmt: skip


@pytest.fixture(scope="session")
def command():
    """The flags of the training, but for --model_dir."""
    return COMMAND


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(folder, finished process) of the training."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    process = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "main.py"), *COMMAND, f"--model_dir={folder}"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return folder, process


@pytest.fixture(scope="session")
def assert_same_weights():
    """Compares all weights in two folders' model.keras, bit for bit."""

    def weights(folder):
        arrays = {}
        with zipfile.ZipFile(folder / "model.keras") as archive, archive.open("model.weights.h5") as file:
            h5py.File(file).visititems(lambda name, x: arrays.update({name: x[()]} if hasattr(x, "shape") else {}))
        assert len(arrays) > 90
        return arrays

    def compare(a, b):
        a, b = weights(a), weights(b)
        assert a.keys() == b.keys()
        different = [name for name in a if not (a[name] == b[name]).all()]
        assert not different

    return compare
