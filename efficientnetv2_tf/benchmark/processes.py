"""Measurements in processes of their own: what one library loads or leaves in memory does not touch the next one."""

import contextlib

from efficientnetv2_tf.child_process import ChildEndedError, ChildProcess
from efficientnetv2_tf.training.hparams import ConfigError

# Libraries differ in what they take of a GPU, and by themselves PyTorch takes nothing: CPUs are measured.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}


def ask(module, request):
    """The one answer of a process to a request; arguments and errors as in `asked`."""
    with asked(module, request) as answer:
        return answer()


def answers(module, request, number, settings=None):
    """`ask` for several answers, each of which comes when it is there.

    Args:
        module: as in `asked`.
        request: likewise.
        number: of answers.
        settings: as in `asked`.

    Yields:
        The answers. The process ends with the last, or where nobody asks for the next one.
    """
    with asked(module, request, settings) as answer:
        for _ in range(number):
            yield answer()


@contextlib.contextmanager
def asked(module, request, settings=None, forced=None):
    """Begins `python -m module`, which answers a request with `child_process.answer_lines`, on the CPU.

    Args:
        module: its full name.
        request: what JSON can hold.
        settings: environment variables, where the user has not set them.
        forced: environment variables, whatever the user has set.

    Yields:
        A function that waits for the next answer. The process ends with the block.

    Raises:
        ConfigError: by that function; the process ended, for example for want of memory.
    """

    def answer():
        try:
            return process.receive()
        except ChildEndedError as error:
            raise ConfigError(
                f"The process that measured ({module}) failed; where memory is short, try a smaller "
                f"benchmark.batch_size or image_size. It {error}"
            ) from error

    process = ChildProcess(module, settings, {**ON_CPU, **(forced or {})})
    try:
        process.send(request)
        yield answer
    finally:
        process.close()
