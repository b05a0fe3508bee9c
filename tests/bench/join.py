"""Joins results of `phi3 bench --json` as if they were rounds of one, and prints JSON or the table.

    python tests/bench/join.py 1.json 2.json 3.json [--json] [--plot FILE]

For a machine that cannot be kept quiet for as long as all rounds take. The calls must have had the
same options but --repeat.
"""

import argparse
import json
from pathlib import Path

from phi3.bench import plot
from phi3.bench.result import summarised
from phi3.bench.table import render


def joined(results: list[dict]) -> dict:
    measures = []
    for rows in zip(*(result["measures"] for result in results), strict=True):
        if len({row["measure"] for row in rows}) != 1:
            raise SystemExit("these are results of different measures")
        row = dict(rows[0])
        row["samples"] = {
            name: [value for one in rows for value in one["samples"][name]]
            for name in row["samples"]
        }
        row["bounds"] = [bound for one in rows for bound in one["bounds"]]
        measures.append(summarised(row))
    rounds = sum(result["rounds"] for result in results)
    return {**results[0], "rounds": rounds, "measures": measures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw a picture: .svg, .png, .pdf")
    options = parser.parse_args()
    result = joined([json.loads(file.read_text()) for file in options.files])
    print(json.dumps(result, indent=2) if options.json else render(result))
    if options.plot:
        plot.draw(result, options.plot)


if __name__ == "__main__":
    main()
