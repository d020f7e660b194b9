"""From a training's folder to answers over HTTP: the command line's export, predict and serve."""

import csv
import json
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
MAIN = str(ROOT / "tools" / "main.py")


def run(*flags, code=0):
    process = subprocess.run(
        [sys.executable, MAIN, *map(str, flags)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert process.returncode == code, process.stdout + process.stderr
    return process.stdout if code == 0 else process.stdout + process.stderr


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder of a training, folder of its export, folder with two pictures and a text)."""
    folder = tmp_path_factory.mktemp("deploy")
    run(
        "--mode=train",
        "--hparams=testing",
        "--hparams=train.epochs=1,progressive.stages=1",
        f"--model_dir={folder}/run",
    )
    text = run(
        "--mode=export",
        "--format=saved_model,tflite,onnx",
        "--name=digits",
        "--tflite_modes=float32,int8",
        "--uint8_io",
        f"--model_dir={folder}/run",
        f"--output={folder}/exports",
    )
    assert text.count(" ok ") == 7  # five signatures, TFLite's float32, ONNX
    (folder / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, [40, 50, 3], dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.jpg")
    (folder / "photos" / "text.jpg").write_text("no picture")
    return folder / "run", folder / "exports", folder / "photos"


def answers(path):
    with path.open(encoding="utf-8") as file:
        return {pathlib.Path(row["path"]).name: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_export(exported):
    _, exports, _ = exported
    assert (exports / "digits" / "1" / "saved_model.pb").exists()
    assert {*json.loads((exports / "model_card.json").read_text())["files"]} > {
        "digits-float32.tflite", "digits-int8.tflite", "digits.onnx", "tflite_report.json",
    }  # fmt: skip
    report = json.loads((exports / "tflite_report.json").read_text())["formats"]
    assert (report["int8"]["input"], report["int8"]["output"]) == ("uint8", "uint8")
    for row in report.values():
        assert min(row["latency_ms"][threads] for threads in ("1", "2")) > 0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--mode=export", "--tflite_modes=int8"], "tflite_modes: of TFLite files alone"),
        (["--mode=export", "--model=efficientnetv2-s"], "leave --model, --dataset and --hparams out"),
        (["--mode=predict", "--images=.", "--export=x.tflite"], "needs one of --model_dir, --export and --url"),
    ],
)
def test_mistakes_are_explained_before_tensorflow_loads(flags, expected, tmp_path):
    text = run(*flags, f"--model_dir={tmp_path}", f"--output={tmp_path}/out", code=1)
    assert "Error: " in text and expected in text
    assert "Loading" not in text and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_server_answers_as_the_training_does(exported, tmp_path):
    model_dir, exports, photos = exported
    run("--mode=predict", f"--images={photos}", f"--model_dir={model_dir}", f"--output={tmp_path}/local.csv")
    local = answers(tmp_path / "local.csv")
    assert local["text.jpg"]["problem"] and not local["0.jpg"]["problem"]
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-u", MAIN, "--mode=serve", f"--export={exports}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            url = f"{address}/v1/models/digits"
            run("--mode=predict", f"--images={photos}", f"--url={url}", f"--output={tmp_path}/served.csv")
        finally:
            server.send_signal(signal.SIGINT)
    served = answers(tmp_path / "served.csv")
    assert served.keys() == local.keys()
    for name in ("0.jpg", "1.jpg"):
        assert served[name]["class_1"] == local[name]["class_1"]
        assert float(served[name]["score_1"]) == pytest.approx(float(local[name]["score_1"]), abs=1e-5)
    assert served["text.jpg"]["problem"]
