"""Processes of their own that answer lines of JSON, and end when the one that began them is no more.

The parent's side is `ChildProcess`, the child's `answer_lines`. What libraries load, print or leave in memory stays in
the child.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback

_SHOWN = 2000  # characters of what a process that ended wrote to stderr
_PARENT = "EFFICIENTNETV2_TF_PARENT"  # its process' number, for the child


class ChildEndedError(RuntimeError):
    """The process ended without an answer; the message says with which code, and what it wrote last to stderr."""


class ChildProcess:
    """`python -m module`, which calls `answer_lines`.

    Args:
        module: its full name.
        settings: environment variables, where the user has not set them.
        forced: environment variables, whatever the user has set.

    Attributes:
        pid: number of the process.
    """

    def __init__(self, module, settings=None, forced=None):
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - till close()
        # A process that is killed leaves its temporary files, such as a checkpoint; what it began may still write.
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        own = {"TMPDIR": self._folder.name, _PARENT: str(os.getpid())}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **(settings or {}), **os.environ, **(forced or {}), **own},
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends this process itself
        )
        self.pid = self._process.pid

    def send(self, value):
        """Sends what JSON can hold."""
        with contextlib.suppress(BrokenPipeError):  # `receive` says what happened
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()

    def receive(self):
        """The next answer, which it waits for.

        Raises:
            ChildEndedError: there is none; the process is closed.
        """
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read()[-_SHOWN:]
        self.close()
        memory = " (at -9 the system had no more memory)" if code == -9 else ""
        raise ChildEndedError(f"ended with {code}{memory}. {said}".strip())

    def close(self):
        """Ends the process, in whatever it is doing; may be called again."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):  # of what was still to be written
                file.close()
        self._folder.cleanup()


def answer_lines(serve):
    """Answers the parent, and ends the process; for the child's `main`.

    Args:
        serve: called with an iterator over the lines that come, which ends when the parent asks no more, and with a
            function that sends what JSON can hold.
    """
    # The parent may be gone before this is called, while the child imported. On Windows a launcher stands between them.
    parent = int(os.environ.get(_PARENT, os.getppid())) if os.name == "posix" else os.getppid()
    threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    code = 0
    try:
        serve(iter(sys.stdin), lambda values: print(json.dumps(values), file=answers, flush=True))
    except (BrokenPipeError, SystemExit):  # nobody asks any more
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # what libraries do at their end was seen to take for ever, and is deaf to `_end_with`


def _end_with(parent):
    """Ends this process when the one that began it is no more, in whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
