"""The networks on an accelerator: a real process on JAX' CPU, where TensorFlow and PyTorch cannot be imported."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from efficientnetv2_tf.benchmark import frameworks, network_steps, networks
from efficientnetv2_tf.benchmark.networks import FUSED, NETWORKS, BenchmarkError, groups, ratios, tables, work
from efficientnetv2_tf.networks.variants import VARIANTS

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "benchmark_networks.py"
ABSENT = ("tensorflow", "pydantic", "torch", "timm")  # as on a GPU machine, and without PyTorch


def run(*flags, **environment):
    command = [sys.executable, str(SCRIPT), *flags]
    environment = {"PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, cwd=ROOT
    )


def row(network, framework, training, inference):
    shared = {"image_size": 224, "batch_size": 64, "multiply_adds": 1e9, "prepared": 12.0}
    return {"network": network, "framework": framework, "training": training, "inference": inference, **shared}


def test_those_that_the_paper_compares_take_turns():
    assert groups(["efficientnet-b4", "testing", "efficientnetv2-b3", FUSED, "efficientnetv2-s"]) == [
        ["testing"],
        [FUSED, "efficientnetv2-b3", "efficientnet-b4"],
        ["efficientnetv2-s"],
    ]
    assert sorted(name for group in groups(NETWORKS) for name in group) == sorted(NETWORKS)


def test_every_network_is_known_and_its_work_is_the_variant_s():
    timm = pytest.importorskip("timm")
    assert {networks.network_blocks(name)[0] for name in NETWORKS} <= {*VARIANTS}
    assert all(timm.is_model(networks.timm_name(name)) for name in NETWORKS if name != FUSED)
    assert networks.timm_name(FUSED) is None
    assert work("efficientnetv2-s", 384) / 1e9 == pytest.approx(8.37, abs=0.01)
    assert work(FUSED, 380) / work("efficientnet-b4", 380) == pytest.approx(7.34 / 4.39, abs=0.01)


def test_ratios_are_medians_over_rounds_beside_the_paper_s():
    rows = [
        row("efficientnetv2-b0", "jax", [10, 30, 20], [100, 100, 100]),
        row("efficientnet-b1", "jax", [5, 10, 5], [50, 40, 10]),
        row("efficientnetv2-b0", "timm", [8, 30, 10], [80, 50, 100]),
    ]
    (pair,) = ratios(rows)
    assert (pair["newer"], pair["older"], pair["paper"]) == ("efficientnetv2-b0", "efficientnet-b1", 2.1)
    assert pair["measured"] == {"jax": {"training": 3, "inference": 2.5}}
    rates, paper = tables({"rows": rows})
    # 64 bits of work: 3 x 2 x 1e9 x 20 images/s is 0.12 TFLOP/s.
    assert rates.rows[0][1:7] == ("jax", "224", "64", "20.0", "0.12", "1.25")
    assert rates.rows[2][1:7] == ("timm", "224", "64", "10.0", "0.06", "")
    assert paper.rows == (("efficientnetv2-b0 / efficientnet-b1", "2.10 (inference)", "3.00", "2.50"),)


class LittleMemory:
    """A framework that has the memory for so many images."""

    def __init__(self, name, images):
        self.name, self.images, self.asked = name, images, []

    def ask(self, request):
        self.asked.append(request["batch_size"])
        return {"seconds": 1.0} if request["batch_size"] <= self.images else {"out_of_memory": True}


def test_the_batch_is_halved_until_all_frameworks_have_the_memory():
    ours, theirs, said = LittleMemory("jax", 100), LittleMemory("timm", 17), []
    prepared = networks._prepared("efficientnetv2-b0", 224, 128, [ours, theirs], said.append)
    assert [row["batch_size"] for _, row in prepared] == [16, 16]
    assert (ours.asked, theirs.asked) == ([128, 64, 32, 16], [64, 32, 16])
    assert "efficientnetv2-b0, timm: out of memory, now with batch 16" in said
    with pytest.raises(BenchmarkError, match="efficientnetv2-b0 at 224 px: expected memory for one image") as caught:
        networks._prepared("efficientnetv2-b0", 224, 2, [LittleMemory("jax", 0)], said.append)
    assert caught.value.who == ("jax", "efficientnetv2-b0") and said[-1] == "efficientnetv2-b0, jax: out of memory"


# B1 does not compile with timm, B4 ends JAX in the second round; a network of tests hangs.
STEPS = """
import json, time
from efficientnetv2_tf.child_process import answer_lines

