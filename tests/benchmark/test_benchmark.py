"""The run as a whole: its files, what it keeps of earlier ones, and what becomes of parts that fail."""

import json
import os
import re
import signal

import PIL.Image
import pytest

from efficientnetv2_tf.benchmark import benchmark, first_step, memory, results, training
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.training.hparams import ConfigError

PARTS = "benchmark.parts=[training,first_step,memory],benchmark.libraries=[keras.applications]"


@pytest.fixture
def run(fake_children, recipe, console, tmp_path):
    """Runs with overrides; gives benchmark.json."""

    def run(*overrides, output=tmp_path / "out"):
        benchmark.run(recipe(PARTS, *overrides), output, command="main.py --mode=benchmark", console=console)
        return json.loads((output / "benchmark.json").read_text())

    return run


@pytest.fixture
def stub(monkeypatch):
    """Gives parts that measure nothing: they give the outcome, or raise it."""

    def stub(outcome, parts=(training, first_step, memory)):
        def measure(recipe, console):
            if isinstance(outcome, BaseException):
                raise outcome
            return {"found": outcome}

        for part in parts:
            monkeypatch.setattr(part, "measure", measure)
            monkeypatch.setattr(part, "tables", lambda result: [Table("found", ("what",), ((result["found"],),))])
            monkeypatch.setattr(part, "draw", lambda figure, result: figure.subplots())

    return stub


def test_json_markdown_and_picture(run, console, tmp_path):
    found = run()
    assert {*found["versions"]} >= {"python", "tensorflow", "keras", "efficientnetv2_tf"}
    assert found["machine"]["cores"] == os.cpu_count() and found["machine"]["memory"] > 2**28
    assert [*found["parts"]] == ["training", "first_step", "memory"]
    part = found["parts"]["training"]
    assert part["command"] == "main.py --mode=benchmark" and part["settings"]["batch_size"] == 4
    assert part["result"]["models"]["efficientnetv2-b0"]["peers"]["ours"]["ratio"]["median"] == pytest.approx(2)
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "| efficientnetv2_tf | 40.0 | 30.0 - 40.0 | 2.00 | 7 |" in text
    assert "`main.py --mode=benchmark`" in text and f"keras {found['versions']['keras']}" in text
    with PIL.Image.open(tmp_path / "out" / "benchmark.png") as picture:
        assert picture.width == 1600 and 800 <= picture.height <= 1200
    assert "Wrote " in console.file.getvalue() and "40.0" in console.file.getvalue()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "benchmark.json", "benchmark.md", "benchmark.png",
    ]  # fmt: skip


def test_a_part_that_fails_is_reported_and_the_others_go_on(run, monkeypatch, tmp_path):
    def fail(recipe, console):
        raise MemoryError("no more")

    monkeypatch.setattr(first_step, "measure", fail)
    found = run()
    assert found["parts"]["first_step"]["error"] == "MemoryError: no more"
    assert "result" in found["parts"]["training"] and "result" in found["parts"]["memory"]
    assert "Failed: MemoryError: no more" in (tmp_path / "out" / "benchmark.md").read_text()
    with pytest.raises(ConfigError, match=r"No part could be measured; .*benchmark\.md says why"):
        run("benchmark.parts=[first_step]")


def test_a_failure_leaves_the_result_of_an_earlier_run(run, stub, console, tmp_path):
    stub("an hour's work")
    before = run("benchmark.parts=[memory]")["parts"]["memory"]
    stub(ConfigError("efficientnetv2_tf is left out"), [memory])
    found = run("benchmark.parts=[training,memory]")["parts"]["memory"]
    assert found.pop("error") == "efficientnetv2_tf is left out" and found.pop("error_date") >= before["date"]
    assert found == before
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert text.count("| an hour's work |") == 2
    assert "failed; what it should have replaced is shown. efficientnetv2_tf is left out" in text
    with pytest.raises(ConfigError, match="No part could be measured"):
        run("benchmark.parts=[memory]")
    stub("new", [memory])
    found = run("benchmark.parts=[memory]")["parts"]["memory"]
    assert found["result"] == {"found": "new"} and "error" not in found


def fail(*_):
    raise KeyError("ours")


def test_a_part_that_cannot_be_shown_leaves_the_others(run, stub, console, monkeypatch, tmp_path):
    stub("seen")
    monkeypatch.setattr(memory, "tables", fail)
    monkeypatch.setattr(first_step, "draw", fail)
    assert run()["parts"]["memory"]["result"] == {"found": "seen"}
    text, said = (tmp_path / "out" / "benchmark.md").read_text(), console.file.getvalue()
    assert text.count("| seen |") == 2 and "Cannot be shown: KeyError: 'ours'" in text
    assert "memory cannot be shown: KeyError" in said and "first_step cannot be drawn: KeyError" in said
    assert "benchmark.png" in said
    with pytest.raises(ConfigError, match="No part could be measured"):
        run("benchmark.parts=[memory]")


