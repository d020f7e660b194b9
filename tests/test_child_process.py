"""Processes that answer lines: what they print, how they die, and that none is left behind."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from efficientnetv2_tf.child_process import ChildEndedError, ChildProcess

ECHO = """
import ctypes, json, os, sys, tempfile
from efficientnetv2_tf.child_process import answer_lines

libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.pause, None, None)  # a library whose end takes for ever

def serve(lines, tell):
    print("a library says hello")
    for line in lines:
        request = json.loads(line)
        if request == "die":
            print("no memory", file=sys.stderr, flush=True)
            os._exit(7)
        if request == "fail":
            raise ValueError("no such thing")
        settings = [os.environ.get(name) for name in ("TF_CPP_MIN_LOG_LEVEL", "SOME_SETTING")]
        tell({"heard": request, "pid": os.getpid(), "folder": tempfile.gettempdir(), "settings": settings})

answer_lines(serve)
"""
PARENT = """
import sys, time
from efficientnetv2_tf.child_process import ChildProcess

child = ChildProcess("echo_child")
child.send("hello")
print(child.receive()["pid"], flush=True)
time.sleep(60)
"""
# Its parent is gone before it looks.
LATE = """
import os, time
from efficientnetv2_tf.child_process import answer_lines

parent = os.getppid()
print(os.getpid(), flush=True)
while os.getppid() == parent:
    time.sleep(0.05)
answer_lines(lambda lines, tell: time.sleep(60))
"""
PARENT_OF_LATE = """
import time
from efficientnetv2_tf.child_process import ChildProcess

print(ChildProcess("late_child").receive(), flush=True)
time.sleep(60)
"""
# In the place of TensorFlow, for what would take long.
HANGING = """
import os, pathlib, time

new = pathlib.Path(os.environ["PID"] + ".new")
new.write_text(str(os.getpid()))
new.rename(os.environ["PID"])
time.sleep(60)
"""
BENCHMARK = """
import sys
from efficientnetv2_tf.benchmark.processes import ask
from efficientnetv2_tf.training.hparams import Config

config = Config()
if sys.argv[1].endswith("stage_switch"):
    ask(sys.argv[1], config.model_dump(mode="json"))
ask(sys.argv[1], {"kind": "steps", "config": config.model_dump_json()})
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    (tmp_path / "echo_child.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "echo_child"


def test_answers_come_one_by_one_and_nothing_between_them(echo):
    child = ChildProcess(echo)
    for request in ("hello", [1, {"two": None}]):
        child.send(request)
        answer = child.receive()
        assert answer["heard"] == request and answer["pid"] == child.pid
    folder = pathlib.Path(answer["folder"])
    assert folder.exists()
    child.close()
    child.close()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_child_that_ends_says_why(echo):
    child = ChildProcess(echo)
    child.send("die")
    with pytest.raises(ChildEndedError, match=r"(?s)^ended with 7\. .*a library says hello.*no memory"):
        child.receive()
    child = ChildProcess(echo)
    child.send("fail")
    with pytest.raises(ChildEndedError, match=r"(?s)^ended with 1\. .*ValueError: no such thing"):
        child.receive()
    child = ChildProcess(echo)
    os.kill(child.pid, signal.SIGKILL)
    child.send("hello")
    with pytest.raises(ChildEndedError, match=r"ended with -9 \(at -9 the system had no more memory\)"):
        child.receive()


def test_settings_are_for_what_the_user_has_not_set(echo, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    child = ChildProcess(echo, {"TF_CPP_MIN_LOG_LEVEL": "1", "SOME_SETTING": "2"})
    child.send("hello")
    assert child.receive()["settings"] == ["0", "2"]
    child.close()


def test_some_settings_are_forced(echo, monkeypatch):
    monkeypatch.setenv("SOME_SETTING", "the user's")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # where other tests have loaded TensorFlow
    child = ChildProcess(echo, {"SOME_SETTING": "a default"}, {"SOME_SETTING": "forced"})
    child.send("hello")
    assert child.receive()["settings"] == ["2", "forced"]
    child.close()


def test_files_that_cannot_be_removed_are_left(echo, monkeypatch):
    def fail(path, **options):
        raise OSError("somebody still writes there")

    child = ChildProcess(echo)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", fail)
        child.close()


def test_a_module_that_is_not_there():
    with pytest.raises(ChildEndedError, match="No module named no_such_module"):
        ChildProcess("no_such_module").receive()


def has_ended(pid):
    """Within 10 s."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":  # ended, and nobody has asked for it
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_no_child_outlives_a_parent_that_is_killed(echo):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = json.loads(parent.stdout.readline())
    os.kill(child, 0)  # is there
    parent.kill()
    parent.communicate()
    assert has_ended(child)


def test_a_parent_that_is_killed_while_the_child_imports(tmp_path, monkeypatch):
    (tmp_path / "late_child.py").write_text(LATE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    parent = subprocess.Popen([sys.executable, "-c", PARENT_OF_LATE], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert has_ended(child)


@pytest.mark.parametrize("module", ["growth_times", "stage_times", "stage_switch"])
def test_measurements_end_with_the_benchmark(module, tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text(HANGING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PID", str(tmp_path / "pid"))
    parent = subprocess.Popen([sys.executable, "-c", BENCHMARK, f"efficientnetv2_tf.benchmark.{module}"])
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert has_ended(int((tmp_path / "pid").read_text()))
