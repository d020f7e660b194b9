"""The figures are of this process, in bytes."""

import numpy as np

from efficientnetv2_tf.training.process_memory import current_memory, peak_device_memory, peak_memory


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
