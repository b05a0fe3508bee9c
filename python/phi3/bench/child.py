"""A process of its own for each engine: settings in, one message for every step out."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from ..errors import Error

PATIENCE = 10  # seconds that a process gets to end by itself


class EngineError(Error, RuntimeError):
    """An engine has failed; the message ends with the last line that it wrote."""


def messages(
    name: str, command: list[str], settings: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Runs a command and yields the JSON objects of its standard output, as they come.

    However the caller leaves, Ctrl-C included, the process is gone afterwards. `name` is for
    errors.
    """
    with tempfile.TemporaryFile("w+") as complaints:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
            )
        except OSError as error:
            raise EngineError(f"{name}: {command[0]}: {error.strerror}") from error
        try:
            # A pipe breaks when the process has ended; its status tells why.
            with contextlib.suppress(BrokenPipeError), process.stdin as to:
                json.dump(settings, to)
            with process.stdout as answers:
                yield from map(json.loads, answers)
            process.wait()
        finally:
            _end(process)
        if process.returncode != 0:
            complaints.seek(0)
            last = (complaints.read().strip().splitlines() or ["it said nothing"])[-1]
            raise EngineError(f"{name} failed with status {process.returncode}: {last}")


def _end(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
