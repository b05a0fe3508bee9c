"""From what the engines answered to medians, ratios, shares of the bounds: what --json prints."""

from __future__ import annotations

import datetime
import statistics
from pathlib import Path
from typing import Any

from ..errors import InvalidArgumentError
from ..system import device_name
from .bounds import Cost, Machine, decode_bound, prefill_bound
from .measure import ONCE, Bench, Engine
from .plan import Measure

UNITS = {"peak_memory_bytes": "bytes"}  # of ONCE; seconds are what is not named


def result_of(bench: Bench) -> dict[str, Any]:
    """Everything that was measured. Times, rates and memory are medians over the rounds."""
    first = bench.engines[0]
    cost = Cost.of(first.facts)
    speeds = [_speed(m, bench.engines, cost) for m in bench.measures if _was_run(m, first)]
    if not speeds:
        raise InvalidArgumentError(f"{first.model} has no room for as many tokens as are asked for")
    peaks = [answer["peaks"] for answers in first.answers.values() for answer in answers]
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": device_name(first.facts["device"]),
        "threads": bench.threads,
        "rounds": bench.rounds,
        "engines": {engine.name: _about(engine) for engine in bench.engines},
        "peaks": {name: statistics.median(p[name] for p in peaks) for name in peaks[0]},
        "cost": vars(cost),
        "left_out": [m.title for m in bench.measures if not _was_run(m, first)],
        "measures": [summarised(row) for row in speeds + _once(bench.engines)],
    }


def summarised(row: dict[str, Any]) -> dict[str, Any]:
    """A measure with what follows from its samples and bounds, both in the order of the rounds.

    `ratios` are phi3's median over another engine's; more is better for rates only. `of_bound` is
    the median of the rounds' own shares: what a shared machine allows changes.
    """
    samples, bounds = row["samples"], row["bounds"]
    medians = {name: statistics.median(values) for name, values in samples.items() if values}
    row = {
        **row,
        "medians": medians,
        "ratios": {name: medians["phi3"] / m for name, m in medians.items() if name != "phi3"},
        "bound": statistics.median(bounds) if bounds else None,
    }
    shares = [sample / bound for sample, bound in zip(samples["phi3"], bounds, strict=False)]
    return row | {"of_bound": statistics.median(shares) if shares else None}


def _was_run(measure: Measure, engine: Engine) -> bool:
    """Not where the model has no room for so many tokens."""
    return measure.run in engine.answers


def _about(engine: Engine) -> dict[str, Any]:
    facts = {name: value for name, value in engine.facts.items() if name not in ONCE}
    return {"model": Path(engine.model).name, **facts}


def _speed(measure: Measure, engines: list[Engine], cost: Cost) -> dict[str, Any]:
    def bound(answer: dict[str, Any]) -> float | None:
        machine = Machine.of(answer["peaks"])
        if measure.kind == "prefill":
            return prefill_bound(cost, machine, measure.run.tokens)
        return decode_bound(cost, machine, measure.mean_depth, measure.run.sequences)

    bounds = [bound(answer) for answer in engines[0].answers[measure.run]]
    return {
        "measure": measure.title,
        "kind": measure.kind,
        "tokens": measure.tokens,
        "sequences": measure.run.sequences,
        "mean_depth": measure.mean_depth if measure.kind == "decode" else None,
        "unit": "tokens/s",
        "samples": {
            e.name: [measure.rate(a) for a in e.answers.get(measure.run, [])] for e in engines
        },
        "bounds": [] if None in bounds else bounds,
    }


def _once(engines: list[Engine]) -> list[dict[str, Any]]:
    return [
        {
            "measure": name,
            "kind": "once",
            "unit": UNITS.get(name, "s"),
            "samples": {engine.name: engine.once.get(name, []) for engine in engines},
            "bounds": [],
        }
        for name in ONCE
        if name in engines[0].once
    ]
