"""Rounds: every engine in turn, each time in a new process, A B A B."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .child import messages
from .engines import RUN_ENGINE
from .plan import Measure, Run

LOADING = ("load_s", "first_token_s", "peak_memory_bytes")


@dataclass
class Engine:
    """One of those that are compared, and what it has answered so far."""

    name: str
    model: str  # path
    python: str = sys.executable
    options: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    answers: dict[Run, list[dict[str, float]]] = field(default_factory=dict)
    loading: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Bench:
    """All that is measured in one call."""

    engines: list[Engine]  # phi3 is the first
    runs: list[Run]
    measures: list[Measure]
    rounds: int
    threads: int
    launcher: list[str]  # goes before the commands of all engines
    peaks: list[dict[str, float]] = field(default_factory=list)  # of the machine, each round's

    @property
    def n_steps(self) -> int:
        """How often `tick` will be called."""
        return self.rounds * len(self.engines) * (1 + len(self.runs))

    def run(self, tick: Callable[[str], None]) -> None:
        """Measures everything; `tick` hears of every step that is done."""
        for _ in range(self.rounds):
            for engine in self.engines:
                self._run_engine(engine, tick)

    def _run_engine(self, engine: Engine, tick: Callable[[str], None]) -> None:
        settings = {
            "model": engine.model,
            "threads": self.threads,
            "runs": [run.as_dict() for run in self.runs],
            "options": engine.options,
        }
        command = [*self.launcher, engine.python, str(RUN_ENGINE), engine.name]
        runs = iter(self.runs)
        for message in messages(engine.name, command, settings):
            if "loaded" in message:
                engine.facts = message["loaded"]
                self._note_loading(engine, message["loaded"])
                tick(f"{engine.name} has loaded")
            elif "done" in message:
                self._note_loading(engine, message["done"])
                self.peaks += message["done"]["peaks"]
            else:
                run = next(runs)
                tick(f"{engine.name}: {run.tokens} tokens and {run.new} new ones")
                if "too_long" not in message:
                    engine.answers.setdefault(run, []).append(message)

    def _note_loading(self, engine: Engine, facts: dict[str, Any]) -> None:
        for name in LOADING:
            if name in facts:
                engine.loading.setdefault(name, []).append(facts[name])
