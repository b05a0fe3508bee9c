"""Rounds: every engine in turn, each time in a new process, A B A B.

Each begins after a pause: memory that a process has just left is quick to be had, until a virtual
machine has given it back to its host, and no engine shall load into what another has left.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .child import messages
from .engines import RUN_ENGINE
from .plan import Measure, Run

# What every process measures once.
ONCE = ("load_s", "first_token_s", "packed_first_token_s", "peak_memory_bytes", "step_overhead_s")


@dataclass
class Engine:
    """One of those that are compared, and what it has answered so far."""

    name: str
    model: str  # path
    python: str = sys.executable
    options: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    answers: dict[Run, list[dict[str, Any]]] = field(default_factory=dict)
    once: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Bench:
    """All that is measured in one call."""

    engines: list[Engine]  # phi3 is the first
    runs: list[Run]
    measures: list[Measure]
    rounds: int
    threads: int
    launcher: list[str]  # goes before the commands of all engines
    pause: float = 0  # seconds before each process
    packed_dir: str | None = None  # phi3 loads once more with its packed weights from here

    @property
    def n_steps(self) -> int:
        """How often `tick` will be called."""
        n_packed = self.rounds + 1 if self.packed_dir else 0
        return self.rounds * len(self.engines) * (1 + len(self.runs)) + n_packed

    def run(self, tick: Callable[[str], None]) -> None:
        """Measures everything; `tick` hears of every step that is done."""
        if self.packed_dir:
            self._load_packed(tick)  # makes the file if it is not there
        for _ in range(self.rounds):
            for engine in self.engines:
                self._run_engine(engine, tick)
            if self.packed_dir:
                seconds = self._load_packed(tick)
                self.engines[0].once.setdefault("packed_first_token_s", []).append(seconds)

    def _load_packed(self, tick: Callable[[str], None]) -> float:
        """Seconds from the start of a load to the first token."""
        phi3 = self.engines[0]
        with contextlib.closing(self._messages(phi3, [], packed_dir=self.packed_dir)) as answers:
            loaded = next(answers)["loaded"]
        tick(f"{phi3.name} has loaded packed weights")
        return loaded["first_token_s"]

    def _messages(
        self, engine: Engine, runs: list[Run], **options: Any
    ) -> Iterator[dict[str, Any]]:
        settings = {
            "model": engine.model,
            "threads": self.threads,
            "runs": [run.as_dict() for run in runs],
            "options": engine.options | options,
        }
        time.sleep(self.pause)
        command = [*self.launcher, engine.python, str(RUN_ENGINE), engine.name]
        return messages(engine.name, command, settings)

    def _run_engine(self, engine: Engine, tick: Callable[[str], None]) -> None:
        runs = iter(self.runs)
        for message in self._messages(engine, self.runs):
            if "loaded" in message:
                engine.facts = message["loaded"]
                self._note(engine, message["loaded"])
                tick(f"{engine.name} has loaded")
            elif "done" in message:
                self._note(engine, message["done"])
            else:
                run = next(runs)
                tick(f"{engine.name}: {run.tokens} tokens and {run.new} new ones")
                if "too_long" not in message:
                    engine.answers.setdefault(run, []).append(message)

    def _note(self, engine: Engine, facts: dict[str, Any]) -> None:
        for name in ONCE:
            if name in facts:
                engine.once.setdefault(name, []).append(facts[name])
