"""The picture of a result: how near to the machine's roofline, and how speed falls with depth."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from ..errors import FileAccessError, InvalidArgumentError, MissingPackageError
from .bounds import Machine

SUFFIXES = (".svg", ".png", ".pdf")
# All of them can be read on white and on black: the picture has no background of its own.
COLOURS = {
    "phi3": "#ea580c",
    "llama.cpp": "#3b82f6",
    "openvino": "#a855f7",
    "transformers": "#14a38b",
}
GREY = "#7d8590"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "phi3",
}


def check(file: str) -> None:
    """Raises before anything is measured when the picture could not be drawn."""
    path = Path(file)
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidArgumentError(f"--plot {file}: the name must end in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise FileAccessError(f"--plot {file}: there is no directory {path.absolute().parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("--plot needs matplotlib: pip install 'phi3[bench]'") from error


def draw(result: dict[str, Any], file: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    about = result["engines"]["phi3"]
    title = f"{about['model']} on {result['cpu']}, {result['threads']} threads"
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
        _roofline(left, result)
        _by_depth(right, result)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=GREY)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        is_svg = file.lower().endswith(".svg")
        figure.savefig(file, dpi=144, metadata={"Date": None} if is_svg else None)
        pyplot.close(figure)


def _roofline(axes: Any, result: dict[str, Any]) -> None:
    """Operations a second by operations for each byte read, both logarithmic."""
    speeds = [row for row in result["measures"] if row["unit"] == "tokens/s"]
    points = [_point(row, result["cost"]) for row in speeds]
    _draw_roof(axes, result, [x for x, _ in points])
    for engine in result["engines"]:
        at = [
            (x, row["medians"][engine] * operations / 1e9)
            for row, (x, operations) in zip(speeds, points, strict=True)
            if engine in row["medians"]
        ]
        axes.plot(*zip(*at, strict=True), "o", markersize=6, color=COLOURS[engine], label=engine)
    _name_work(axes, speeds, points)
    axes.set(xscale="log", yscale="log", title="Decoding and prefill under the roofline")
    axes.set(xlabel="operations for each byte read", ylabel="G operations/s")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def _name_work(axes: Any, speeds: list[dict[str, Any]], points: list[tuple[float, float]]) -> None:
    """Says below the points what was computed: once for all depths and prompt lengths."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for row, (x, operations) in zip(speeds, points, strict=True):
        together = f", {row['sequences']} together" if row["sequences"] > 1 else ""
        lowest = min(row["medians"].values()) * operations / 1e9
        groups.setdefault(row["kind"] + together, []).append((x, lowest))
    for name, at in groups.items():
        x = math.exp(statistics.fmean(math.log(x) for x, _ in at))
        below = {"textcoords": "offset points", "xytext": (0, -14), "ha": "center"}
        axes.annotate(name, (x, min(y for _, y in at)), fontsize=8, **below)
    axes.margins(y=0.12)


def _draw_roof(axes: Any, result: dict[str, Any], intensities: list[float]) -> None:
    machine = Machine.of(result["peaks"])
    peak = machine.operations.get(result["cost"]["operand"])
    if peak is None:
        return
    ridge = peak / machine.read_bytes
    roof = sorted([min(intensities) / 2, ridge, max(intensities) * 2])
    heights = [min(x * machine.read_bytes, peak) / 1e9 for x in roof]
    axes.plot(roof, heights, color=GREY, linewidth=1.5, label="what the machine allows")


def _point(row: dict[str, Any], cost: dict[str, Any]) -> tuple[float, float]:
    """(operations for each byte, operations for each token) of a measure."""
    if row["kind"] == "prefill":
        operations = cost["layer_operations"] + cost["head_operations"] / row["tokens"]
        return operations * row["tokens"] / cost["weight_bytes"], operations
    operations = cost["layer_operations"] + cost["head_operations"]
    read = cost["weight_bytes"] + row["sequences"] * row["mean_depth"] * cost["kv_bytes"]
    return row["sequences"] * operations / read, operations


def _by_depth(axes: Any, result: dict[str, Any]) -> None:
    """Tokens/s of one sequence by how many tokens came before."""
    rows = [r for r in result["measures"] if r["kind"] == "decode" and r["sequences"] == 1]
    depths = [row["tokens"] for row in rows]
    if all(row["bound"] for row in rows):
        axes.plot(depths, [row["bound"] for row in rows], color=GREY, linewidth=1.5)
    for engine in result["engines"]:
        at = [(row["tokens"], row["medians"][engine]) for row in rows if engine in row["medians"]]
        if at:
            axes.plot(
                *zip(*at, strict=True), "o-", linewidth=2, markersize=6, color=COLOURS[engine]
            )
    axes.set(title="Decoding by depth", xlabel="tokens before", ylabel="tokens/s")
    axes.set_ylim(bottom=0)
