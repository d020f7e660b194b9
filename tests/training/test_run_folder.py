"""The folder of a training: whose it is, and what it is called."""

import json
import os

import pytest

from efficientnetv2_tf.training.hparams import ConfigError, flat, resolve
from efficientnetv2_tf.training.recipes import list_recipes, load_config
from efficientnetv2_tf.training.run_folder import MAY_CHANGE, RunFolder, new_run_folder, write_json


def small(*overrides):
    return resolve(load_config("testing", overrides))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


def test_same_configuration_may_go_on(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(small())
    before = content(folder)
    assert list(before) == ["config.yaml"]
    folder.claim(small())
    assert content(folder) == before


@pytest.mark.parametrize("recipe", [name for name in list_recipes() if name != "search"])  # which trains nothing itself
def test_every_recipe_reads_back_as_it_was(tmp_path, recipe):
    config = resolve(load_config(recipe))
    folder = RunFolder(tmp_path)
    folder.claim(config)
    assert folder.read_config() == config
    folder.claim(config)


def test_another_configuration_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(small())
    before = content(folder)
    with pytest.raises(ConfigError) as caught:
        folder.claim(small("train.epochs=30,progressive.mixup=[0,0.5],train.ema_decay=0.5"))
    lines = str(caught.value).splitlines()
    assert lines[1:3] == ["  progressive.mixup: (0.0, 0.0) -> (0.0, 0.5)", "  train.ema_decay: 0.9 -> 0.5"]
    assert len(lines) == 4  # nothing else differs that may not
    assert f"--hparams={folder.config}" in lines[-1]
    assert content(folder) == before


@pytest.mark.parametrize(
    "change, allowed",
    [
        ("train.epochs=30", True),
        ("train.lr_per_256_images=0.001", True),
        ("train.eval_every_epochs=2", True),
        ("train.checkpoint_every_minutes=5", True),
        ("train.on_nonfinite=skip", True),
        ("data.eval_batch_size=7", True),
        ("runtime.strategy=mirrored", True),
        ("model.name=efficientnetv2-b0", False),
        ("model.activation=relu", False),
        ("data.dataset=cifar10", False),
        ("data.batch_size=32", False),
        ("data.crop=random_area", False),
        ("progressive.image_size=[16,32]", False),
        ("train.optimizer=sgd", False),
        ("train.weight_decay=0.5", False),
        ("runtime.seed=1", False),
    ],
)
def test_what_may_change(tmp_path, change, allowed):
    folder = RunFolder(tmp_path)
    folder.claim(small())
    config = small(change)
    if allowed:
        (line,) = folder.claim(config)
        assert line.startswith(change.partition("=")[0] + ": ")
        assert folder.read_config() == config
        assert folder.claim(config) == []
    else:
        with pytest.raises(ConfigError, match=change.partition("=")[0]):
            folder.claim(config)
        assert folder.read_config() == small()


def test_changes_are_written_down(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(small())
    folder.claim(small("train.epochs=30"))
    folder.claim(small("train.epochs=40,train.keep_checkpoints=9"))
    comments = [line for line in folder.config.read_text().splitlines() if line.startswith("#")]
    assert [line.split(": ", 1)[1] for line in comments] == [
        "train.epochs: 2 -> 30", "train.epochs: 30 -> 40", "train.keep_checkpoints: 3 -> 9"
    ]  # fmt: skip
    assert all(line.startswith("# Changed 2") for line in comments)


def test_all_that_may_change_exists():
    assert flat(small()).keys() >= MAY_CHANGE


@pytest.mark.parametrize("worker", [0, 1])
def test_somebody_s_list_of_bad_images_is_not_added_to(tmp_path, worker):
    folder = RunFolder(tmp_path)
    folder.bad_images(worker).write_text("mine")
    with pytest.raises(ConfigError, match=folder.bad_images(worker).name):
        folder.claim(small())
    assert not folder.config.exists()


def test_reading_where_there_is_nothing(tmp_path):
    folder = RunFolder(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"none.config\.yaml was not found.*--model_dir.*--mode=train"):
        folder.read_config()
    assert not folder.path.exists()


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError):
        RunFolder(tmp_path / "file").claim(small())
    assert (tmp_path / "file").read_text() == "mine"


def test_names_of_new_folders(tmp_path):
    config = small()
    folders = [new_run_folder(config, tmp_path) for _ in range(1)]
    folders[0].claim(config)
    folders.append(new_run_folder(config, tmp_path))
    folders[1].claim(config)
    folders.append(new_run_folder(config, tmp_path))
    assert len({folder.path for folder in folders}) == 3
    assert all(folder.path.name.startswith("testing-digits-") for folder in folders)
    assert not folders[2].config.exists()


def test_name_of_a_folder_is_one_path_part(tmp_path):
    config = load_config("testing", dataset="tfds:my/set")
    assert new_run_folder(config, tmp_path).path.parent == tmp_path
    assert new_run_folder(config, tmp_path).path.name.startswith("testing-tfds-my-set-")


def test_json(tmp_path):
    write_json(tmp_path / "summary.json", {"accuracy": 0.5, "classes": ["a", "ü"]})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"accuracy": 0.5, "classes": ["a", "ü"]}
    assert os.listdir(tmp_path) == ["summary.json"]
