"""The run as a whole: its files, what it keeps of earlier ones, and what becomes of parts that fail."""

import json
import os
import signal

import PIL.Image
import pytest

from efficientnetv2_tf.benchmark import benchmark, first_step, memory, results
from efficientnetv2_tf.training.hparams import ConfigError

PARTS = "benchmark.parts=[training,first_step,memory],benchmark.libraries=[keras.applications]"


@pytest.fixture
def run(fake_children, recipe, console, tmp_path):
    """Runs with overrides; gives benchmark.json."""

    def run(*overrides, output=tmp_path / "out"):
        benchmark.run(recipe(PARTS, *overrides), output, command="main.py --mode=benchmark", console=console)
        return json.loads((output / "benchmark.json").read_text())

    return run


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


def test_other_parts_are_kept_on_the_same_machine_only(run, console, monkeypatch, tmp_path):
    run("benchmark.parts=[training]")
    assert {*run("benchmark.parts=[memory]")["parts"]} == {"training", "memory"}
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "images/s" in text and "peak, MiB" in text
    monkeypatch.setattr(results, "versions", lambda: {"python": "4.0"})
    assert {*run("benchmark.parts=[first_step]")["parts"]} == {"first_step"}
    assert "versions changed" in console.file.getvalue()


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_was_measured_outlives_an_interruption(run, monkeypatch, tmp_path, number, code):
    monkeypatch.setattr(memory, "measure", lambda recipe, console: os.kill(os.getpid(), number))
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
    assert "is not of a benchmark, and is replaced" in console.file.getvalue()
