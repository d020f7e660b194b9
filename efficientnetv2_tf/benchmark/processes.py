"""Measurements in processes of their own: what one library loads or leaves in memory does not touch the next one."""

import json
import subprocess
import sys

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
        raise ConfigError(
            f"The process that measured ({module}) ended with {done.returncode}; at -9 the system had no more memory. "
            f"Try a smaller benchmark.batch_size or image_size.\n{done.stderr[-_SHOWN:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])
