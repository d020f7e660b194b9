"""The export as a whole: what it leaves, and what it leaves alone when something is wrong."""

import hashlib
import io
import json
import os
import shutil

import numpy as np
import pytest
from rich.console import Console

from efficientnetv2_tf.data.sources import open_source
from efficientnetv2_tf.deploy import parity
from efficientnetv2_tf.deploy.exporter import check_export, export, publish_version
from efficientnetv2_tf.deploy.parity import ParityError
from efficientnetv2_tf.deploy.serving.loaded_model import LoadedModel
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.recipes import load_config, to_yaml
from efficientnetv2_tf.training.trainer import train


@pytest.fixture
def console():
    return Console(width=160, file=io.StringIO())


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_what_tf_serving_wants(exported):
    output, _, _ = exported
    assert sorted(path.name for path in output.iterdir()) == [
        "model_card.json", "parity_report.json", "serving", "testing",
    ]  # fmt: skip
    assert [path.name for path in (output / "testing").iterdir()] == ["1"]
    version = output / "testing" / "1"
    files = files_in(version)
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/tf_serving_warmup_requests"} <= files
    assert os.stat(version).st_mode & 0o055 == 0o055  # the server is another user
    assert all(os.stat(version / name).st_mode & 0o044 == 0o044 for name in files)


def test_the_card_lists_what_was_written(exported):
    output, card, _ = exported
    assert json.loads((output / "model_card.json").read_text()) == card
    assert {*card["files"]} == {name for name in files_in(output) if not name.startswith(("serving/", "model_card"))}
    for name, facts in card["files"].items():
        assert hashlib.sha256((output / name).read_bytes()).hexdigest() == facts["sha256"]
    inner = json.loads((output / "testing" / "1" / "assets.extra" / "model_card.json").read_text())
    assert inner["weights"] == card["weights"]
    assert inner["files"]["saved_model.pb"] == card["files"]["testing/1/saved_model.pb"]


def test_the_report_is_of_64_evaluation_pictures(exported):
    output, _, text = exported
    report = json.loads((output / "parity_report.json").read_text())
    assert (report["pictures"], report["source"]) == (64, "evaluation pictures of digits")
    assert [result["signature"] for result in report["results"]] == [
        "serving_default", "images", "preprocessed", "features", "explain",
    ]  # fmt: skip
    assert all(result["difference"] <= 1e-5 for result in report["results"])
    assert "serving_default" in text
    assert "docker run" in text


def test_the_next_version_has_the_next_number_and_all_models_are_served(exported, run_folder, console, tmp_path):
    output = tmp_path / "models"
    shutil.copytree(exported[0], output)
    shutil.copytree(output / "testing", output / "digits.v2")
    (output / "testing" / "7").mkdir()
    (output / "testing" / "notes").mkdir()
    card = export(moved(run_folder, tmp_path, dataset="folder:gone"), output, console=console)
    assert {path.name for path in (output / "testing").iterdir()} == {"1", "7", "8", "notes"}
    assert "testing/8/saved_model.pb" in card["files"]
    configured = (output / "serving" / "models.config").read_text()
    assert '"/models/digits.v2"' in configured
    assert '"/models/testing"' in configured
    # Without its data set it is compared on pictures that were made up.
    assert json.loads((output / "parity_report.json").read_text())["source"] == "generated pictures"
    assert "Comparing on generated pictures, as the data set is not to be had" in console.file.getvalue()


def test_the_published_model_runs(exported, encode):
    output, _, _ = exported
    found = LoadedModel(output / "testing" / "1").run("explain", {"image_bytes": np.array([encode()], object)})
    assert found["probabilities"].sum() == pytest.approx(1, abs=1e-5)
    assert found["classes"][0, 0].decode() in {str(digit) for digit in range(10)}


@pytest.fixture
def with_onnx():
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.usefixtures("with_onnx")
def test_onnx_lies_beside_the_saved_model(run_folder, console, tmp_path):
    card = export(run_folder, tmp_path, ["onnx"], name="digits", console=console)
    assert card["name"] == "digits"
    assert {*card["files"]} == {"digits.onnx", "parity_report.json"}
    (row,) = json.loads((tmp_path / "parity_report.json").read_text())["results"]
    assert (row["file"], row["tolerance"]) == ("digits.onnx", 1e-4)
    assert row["difference"] <= 1e-4


