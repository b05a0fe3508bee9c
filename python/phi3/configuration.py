"""Model configurations: the hyper-parameters by the names that transformers gives them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from . import _phi3
from .errors import InvalidTypeError
from .hub import resolve


def read_json(directory: str, name: str) -> dict[str, Any]:
    """A JSON object of a model's directory; {} when there is no such file."""
    path = os.path.join(directory, name)
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    return content if isinstance(content, dict) else {}


class Phi3Config:
    """Hyper-parameters as attributes. What a model's config.json says beyond them is kept too."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **entries: Any) -> None:
        self.__dict__.update(entries)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Phi3Config) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        return f"Phi3Config {json.dumps(self.to_dict(), indent=2, default=str)}"

    @classmethod
    def of(cls, model: _phi3.Model, path: str) -> Phi3Config:
        """What a loaded model's config.json says, and what it runs with where that is silent."""
        loaded = model.config
        loaded["sliding_window"] = loaded["sliding_window"] or None
        return cls(**{**loaded, **read_json(path, "config.json")})


class AutoConfig:
    """`AutoConfig.from_pretrained(name)`."""

    def __init__(self) -> None:
        raise InvalidTypeError("use AutoConfig.from_pretrained(name)")

    @staticmethod
    def from_pretrained(
        name: str | os.PathLike,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        gguf_file: str | None = None,
        trust_remote_code: bool | None = None,
    ) -> Phi3Config:
        """Reads the configuration of a model: its config.json, or the header of its GGUF file.
        `trust_remote_code` has no effect: no code is run."""
        path = resolve(
            name,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            gguf_file=gguf_file,
        )
        written = read_json(path, "config.json")
        return Phi3Config(**written) if written else Phi3Config.of(_phi3.Model(path), path)
