"""Two real workers on this machine, through the whole command line, against one process."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import rich.console
import tensorflow as tf

from efficientnetv2_tf.training import trainer
from efficientnetv2_tf.training.recipes import load_config

ROOT = pathlib.Path(__file__).parents[2]
# 5 steps at 20 px and 5 at 24 px. Without dropout and stochastic depth, which each replica draws for itself, and
# without mixing, for which a worker has its own pictures only.
OVERRIDES = (
    "data.batch_size=240,data.eval_batch_size=50,train.epochs=2,progressive.image_size=[20,24],data.eval_image_size=24,"
    "model.drop_connect_rate=0,model.dropout_rate=0,train.weight_decay=0.01,train.gradient_clip=1,"
    "model.blocks=[r1_k3_s2_e1_i16_o16_c1,r1_k3_s2_e4_i16_o24_se0.25]"
)
ACCUMULATION = "train.accumulate_steps=2,data.augment=none"  # augmenting takes long to trace, and the others do it
HOOKS = os.pathsep.join([str(pathlib.Path(__file__).parent / "hooks"), *filter(None, [os.environ.get("PYTHONPATH")])])


def command(script, folder, *flags):
    return [
        sys.executable, str(ROOT / "tools" / script), *flags, "--mode=train", "--hparams=testing",
        f"--hparams={OVERRIDES}", f"--model_dir={folder}",
    ]  # fmt: skip


def start(script, folder, *flags, **environment):
    return subprocess.run(
        command(script, folder, *flags), capture_output=True, text=True, check=False, cwd=ROOT, timeout=400,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    done = start("main.py", root / "one")
    assert done.returncode == 0, done.stderr
    # Each worker leaves what it saw and ended with beside the run folder; the product has only the chief write.
    done = start("local_workers.py", root / "two", "--workers=2", PYTHONPATH=HOOKS, SPY_FOLDER=str(root))
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done


@pytest.mark.slow
def test_workers_train_as_one_process(folders):
    root, done = folders
    one, two = (keras.models.load_model(root / name / "model.keras") for name in ("one", "two"))
    assert two.normalization == "batch"
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=a.path)
    one, two = (list(csv.DictReader((root / name / "metrics.csv").open())) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for name in ("image_size", "loss", "accuracy", "val_loss", "val_accuracy"):
            assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-4), name
    assert "Training on 2 replicas of 2 workers." in done.stdout


@pytest.mark.slow
def test_workers_see_the_same_sizes_and_end_with_the_same_weights(folders):
    root, _ = folders
    chief, other = (np.load(root / f"worker-{index}.npz") for index in (0, 1))
    np.testing.assert_array_equal(chief["sizes"], [20] * 5 + [24] * 5)
    np.testing.assert_array_equal(chief["traces"], [120])  # one trace, of a worker's part of the batch
    assert len(chief.files) > 40
    for name in chief.files:
        np.testing.assert_array_equal(chief[name], other[name], err_msg=name)


@pytest.mark.slow
def test_what_one_worker_was_told_all_know(folders):
    for index in (0, 1):
        assert list(np.load(folders[0] / f"worker-{index}.npz")["told"]) == [True, False], index


@pytest.mark.slow
def test_only_the_chief_writes_and_prints(folders):
    root, done = folders
    assert {path.name for path in (root / "two").iterdir()} == {path.name for path in (root / "one").iterdir()}
    assert done.stdout.count("Test accuracy") == 1
    assert done.stderr == ""
    assert len(list((root / "two" / "tensorboard").iterdir())) == 1
    assert len(tf.train.get_checkpoint_state(str(root / "two" / "checkpoints")).all_model_checkpoint_paths) == 2


def start_two(folder, death):
    """Two workers of a training that accumulates; DEATH of the second. [(exit code, output, error output)]."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    workers = []
    for index in (0, 1):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        if index and death:
            environment |= {"PYTHONPATH": HOOKS, "DEATH": death}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        line = [*command("main.py", folder), f"--hparams={ACCUMULATION}"]
        workers.append(subprocess.Popen(line, cwd=ROOT, env=environment, **pipes))
    try:
        output = [worker.communicate(timeout=400) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, *texts) for worker, texts in zip(workers, output, strict=True)]


@pytest.mark.slow
def test_workers_that_accumulate_are_told_to_stop_and_killed_and_end_as_one_process(tmp_path):
    folder = tmp_path / "run"
    # The second worker is told to stop in the third step; it tells the other with the fourth.
    stopped = start_two(folder, f"step 2 0 {int(signal.SIGTERM)}")
    assert [code for code, *_ in stopped] == [143, 143], stopped
    assert all("Stopped by SIGTERM; where it stands is saved." in error for *_, error in stopped)
    # In the second epoch it is killed.
    (code, output, error), (killed, *_) = start_two(folder, f"step 1 0 {int(signal.SIGKILL)}")
    assert "Going on from a checkpoint at epoch 1, step 5 of 5." in output
    assert (code, killed) == (1, -9)
    assert "Error: Another worker of this training ended or can no longer be reached" in error  # TensorFlow logs before
    assert "start the same commands again with the same --model_dir" in error and "Traceback" not in error
    (code, output, error), (other, *_) = start_two(folder, None)
    assert (code, other) == (0, 0), error
    assert "Going on from a checkpoint at epoch 2, step 1 of 5." in output
    alone, config = tmp_path / "alone", load_config("testing", f"{OVERRIDES},{ACCUMULATION}")
    trainer.train(config, alone, console=rich.console.Console(quiet=True))
    one, two = (keras.models.load_model(path / "model.keras") for path in (alone, folder))
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=a.path)


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    workers = [f"127.0.0.1:{port}", "127.0.0.1:1"]
    config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}})
    done = start("main.py", tmp_path / "run", "--hparams=runtime.cluster_timeout=1", TF_CONFIG=config)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Not heard of within")
    assert "worker 1 (127.0.0.1:1)" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_workers_evaluate_together(folders):
    root, _ = folders
    flags = ["--workers=2", "--mode=eval", f"--model_dir={root / 'two'}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "local_workers.py"), *flags],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((root / "two" / "summary.json").read_text())
    assert "Evaluating on 2 replicas of 2 workers." in done.stdout
    results = f"Test accuracy {summary['test_accuracy']:.4f} (loss {summary['test_loss']:.4f}) over 360 images"
    assert results in done.stdout
