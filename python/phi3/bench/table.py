"""The table that `phi3 bench` prints: Markdown, which a terminal shows as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .bounds import Machine

NAMES = {
    "load_s": "load",
    "first_token_s": "load to first token",
    "packed_first_token_s": "... from packed weights",
    "peak_memory_bytes": "peak memory",
    "step_overhead_s": "overhead per step",
}


def render(result: dict[str, Any]) -> str:
    peers = [name for name in result["engines"] if name != "phi3"]
    header = ["", "phi3", "of bound", "bound"]
    for peer in peers:
        header += [peer, "ratio"]
    rows = [_row(measure, peers) for measure in result["measures"]]
    return "\n".join([*_introduction(result), "", *_aligned([header, *rows])])


def _row(measure: dict[str, Any], peers: Sequence[str]) -> list[str]:
    unit, medians = measure["unit"], measure["medians"]
    bound, share = measure.get("bound"), measure.get("of_bound")
    name = NAMES.get(measure["measure"], measure["measure"])
    row = [name, amount(medians["phi3"], unit)]
    row += [f"{100 * share:.0f} %" if share else "", amount(bound, unit) if bound else ""]
    for peer in peers:
        known = peer in medians
        row += [amount(medians[peer], unit) if known else ""]
        row += [f"{measure['ratios'][peer]:.2f}" if known else ""]
    return row


def amount(value: float, unit: str) -> str:
    """A number with its unit, three or four digits of it."""
    if unit == "bytes":
        return f"{value / 2**30:.2f} GiB"
    if unit == "s" and value < 1e-3:
        return f"{1e6 * value:.0f} us"
    if unit == "s":
        return f"{value:.2f} s"
    return f"{value:.0f} /s" if value >= 100 else f"{value:.1f} /s"


def _introduction(result: dict[str, Any]) -> list[str]:
    phi3, machine, cost = result["engines"]["phi3"], Machine.of(result["peaks"]), result["cost"]
    products = [f"{value / 1e9:.0f} ({name})" for name, value in machine.operations.items()]
    lines = [
        f"{result['cpu']}, {result['threads']} threads, medians of {result['rounds']} rounds. "
        f"Memory read: {machine.read_bytes / 1e9:.1f} GB/s. "
        f"Matrix products: {', '.join(products)} G operations/s.",
        f"{phi3['model']}: {phi3['n_parameters'] / 1e9:.2f} billion weights, {phi3['dtype']}. "
        f"A new token reads {cost['weight_bytes'] / 1e9:.3f} GB of weights and "
        f"{cost['kv_bytes'] / 1e3:.0f} kB for each token before it; a prompt's token takes "
        f"{cost['layer_operations'] / 1e9:.2f} G operations, in {cost['operand']}.",
    ]
    lines.append(
        "The overhead per step is what a new token takes in a model of as many layers and next to "
        "no weights."
    )
    lines += [
        f"{name} {about['version']}: {about['model']}, {about['settings']}."
        for name, about in result["engines"].items()
    ]
    return lines


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows as a Markdown table: the first column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
