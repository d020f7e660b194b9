"""Growth: exponents of made-up costs, and real processes on a network of one block."""

import io
import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import rich.console

from efficientnetv2_tf.benchmark import growth
from efficientnetv2_tf.benchmark.config import BenchmarkRecipe
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.recipes import load_config
from efficientnetv2_tf.training.stopping import Interrupted, StopSignals

TINY = (
    "benchmark.models=[testing],benchmark.image_size=32,benchmark.batch_size=8,benchmark.rounds=1,benchmark.steps=1,"
    "model.blocks=[r1_k3_s2_e1_i16_o16_c1],model.num_classes=10"
)


def made_up():
    works = [1e9, 2e9, 4e9]
    steps = {"name": "image size", "unit": " px", "work": "multiply-adds", "values": [32, 48, 64], "works": works}
    first = {"name": "depth", "unit": "", "work": "blocks", "values": [1, 2], "works": [10, 20]}
    costs = {"training": [0.1, 0.18, 0.4], "inference": [0.03, 0.06, 0.12]}
    grown = {"first step": [4.0, 6.0], "graph nodes": [1000, 3000]}
    return {
        "model": "efficientnetv2-b0",
        "image_size": 128,
        "batch_size": 8,
        "replica_batch_size": 32,
        "series": [{**steps, "costs": costs}, {**first, "costs": grown}],
        "left_out": {"workers": "no free port"},
    }


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.7])
def test_the_exponent_is_the_slope_of_the_logarithms(slope):
    works = np.array([1e6, 3e6, 8e7])
    assert growth.exponent(works, 0.02 * works**slope) == pytest.approx(slope)


def test_the_worst_rise_looks_at_all_pairs():
    assert growth.worst_rise([1, 2, 4], [1, 2, 4]) == 1
    assert growth.worst_rise([1, 2, 4], [8, 2, 8]) == 2  # from 2 to 4, though the first was dearer
    assert growth.worst_rise([4, 2, 1], [8, 2, 8]) == 2  # in whatever order
    assert growth.worst_rise([1, 2, 4], [1, 3, 9]) == 2.25  # not only between neighbours
    assert growth.worst_rise([1, 2], [1, 1]) == 0.5


def test_tables_of_growth_and_of_points():
    summary, points = growth.tables(made_up())
    assert summary.rows[0][:5] == ("image size 32 to 64 px", "multiply-adds", "training", "x 4", "x 4")
    assert summary.rows[0][5:] == ("1.00", "1.11")
    assert summary.rows[3] == ("depth 1 to 2", "blocks", "graph nodes", "x 2", "x 3", "1.58", "1.50")
    assert points.rows[1] == ("image size 48 px", "training", "2e+09", "180.0 ms", "0.90")
    assert summary.note.endswith("Left out: workers (no free port).")
    assert points.rows[-1] == ("depth 2", "graph nodes", "20", "3,000", "1.50")


def test_the_picture_has_a_line_for_each_cost():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.4), layout="constrained")  # as beside another part
    growth.draw(figure.subfigures(), made_up())
    (inner,) = figure.subfigs
    left, right = inner.axes
    assert len(left.lines) == 2  # a first step's time is of other work
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[1, 100], [2, 180], [4, 400]])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[1, 1], [2, 0.9], [4, 1]])
    assert [text.get_text() for text in inner.legends[0].get_texts()] == [
        "image size, training: 1.00", "image size, inference: 1.00", "depth, first step: 0.58",
        "depth, graph nodes: 1.58",
    ]  # fmt: skip
    figure.draw_without_rendering()
    legend, titles = inner.legends[0].get_window_extent(), [left.title, right.title, inner._suptitle]
    assert not any(legend.overlaps(title.get_window_extent()) for title in titles)


def test_one_worker_alone_is_measured_right_before_two(monkeypatch, console):
    asked, works = [], {(1,): (10, 0.5), (1, 1): (20, 0.9), (2,): (20, 1.5)}

    def workers(request, *sizes):
        asked.append((request["batch_size"], sizes))
        return works[sizes]

    def fail(*_):
        raise OSError("no more memory")

    monkeypatch.setattr(growth, "_workers", workers)
    monkeypatch.setattr(growth, "ask", fail)  # of steps and replicas
    result = growth.measure(load_config(None, TINY, schema=BenchmarkRecipe), console)
    assert asked == [(8, (1,)), (8, (1, 1)), (8, (2,))]
    assert [(one["name"], one["values"], one["works"]) for one in result["series"]] == [
        ("workers", [1, 2], [10, 20]), ("trainings side by side", [1, 2], [10, 20]),
    ]  # fmt: skip
    assert [one["costs"] for one in result["series"]] == [{"training": [0.5, 1.5]}, {"training": [0.5, 0.9]}]
    assert result["left_out"] == dict.fromkeys(["image size, batch and depth", "replicas"], "OSError: no more memory")


