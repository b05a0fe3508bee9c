"""What a tokenizer returns, and how its rows are cut and padded to one length.

A batch is made of columns while it is worked on: {"input_ids": rows, "attention_mask": rows, ...}.
"""

from __future__ import annotations

from typing import Any

from .arrays import IdList, from_rows
from .errors import InvalidArgumentError


class BatchEncoding(dict):
    """`encoding["input_ids"]` and `encoding.input_ids` are the same."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"BatchEncoding has no {name!r}") from None

    @property
    def data(self) -> dict[str, Any]:
        return dict(self)

    def to(self, device: Any, **kwargs: Any) -> BatchEncoding:
        """Moves torch tensors; phi3 takes ids from anywhere, so nothing else has to move."""
        for name, value in self.items():
            if hasattr(value, "to"):
                self[name] = value.to(str(device), **kwargs)
        return self

    @classmethod
    def of(cls, columns: dict[str, list], single: bool, kind: str | None) -> BatchEncoding:
        """Columns as lists, of one text when `single`, or as the kind of tensor asked for."""
        if kind is not None:
            return cls({name: from_rows(rows, kind) for name, rows in columns.items()})
        if single:
            return cls({name: IdList(rows[0]) for name, rows in columns.items()})
        return cls({name: [IdList(row) for row in rows] for name, rows in columns.items()})


def longest_row(columns: dict[str, list]) -> int:
    return max(map(len, columns["input_ids"]), default=0)


def truncate(columns: dict[str, list], length: int, side: str) -> None:
    """Cuts every row to `length` at its right, or its left."""

    def cut(row: list) -> list:
        if len(row) <= length:
            return row
        return row[len(row) - length :] if side == "left" else row[:length]

    for name, rows in columns.items():
        columns[name] = [cut(row) for row in rows]


def pad(columns: dict[str, list], width: int, side: str, pad_token_id: int | None) -> None:
    """Fills every row up to `width` with padding that the attention mask hides."""
    if side not in ("left", "right"):
        raise InvalidArgumentError(f"padding_side must be 'left' or 'right', not {side!r}")
    fillers = {"input_ids": pad_token_id, "attention_mask": 0, "offset_mapping": (0, 0)}
    for name, rows in columns.items():
        padded = []
        for row in rows:
            filling = [fillers[name]] * (width - len(row))
            padded.append(filling + row if side == "left" else row + filling)
        columns[name] = padded
