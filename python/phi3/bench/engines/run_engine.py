"""One engine's round, in a process of its own: `python run_engine.py ENGINE < settings.json`.

In: settings as JSON: model, threads, options, runs ({tokens, new, sequences} each). Out: JSON
objects, one a line: `loaded`, then one for every run with its seconds, then `done`.

It is started by path, with the Python in which the engine is installed, so these files need neither
phi3 (but for engine_phi3) nor each other's libraries. An engine is a class Engine(settings) with
`vocab_size`, `n_positions`, `facts()`, `run(prompts, n_new)`, which computes the prompts together
from nothing, chooses n_new more tokens after the first and returns the seconds of both parts,
`peaks()`, what the machine allows, and `closing()`, what it measures besides. phi3 alone measures
peaks, right after each of its runs: a machine that is shared does not always have the same.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

QUICK_SECONDS = 0.5  # a run that is over sooner is repeated, and its median counts
MOST_REPEATS = 15


def main() -> None:
    settings = json.load(sys.stdin)
    module = importlib.import_module("engine_" + sys.argv[1].replace(".", "_"))
    read_files(settings["model"])
    start = time.perf_counter()
    engine = module.Engine(settings)
    load = time.perf_counter() - start
    prompts = Prompts(engine.vocab_size)
    engine.run(prompts.make(8, 1), 0)
    first_token = time.perf_counter() - start
    say({"loaded": {"load_s": load, "first_token_s": first_token, **engine.facts()}})
    for run in settings["runs"]:
        say(measure(engine, prompts, run))
    say({"done": {"peak_memory_bytes": peak_memory(), **engine.closing()}})


class Prompts:
    """Token ids that look like nothing in particular, never the same twice."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.n_made = 0

    def make(self, tokens: int, sequences: int) -> list[list[int]]:
        rows = []
        for _ in range(sequences):
            self.n_made += 1
            rows.append(
                [(7919 * i + 104729 * self.n_made) % self.vocab_size for i in range(tokens)]
            )
        return rows


def measure(engine: Any, prompts: Prompts, run: dict[str, int]) -> dict[str, Any]:
    """{prompt_s, decode_s, peaks}, or {too_long} if the model has no room for so many tokens."""
    if run["tokens"] + run["new"] + 1 > engine.n_positions:
        return {"too_long": engine.n_positions}
    samples, spent = [], 0.0
    while not samples or (spent < QUICK_SECONDS and len(samples) < MOST_REPEATS):
        samples.append(engine.run(prompts.make(run["tokens"], run["sequences"]), run["new"]))
        spent += sum(samples[-1])
    prompt, decode = zip(*samples)  # noqa: B905 (older Pythons run this file, too)
    return {
        "prompt_s": statistics.median(prompt),
        "decode_s": statistics.median(decode),
        "peaks": engine.peaks(),
    }


def read_files(model: str) -> None:
    """Reads the model's files once, so that every engine finds them in the page cache."""
    path = pathlib.Path(model)
    buffer = bytearray(1 << 20)
    for file in [path] if path.is_file() else sorted(path.glob("*")):
        if file.is_file():
            with open(file, "rb", buffering=0) as opened:
                while opened.readinto(buffer):
                    pass


def peak_memory() -> int:
    """The most that this process has held at once, mapped files included."""
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def say(message: dict[str, Any]) -> None:
    os.write(RESULTS, (json.dumps(message) + "\n").encode())


# Results have a descriptor of their own: what an engine prints goes to standard error.
RESULTS = os.dup(1)

if __name__ == "__main__":
    os.dup2(2, 1)
    main()
