"""The command line, as a user runs it: real processes, the testing network, scikit-learn's digits."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MAIN = ROOT / "tools" / "main.py"
RECIPE = "--hparams=testing"
WRITTEN = {
    "augmentation.png", "checkpoints", "classes.json", "config.yaml", "metrics.csv", "model.keras", "summary.json",
    "tensorboard", "training.png",
}  # fmt: skip


def run(*flags, check=True, cwd=ROOT):
    """Runs tools/main.py; the finished process with its text."""
    process = subprocess.run(
        [sys.executable, str(MAIN), *map(str, flags)], capture_output=True, text=True, cwd=cwd, check=False
    )
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


@pytest.mark.slow
def test_training_leaves_what_it_says(trained):
    folder, process = trained
    assert {path.name for path in folder.iterdir()} == WRITTEN
    assert process.stderr == ""
    assert all(character == "\n" or character.isprintable() for character in process.stdout)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["state"] == "finished" and summary["sessions"] == 1
    assert [stage["epochs"] for stage in summary["stages"]] == [1, 1]
    assert summary["steps"] == 44 and summary["test_images"] == 360
    assert 0.2 < summary["test_accuracy"] <= 1.0  # 0.1 is chance
    assert f"{summary['test_accuracy']:.4f}" in process.stdout
    assert json.loads((folder / "classes.json").read_text()) == [str(digit) for digit in range(10)]
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("epoch,learning_rate,seconds")
    assert "stage 2/2 · 32 px" in process.stdout


@pytest.mark.slow
def test_evaluation_gives_the_same_accuracy_again(trained):
    folder, _ = trained
    summary = json.loads((folder / "summary.json").read_text())
    process = run("--mode=eval", f"--model_dir={folder}")
    assert f"Test accuracy {summary['test_accuracy']:.4f}" in process.stdout
    assert "over 360 images" in process.stdout


@pytest.mark.slow
def test_written_configuration_repeats_the_run(trained, assert_same_weights, tmp_path):
    folder, _ = trained
    quiet = run(
        "--mode=train", "--verbosity=-2", f"--hparams={folder / 'config.yaml'}", f"--model_dir={tmp_path / 'again'}"
    )
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert_same_weights(folder, tmp_path / "again")


@pytest.mark.slow
def test_finished_training_says_so_and_another_configuration_is_refused(
    command, trained, assert_same_weights, tmp_path
):
    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    process = run(*command, f"--model_dir={folder}")
    assert "All 2 epochs were trained before" in process.stdout
    assert_same_weights(trained[0], folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    process = run(*command, "--hparams=train.ema_decay=0.5", f"--model_dir={folder}", check=False)
    assert process.returncode == 1
    assert "train.ema_decay: 0.9 -> 0.5" in process.stderr and "Traceback" not in process.stderr
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_loss_that_is_not_finite_stops_the_run(tmp_path):
    process = run(
        "--mode=train", RECIPE, "--hparams=train.lr_per_256_images=1e30,train.lr_warmup_epochs=0",
        f"--model_dir={tmp_path / 'run'}", check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert "The loss is" in process.stderr and "stage 1 (24 px), epoch 1" in process.stderr
    assert "The first layer whose output is not finite is " in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--model=efficientnetv2-z"], "efficientnetv2-s"),
        (["--dataset=digitz"], "Did you mean digits?"),
        (["--hparams=train.epoch=3"], "train.epochs"),
        (["--hparams=train.epochs=ten"], "train.epochs"),
        (["--hparams=progressive.image_size=[8,16]"], "progressive.image_size"),
        (["--hparams=nowhere"], "testing"),
        (["--hparams=model.activation=foo"], "model.activation"),
        (["--hparams=data.randaugment_exclude=[Foo]"], "data.randaugment_exclude"),
        (["--dataset=imagenet"], "--data_dir=DIR"),
        (["--dataset=folder:/no/such/photos"], "/no/such/photos"),
    ],
)
def test_mistakes_are_explained_before_tensorflow_loads(flags, expected, tmp_path):
    process = run("--mode=train", *flags, f"--model_dir={tmp_path / 'run'}", check=False)
    assert process.returncode == 1
    assert expected in process.stderr and "Traceback" not in process.stderr
    assert "Loading TensorFlow" not in process.stdout
    assert not (tmp_path / "run").exists()


def test_unwritable_folder_and_too_large_batch_are_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")
    process = run("--mode=train", RECIPE, f"--model_dir={tmp_path / 'file' / 'run'}", check=False)
    assert process.returncode == 1 and str(tmp_path / "file") in process.stderr
    assert "Choose a --model_dir that can be written to" in process.stderr and "Traceback" not in process.stderr
    process = run("--mode=train", RECIPE, "--hparams=data.batch_size=2000", check=False, cwd=tmp_path)
    assert process.returncode == 1 and "1437" in process.stderr and "data.batch_size" in process.stderr


@pytest.mark.parametrize("name", ["imagenet2012", "cifar10", "tfds:mnist"])
def test_every_data_set_keeps_its_name(name):
    assert f"on {name}: " in run("--mode=plan", f"--dataset={name}", "--hparams=testing").stdout


def test_later_items_win_recipes_too():
    assert "2 epochs" in run("--mode=plan", "--hparams=train.epochs=4", "--hparams=testing").stdout
    assert "4 epochs" in run("--mode=plan", "--hparams=testing", "--hparams=train.epochs=4").stdout


def test_evaluation_refuses_another_configuration(tmp_path):
    process = run("--mode=eval", f"--model_dir={tmp_path}", "--hparams=data.eval_image_size=64", check=False)
    assert process.returncode == 1 and "leave --model, --dataset and --hparams out" in process.stderr


def test_files_of_somebody_else_are_not_replaced(tmp_path):
    (tmp_path / "model.keras").write_text("mine")
    process = run("--mode=train", RECIPE, f"--model_dir={tmp_path}", check=False)
    assert process.returncode == 1 and "model.keras" in process.stderr and "another --model_dir" in process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert (tmp_path / "model.keras").read_text() == "mine"


def test_plan_prints_the_table():
    process = run("--mode=plan", "--hparams=release", "--model=efficientnetv2-s")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in process.stdout.splitlines() if "│" in line]
    assert [row[:4] for row in cells] == [
        ["1", "1-87", "171", "5"],
        ["2", "88-175", "214", "6.67"],
        ["3", "176-262", "257", "8.33"],
        ["4", "263-350", "300", "10"],
    ]


def test_names_of_the_official_release_work():
    ours = run("--mode=plan", "--model=efficientnetv2-m", "--dataset=imagenet", "--hparams=train.epochs=40")
    names = ("--model_name=efficientnetv2-m", "--dataset_cfg=Imagenet", "--hparam_str=train.epochs=40")
    theirs = run("--mode=plan", *names)
    assert ours.stdout == theirs.stdout


def test_help_and_plan_do_not_load_tensorflow():
    for flags in (["--help"], ["--mode=plan"]):
        code = (
            "import runpy, sys, atexit\n"
            f"sys.argv = ['main.py', *{flags!r}]\n"
            "atexit.register(lambda: print('LOADED', *{'tensorflow', 'keras'} & set(sys.modules)))\n"
            f"runpy.run_path({str(MAIN)!r}, run_name='__main__')"
        )
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
        assert process.stdout.rstrip().endswith("LOADED"), process.stdout + process.stderr
