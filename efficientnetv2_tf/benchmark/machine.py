"""What results hold for: the machine, and the versions of all that was measured."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys

import efficientnetv2_tf

_PACKAGES = (
    "numpy", "tensorflow", "keras", "keras-hub", "keras-cv", "timm", "torch", "torchvision", "jax", "ai-edge-litert",
    "onnx", "onnxruntime", "onnxscript", "tf2onnx",
)  # fmt: skip


def machine():
    """{"cpu", "cores", "memory": bytes, "system"}; None for what the system does not tell.

    Memory and cores are the machine's, also where a container may use less; the cores are logical ones.
    """
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "system": platform.platform(),
    }


def versions():
    """{name: version} of Python, this package and what is installed of all that may be measured."""
    found = {"python": platform.python_version(), "efficientnetv2_tf": efficientnetv2_tf.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return _mac_cpu() or platform.processor() or None
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _mac_cpu():
    if sys.platform != "darwin":
        return None
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _memory():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # no such name, or not on this system
        return None
