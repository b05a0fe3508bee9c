"""Keeps what `phi3 bench` has measured, commit by commit, and shows what has become slower.

    phi3 bench MODEL --json | python tests/bench/history.py add
    python tests/bench/history.py show

`add` appends one line to history.jsonl beside this file: when, at which commit, on which CPU, which
model, and the median of every measure for every engine. `show` prints the newest line of each model
and CPU beside the one before it; figures of different CPUs are never compared.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HISTORY = HERE / "history.jsonl"
SAME = ("cpu", "threads", "model", "settings")  # lines that may be compared agree in these


def add(file: Path, commit: str | None) -> None:
    """Appends the result on standard input."""
    result = json.load(sys.stdin)
    own = result["engines"]["phi3"]
    line = {
        "time": result["time"],
        "commit": commit or checked_out(),
        "cpu": result["cpu"],
        "threads": result["threads"],
        "rounds": result["rounds"],
        "model": own["model"],
        "settings": own["settings"],
        "engines": {name: about["version"] for name, about in result["engines"].items()},
        "peaks": {name: round(value, 1) for name, value in result["peaks"].items()},
        "medians": {row["measure"]: shortened(row["medians"]) for row in result["measures"]},
    }
    with open(file, "a", encoding="utf-8") as history:
        history.write(json.dumps(line) + "\n")


def checked_out() -> str:
    """The commit that the working tree is at; a + says that files differ from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def shortened(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def show(file: Path) -> None:
    """For each model and CPU: the newest medians of phi3, and the change since the line before."""
    newest: dict[tuple, list[dict]] = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        newest.setdefault(tuple(line[name] for name in SAME), []).append(line)
    for (cpu, threads, model, settings), lines in newest.items():
        print(f"{model} ({settings}), {cpu}, {threads} threads: {lines[-1]['commit']}")
        before = lines[-2]["medians"] if len(lines) > 1 else {}
        for measure, medians in lines[-1]["medians"].items():
            value, old = medians["phi3"], before.get(measure, {}).get("phi3")
            change = f"  {100 * (value / old - 1):+.0f} %" if old else ""
            print(f"  {measure:32} {value:12.4g}{change}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["add", "show"])
    parser.add_argument("--file", type=Path, default=HISTORY)
    parser.add_argument("--commit", help="what was measured, if it is not what is checked out")
    options = parser.parse_args()
    if options.action == "add":
        add(options.file, options.commit)
    else:
        show(options.file)


if __name__ == "__main__":
    main()
