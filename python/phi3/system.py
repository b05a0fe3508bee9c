"""What this installation is and what it runs on."""

from __future__ import annotations

import contextlib
import itertools
import platform
import sys
from dataclasses import dataclass
from typing import Any

from . import _phi3


def info() -> dict[str, Any]:
    """Version, backends (and why one is not available), instruction set and threads."""
    return {
        "version": _phi3.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "cpu": cpu_name(),
        "backends": _phi3.backends(),
        "cpu_isa": _phi3.cpu_isa(),
        "n_threads": _phi3.default_threads(),
    }


def cpu_name() -> str:
    """What the processor calls itself, and the family and model that tell its generation."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in itertools.takewhile(str.strip, file):  # the first of them
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    if "cpu family" not in fields:
        return fields["model name"]
    return "{model name} (family {cpu family}, model {model})".format_map(fields)


def device_name(device: str) -> str:
    """ "NVIDIA ..." for a CUDA device; the processor's name for any other."""
    details = {backend["name"]: backend["detail"] for backend in _phi3.backends()}
    return details[device].partition(",")[0] if device in details and ":" in device else cpu_name()


@dataclass(frozen=True)
class Peaks:
    """What the CPU (all threads together) or a device can do at best: bounds for speeds.

    Products are matrix products with oneDNN or cuBLAS at a good shape; units are multiply-adds in
    registers, which no product can exceed. A multiply-add is two operations; 0: there is no code
    for it.
    """

    n_threads: int
    read: float  # from memory, GB (10^9 bytes) a second
    product_f32: float  # GFLOP/s
    product_bf16: float
    product_int8: float
    units_f32: float
    units_bf16: float
    units_int8: float


def measure_peaks(*, device: str = "cpu", n_threads: int = 0) -> Peaks:
    """Measures for some 1.5 seconds; the CPU on n_threads (0: as many as there are cores)."""
    return Peaks(*_phi3.measure_peaks(device=device, n_threads=n_threads))