def serve(lines, tell):
    framework, runs = json.loads(next(lines))["framework"], 0
    tell({"device": "none", "versions": {framework: "1"}})
    for line in lines:
        request = json.loads(line)
        network, runs = request["network"], runs + (request["do"] == "run")
        if network == "testing":
            time.sleep(600)
        if (framework, network) == ("timm", "efficientnet-b1"):
            raise TypeError("it does not compile")
        if (framework, network) == ("jax", "efficientnet-b4") and runs > 4:
            raise ValueError("not in the second round")
        tell({"seconds": 0.5})

answer_lines(serve)
"""


@pytest.fixture
def fake_steps(tmp_path, monkeypatch):
    (tmp_path / "fake_steps.py").write_text(STEPS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(frameworks, "_MODULE", "fake_steps")


def test_what_fails_is_left_out_and_the_others_are_known_after_each_group(fake_steps):
    names, said = ["efficientnetv2-b0", "efficientnet-b1", "efficientnetv2-b3", "efficientnet-b4"], []
    found = networks.measure(
        names, frameworks=["jax", "timm"], batch_size=4, rounds=2, steps=3, image_size=32, tell=said.append
    )
    assert len(next(found)["rows"]) == 3
    (last,) = found
    assert [(row["network"], row["framework"]) for row in last["rows"]] == [
        ("efficientnetv2-b0", "jax"), ("efficientnetv2-b0", "timm"), ("efficientnet-b1", "jax"),
        ("efficientnetv2-b3", "jax"), ("efficientnetv2-b3", "timm"), ("efficientnet-b4", "timm"),
    ]  # fmt: skip
    assert all(row["training"] == row["inference"] == [24, 24] for row in last["rows"])
    assert [*last["left_out"]] == ["timm, efficientnet-b1", "jax, efficientnet-b4"]
    assert "it does not compile" in last["left_out"]["timm, efficientnet-b1"]
    assert any(line.startswith("Left out: jax, efficientnet-b4: its process ended with 1") for line in said)


def test_a_framework_that_does_not_start_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(frameworks, "_MODULE", "no_such_module")
    names = ["efficientnetv2-s", "efficientnetv2-m"]
    *_, last = networks.measure(names, frameworks=["jax"], batch_size=4, rounds=1, steps=1, tell=lambda line: None)
    assert last["rows"] == [] and [*last["left_out"]] == ["jax"] and "no_such_module" in last["left_out"]["jax"]


def test_a_framework_that_hangs_is_ended(fake_steps):
    with networks.Framework("jax", 0.5, "float32") as framework:
        framework._process.send({"do": "run", "network": "testing"})
        pid = framework._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture
def tool(monkeypatch):
    """tools/benchmark_networks.py, as if all were installed."""
    spec = importlib.util.spec_from_file_location("benchmark_networks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_installed", lambda package: True)
    return module


def test_what_was_measured_outlives_ctrl_c(tool, monkeypatch, tmp_path, capsys):
    def measure(names, **settings):
        about = {"jax": {"device": "a GPU", "versions": {"jax": "1"}}}
        yield {"frameworks": about, "rows": [row("efficientnetv2-b0", "jax", [10], [100])], "left_out": {"timm": "why"}}
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "measure", measure)
    with pytest.raises(SystemExit) as caught:
        tool.main([f"--output={tmp_path / 'found'}"])
    assert caught.value.code == 130 and "| efficientnetv2-b0 | jax |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "found" / "networks.json").read_text())["rows"]) == 1
    assert "Left out: timm: why\n" in (tmp_path / "found" / "networks.md").read_text()


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(tool, monkeypatch):
    monkeypatch.setattr(tool, "measure", lambda *_, **__: pytest.fail("began"))
    with pytest.raises(SystemExit, match=r"--output: expected a folder that can be written to\. .*/dev/null"):
        tool.main(["--output=/dev/null/found"])


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--models=efficientnetv2-z"], "Unknown model 'efficientnetv2-z'"),
        (["--frameworks=mxnet"], "expected jax or timm. Received: mxnet"),
        (["--batch_size=0"], "expected a whole number of at least 1. Received: 0"),
    ],
)
def test_mistakes_are_told_at_once(flags, message):
    done = run(*flags)
    assert done.returncode == 2 and message in done.stderr


def test_pytorch_compiles_each_shape_for_itself(monkeypatch):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    from torch._dynamo import config

    shapes, compile_ = [], torch.compile

    def backend(graph, inputs):
        shapes.append([tuple(x.shape) for x in inputs if x.ndim == 4 and x.shape[1] == 3 and x.shape[-1] > 3])
        return graph

    class Network(torch.nn.Sequential):  # whose code is shared, as that of timm's networks
        def __init__(self):
            super().__init__(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    monkeypatch.setattr(torch, "compile", lambda model, **options: compile_(model, backend=backend, **options))
    monkeypatch.setattr(timm, "create_model", lambda name, **options: Network())
    monkeypatch.setattr(network_steps, "_torch_device", lambda: "cpu")
    sizes = [(8, 4), (10, 4), (10, 2), (12, 2), (14, 2), (16, 2)]  # (image size, batch): compiled twelve times
    monkeypatch.setattr(network_steps, "_CLASSES", 8)
    with config.patch(recompile_limit=config.recompile_limit, fail_on_recompile_limit_hit=False):
        for size in sizes:
            network_steps.OnTimm("efficientnetv2-b0", *size, "float32")
        assert config.fail_on_recompile_limit_hit and config.recompile_limit > 8
    expected = [(batch, 3, side, side) for side, batch in sizes for _ in networks.KINDS]
    assert [shape for (shape,) in shapes] == expected
    assert all(type(side) is int for (shape,) in shapes for side in shape)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")
def test_a_real_run_on_jax_needs_neither_tensorflow_nor_pytorch(tmp_path):
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})")
    flags = ("--models=testing", "--image_size=32", "--batch_size=2", "--rounds=2", "--steps=2", "--frameworks=jax")
    output = tmp_path / "found"
    done = run(
        *flags, f"--output={output}", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_backend_optimization_level=0",  # compiles sooner
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "testing: round 2 of 2" in done.stdout
    found = json.loads((output / "networks.json").read_text())
    (line,) = found["rows"]
    assert (line["network"], line["framework"], line["image_size"], line["batch_size"]) == ("testing", "jax", 32, 2)
    assert line["multiply_adds"] == work("testing", 32)
    assert [len(line[kind]) for kind in networks.KINDS] == [2, 2] and min(line["training"] + line["inference"]) > 0
    assert found["frameworks"]["jax"]["device"] == "cpu" and "keras" in found["frameworks"]["jax"]["versions"]
    text = (output / "networks.md").read_text()
    assert "| testing | jax | 32 | 2 |" in text and text in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")
def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with networks.Framework("jax", 0.5, "float32") as framework:
        assert framework.about["device"] == "cpu"
        with pytest.raises(BenchmarkError, match=r"(?s)its process ended with 1\..*Unknown model 'none'"):
            framework.ask({"do": "prepare", "network": "none", "image_size": 32, "batch_size": 1})