WORKER = """
import json, os, pathlib, time
from efficientnetv2_tf.child_process import answer_lines

def serve(lines, tell):
    request, task = json.loads(next(lines)), json.loads(os.environ["TF_CONFIG"])
    assert request["kind"] == "worker"
    index, size = task["task"]["index"], len(task["cluster"]["worker"])
    pathlib.Path(os.environ["PIDS"], f"{index}-{os.getpid()}").touch()
    ACT
    time.sleep(60)

answer_lines(serve)
"""


@pytest.fixture
def pids(tmp_path, monkeypatch):
    """Workers that only say who they are in the names of files, and do what one line of Python says."""

    def start(act):
        (tmp_path / "fake_worker.py").write_text(WORKER.replace("ACT", act))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
        monkeypatch.setattr(growth, "_PROCESS", "fake_worker")
        (tmp_path / "pids").mkdir()
        return tmp_path / "pids"

    return start


def test_the_chief_answers_for_the_workers(pids):
    folder = pids("tell([100 * size, 0.5 * size + index])")
    assert growth._workers({}, 2) == (200, 1.0)
    assert sorted(path.name[0] for path in folder.iterdir()) == ["0", "1"]


def test_trainings_side_by_side_know_nothing_of_each_other(pids):
    folder = pids("tell([100 * size, 0.5 * size + index])")
    assert growth._workers({}, 1, 2, 1) == (400, 1.0)  # all of the work, in the time of the slowest
    assert sorted(path.name[0] for path in folder.iterdir()) == ["0", "0", "0", "1"]


def test_one_that_fails_ends_the_wait_for_the_chief(pids):
    pids("assert index == 0, 'lost'")
    with pytest.raises(ConfigError, match="lost"):  # the chief would say something else, after a minute
        growth._workers({}, 2)


def test_workers_end_with_a_signal(pids):
    folder = pids("pass")

    def stop():
        while len([*folder.iterdir()]) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted), StopSignals(None, ""):
        growth._workers({}, 2)
    for path in folder.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.partition("-")[2]), 0)


@pytest.mark.slow
def test_real_steps_replicas_and_workers(monkeypatch):
    monkeypatch.setattr(growth, "IMAGE_SIZES", (32, 64))
    monkeypatch.setattr(growth, "BATCH_SIZES", (1, 3))
    monkeypatch.setattr(growth, "DEPTHS", (1.0, 2.0))
    result = growth.measure(load_config(None, TINY, schema=BenchmarkRecipe), rich.console.Console(file=io.StringIO()))
    assert (result["model"], result["batch_size"], result["replica_batch_size"]) == ("testing", 2, 8)
    series = {(one["name"], one["work"]): one for one in json.loads(json.dumps(result))["series"]}
    assert [*series] == [
        ("image size", "multiply-adds"), ("batch size", "multiply-adds"), ("depth", "multiply-adds"),
        ("depth", "blocks"), ("replicas", "multiply-adds"), ("workers", "multiply-adds"),
        ("trainings side by side", "multiply-adds"),
    ]  # fmt: skip
    # Stem, one fused block at half its size, the last convolution; the classifier's product has no pixels.
    pixels, classifier = 256 * 27 * 16 + 64 * (9 * 16 * 16 + 16 * 32), 32 * 10
    assert series["image size", "multiply-adds"]["works"] == [2 * (times * pixels + classifier) for times in (1, 4)]
    assert series["batch size", "multiply-adds"]["works"] == [times * (pixels + classifier) for times in (1, 3)]
    for name in ("replicas", "workers", "trainings side by side"):
        assert series[name, "multiply-adds"]["works"] == [times * 8 * (pixels + classifier) for times in (1, 2)]
    blocks = series["depth", "blocks"]
    assert blocks["works"] == [1, 2] and blocks["costs"]["graph nodes"][0] < blocks["costs"]["graph nodes"][1]
    for one in series.values():
        assert all(cost > 0 for costs in one["costs"].values() for cost in costs)
