"""Children that report known times, in real processes: no framework is loaded."""

import io
import os

import pytest
import rich.console

from efficientnetv2_tf.benchmark import inference, peers, turns
from efficientnetv2_tf.benchmark.config import BenchmarkRecipe
from efficientnetv2_tf.training.recipes import load_config

# Of ours a step takes 0.1 s, the machine is half as fast in the second of three turns; keras-hub dies in its second
# turn, keras-cv has no such network, nor have those in FAKE_FAILING. FAKE_MEMORY is {name: [built, peak]}.
CHILD = """
import json, os, pathlib
from efficientnetv2_tf.benchmark.peers import LeftOutError, serve_peers
from efficientnetv2_tf.child_process import answer_lines

SECONDS = {"ours": 0.1, "ours_average": 0.125, "keras_applications": 0.2, "keras_hub": 0.4, "saved_model": 0.1,
           "keras_predict": 0.4, "keras_function": 0.2}

def log(*what):
    with open(os.environ["FAKE_LOG"], "a") as file:
        print(*what, file=file)

def begin(work, next_request, tell):
    name = work["peer"]
    log("start", name)
    if name == "keras_cv" or name in os.environ.get("FAKE_FAILING", "").split():
        raise LeftOutError("it has no such network")
    seconds = SECONDS.get(name, 0.5)
    facts = {"imported": 1.0, "built": 1.5, "first_step": 100 * seconds, "parameters": 7}
    memory = json.loads(os.environ.get("FAKE_MEMORY", "{}"))
    built, peak = memory.get(name, [2**30, int(2**30 * (1 + 10 * seconds))])
    tell({**facts, "memory_built": built})
    for turn in range(1000):
        request = next_request()
        log("turn", name)
        if name == "keras_hub" and turn == 1:
            os.kill(os.getpid(), 9)
        number = request.get("steps") or request["calls"]
        times = [seconds * (2 if turn % 3 == 1 else 1)] * number
        tell({"seconds": times, "peak_memory": peak})

answer_lines(serve_peers(begin))
"""


@pytest.fixture
def fake_children(tmp_path, monkeypatch):
    """Replaces what measures; gives a function that reads what they were asked, in its order."""
    (tmp_path / "fake_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(turns, "TRAINING_MODULE", "fake_child")
    monkeypatch.setattr(inference, "MODULE", "fake_child")
    monkeypatch.setattr(peers, "_version", lambda package: None if package == "torchvision" else "1.2")
    return lambda: [tuple(line.split()) for line in (tmp_path / "log").read_text().splitlines()]


@pytest.fixture
def recipe():
    def make(*overrides):
        small = "benchmark.models=[efficientnetv2-b0],benchmark.rounds=3,benchmark.steps=2,benchmark.batch_size=4"
        return load_config(None, [small, *overrides], schema=BenchmarkRecipe)

    return make


@pytest.fixture
def console():
    return rich.console.Console(file=io.StringIO(), width=200)
