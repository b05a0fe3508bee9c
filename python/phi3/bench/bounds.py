"""What a machine allows: the tokens/s at which its memory or its multipliers are never idle.

A decode step reads every weight once (of the embedding a row or two) and, for each sequence, the
keys and values of all that came before. A prompt's token takes two operations for every weight of
the layers' matrices; the head, and what comes after the last layer's keys and values, is computed
for its last token only. Attention's products are left out, so that a bound is never too low.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Machine:
    """What it does in a second at best, as measured."""

    read_bytes: float
    operations: dict[str, float]  # multiplications and additions of matrix products, by dtype

    @classmethod
    def of(cls, measured: dict[str, float]) -> Machine:
        """`measured`: what phi3.measure_peaks() gives, in G a second; 0 where there is no such.
        What no product was measured for counts as what the multipliers reach in registers, and
        8-bit integers that are not multiplied at all as bfloat16, to which CUDA expands them."""
        names = {"float32": "f32", "bfloat16": "bf16", "int8": "int8"}
        peaks = {
            name: measured[f"product_{short}"] or measured[f"units_{short}"]
            for name, short in names.items()
        }
        peaks["int8"] = peaks["int8"] or peaks["bfloat16"]
        return cls(1e9 * measured["read"], {name: 1e9 * v for name, v in peaks.items() if v})


@dataclass(frozen=True)
class Cost:
    """What a model asks of a machine."""

    weight_bytes: int  # read by a step
    kv_bytes: int  # of one token's keys and values
    layer_operations: int  # for a token, up to the last layer's keys and values
    head_operations: int  # for a token whose logits are wanted, from there on
    operand: str  # the dtype that products are computed in

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Cost:
        """`facts`: what engine_phi3 tells of a model."""
        hidden, heads = facts["hidden_size"], facts["num_attention_heads"]
        kv_heads, head_dim = facts["num_key_value_heads"], facts["head_dim"]
        qkv = (heads + 2 * kv_heads) * head_dim * hidden
        rest = heads * head_dim * hidden + 3 * facts["intermediate_size"] * hidden
        spared = 0 if facts["tie_word_embeddings"] else facts["embedding_bytes"]
        return cls(
            weight_bytes=facts["weight_bytes"] - spared,
            kv_bytes=facts["kv_token_bytes"],
            layer_operations=2 * (facts["num_hidden_layers"] * (qkv + rest) - rest),
            head_operations=2 * (facts["vocab_size"] * hidden + rest),
            operand=operand_of(facts["dtype"], facts["compute_dtype"]),
        )


def operand_of(dtype: str, compute_dtype: str) -> str:
    """What the fast mode multiplies: 8-bit integers where weights are quantised, else bfloat16."""
    if compute_dtype == "float32" or dtype == "float32":
        return "float32"
    return "bfloat16" if dtype in ("bfloat16", "float16") else "int8"


def prefill_bound(cost: Cost, machine: Machine, tokens: int) -> float | None:
    """Prompt tokens/s; None where the peak of the operands was not measured."""
    seconds = _seconds(
        cost, machine, cost.weight_bytes, tokens * cost.layer_operations + cost.head_operations
    )
    return None if seconds is None else tokens / seconds


def decode_bound(cost: Cost, machine: Machine, depth: float, sequences: int) -> float | None:
    """New tokens/s of `sequences` together, each with `depth` tokens to look back at."""
    read = cost.weight_bytes + sequences * depth * cost.kv_bytes
    operations = sequences * (cost.layer_operations + cost.head_operations)
    seconds = _seconds(cost, machine, read, operations)
    return None if seconds is None else sequences / seconds


def _seconds(cost: Cost, machine: Machine, read: float, operations: float) -> float | None:
    peak = machine.operations.get(cost.operand)
    return max(read / machine.read_bytes, operations / peak) if peak else None
