"""Writes dequantize_golden.h: hashes of what the Python package gguf makes of random blocks.

    python make_dequantize_golden.py > dequantize_golden.h

test_formats.c draws the same bytes, expands them with the library and compares the hashes.
"""

import warnings

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
TYPES += ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
N_COLUMNS = 2048 + 256
MASK = (1 << 64) - 1


def splitmix_bytes(seed: int, count: int) -> np.ndarray:
    """The low bytes of splitmix64's numbers, as random_bits() of support.h gives them."""
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append((z ^ (z >> 31)) & 255)
    return np.frombuffer(bytes(out), np.uint8)


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def main() -> None:
    warnings.filterwarnings("ignore")
    print("/* dequantize_golden.h - written by make_dequantize_golden.py with gguf 0.19.0: the")
    print(" * FNV-1a hashes of the float32 bits. */")
    print(f"enum {{ GOLDEN_COLUMNS = {N_COLUMNS} }};\n")
    print("static const struct {\n    phi3_dtype dtype;\n    uint64_t hash;\n} golden[] = {")
    for name in TYPES:
        dtype = GGMLQuantizationType[name]
        block_size, block_bytes = GGML_QUANT_SIZES[dtype]
        row = splitmix_bytes(int(dtype), N_COLUMNS // block_size * block_bytes)
        values = gguf.quants.dequantize(row.reshape(1, -1).copy(), dtype).astype(np.float32)
        values[np.isnan(values)] = np.nan
        print(f"    {{PHI3_{name}, 0x{fnv1a(values.tobytes()):016x}}},")
    print("};")


if __name__ == "__main__":
    main()
