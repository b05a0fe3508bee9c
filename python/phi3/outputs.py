"""Results with names: dicts whose entries are also attributes and, in order, items."""

from __future__ import annotations

from typing import Any


class ModelOutput(dict):
    """`output.logits`, `output["logits"]` and `output[0]` are the same. Entries that are None are
    left out, and read as None by attribute."""

    _fields: tuple[str, ...] = ()

    def __init__(self, **entries: Any) -> None:
        super().__init__({name: value for name, value in entries.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        if name in self or name in self._fields:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, key: Any) -> Any:
        return self.to_tuple()[key] if isinstance(key, (int, slice)) else super().__getitem__(key)

    def to_tuple(self) -> tuple:
        return tuple(self.values())


class CausalLMOutput(ModelOutput):
    """What `model(input_ids)` returns: logits, float32, [batch][n_tokens][vocab]."""

    _fields = ("logits", "past_key_values")


class GenerateOutput(ModelOutput):
    """What `generate(..., return_dict_in_generate=True)` returns. `scores` (processed) and `logits`
    (raw) are tuples with one [rows][vocab] for each step. `timings` is a dict."""

    _fields = ("sequences", "scores", "logits", "past_key_values", "timings")
