"""Writes a GGUF file with the shape of Phi-3.5-mini and random weights: for measuring speed.

    random_model.py OUT.gguf [--type q4_0|q8_0|q4_k|bf16] [--tiny]

Needs nothing but Python. One megabyte of random blocks is repeated: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import random
import struct
from collections.abc import Iterator
from typing import BinaryIO

UINT32, FLOAT32, STRING, ARRAY, UINT64 = 4, 6, 8, 9, 10
F32 = 0
ALIGNMENT = 32
PHI35 = {"vocab": 32064, "hidden": 3072, "intermediate": 8192, "layers": 32, "heads": 32}
TINY = {"vocab": 512, "hidden": 256, "intermediate": 256, "layers": 2, "heads": 4}


def half(x: float) -> bytes:
    return struct.pack("<e", x)


def bfloat16(x: float) -> bytes:
    return struct.pack("<f", x)[2:]


def q4_k_block(bits: bytes) -> bytes:
    return half(0.0003) + half(0.002) + bits[:140]


# name -> GGUF's number of the type, weights in a block, its bytes, a random one
TYPES = {
    "bf16": (30, 1, 2, lambda _: bfloat16(random.gauss(0, 0.02))),
    "q4_0": (2, 32, 18, lambda bits: half(0.005) + bits[:16]),
    "q8_0": (8, 32, 34, lambda bits: half(0.0003) + bits[:32]),
    "q4_k": (12, 256, 144, q4_k_block),
}


def tensors(shape: dict[str, int], kind: str) -> Iterator[tuple[str, int, int, str]]:
    """name, rows, columns, type"""
    hidden, intermediate = shape["hidden"], shape["intermediate"]
    yield "token_embd.weight", shape["vocab"], hidden, kind
    for i in range(shape["layers"]):
        yield f"blk.{i}.attn_norm.weight", 1, hidden, "f32"
        yield f"blk.{i}.attn_qkv.weight", 3 * hidden, hidden, kind
        yield f"blk.{i}.attn_output.weight", hidden, hidden, kind
        yield f"blk.{i}.ffn_norm.weight", 1, hidden, "f32"
        yield f"blk.{i}.ffn_up.weight", 2 * intermediate, hidden, kind
        yield f"blk.{i}.ffn_down.weight", hidden, intermediate, kind
    yield "output_norm.weight", 1, hidden, "f32"
    yield "output.weight", shape["vocab"], hidden, kind


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def metadata(shape: dict[str, int]) -> list[bytes]:
    def number(key: str, value: int) -> bytes:
        return text(f"phi3.{key}") + struct.pack("<II", UINT32, value)

    return [
        text("general.architecture") + struct.pack("<I", STRING) + text("phi3"),
        text("general.name") + struct.pack("<I", STRING) + text("random weights"),
        number("context_length", 131072),
        number("embedding_length", shape["hidden"]),
        number("feed_forward_length", shape["intermediate"]),
        number("block_count", shape["layers"]),
        number("attention.head_count", shape["heads"]),
        number("attention.head_count_kv", shape["heads"]),
        number("rope.dimension_count", shape["hidden"] // shape["heads"]),
        text("phi3.attention.layer_norm_rms_epsilon") + struct.pack("<If", FLOAT32, 1e-5),
    ]


def size_of(rows: int, columns: int, kind: str) -> int:
    if kind == "f32":
        return 4 * rows * columns
    _, block, block_bytes, _ = TYPES[kind]
    return rows * columns // block * block_bytes


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def write(out: BinaryIO, shape: dict[str, int], kind: str) -> None:
    items, infos, offset = metadata(shape), [], 0
    for name, rows, columns, of_type in tensors(shape, kind):
        number = F32 if of_type == "f32" else TYPES[of_type][0]
        dimensions = (columns,) if rows == 1 else (columns, rows)
        infos.append(text(name) + struct.pack("<I", len(dimensions)))
        infos.append(struct.pack(f"<{len(dimensions)}Q", *dimensions))
        infos.append(struct.pack("<IQ", number, offset))
        offset += aligned(size_of(rows, columns, of_type))
    count = sum(1 for _ in tensors(shape, kind))
    out.write(struct.pack("<4sIQQ", b"GGUF", 3, count, len(items)) + b"".join(items + infos))
    out.write(bytes(aligned(out.tell()) - out.tell()))
    _, _, block_bytes, make_block = TYPES[kind]
    piece = b"".join(make_block(random.randbytes(256)) for _ in range((1 << 20) // block_bytes))
    for _, rows, columns, of_type in tensors(shape, kind):
        size = size_of(rows, columns, of_type)
        if of_type == "f32":
            out.write(struct.pack("<f", 1.0) * (size // 4))
        else:
            for _ in range(size // len(piece)):
                out.write(piece)
            out.write(piece[: size % len(piece)])
        out.write(bytes(aligned(size) - size))


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a model of random weights.")
    parser.add_argument("out")
    parser.add_argument("--type", choices=TYPES, default="q4_0")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    random.seed(0)
    with open(options.out, "wb") as out:
        write(out, TINY if options.tiny else PHI35, options.type)


if __name__ == "__main__":
    main()
