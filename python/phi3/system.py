"""What this installation is and what it runs on."""

from __future__ import annotations

import platform
import sys
from typing import Any

from . import _phi3


def info() -> dict[str, Any]:
    """Version, backends (and why one is not available), instruction set and threads."""
    return {
        "version": _phi3.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "backends": _phi3.backends(),
        "cpu_isa": _phi3.cpu_isa(),
        "n_threads": _phi3.default_threads(),
    }
