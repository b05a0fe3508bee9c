"""Engines to measure: where each is, and how to get it. The other files here are run by path."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...errors import MissingPackageError

RUN_ENGINE = Path(__file__).parent / "run_engine.py"


@dataclass(frozen=True)
class Peer:
    """Another engine: the modules that it needs, how to install them, what model files it reads."""

    modules: tuple[str, ...]
    install: str
    reads: str


PEERS = {
    "llama.cpp": Peer(
        ("llama_cpp",), "pip install --no-binary llama-cpp-python llama-cpp-python", "a GGUF file"
    ),
    "openvino": Peer(
        ("openvino", "openvino_genai", "numpy"),
        "pip install openvino-genai numpy",
        "a directory that `optimum-cli export openvino` has written",
    ),
    "transformers": Peer(
        ("torch", "transformers"), "pip install torch transformers", "a Hugging Face directory"
    ),
}


def check_importable(name: str, python: str) -> None:
    """Raises an error that says what to install when a peer is not there."""
    peer = PEERS[name]
    code = (
        "import sys, importlib.util as u; "
        f"print(*[m for m in {peer.modules!r} if u.find_spec(m) is None])"
    )
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingPackageError(f"{name}: the Python {python} does not run: {error}") from error
    if missing := found.stdout.split():
        raise MissingPackageError(
            f"{name} is not installed in {python} (no {', '.join(missing)}): {peer.install}, or "
            f"name a Python that has it: --python {name}=PATH"
        )
