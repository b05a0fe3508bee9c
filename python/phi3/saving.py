"""Models to files: `phi3.quantize(name, "out.gguf", "q4_k_m")`, `model.save_pretrained(path)`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import (
    _phi3,
    log,  # noqa: F401  (the library's warnings go to the logger "phi3")
)
from .hub import resolve
from .progress import ProgressBar

# What stands beside the weights of a Hugging Face checkpoint. phi3 finds all that it needs in the
# GGUF file; other programs look for these.
_COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def quantize(
    name: str | os.PathLike,
    path: str | os.PathLike,
    type: str | None = "q4_k_m",
    *,
    overwrite: bool = False,
    n_threads: int = 0,
    progress: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    gguf_file: str | None = None,
) -> None:
    """Writes a model, by name or path, as a GGUF file that llama.cpp loads, too.

    type: how weights are rounded: "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "iq4_xs",
        "q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k", or
        "f16", "bf16", "f32"; None: as they are stored.
    progress: show a bar; None when tqdm is there and stderr is a terminal.

    The file appears when it is complete; one that is there is replaced only with `overwrite`.
    """
    source = resolve(
        name,
        revision=revision,
        token=token,
        local_files_only=local_files_only,
        gguf_file=gguf_file,
    )
    with ProgressBar(progress, f"Quantizing to {type}" if type else "Writing") as bar:
        _phi3.quantize(
            source, type, path, overwrite=overwrite, n_threads=n_threads, progress=bar.callback
        )


def save(
    model: _phi3.Model, source: str, path: str | os.PathLike, *, progress: bool | None = None
) -> None:
    """Writes a loaded model to a file whose name ends in .gguf, or into a directory.

    A directory gets model.gguf and, where the model came from a checkpoint, the small files beside
    its weights. What is there is replaced.
    """
    target = Path(os.fsdecode(path))
    if target.suffix == ".gguf":
        _write(model, target, progress)
        return
    target.mkdir(parents=True, exist_ok=True)
    _write(model, target / "model.gguf", progress)
    for name in _COMPANIONS:
        companion = Path(source) / name
        if companion.is_file() and not _same(companion, target / name):
            shutil.copyfile(companion, target / name)


def _write(model: _phi3.Model, path: Path, progress: bool | None) -> None:
    with ProgressBar(progress, f"Writing {path.name}") as bar:
        model.save(path, overwrite=True, progress=bar.callback)


def _same(first: Path, second: Path) -> bool:
    return second.exists() and first.samefile(second)
