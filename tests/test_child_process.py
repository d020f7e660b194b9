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


def test_a_module_that_is_not_there():
    with pytest.raises(ChildEndedError, match="No module named no_such_module"):
        ChildProcess("no_such_module").receive()


def test_no_child_outlives_a_parent_that_is_killed(echo):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = json.loads(parent.stdout.readline())
    os.kill(child, 0)  # is there
    parent.kill()
    parent.communicate()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if pathlib.Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":  # ended, and nobody has asked for it
            return
        time.sleep(0.1)
    pytest.fail("the child is still there after 10 s")
