"""From a training's folder to answers over HTTP: the command line's export, predict and serve."""

import csv
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
MAIN = str(ROOT / "tools" / "main.py")
PHOTOS = ("0.jpg", "1.jpg")
BAD = ("cut.jpg", "text.jpg")
# Command lines one after the other in one process, as loading TensorFlow takes longer than most of them.
SEVERAL = """
import importlib.util, json, sys
from absl.testing import flagsaver

path, *commands = sys.argv[1:]
spec = importlib.util.spec_from_file_location("command_line", path)
command_line = importlib.util.module_from_spec(spec)
spec.loader.exec_module(command_line)
for command in map(json.loads, commands):
    code = 0
    with flagsaver.flagsaver():
        command_line.FLAGS([path, *command])
        try:
            command_line.main([path])
        except SystemExit as error:
            code = error.code
    sys.stderr.flush()
    print(f"ended with {code}", flush=True)
"""


def run(*flags, code=0):
    process = subprocess.run(
        [sys.executable, MAIN, *map(str, flags)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert process.returncode == code, process.stdout + process.stderr
    return process.stdout if code == 0 else process.stdout + process.stderr


def run_several(*commands):
    """[(exit code, what was printed)] of several command lines."""
    process = subprocess.run(
        [sys.executable, "-c", SEVERAL, MAIN, *(json.dumps([*map(str, command)]) for command in commands)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout
    *texts, _ = re.split(r"^ended with (\d+)$", process.stdout, flags=re.MULTILINE)
    return [(int(code), text) for text, code in zip(texts[::2], texts[1::2], strict=True)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder of a training, folder of its export, folder with two pictures, a part of one and a text)."""
    folder = tmp_path_factory.mktemp("deploy")
    run(
        "--mode=train",
        "--hparams=testing",
        "--hparams=progressive.stages=1,runtime.mixed_precision=mixed_bfloat16",
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
    for number, name in enumerate(PHOTOS):
        pixels = np.random.default_rng(number).integers(0, 256, [40, 50, 3], dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name)
    (folder / "photos" / "text.jpg").write_text("no picture")
    (folder / "photos" / "cut.jpg").write_bytes((folder / "photos" / "0.jpg").read_bytes()[:400])
    return folder / "run", folder / "exports", folder / "photos"


@pytest.fixture(scope="module")
def commands(exported, tmp_path_factory):
    """(name of a command -> (exit code, what was printed), folder of what they wrote)."""
    model_dir, exports, photos = exported
    out = tmp_path_factory.mktemp("out")
    predict, export = ["--mode=predict", f"--images={photos}"], ["--mode=export", f"--model_dir={model_dir}"]
    flags = {
        "training": [*predict, f"--model_dir={model_dir}", f"--output={out}/training.csv", "--explain"],
        "keras": [*predict, f"--export={model_dir}/model.keras", f"--output={out}/keras.csv"],
        "saved_model": [*predict, f"--export={exports}/digits", f"--output={out}/saved_model.json"],
        "tflite": [*predict, f"--export={exports}/digits-float32.tflite", f"--output={out}/tflite.csv"],
        "onnx": [*predict, f"--export={exports}/digits.onnx", f"--output={out}/onnx.json"],
        "explained tflite": [*predict, f"--export={exports}/digits-float32.tflite", "--explain"],
        "too little agreement": [
            *export, "--format=tflite", "--tflite_modes=int8", "--min_agreement=1", f"--output={out}/refused",
        ],
        "second export": [*export, "--format=onnx", "--name=others", f"--output={exports}"],
    }  # fmt: skip
    return dict(zip(flags, run_several(*flags.values()), strict=True)), out


def answers(path):
    """Name of a picture -> (classes, scores, problem), of a .csv or .json file."""
    with path.open(encoding="utf-8") as file:
        if path.suffix == ".json":
            rows = [(row["path"], row["classes"], row["scores"], row["problem"]) for row in json.load(file)]
        else:
            rows = [
                (
                    row["path"],
                    *([row[f"{column}_{n}"] for n in range(1, 6)] for column in ("class", "score")),
                    row["problem"],
                )
                for row in csv.DictReader(file)
            ]
    return {
        pathlib.Path(path).name: (classes, [*map(float, filter(None, scores))], problem)
        for path, classes, scores, problem in rows
    }


def assert_same_answers(found, expected, tolerance):
    assert found.keys() == expected.keys() == {*PHOTOS, *BAD}
    assert all(answer[name][2] for answer in (found, expected) for name in BAD)
    for name in PHOTOS:
        (classes, scores, problem), (expected_classes, expected_scores, _) = found[name], expected[name]
        assert not problem
        assert classes == expected_classes and len(scores) == 5
        assert scores == pytest.approx(expected_scores, abs=tolerance)


@pytest.mark.slow
def test_export(exported):
    model_dir, exports, _ = exported
    assert (exports / "digits" / "1" / "saved_model.pb").exists()
    card = json.loads((exports / "reports" / "digits" / "1" / "model_card.json").read_text())
    assert {*card["files"]} > {
        "digits/1/saved_model.pb", "digits-float32.tflite", "digits-int8.tflite", "digits.onnx", "tflite_report.json",
    }  # fmt: skip
    report = json.loads((exports / "tflite_report.json").read_text())["formats"]
    assert (report["int8"]["input"], report["int8"]["output"]) == ("uint8", "uint8")
    for row in report.values():
        assert min(row["latency_ms"][threads] for threads in ("1", "2")) > 0
    # In float32, though it was trained in bfloat16, what is exported is right as often as the training says.
    accuracy = json.loads((model_dir / "summary.json").read_text())["test_accuracy"]
    assert accuracy > 0.2  # 0.1 is chance
    assert card["weights"]["test_accuracy"] == accuracy
    for name in ("Keras", "float32"):
        assert report[name]["accuracy"] == pytest.approx(accuracy, abs=0.02)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--mode=export", "--tflite_modes=int8"], "tflite_modes: of TFLite files alone"),
        (["--mode=export", "--model=efficientnetv2-s"], "leave --model, --dataset and --hparams out"),
        (["--mode=predict", "--images=.", "--export=x.tflite"], "needs one of --model_dir, --export and --url"),
        (["--mode=predict", "--images=."], "--output should end in .csv or .json"),
        (["--mode=predict", "--images=nothing/*.jpg", "--output=x.csv"], "No pictures at nothing/*.jpg"),
        (["--mode=serve", "--export=nothing"], "nothing is not a folder. It should hold NAME/VERSION/saved_model.pb"),
    ],
)
def test_mistakes_are_explained_before_tensorflow_loads(flags, expected, tmp_path):
    text = run(f"--model_dir={tmp_path}", f"--output={tmp_path}/out", *flags, code=1)
    assert "Error: " in text and expected in text
    assert "Loading" not in text and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("file", ["keras.csv", "saved_model.json", "tflite.csv", "onnx.json"])
def test_what_was_exported_answers_as_the_training_does(commands, file):
    done, out = commands
    code, text = done[pathlib.Path(file).stem]
    assert code == 0 and "2 pictures, and 2 files that could not be read" in text
    assert "JPEG library" not in text  # libjpeg has something to say of the one that is cut
    assert_same_answers(answers(out / file), answers(out / "training.csv"), tolerance=1e-4)


@pytest.mark.slow
def test_explanations(commands, exported):
    done, _ = commands
    assert done["training"][0] == 0
    drawn = {path.name: path for path in exported[2].glob("*.explain.png")}
    assert {*drawn} == {f"{name}.explain.png" for name in PHOTOS}
    with Image.open(drawn["0.jpg.explain.png"]) as picture:
        assert picture.width > 1.2 * picture.height  # the picture, and beside it the same with the heat map
    code, text = done["explained tflite"]
    assert code == 1 and "gives no heat map" in text


@pytest.mark.slow
def test_too_little_agreement_publishes_nothing(commands):
    done, out = commands
    code, text = done["too little agreement"]
    assert code == 1 and "on at least 100.00% of 360 pictures. Received: int8 on 9" in text
    assert "int8_mixed" in text  # what would help was tried
    assert [*(out / "refused").iterdir()] == []


@pytest.mark.slow
def test_a_second_export_leaves_the_first_one_s_reports(commands, exported):
    done, _ = commands
    _, exports, _ = exported
    assert done["second export"][0] == 0
    assert json.loads((exports / "model_card.json").read_text())["name"] == "others"
    kept = {path.relative_to(exports / "reports").as_posix() for path in (exports / "reports").rglob("*.json")}
    assert kept == {
        *(f"digits/1/{name}.json" for name in ("model_card", "parity_report", "tflite_report")),
        *(f"others/1/{name}.json" for name in ("model_card", "parity_report")),
    }


@pytest.mark.slow
def test_a_server_answers_as_the_training_does(commands, exported, tmp_path):
    pytest.importorskip("uvicorn")
    _, exports, photos = exported
    command = [sys.executable, "-u", MAIN, "--mode=serve", f"--export={exports}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            text = read_until(server.stdout, "Ctrl-C")
            address = re.search(r"http://127\.0\.0\.1:\d+", text)[0]
            url = f"{address}/v1/models/digits"
            run("--mode=predict", f"--images={photos}", f"--url={url}", f"--output={tmp_path}/served.csv")
            by_hand = what_the_example_answers(text, photos / PHOTOS[0], tmp_path)
        finally:
            server.send_signal(signal.SIGINT)
        assert server.stdout.read() == "Stopped.\n"
    assert server.returncode == 0
    assert "Serving digits from" in text
    expected = answers(commands[1] / "training.csv")
    assert_same_answers(answers(tmp_path / "served.csv"), expected, tolerance=1e-5)
    assert by_hand in (None, expected[PHOTOS[0]][0])


def read_until(stream, word):
    """Lines up to the first one with the word."""
    text = ""
    for line in stream:
        text += line
        if word in line:
            break
    return text


def what_the_example_answers(text, picture, folder):
    """The classes by the line for the shell that the server prints; None where there is no curl."""
    (line,) = re.findall(r"^ +(printf .*)$", text, re.MULTILINE)
    if not shutil.which("curl"):
        return None
    shutil.copy(picture, folder / "picture.jpg")
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["predictions"][0]["classes"]
