"""The options of `phi3 bench`, and what it does with them."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator

from .. import _phi3
from ..errors import InvalidArgumentError
from ..hub import resolve
from . import plot, table
from .engines import PEERS, check_importable
from .measure import Bench, Engine
from .plan import make_plan
from .result import result_of


def add_options(parser: argparse.ArgumentParser) -> None:
    work = parser.add_argument_group("what to measure")
    work.add_argument(
        "--prefill",
        type=numbers(1),
        default=[128, 512, 2048],
        metavar="N,...",
        help="prompt lengths",
    )
    work.add_argument(
        "--depths", type=numbers(0), default=[0, 1024, 4096], metavar="N,...", help="to decode at"
    )
    work.add_argument("--new-tokens", type=number(1), default=64, metavar="N", help="to decode")
    work.add_argument(
        "--batch", type=number(1), default=1, metavar="N", help="so many together too"
    )
    work.add_argument("--repeat", type=number(1), default=3, metavar="N", help="rounds")
    work.add_argument(
        "--pause", type=number(0), default=4, metavar="N", help="seconds before every engine"
    )
    peers = parser.add_argument_group("whom to compare with")
    peers.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="ENGINE[=MODEL]",
        help=f"{', '.join(PEERS)}, on MODEL where it reads another form; repeatable",
    )
    peers.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help="the Python in which that engine is installed; repeatable",
    )
    work.add_argument(
        "--packed-dir", metavar="DIR", help="keep packed weights in DIR and load from there, too"
    )
    peers.add_argument("--launcher", default="", metavar="COMMAND", help="put before every engine")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print all samples as JSON")
    output.add_argument("--plot", metavar="FILE", help="draw a picture: .svg, .png, .pdf")


def run(options: argparse.Namespace) -> None:
    """Measures and prints. What cannot work is found out first."""
    if options.plot:
        plot.check(options.plot)
    bench = make_bench(options)
    with progress(bench.n_steps) as tick:
        bench.run(tick)
    result = result_of(bench)
    if result["left_out"]:
        print(f"longer than the model takes: {'; '.join(result['left_out'])}", file=sys.stderr)
    print(json.dumps(result, indent=2) if options.json else table.render(result))
    if options.plot:
        plot.draw(result, options.plot)


def make_bench(options: argparse.Namespace) -> Bench:
    runs, measures = make_plan(options.prefill, options.depths, options.new_tokens, options.batch)
    own = {
        "device_map": options.device,
        "max_memory": options.max_memory,
        "compute_dtype": options.compute_dtype,
        "kv_cache_dtype": options.kv_cache_dtype,
    }
    path = resolve(options.model)
    return Bench(
        engines=[Engine("phi3", path, options=own), *_peers(options, path)],
        runs=runs,
        measures=measures,
        rounds=options.repeat,
        threads=options.threads or _phi3.default_threads(),
        pause=options.pause,
        launcher=shlex.split(options.launcher),
        packed_dir=options.packed_dir,
    )


def _peers(options: argparse.Namespace, path: str) -> list[Engine]:
    pythons = dict(_assignment("--python", text) for text in options.python)
    wanted = dict(text.partition("=")[::2] for text in options.compare)
    for option, names in (("--compare", wanted), ("--python", pythons)):
        for name in names:
            if name not in PEERS:
                raise InvalidArgumentError(f"{option} {name}: known are {', '.join(PEERS)}")
    engines = []
    for name, model in wanted.items():
        python = pythons.get(name, sys.executable)
        check_importable(name, python)
        engines.append(Engine(name, model or path, python))
    return engines


def _assignment(option: str, text: str) -> tuple[str, str]:
    name, is_there, value = text.partition("=")
    if not is_there:
        raise InvalidArgumentError(f"{option} {text}: ENGINE=PATH is asked for")
    return name, value


# ---- Numbers and progress -----------------------------------------------------------------------


def number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def numbers(least: int) -> Callable[[str], list[int]]:
    one = number(least)
    return lambda text: sorted({one(part) for part in text.split(",")})


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A function that moves a bar on standard error and says what was done; no bar without tqdm or
    where nobody looks."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda done: None
        return
    with tqdm(total=total, disable=None, leave=False, bar_format="{desc} |{bar}| {elapsed}") as bar:

        def tick(done: str) -> None:
            bar.set_description_str(done, refresh=False)
            bar.update()

        yield tick
