"""The figures are of this process, in bytes."""

import platform

import numpy as np
import pytest

from efficientnetv2_tf.training.process_memory import (
    current_memory,
    peak_device_memory,
    peak_memory,
    release_free_memory,
)


def test_memory_of_this_process():
    before = current_memory()
    block = np.ones(64 * 2**20, np.uint8)
    assert 60 * 2**20 < current_memory() - before < 100 * 2**20
    assert peak_memory() >= current_memory() - 2**20
    assert block.sum() == 64 * 2**20


def test_a_process_does_not_begin_with_the_peak_of_what_started_it(run_python):
    block = np.ones(512 * 2**20, np.uint8)
    code = "from efficientnetv2_tf.training.process_memory import peak_memory; print(peak_memory())"
    assert int(run_python(code)) < 256 * 2**20
    assert block[-1] == 1


def test_without_gpus_there_is_no_device_memory():
    import tensorflow as tf

    assert (peak_device_memory() is None) == (not tf.config.list_logical_devices("GPU"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_memory_that_was_freed_goes_back():
    blocks = [bytes(2**16) for _ in range(2048)]  # below the size from which glibc asks the system for each block
    del blocks[:-1]  # the last one lies above them, so that they stay in the pool
    before = current_memory()
    release_free_memory()
    assert current_memory() < before - 64 * 2**20
    assert len(blocks[0]) == 2**16
