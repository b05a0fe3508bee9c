"""Progress bars: tqdm's, where it is installed."""

from __future__ import annotations

import sys
from typing import Any


class ProgressBar:
    """A tqdm bar from 0 to 1, or nothing.

    wanted: None for a bar when tqdm is there and stderr is a terminal.
    """

    def __init__(self, wanted: bool | None, title: str) -> None:
        self.bar: Any = None
        shown = wanted if wanted is not None else sys.stderr is not None and sys.stderr.isatty()
        if not shown:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self.bar = tqdm(total=100, desc=title, bar_format="{l_bar}{bar}| {elapsed}<{remaining}")

    @property
    def callback(self) -> Any:
        """What the library is to call with the part that is done; None for nothing."""
        return self._update if self.bar is not None else None

    def _update(self, done: float) -> None:
        self.bar.update(int(100 * done) - self.bar.n)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()
