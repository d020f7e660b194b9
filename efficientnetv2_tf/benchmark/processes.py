"""Measurements in processes of their own: what one library loads or leaves in memory does not touch the next one."""

import json
import subprocess
import sys
import tempfile

from efficientnetv2_tf.training.hparams import ConfigError

_SHOWN = 2000  # characters of what a process that failed wrote to stderr


def ask(module, request, environment=None):
    """Runs `python -m module`, which reads a request and answers with JSON on the last line that it prints.

    Args:
        module: its full name.
        request: what JSON can hold.
        environment: a dictionary of environment variables; None is this process' own.

    Returns:
        The answer.

    Raises:
        ConfigError: the process failed, for example for want of memory.
    """
    command = [sys.executable, "-m", module]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise _error(module, done.returncode, done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def answers(module, request, environment=None):
    """`ask` for many answers: each line that the process prints is JSON, and comes when it is printed.

    Args:
        module: as in `ask`.
        request: likewise.
        environment: likewise.

    Yields:
        The answers. The process ends where nobody asks for the next one.

    Raises:
        ConfigError: as in `ask`.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        )
        with process:
            try:
                process.stdin.write(json.dumps(request))
                process.stdin.close()
                yield from map(json.loads, process.stdout)
                failed = process.wait()
            finally:
                process.kill()
        if failed:
            stderr.seek(0)
            raise _error(module, failed, stderr.read())


def _error(module, code, stderr):
    return ConfigError(
        f"The process that measured ({module}) ended with {code}; at -9 the system had no more memory. "
        f"Try a smaller benchmark.batch_size or image_size.\n{stderr[-_SHOWN:]}"
    )
