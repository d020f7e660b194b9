"""A folder of somebody's pictures, from the first look to the evaluation, a broken file among them."""

import csv
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (210, 40, 40)}
OVERRIDES = (
    "data.batch_size=8,train.epochs=10,train.lr_warmup_epochs=1,train.eval_every_epochs=5,progressive.stages=2,progressive.image_size=[24,32],"
    "data.eval_fraction=0.2,data.bad_image_limit=0.2,train.lr_per_256_images=0.1,train.ema_decay=0.8"
)


def run(*flags, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "main.py"), *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """3 classes of 10 noisy JPEGs each, of one colour a class and many sizes; one of them is cut."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for number in range(10):
            height, width = rng.integers(40, 90, 2)
            pixels = np.clip(rng.normal(colour, 30, [height, width, 3]), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg", quality=90)
    cut = folder / "green" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:1200])
    return folder


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = (f"--dataset=folder:{pictures}", "--model=testing", f"--hparams={OVERRIDES}", f"--model_dir={folder}")
    return run("--mode=train", *flags, cwd=ROOT), folder


@pytest.mark.slow
def test_training(trained):
    process, folder = trained
    assert process.returncode == 0, process.stdout + process.stderr
    assert all("JPEG" in line for line in process.stderr.splitlines())  # TensorFlow's decoder says a word of its own
    assert json.loads((folder / "classes.json").read_text()) == [*COLOURS]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_images"] + summary["bad_images"]["eval"] == 6
    assert sum(summary["bad_images"].values()) == 1
    assert summary["test_accuracy"] > 0.6  # 0.33 is chance
    (row,) = csv.DictReader((folder / "bad_images.csv").open())
    assert row["where"].endswith("green/3.jpg")
    assert "green/3.jpg" in process.stdout
    assert "class_names:" in (folder / "config.yaml").read_text()


@pytest.mark.slow
def test_evaluation(trained):
    _, folder = trained
    process = run("--mode=eval", f"--model_dir={folder}", cwd=ROOT)
    assert process.returncode == 0, process.stderr
    accuracy = json.loads((folder / "summary.json").read_text())["test_accuracy"]
    assert f"Test accuracy {accuracy:.4f}" in process.stdout


@pytest.mark.slow
def test_another_class_is_noticed(trained, pictures, tmp_path):
    _, folder = trained
    other = tmp_path / "photos"
    shutil.copytree(pictures, other)
    shutil.copytree(other / "red", other / "orange")
    flags = (f"--hparams={folder / 'config.yaml'}", f"--hparams=data.dataset=folder:{other}")
    process = run("--mode=train", *flags, f"--model_dir={tmp_path / 'run'}", cwd=ROOT)
    assert process.returncode == 1
    assert process.stderr.startswith("Error: ")
    assert "orange" in process.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_stopping_at_a_bad_image(pictures, tmp_path):
    flags = (f"--dataset=folder:{pictures}", "--model=testing", f"--hparams={OVERRIDES}")
    process = run(
        "--mode=train", *flags, "--hparams=data.on_bad_image=error", f"--model_dir={tmp_path / 'run'}", cwd=ROOT
    )
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and "green/3.jpg" in last and "data.on_bad_image=skip" in last
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_preview(pictures, tmp_path):
    flags = (f"--dataset=folder:{pictures}", "--model=testing", f"--hparams={OVERRIDES}")
    process = run("--mode=preview", *flags, f"--output={tmp_path / 'preview.png'}", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    with Image.open(tmp_path / "preview.png") as picture:
        assert min(picture.size) > 300
    assert f"Wrote {tmp_path / 'preview.png'}" in process.stdout


@pytest.mark.slow
def test_verify_data(pictures, tmp_path):
    process = run("--mode=verify_data", f"--dataset=folder:{pictures}", f"--output={tmp_path}", cwd=tmp_path)
    assert process.returncode == 1  # there is a bad one
    assert process.stderr == ""
    assert "29 good images, 1 bad" in process.stdout
    (row,) = csv.DictReader((tmp_path / "verify_data.csv").open())
    assert row["where"].endswith("green/3.jpg")
    with Image.open(tmp_path / "data.png") as picture:
        assert min(picture.size) > 300
