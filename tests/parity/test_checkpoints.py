"""Checkpoints of the official release: all three kinds give the release's own logits, and ours can be read like its."""

import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.weights import count_classes, load_weights, official_name, save_official_checkpoint

ROOT = pathlib.Path(__file__).parents[2]
TINY = pathlib.Path(__file__).parent / "reference" / "tiny-efficientnetv2-s"
ABOUT = json.loads((TINY / "about.json").read_text())
KINDS = {"tf1_ema": "official", "tf1_plain": "official", "tf2_objects": "official objects"}
PREFIXES = {"tf1_ema": "model", "tf1_plain": "model", "tf2_objects": "ckpt-1"}


def tiny(**arguments):
    return get_model(ABOUT["model"], **{**ABOUT["overrides"], **arguments})


def assert_expected_logits(model):
    expected = np.load(TINY / "expected.npz")
    logits = model(expected["image"])
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4 * expected["logits"].std(), rtol=0)


def archived(folder, path, inside="released-name"):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=inside)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["prefix", "folder", "index", "tgz"])
def test_gives_the_release_s_logits(kind, way, tmp_path):
    prefix = TINY / kind / PREFIXES[kind]
    path = {
        "prefix": lambda: str(prefix),
        "folder": lambda: TINY / kind,
        "index": lambda: f"{prefix}.index",
        "tgz": lambda: archived(TINY / kind, tmp_path / "model.tgz"),
    }[way]()
    model = tiny()
    report = load_weights(model, path)
    assert_expected_logits(model)
    paths = tuple(variable.path for variable in model.weights)
    assert (report.source, report.loaded) == (KINDS[kind], paths)
    assert report.from_average == (paths if kind == "tf1_ema" else ())
    assert not report.problems and not report.head_reset and not report.adapted
    assert count_classes(path) == 7


def test_get_model_takes_them():
    assert_expected_logits(tiny(weights=TINY / "tf1_ema"))


@pytest.mark.parametrize("kind", KINDS)
def test_moving_a_folder_does_not_matter(kind, tmp_path):
    """TensorFlow's file "checkpoint" may name a place that is no more, or be left behind."""
    shutil.copytree(TINY / kind, tmp_path / "moved")
    (tmp_path / "moved" / "checkpoint").write_text('model_checkpoint_path: "/training/machine/model"\n')
    model = tiny()
    load_weights(model, tmp_path / "moved")
    assert_expected_logits(model)


def test_a_folder_with_several_takes_the_latest(tmp_path):
    for name in ("old", "new"):
        for part in (TINY / "tf1_plain").glob("model.*"):
            shutil.copy(part, tmp_path / part.name.replace("model", name))
    with pytest.raises(ValueError, match=r"should hold one TensorFlow checkpoint\. Found new, old"):
        load_weights(tiny(), tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "new"\n')
    assert len(load_weights(tiny(), tmp_path).loaded) == 170


@pytest.mark.parametrize("kind", ["tf1_ema", "tf2_objects"])
def test_export_is_the_release_s_name_based_checkpoint(kind, tmp_path):
    model = tiny(weights=TINY / kind)
    prefix = save_official_checkpoint(model, tmp_path / "new" / "model")
    theirs = tf.train.load_checkpoint(str(TINY / "tf1_plain" / "model"))
    ours = tf.train.load_checkpoint(str(prefix))
    assert ours.get_variable_to_shape_map() == theirs.get_variable_to_shape_map()
    assert ours.get_variable_to_dtype_map() == theirs.get_variable_to_dtype_map()
    for name in ours.get_variable_to_shape_map():
        np.testing.assert_array_equal(ours.get_tensor(name), theirs.get_tensor(name))
    names = {path.name for path in prefix.parent.iterdir()}
    assert names == {"checkpoint", "model.data-00000-of-00001", "model.index"}
    assert tf.train.latest_checkpoint(prefix.parent) == str(prefix)
    again = tiny()
    load_weights(again, prefix.parent)
    assert_expected_logits(again)


def test_export_over_others_in_a_folder(testing_model, tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "mine"\n')
    for _ in range(2):  # the second over the one that is there
        save_official_checkpoint(testing_model, tmp_path / "model")
    assert (tmp_path / "checkpoint").read_text() == 'model_checkpoint_path: "model"\n'
    reader = tf.train.load_checkpoint(str(tmp_path / "model"))
    assert {*reader.get_variable_to_shape_map()} == {official_name(testing_model, v) for v in testing_model.weights}



def run_import(*flags):
    command = [sys.executable, "tools/main.py", "--mode=import", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
def test_command_line(tmp_path):
    sizes = "--hparams=model.width_coefficient=0.25,model.depth_coefficient=0.2,model.feature_size=64"
    flags = ["--model=efficientnetv2-s", f"--weights={TINY / 'tf1_ema'}", f"--output={tmp_path / 'x.keras'}"]
    process = run_import(*flags, sizes)
    assert process.returncode == 0, process.stderr
    assert "(official): 170 variables loaded, 170 of them moving averages" in process.stdout
    assert "x.keras: efficientnetv2-s, 253,783 parameters" in process.stdout
    assert_expected_logits(keras.models.load_model(tmp_path / "x.keras"))  # 7 classes, as the file


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--model=efficientnetv2-b0", f"--weights={TINY / 'tf1_ema'}"], "another variant, 'efficientnetv2-s'"),
        (["--model=efficientnetv2-s", f"--weights={TINY / 'tf2_objects'}"], "does not hold the weights of efficient"),
        (["--model=efficientnetv2-s", "--weights=nowhere.h5"], "nowhere.h5 was not found"),
        (["--model=efficientnetv2-s"], "Missing: --weights"),
    ],
)
def test_command_line_errors(flags, message, tmp_path):
    process = run_import(*flags, f"--output={tmp_path / 'x.keras'}")
    assert process.returncode == 1
    assert message in process.stderr and "Traceback" not in process.stderr
    assert not [*tmp_path.iterdir()]
