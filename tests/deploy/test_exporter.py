"""The export as a whole: what it leaves, and what it leaves alone when something is wrong."""

import hashlib
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

from efficientnetv2_tf.deploy import parity
from efficientnetv2_tf.deploy.exporter import check_export, export, publish_version
from efficientnetv2_tf.deploy.parity import ParityError
from efficientnetv2_tf.deploy.serving.store import ModelStore
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.recipes import load_config, to_yaml


@pytest.fixture
def console():
    return Console(width=160, file=io.StringIO())


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_what_tf_serving_wants(exported):
    output, _, _ = exported
    assert sorted(path.name for path in output.iterdir()) == [
        "digits.v2", "model_card.json", "parity_report.json", "reports", "serving", "testing",
    ]  # fmt: skip
    assert {path.name for path in (output / "testing").iterdir()} == {"6", "7", "notes"}  # 7 is the next number
    version = output / "testing" / "7"
    files = files_in(version)
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/tf_serving_warmup_requests"} <= files
    assert os.stat(version).st_mode & 0o055 == 0o055  # the server is another user
    assert all(os.stat(version / name).st_mode & 0o044 == 0o044 for name in files)


def test_what_was_published_is_served(exported, encode):
    configured = (exported[0] / "serving" / "models.config").read_text()
    assert re.findall(r'base_path: "(.*?)"', configured) == ["/models/digits.v2", "/models/testing"]
    store = ModelStore(exported[0])
    store.refresh()
    assert store.known() == ["digits.v2", "testing"]  # the reports are not taken for a model
    version, model = store.get("testing")
    assert version == 7
    found = model.run("explain", {"image_bytes": np.array([encode()], object)})
    assert found["probabilities"].sum() == pytest.approx(1, abs=1e-5)
    assert found["classes"][0, 0].decode() in {str(digit) for digit in range(10)}


def test_the_card_lists_what_was_written(exported):
    output, card, _ = exported
    assert json.loads((output / "model_card.json").read_text()) == card
    assert {*card["files"]} == {
        "parity_report.json",
        *(f"testing/7/{name}" for name in files_in(output / "testing" / "7")),
    }
    for name, facts in card["files"].items():
        assert hashlib.sha256((output / name).read_bytes()).hexdigest() == facts["sha256"]
    inner = json.loads((output / "testing" / "7" / "assets.extra" / "model_card.json").read_text())
    assert inner["weights"] == card["weights"]
    assert inner["files"]["saved_model.pb"] == card["files"]["testing/7/saved_model.pb"]


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


def test_card_and_reports_are_kept_when_the_next_export_replaces_them(exported):
    output, _, _ = exported
    kept = output / "reports" / "testing" / "1"
    assert files_in(output / "reports") == {"testing/1/model_card.json", "testing/1/parity_report.json"}
    for name in ("model_card.json", "parity_report.json"):
        assert (kept / name).read_bytes() == (output / name).read_bytes()


@pytest.fixture
def with_onnx():
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.usefixtures("with_onnx")
def test_without_its_data_set_it_is_compared_on_pictures_that_were_made_up(run_folder, console, tmp_path):
    output = tmp_path / "out"
    card = export(moved(run_folder, tmp_path, dataset="folder:gone"), output, ["onnx"], name="digits", console=console)
    assert card["name"] == "digits"
    assert {*card["files"]} == {"digits.onnx", "parity_report.json"}
    report = json.loads((output / "parity_report.json").read_text())
    assert report["source"] == "generated pictures"
    assert "Comparing on generated pictures, as the data set is not to be had" in console.file.getvalue()
    (row,) = report["results"]
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
        (
            {"formats": ["saved_model"], "name": "serving"},
            "neither a number nor serving or reports. Received: 'serving'",
        ),
        ({"formats": ["saved_model"], "name": "reports"}, "Received: 'reports'"),
        ({"formats": ["saved_model"], "name": "7"}, "Received: '7'"),
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
