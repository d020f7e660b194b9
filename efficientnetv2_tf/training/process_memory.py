"""How much memory this process has taken, and giving back what it does not use."""

import contextlib
import ctypes
import os
import pathlib
import re
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None


def peak_memory():
    """The most memory that the process has had in RAM at any time, in bytes; None where nobody counts it."""
    # Linux' count for getrusage begins with what the process that started this one had.
    with contextlib.suppress(OSError):
        status = pathlib.Path("/proc/self/status").read_text()
        if found := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE):
            return int(found[1]) * 1024
    if resource is None:
        return None
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def current_memory():
    """What the process has in RAM now, in bytes; on other systems than Linux its peak so far."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE")


def release_free_memory():
    """Gives memory that was freed back to the system, where the C library is glibc; elsewhere nothing happens.

    glibc keeps what threads have freed in up to eight pools a core. Each epoch's data sets run in threads of their own,
    which take their memory from other pools than those of the epoch before.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no such library, or no such function in it
        ctypes.CDLL(None).malloc_trim(0)


def peak_device_memory():
    """The most memory that tensors have taken on any of this process' GPUs, in bytes; None without GPUs."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return max((tf.config.experimental.get_memory_info(gpu.name)["peak"] for gpu in gpus), default=None)
