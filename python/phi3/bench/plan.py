"""What is measured: runs, which engines do, and measures, which the table shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """Prompts of `tokens` each, computed together, and `new` tokens of each after the first."""

    tokens: int
    new: int
    sequences: int = 1

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Measure:
    """One line of the table: what it shows of which run."""

    kind: str  # "prefill" or "decode"
    tokens: int  # of the prompt, or the depth
    run: Run

    @property
    def title(self) -> str:
        if self.kind == "prefill":
            return f"prefill of {self.tokens}"
        together = f"{self.run.sequences} together, " if self.run.sequences > 1 else ""
        return f"decode, {together}depth {self.tokens}"

    @property
    def mean_depth(self) -> float:
        """How many tokens, itself included, a decoded one looks back at on average."""
        return self.run.tokens + (self.run.new + 1) / 2

    def rate(self, answer: dict[str, Any]) -> float:
        """Tokens/s of what an engine has answered."""
        if self.kind == "prefill":
            return self.run.tokens * self.run.sequences / answer["prompt_s"]
        return self.run.new * self.run.sequences / answer["decode_s"]


def make_plan(
    prefill: Sequence[int], depths: Sequence[int], new: int, batch: int
) -> tuple[list[Run], list[Measure]]:
    """Runs, cheap ones first, and measures in the order of the table.

    Decoding at a depth computes as many tokens first, so that this run also serves the prefill of
    that length. The prompt is one token longer than the depth: what LongRoPE computes again when a
    sequence outgrows its short factors is then a part of the prompt.
    """
    at_depth = {depth: Run(depth + 1, new) for depth in depths}
    prefills = {tokens: at_depth.get(tokens, Run(tokens, 0)) for tokens in prefill}
    measures = [Measure("prefill", tokens, run) for tokens, run in sorted(prefills.items())]
    measures += [Measure("decode", depth, run) for depth, run in sorted(at_depth.items())]
    if batch > 1:
        depth = min(depths)
        measures.append(Measure("decode", depth, Run(depth + 1, new, batch)))
    runs = sorted(
        {measure.run for measure in measures}, key=lambda run: (run.tokens, run.sequences)
    )
    return runs, measures