def test_a_picture_that_cannot_be_drawn_leaves_the_text(run, stub, console, monkeypatch, tmp_path):
    class NoEnd:
        axes = ()

        def __call__(self, *_, **__):
            raise ValueError("no end")

    stub("seen")
    monkeypatch.setattr(memory, "draw", lambda figure, result: setattr(figure, "draw", NoEnd()))
    run()
    assert "benchmark.png cannot be drawn: ValueError: no end" in console.file.getvalue()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["benchmark.json", "benchmark.md"]


def test_results_of_another_version_are_no_hindrance(run, stub, console, tmp_path):
    stub("seen")
    path = tmp_path / "out" / "benchmark.json"
    found = run("benchmark.parts=[training]")
    old = {**found["parts"]["training"], "result": {"models": 1}}
    path.write_text(json.dumps({**found, "parts": {"training": old, "memory": {"result": {}}}}))
    assert {*run("benchmark.parts=[first_step]")["parts"]} == {"training", "first_step"}
    assert "are now" in console.file.getvalue() and "memory cannot be read" in console.file.getvalue()
    assert "memory" in json.loads((tmp_path / "out" / "benchmark.old.json").read_text())["parts"]
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "| seen |" in text and "Cannot be shown: KeyError: 'found'" in text


def test_other_parts_are_kept_on_the_same_machine_only(run, stub, console, monkeypatch, tmp_path):
    stub("seen")
    machine, versions, old = results.machine(), results.versions(), tmp_path / "out" / "benchmark.old.json"

    def parts(part, memory=0, **others):
        monkeypatch.setattr(results, "machine", lambda: {**machine, "memory": machine["memory"] + memory})
        monkeypatch.setattr(results, "versions", lambda: {**versions, **others})
        return {*run(f"benchmark.parts=[{part}]")["parts"]}

    assert parts("training") == {"training"}
    assert parts("memory", memory=-3 * 2**20, new_package="1.0") == {"training", "memory"}
    assert not old.exists()
    assert parts("first_step", new_package="2.0") == {"first_step"}
    assert "benchmark.old.json: versions changed (new_package)" in console.file.getvalue()
    assert {*json.loads(old.read_text())["parts"]} == {"training", "memory"}
    assert parts("memory", memory=2**31, new_package="2.0") == {"memory"}
    assert "benchmark.old2.json: the machine changed" in console.file.getvalue()
    assert {*json.loads(old.with_name("benchmark.old2.json").read_text())["parts"]} == {"first_step"}
    assert {*json.loads(old.read_text())["parts"]} == {"training", "memory"}


def test_what_a_recipe_sets_in_vain_is_named(run, stub, console):
    stub("seen")
    run("benchmark.parts=[training],train.optimizer=sgd,data.batch_size=8,runtime.onednn=false,benchmark.rounds=2")
    assert "Not used, for the work is the same for all: data.batch_size, train.optimizer\n" in console.file.getvalue()


def test_the_number_of_the_part_and_its_seconds(run, stub, console):
    stub("seen")
    run("benchmark.parts=[memory,training]")
    assert re.findall(r"^(Measuring .*|\w+ took \d+ s)$", console.file.getvalue(), re.MULTILINE) == [
        "Measuring training (1 of 2) ...", "training took 0 s", "Measuring memory (2 of 2) ...", "memory took 0 s",
    ]  # fmt: skip


def test_recipes_of_progressive_trainings_are_read_before_the_work(run, stub, tmp_path):
    stub(AssertionError("began"))
    parts = "benchmark.parts=[training,progressive]"
    with pytest.raises(ConfigError, match="'digist' is neither"):
        run(parts, "benchmark.progressive_recipes=[digist]")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["models", "progressive_recipes"])
def test_something_is_asked_for(recipe, key):
    with pytest.raises(ConfigError, match=rf"benchmark\.{key}: .*at least 1 item"):
        recipe(f"benchmark.{key}=[]")


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_was_measured_outlives_an_interruption(run, monkeypatch, tmp_path, number, code):
    monkeypatch.setattr(memory, "measure", lambda recipe, console: os.kill(os.getpid(), number))
    monkeypatch.setattr(first_step, "tables", fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        run()
    assert caught.value.exit_code == code
    assert {*json.loads((tmp_path / "out" / "benchmark.json").read_text())["parts"]} == {"training", "first_step"}
    assert (tmp_path / "out" / "benchmark.png").exists()


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(run, fake_children, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        run(output=tmp_path / "file" / "out")
    assert not (tmp_path / "log").exists()


def test_a_file_of_something_else_is_replaced(run, console, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "benchmark.json").write_text("[1, 2]")
    assert "training" in run("benchmark.parts=[training]")["parts"]
    assert "is not of a benchmark" in console.file.getvalue()
    assert (tmp_path / "out" / "benchmark.old.json").read_text() == "[1, 2]"