@pytest.mark.usefixtures("with_onnx")
def test_nothing_is_published_that_differs(run_folder, console, tmp_path, monkeypatch):
    monkeypatch.setitem(parity.TOLERANCES, "onnx", -1.0)
    with pytest.raises(ParityError, match=r"was not published: testing\.onnx differs by"):
        export(run_folder, tmp_path / "out", ["onnx"], console=console)
    assert [*(tmp_path / "out").iterdir()] == []
    assert "too large" in console.file.getvalue()


def moved(run_folder, folder, **changes):
    """A copy of the training's folder with other values in data."""
    run = folder / "run"
    shutil.copytree(run_folder, run)
    config = load_config(str(run / "config.yaml"))
    config = config.model_copy(update={"data": config.data.model_copy(update=changes)})
    (run / "config.yaml").write_text(to_yaml(config))
    return run


def test_a_training_that_contradicts_itself_is_refused(run_folder, console, tmp_path):
    run = moved(run_folder, tmp_path, preprocessing="v1")
    with pytest.raises(ConfigError, match=r"the network expects preprocessing 'v2', and config.yaml says 'v1'"):
        export(run, tmp_path / "out", console=console)
    run = moved(run_folder, tmp_path / "names")
    (run / "classes.json").write_text('["a", "b"]')
    with pytest.raises(ConfigError, match=r"the network has 10 classes, and classes.json 2"):
        export(run, tmp_path / "out", console=console)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["pdf"]}, "should be among saved_model, tflite, onnx. Received: pdf"),
        ({"formats": []}, "Received: none"),
        ({"formats": ["saved_model"], "name": "a/b"}, "Received: 'a/b'"),
        ({"formats": ["saved_model"], "name": "serving"}, "not 'serving'"),
        ({"formats": ["saved_model"], "name": "..."}, "Received: '...'"),
        ({"formats": ["saved_model"], "min_agreement": 0.9}, "min_agreement: of TFLite files alone"),
        ({"formats": ["onnx"], "tflite_modes": ["int8"], "uint8_io": True}, "tflite_modes, uint8_io: of TFLite"),
        ({"formats": ["tflite"], "tflite_modes": ["int4"]}, "Received: int4"),
        ({"formats": ["tflite"], "tflite_modes": []}, "TFLite modes should be among"),
        ({"formats": ["tflite"], "tflite_modes": ["float32"], "uint8_io": True}, "need the TFLite mode int8"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_export(**arguments)


def test_versions_never_replace_each_other(tmp_path, monkeypatch):
    def make(content):
        (tmp_path / content).mkdir()
        (tmp_path / content / "saved_model.pb").write_text(content)
        return tmp_path / content

    assert publish_version(make("first"), tmp_path / "base").name == "1"
    # An export that looked before the other one renamed.
    monkeypatch.setattr("efficientnetv2_tf.deploy.exporter._taken", lambda base: [])
    assert publish_version(make("second"), tmp_path / "base").name == "2"
    assert (tmp_path / "base" / "1" / "saved_model.pb").read_text() == "first"


def test_importing_it_loads_no_tensorflow(run_python):
    code = "import sys, efficientnetv2_tf.deploy.exporter; print('tensorflow' in sys.modules)"
    assert run_python(code).strip() == "False"


@pytest.mark.slow
def test_from_a_real_training_to_a_served_model(console, tmp_path):
    """What is served is right as often as the training says, in float32 though it was trained in bfloat16."""
    config = load_config("testing", ["runtime.mixed_precision=mixed_bfloat16"], data_dir=str(tmp_path / "data"))
    summary = train(config, tmp_path / "run", console=console)
    export(tmp_path / "run", tmp_path / "out", console=console)
    model = LoadedModel(tmp_path / "out" / "testing" / "1")
    split = open_source("digits", data_dir=str(tmp_path / "data")).eval
    encoded, labels = zip(*[(item, label) for _, item, label in split.open((0, 1)).as_numpy_iterator()], strict=True)
    found = model.run("serving_default", {"image_bytes": np.array(encoded, object)})
    assert found["probabilities"].dtype == np.float32
    accuracy = np.mean(found["probabilities"].argmax(axis=1) == labels)
    assert accuracy == pytest.approx(summary["test_accuracy"], abs=0.02)
    assert accuracy > 0.2  # 0.1 is chance
    card = json.loads((tmp_path / "out" / "model_card.json").read_text())
    assert card["weights"]["test_accuracy"] == summary["test_accuracy"]
