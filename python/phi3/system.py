"""What this installation is and what it runs on."""

from __future__ import annotations

import contextlib
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
    """What the processor calls itself."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Peaks:
    """What the CPU can do at best, all threads together: the bounds that speeds are held against.

    Products are matrix products with oneDNN at a good shape; units are multiply-adds in registers,
    which no product can exceed. A multiply-add is two operations; 0: there is no code for it.
    """

    n_threads: int
    read: float  # from memory, GB (10^9 bytes) a second
    product_f32: float  # GFLOP/s
    product_bf16: float
    product_int8: float
    units_f32: float
    units_bf16: float
    units_int8: float


def measure_peaks(*, n_threads: int = 0) -> Peaks:
    """Measures for some 1.5 seconds, on n_threads (0: as many as there are cores)."""
    return Peaks(*_phi3.measure_peaks(n_threads=n_threads))
