"""The benchmark of a training step's memory, and that memory is saved at all."""

import concurrent.futures
import io
import json

import pytest
import rich.console

from efficientnetv2_tf.training import benchmark_memory as module
from efficientnetv2_tf.training.benchmark_memory import StepCost, benchmark_memory
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.recipes import load_config

WAYS = {"none": (1, "none"), "accumulation": (4, "none"), "recomputation": (1, "blocks"), "both": (4, "blocks")}


def config(overrides):
    return load_config("testing", f"progressive.image_size=64,{overrides}")


def test_four_ways_as_table_and_file(monkeypatch, tmp_path):
    def measured(config, variant, accumulate_steps, rematerialize):
        assert config.data.batch_size == 32 and config.progressive.image_size == (64, 64)
        assert WAYS[variant] == (accumulate_steps, rematerialize)
        peak = (1000 if variant == "none" else 600) * 2**20
        return StepCost(variant, accumulate_steps, rematerialize, peak, peak // 2, 0.5)

    monkeypatch.setattr(module, "_in_a_process", measured)
    console = rich.console.Console(file=io.StringIO(), width=160)
    costs = benchmark_memory(config("data.batch_size=32"), output=tmp_path, console=console)
    assert [cost.variant for cost in costs] == list(WAYS)
    written = json.loads((tmp_path / "benchmark_memory.json").read_text())
    assert [row["peak"] for row in written] == [cost.peak for cost in costs]
    (line,) = [line for line in console.file.getvalue().splitlines() if "blocks" in line and "recomp" in line]
    assert all(cell in line for cell in (" blocks ", " 600 ", " 300 ", " 0.60 ", " 0.50 ", " 1.00 "))


def test_a_batch_that_cannot_be_cut_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"data.batch_size: expected a multiple of the 4 parts. Received: 30"):
        benchmark_memory(config("data.batch_size=30"), output=tmp_path)


@pytest.mark.slow
def test_memory_is_saved(monkeypatch):
    """Real processes, of the smallest network: 64 px, batch 256."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # so that tensors that are gone take no memory
    measured = config("data.batch_size=256,model.drop_connect_rate=0.2")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = {name: pool.submit(module._in_a_process, measured, name, *way) for name, way in WAYS.items()}
        costs = {name: job.result() for name, job in jobs.items()}
    steps = {name: cost.step / costs["none"].step for name, cost in costs.items()}
    assert steps["accumulation"] < 0.6, steps
    assert steps["recomputation"] < 0.9, steps
    assert steps["both"] < 0.5, steps
