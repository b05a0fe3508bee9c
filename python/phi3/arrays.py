"""Ids on the way in and out: plain lists, NumPy arrays and torch tensors.

Neither NumPy nor torch is imported unless the caller uses it. A batch is a list of rows inside, and
goes back as what it came as.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import InvalidArgumentError, InvalidTypeError, MissingPackageError

if TYPE_CHECKING:
    from ._phi3 import Logits

PACKAGES = {"np": "numpy", "pt": "torch"}


class IdList(list):
    """Ids as a list, or rows of ids, that also answers `shape` and `tolist()` as an array does."""

    @property
    def shape(self) -> tuple[int, ...]:
        if self and isinstance(self[0], list):
            return (len(self), len(self[0]))
        return (len(self),)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def tolist(self) -> list:
        return [list(row) if isinstance(row, list) else row for row in self]


def batch_of(rows: list[list[int]]) -> IdList:
    """Rows as an array-like batch."""
    return IdList(IdList(row) for row in rows)


def kind_of(value: object) -> str | None:
    """ "pt" for a torch tensor, "np" for a NumPy array, else None."""
    module = type(value).__module__.partition(".")[0]
    return {"torch": "pt", "numpy": "np"}.get(module)


def to_list(value: Any) -> Any:
    """Arrays to (nested) lists; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def to_rows(value: Any, name: str = "input_ids") -> list[list[int]]:
    """A batch of ids, or the ids of one sequence, as a list of rows of integers."""
    value = to_list(value)
    if isinstance(value, (list, tuple)):
        rows = [to_list(row) for row in value]
        if all(isinstance(row, (list, tuple)) for row in rows) and rows:
            return [[_integer(item, name) for item in row] for row in rows]
        if all(isinstance(row, int) for row in rows):
            return [[_integer(item, name) for item in rows]]
    raise InvalidTypeError(f"{name} must be a list of integers, a list of such lists or an array")


def masks_of(rows: list[list[int]], mask: Any) -> list[list[int]]:
    """An attention mask as rows of 0 and 1 that fit the ids; all ones when there is none."""
    if mask is None:
        return [[1] * len(row) for row in rows]
    masks = to_rows(mask, "attention_mask")
    if [len(row) for row in masks] != [len(row) for row in rows]:
        raise InvalidArgumentError("attention_mask and input_ids must have the same shape")
    if not all(any(row) for row in masks):
        raise InvalidArgumentError("attention_mask hides a whole row")
    return masks


def _integer(item: Any, name: str) -> int:
    if isinstance(item, int):
        return int(item)
    if hasattr(item, "__index__"):
        return item.__index__()
    raise InvalidTypeError(f"{name} must hold integers, not {type(item).__name__}")


def _package(kind: str) -> Any:
    if kind not in PACKAGES:
        raise InvalidArgumentError(f"return_tensors must be one of {list(PACKAGES)}, not {kind!r}")
    try:
        return importlib.import_module(PACKAGES[kind])
    except ImportError as error:
        raise MissingPackageError(
            f"return_tensors={kind!r} needs the package {PACKAGES[kind]}, which is not installed"
        ) from error


def from_rows(rows: list[list[int]], kind: str | None) -> Any:
    """Rows of equal length as the kind of batch that was asked for."""
    if kind is None:
        return batch_of(rows)
    package = _package(kind)
    if len({len(row) for row in rows}) > 1:
        raise InvalidArgumentError(
            "rows of different lengths cannot be one tensor: use padding=True, and truncation=True "
            "where a text may be too long"
        )
    if kind == "np":
        return package.array(rows, dtype=package.int64)
    return package.tensor(rows, dtype=package.int64)


def from_logits(logits: Logits, kind: str | None) -> Any:
    """Logits as the kind of array that the ids came as; the memory is shared."""
    if kind == "np":
        return _package(kind).asarray(logits)
    if kind == "pt":
        torch = _package(kind)
        if 0 in logits.shape:
            return torch.empty(logits.shape)
        return torch.frombuffer(logits, dtype=torch.float32).reshape(logits.shape)
    return logits
