"""`--mode=search`, as a user runs it: real trainings of tiny networks, a process that is killed, and two at once."""

import csv
import pathlib
import signal
import subprocess
import sys

import pytest

from efficientnetv2_tf.training.recipes import load_config

MAIN = pathlib.Path(__file__).parents[2] / "tools" / "main.py"
TRIALS = 4
SEARCH = (
    "--mode=search", "--hparams=testing",
    f"--hparams=search.trials={TRIALS},search.proxy_epochs=1,search.kernel_sizes=[3],search.layer_changes=[-1,0],"
    "search.proxy_train_split=train[:512],search.proxy_eval_split=train[512:640],search.sampler=random",
)  # fmt: skip


def begin(*flags):
    command = [sys.executable, str(MAIN), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    assert err == ""
    return out


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(folder, what the killed process and the two that followed it printed)."""
    folder = tmp_path_factory.mktemp("search") / "found"
    killed = begin(*SEARCH, f"--output={folder}")
    lines = []
    for line in killed.stdout:
        lines.append(line)
        if line.startswith("trial 0: "):
            killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stderr.close()
    both = [begin(*SEARCH, f"--output={folder}") for _ in range(2)]
    return folder, "".join(lines), [end(process) for process in both]


@pytest.mark.slow
def test_goes_on_after_a_kill_in_two_processes(searched):
    folder, first, others = searched
    assert "Training to compare with: backbone ..." in first
    for out in others:
        assert "Training to compare with" not in out  # it is in the study
        assert "Best reward" in out and "trials/h" in out
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    complete = [row for row in rows if row["state"] == "complete"]
    # Two processes may both begin the last one.
    assert TRIALS <= len(complete) <= TRIALS + 1
    assert len({row["worker"] for row in complete}) == 3
    assert all(float(row["step_seconds"]) > 0 and 0 <= float(row["accuracy"]) <= 1 for row in complete)
    assert {row["state"] for row in rows} <= {"complete", "fail"}


@pytest.mark.slow
def test_best_network_is_trained_to_the_end(searched, tmp_path):
    folder, *_ = searched
    best = load_config(folder / "best.yaml")
    assert best.data.train_split is None and best.model.blocks
    out = end(
        begin("--mode=train", f"--hparams={folder / 'best.yaml'}", "--hparams=train.epochs=1,train.lr_warmup_epochs=0,"
              "progressive.stages=1", f"--model_dir={tmp_path / 'run'}")
    )  # fmt: skip
    assert "Test accuracy" in out
    assert load_config(tmp_path / "run" / "config.yaml").model.blocks == best.model.blocks
    assert (folder / "search.png").exists()


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--hparams=search.max_parameters=10"], "`max_parameters` should be at least"),
        (["--hparams=search.storage=sqlite:////no/such/x.db"], "/no/such/x.db cannot be used"),
        (["--hparams=search.sampler=guess"], "search.sampler: expected 'random', 'tpe' or 'reinforce'"),
    ],
)
def test_errors_come_before_any_training(flags, expected, tmp_path):
    process = begin(*SEARCH, *flags, f"--output={tmp_path / 'out'}")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1, out
    assert expected in err and "Traceback" not in err
    assert "Training" not in out
