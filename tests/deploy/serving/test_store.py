"""Versions that come and go."""

import shutil

import numpy as np
import pytest

from efficientnetv2_tf.deploy.serving.loaded_model import LoadedModel
from efficientnetv2_tf.deploy.serving.store import ModelStore
from efficientnetv2_tf.deploy.serving.tensors import RequestError


@pytest.fixture
def base(models_dir, tmp_path):
    """A folder with one model in one version."""
    shutil.copytree(models_dir / "echo", tmp_path / "echo")
    return tmp_path


@pytest.fixture
def store(base):
    store = ModelStore(base)
    store.refresh()
    return store


def add_version(base, name, number):
    """As an export does it: written under another name, and renamed."""
    shutil.copytree(base / "echo" / "1", base / name / f".{number}")
    (base / name / f".{number}").rename(base / name / str(number))


def summary(store, name="echo"):
    return {version: state.state for version, state in store.states(name).items()}


def test_the_highest_version_serves(base):
    add_version(base, "echo", 9)
    add_version(base, "echo", 10)
    store = ModelStore(base)
    store.refresh()
    assert store.get("echo")[0] == 10
    assert summary(store) == {10: "AVAILABLE"}
    with pytest.raises(RequestError, match="Version 9 of the model 'echo' is not served") as caught:
        store.get("echo", 9)
    assert caught.value.status == 404


def test_other_folders_are_passed_over(base):
    for name in ("tmp", "-2", "2.5", ".3", "3x", "²"):
        shutil.copytree(base / "echo" / "1", base / "echo" / name)
    shutil.copytree(base / "echo", base / ".hidden")
    (base / "echo" / "7").write_text("no folder")
    (base / "notes.txt").write_text("x")
    (base / "empty").mkdir()
    store = ModelStore(base)
    store.refresh()
    assert store.names() == store.known() == ["echo"]
    assert store.get("echo")[0] == 1


def test_a_new_version_takes_over(store, base):
    _, before = store.get("echo")
    add_version(base, "echo", 2)
    store.refresh()
    assert summary(store) == {2: "AVAILABLE", 1: "END"}
    assert store.get("echo")[0] == 2
    # Who still has the former one may finish with it.
    assert before.run("scalar", {"k": np.array([3, 4])})["scalar"] == 7
    store.refresh()
    assert summary(store) == {2: "AVAILABLE", 1: "END"}


def test_a_new_model_is_found(store, base):
    assert store.names() == ["echo"]
    (base / "other").mkdir()
    add_version(base, "other", 5)
    store.refresh()
    assert store.names() == ["echo", "other"]
    assert store.get("other")[0] == 5


def test_the_version_before_comes_back_when_the_newest_goes(store, base):
    add_version(base, "echo", 2)
    store.refresh()
    shutil.rmtree(base / "echo" / "2")
    store.refresh()
    assert summary(store) == {2: "END", 1: "AVAILABLE"}
    shutil.rmtree(base / "echo")
    store.refresh()
    assert summary(store) == {2: "END", 1: "END"}
    with pytest.raises(RequestError, match=r"'echo' is not served\. Models that are: none"):
        store.get("echo")


def test_a_broken_version_leaves_the_former_one_serving(store, base, caplog):
    broken = base / "echo" / "2"
    broken.mkdir()
    store.refresh()
    (broken / "saved_model.pb").write_bytes(b"\xff" * 100)
    store.refresh()
    store.refresh()
    assert summary(store) == {2: "END", 1: "AVAILABLE"}
    state = store.states("echo", 2)[2]
    assert state.error_code == "NOT_FOUND"
    assert "Cannot parse" in state.error_message
    assert store.get("echo")[0] == 1
    assert len(caplog.records) == 2  # once for each state of its files
    shutil.rmtree(broken)
    add_version(base, "echo", 2)
    store.refresh()
    assert store.get("echo")[0] == 2


def test_polling_finds_versions_by_itself(store, base):
    with store.polling(0.01):
        add_version(base, "echo", 2)
        while summary(store).get(1) == "AVAILABLE":
            pass
    assert store.get("echo")[0] == 2


@pytest.mark.parametrize(("name", "version"), [("nope", None), ("nope", 1), ("echo", 2)])
def test_what_was_never_there_is_not_found(store, name, version):
    for question in (store.get, store.states):
        with pytest.raises(RequestError, match=name) as caught:
            question(name, version)
        assert caught.value.status == 404


def test_what_takes_pictures_has_run_when_it_is_served(models_dir, monkeypatch):
    """The first run of a large network's graph takes seconds, for which no client should wait."""
    asked, run = [], LoadedModel.run

    def recorded(model, signature, tensors):
        outputs = run(model, signature, tensors)
        asked.append((signature, *tensors))
        return outputs

    monkeypatch.setattr(LoadedModel, "run", recorded)
    store = ModelStore(models_dir)
    store.refresh()
    assert store.names() == ["echo", "pictures", "tiny"]
    assert sorted(asked) == [(name, "image_bytes") for name in ("explain", "serving_default", "serving_default")]
