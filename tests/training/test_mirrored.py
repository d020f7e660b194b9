"""The whole trainer on two logical CPU devices against one, in processes of their own."""

import csv
import json

import keras
import numpy as np
import pytest

# 5 steps at 20 px and 5 at 24 px. Without dropout and stochastic depth: each replica draws its own random numbers.
CODE = """
import io, json, sys, rich.console
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow(logical_cpus=2)
from efficientnetv2_tf.training import trainer
from efficientnetv2_tf.training.evaluation import evaluate
from efficientnetv2_tf.training.recipes import load_config
overrides = {overrides!r}
for strategy in ("one_device", "mirrored"):
    config = load_config("testing", overrides + f",runtime.strategy={{strategy}},runtime.logical_cpus=2")
    trainer.train(config, sys.argv[1] + "/" + strategy, console=rich.console.Console(file=io.StringIO()))
    console = rich.console.Console(file=open(sys.argv[1] + "/" + strategy + "/eval.txt", "w"), width=160)
    results = evaluate(sys.argv[1] + "/" + strategy, console=console)
    console.print(json.dumps(results), soft_wrap=True)
"""
OVERRIDES = (
    "data.batch_size=240,data.eval_batch_size=50,train.epochs=2,progressive.image_size=[20,24],data.eval_image_size=24,"
    "progressive.mixup=[0,0.3],model.drop_connect_rate=0,model.dropout_rate=0,train.weight_decay=0.01,"
    "train.ema_decay=0.9,train.gradient_clip=1,model.blocks=[r1_k3_s2_e1_i16_o16_c1,r1_k3_s2_e4_i16_o24_se0.25]"
)


def read_metrics(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "metrics.csv").open())]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    import subprocess
    import sys

    root = tmp_path_factory.mktemp("mirrored")
    code = CODE.format(overrides=OVERRIDES)
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root / "one_device", root / "mirrored"


@pytest.mark.slow
def test_two_devices_train_as_one(folders):
    one, two = (keras.models.load_model(folder / "model.keras") for folder in folders)
    assert two.normalization == "batch"  # trained as "sync_batch"
    assert len(one.weights) > 20
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=a.path)


@pytest.mark.slow
def test_metrics_are_those_of_one_device(folders):
    one, two = map(read_metrics, folders)
    assert [row["image_size"] for row in two] == [20, 24]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        assert all(np.isfinite(value) for value in b.values())
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert a[name] == pytest.approx(b[name], abs=1e-4), name
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in folders)
    assert two["steps"] == one["steps"] == 10
    assert two["test_images"] == 360
    assert two["test_accuracy_raw"] == pytest.approx(one["test_accuracy_raw"], abs=1e-6)


@pytest.mark.slow
def test_evaluation_takes_the_devices_and_counts_each_image_once(folders):
    for folder, devices in zip(folders, ("on one device", "on 2 replicas"), strict=True):
        summary = json.loads((folder / "summary.json").read_text())
        text = (folder / "eval.txt").read_text()
        assert f"Evaluating {devices}." in text
        results = json.loads(text.splitlines()[-1])
        assert results["images"] == summary["test_images"]
        assert results["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-6)
        assert results["loss"] == pytest.approx(summary["test_loss"], abs=1e-5)
