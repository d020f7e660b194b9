"""The figures are of this process, in bytes."""

import numpy as np

from efficientnetv2_tf.training.process_memory import current_memory, peak_device_memory, peak_memory


def test_memory_of_this_process():
    before = current_memory()
    block = np.ones(64 * 2**20, np.uint8)
    assert 60 * 2**20 < current_memory() - before < 100 * 2**20
    assert peak_memory() >= current_memory() - 2**20
    assert block.sum() == 64 * 2**20


def test_without_gpus_there_is_no_device_memory():
    import tensorflow as tf

    assert (peak_device_memory() is None) == (not tf.config.list_logical_devices("GPU"))
