"""Prints one Markdown table of what `phi3 bench --json` has measured: gpu_table.py RESULT.json ...

Beside RESULT.json, RESULT.memory may hold what nvidia-smi has seen in use meanwhile, in MiB.
"""

import json
import sys
from pathlib import Path


def share(row: dict) -> str:
    return f"{100 * row['of_bound']:.0f} %" if row.get("of_bound") else ""


def rows_of(path: Path) -> list[str]:
    result = json.loads(path.read_text(encoding="utf-8"))
    dtype = result["engines"]["phi3"]["dtype"]
    rows = []
    for row in result["measures"]:
        value = row["medians"].get("phi3")
        if row["measure"] == "first_token_s":
            rows.append(f"| {dtype} | load to first token | {value:.2f} s | |")
        elif row["unit"] == "tokens/s":
            rows.append(f"| {dtype} | {row['measure']} | {value:.1f} /s | {share(row)} |")
    memory = path.with_suffix(".memory")
    if memory.exists():
        most = max(int(line) for line in memory.read_text().split())
        rows.append(f"| {dtype} | device memory in use | {most} MiB | |")
    return rows


def main(paths: list[Path]) -> None:
    result = json.loads(paths[0].read_text(encoding="utf-8"))
    peaks = result["peaks"]
    print(
        f"{result['cpu']}: reads {peaks['read']:.0f} GB/s, multiplies bfloat16 at "
        f"{peaks['product_bf16'] / 1000:.0f} TFLOP/s, as measured in the same runs.\n"
    )
    print("| weights | Phi-3.5-mini shape | phi3 | of what the card allows |")
    print("|---|---|---|---|")
    for path in paths:
        print("\n".join(rows_of(path)))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
