"""Text as it is generated, pulled piece by piece: what `pipe.stream(...)` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _phi3
from .decoding import Begun
from .errors import InvalidArgumentError


class Stream:
    """Iterates over the new text of one sequence; no piece is empty or ends inside a character.

    A piece is computed when it is asked for. Where the loop is left, the rest is never computed:
    `close()`, the end of a `with` block or of the last reference gives the memory back. What
    `finish_reason` ("eos", "stop" or "length"; None if it was left) and `timings` say stays.
    """

    _run: _phi3.Generation | None = None

    def __init__(
        self, begun: Begun, decoder: _phi3.StreamDecoder, at_end: Callable[[], None]
    ) -> None:
        """begun: a generation that nobody else runs. at_end: called once, when it is over."""
        if (begun.config.num_return_sequences or 1) > 1:
            raise InvalidArgumentError(
                "a stream gives one sequence: leave `num_return_sequences` at 1"
            )
        self.finish_reason: str | None = None
        self.timings: dict[str, Any] | None = None
        self._run, self._decoder, self._at_end = begun.run, decoder, at_end

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        while self._run is not None:
            if self._run.done:
                rest = self._decoder.end()
                self.close()
                if rest:
                    return rest
            elif piece := self._decoder.put(self._run.step()[0]):
                return piece
        raise StopIteration

    def close(self) -> None:
        """Stops, and gives the memory back."""
        if self._run is None:
            return
        (self.finish_reason,) = self._run.finish_reasons
        self.timings = self._run.timings
        self._run = None
        self._at_end()

    __del__ = close

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<phi3.Stream{' (closed)' if self._run is None else ''}>"
