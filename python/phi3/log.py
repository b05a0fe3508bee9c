"""Logging: what phi3 has to say goes to the logger "phi3", the C library's lines included."""

from __future__ import annotations

import functools
import logging

from . import _phi3

logger = logging.getLogger("phi3")


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning the first time that it comes up in this process."""
    logger.warning(message)


_phi3.set_log_callback(logger.log)
