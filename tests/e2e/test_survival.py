"""Trainings that are killed, told to stop, damaged, and started again with the same command."""

import csv
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = (0, 1, 2, 3, 4, 5)
# In the order of a training of 2 epochs of 22 steps, with a checkpoint every 5 steps and at the end of an epoch: where,
# among which numbers of it in one process, within how many seconds, and what.
MOMENTS = (
    ("step", (7, 9), 0.02, signal.SIGKILL),
    ("checkpoint", (0, 1), 0.002, signal.SIGKILL),
    ("step", (1, 4), 0.0, signal.SIGINT),
    ("evaluation", (0, 0), 0.02, signal.SIGKILL),
    ("epoch", (1, 1), 0.05, signal.SIGKILL),  # the first is that whose evaluation was cut off
    ("step", (1, 14), 0.02, signal.SIGTERM),
)


def start(command, folder, moment=None):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if moment:
        path = [str(pathlib.Path(__file__).parent / "hooks"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(path), "DEATH": moment}
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "main.py"), *command, f"--model_dir={folder}"],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=600,
    )  # fmt: skip


def drawn(seed, moment):
    where, (first, last), seconds, number = moment
    rng = random.Random(seed)
    return f"{where} {rng.randint(first, last)} {rng.uniform(0, seconds)} {int(number)}"


@pytest.fixture(scope="module")
def killed(command, tmp_path_factory):
    """(folder, [process]) of one training in seven processes, all but the last of which were stopped."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    moments = [drawn(seed, moment) for seed, moment in zip(SEEDS, MOMENTS, strict=True)]
    return folder, [start(command, folder, moment) for moment in (*moments, None)]


@pytest.mark.slow
def test_every_process_was_stopped_and_went_on(killed):
    _, processes = killed
    codes = [process.returncode for process in processes]
    assert codes == [-9, -9, 130, -9, -9, 143, 0], "".join(p.stdout + p.stderr for p in processes)
    begun = [re.search(r"Going on from a checkpoint at epoch (\d), step (\d+) of 22", p.stdout) for p in processes]
    assert begun[0] is None
    positions = [(int(match[1]) - 1) * 22 + int(match[2]) - 1 for match in begun[1:]]
    assert positions == sorted(positions)
    assert positions[0] == 5 and positions[3] == positions[4] == 22  # a kill in evaluation loses no step


@pytest.mark.slow
def test_weights_are_those_of_the_uninterrupted_training(killed, trained, assert_same_weights):
    assert_same_weights(trained[0], killed[0])
    assert {path.name for path in killed[0].iterdir()} == {path.name for path in trained[0].iterdir()}
    names = [{path.name for path in (folder / "checkpoints").iterdir()} for folder in (killed[0], trained[0])]
    assert not any("_temp" in name for name in names[0]) and len(names[0]) == len(names[1])
    rows = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (killed[0], trained[0])]
    for name in ("epoch", "learning_rate", "image_size", "val_loss", "val_accuracy"):
        assert [row[name] for row in rows[0]] == [row[name] for row in rows[1]], name
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (killed[0], trained[0])]
    for name in ("best_checkpoint", "steps", "test_accuracy", "test_accuracy_raw", "test_loss"):
        assert summaries[0][name] == summaries[1][name], name


@pytest.mark.slow
def test_who_is_told_to_stop_saves_and_says_how_to_go_on(killed):
    folder, processes = killed
    for index, name in ((2, "SIGINT"), (5, "SIGTERM")):
        process = processes[index]
        # Before it may stand what the kill in the middle of a checkpoint has left.
        assert process.stderr.endswith(
            f"Stopped by {name}; where it stands is saved. --mode=train --hparams={folder / 'config.yaml'} "
            f"--model_dir={folder} goes on.\n"
        )
        assert f"{name}: saving after this step" in process.stdout
    before, after = (re.search(r"at epoch (\d), step (\d+)", processes[index].stdout) for index in (5, 6))
    moment = int(drawn(SEEDS[5], MOMENTS[5]).split()[1])  # the step in which the signal came
    assert int(after[2]) - int(before[2]) in (moment + 1, moment + 2)  # it came at the end of one


@pytest.mark.slow
def test_damaged_checkpoint_is_passed_over(command, trained, assert_same_weights, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    newest = max((folder / "checkpoints").glob("*.data-*"), key=lambda path: path.stat().st_mtime_ns)
    os.truncate(newest, newest.stat().st_size // 2)
    process = start(command, folder)
    assert process.returncode == 0, process.stderr
    assert "is damaged" in process.stderr and "trying the one before it" in process.stderr
    assert "Going on from a checkpoint at epoch 2, step 21 of 22" in process.stdout
    assert_same_weights(trained[0], folder)
