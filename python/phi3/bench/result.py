"""From what the engines answered to medians, ratios, shares of the bounds: what --json prints."""

from __future__ import annotations

import datetime
import statistics
from pathlib import Path
from typing import Any

from ..errors import InvalidArgumentError
from ..system import cpu_name
from .bounds import Cost, Machine, decode_bound, prefill_bound
from .measure import LOADING, Bench, Engine
from .plan import Measure

UNITS = {"load_s": "s", "first_token_s": "s", "peak_memory_bytes": "bytes"}


def result_of(bench: Bench) -> dict[str, Any]:
    """Everything that was measured. Times, rates and memory are medians over the rounds."""
    first = bench.engines[0]
    peaks = _median(bench.peaks)
    machine = Machine.of(peaks)
    cost = Cost.of(first.facts)
    speeds = [_speed(m, bench.engines, cost, machine) for m in bench.measures if _was_run(m, first)]
    if not speeds:
        raise InvalidArgumentError(f"{first.model} has no room for as many tokens as are asked for")
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "threads": bench.threads,
        "rounds": bench.rounds,
        "engines": {engine.name: _about(engine) for engine in bench.engines},
        "peaks": peaks,
        "cost": vars(cost),
        "left_out": [m.title for m in bench.measures if not _was_run(m, first)],
        "measures": speeds + [_loading(name, bench.engines) for name in LOADING],
    }


def _was_run(measure: Measure, engine: Engine) -> bool:
    """Not where the model has no room for so many tokens."""
    return measure.run in engine.answers


def _median(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}


def _about(engine: Engine) -> dict[str, Any]:
    facts = {name: value for name, value in engine.facts.items() if name not in LOADING}
    return {"model": Path(engine.model).name, **facts}


def _speed(measure: Measure, engines: list[Engine], cost: Cost, machine: Machine) -> dict[str, Any]:
    if measure.kind == "prefill":
        bound = prefill_bound(cost, machine, measure.run.tokens)
    else:
        bound = decode_bound(cost, machine, measure.mean_depth, measure.run.sequences)
    row = {
        "measure": measure.title,
        "kind": measure.kind,
        "tokens": measure.tokens,
        "sequences": measure.run.sequences,
        "mean_depth": measure.mean_depth if measure.kind == "decode" else None,
        "unit": "tokens/s",
        **_compared(
            {e.name: [measure.rate(a) for a in e.answers.get(measure.run, [])] for e in engines}
        ),
        "bound": bound,
    }
    return row | {"of_bound": row["medians"]["phi3"] / bound if bound else None}


def _loading(name: str, engines: list[Engine]) -> dict[str, Any]:
    compared = _compared({engine.name: engine.loading[name] for engine in engines})
    return {"measure": name, "kind": "loading", "unit": UNITS[name], **compared}


def _compared(samples: dict[str, list[float]]) -> dict[str, Any]:
    """`ratios` are phi3's median over another engine's; more is better for rates only."""
    medians = {name: statistics.median(values) for name, values in samples.items() if values}
    ratios = {name: medians["phi3"] / value for name, value in medians.items() if name != "phi3"}
    return {"medians": medians, "ratios": ratios, "samples": samples}
