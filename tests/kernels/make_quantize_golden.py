"""Writes quantize_golden.h: what others make of the same numbers.

    python make_quantize_golden.py libggml-base.so > quantize_golden.h

For the formats that the Python package gguf quantises: hashes of its bytes. For the others: the root
mean square errors of ggml's own quantiser (the library is inside llama-cpp-python's package).
test_quantizers.c draws the same numbers.
"""

import ctypes
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from make_dequantize_golden import MASK, fnv1a

EXACT = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
FITTED = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
COLUMNS = 2048 + 256
PATTERNS = ["normal", "outliers", "positive", "zeros", "constant", "large", "subnormal"]
MEASURED = ["normal", "outliers", "positive"]


def splitmix(seed: int, count: int) -> np.ndarray:
    state, out = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return np.array(out, np.uint64)


def numbers(pattern: str, seed: int) -> np.ndarray:
    """The sum of four 16-bit numbers, centred, is almost normal and exact in float32."""
    bits = splitmix(seed, COLUMNS)
    parts = sum((bits >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4))
    x = (parts.astype(np.int64) - 131070).astype(np.float32)
    place = np.arange(COLUMNS)
    if pattern == "outliers":
        x[place % 37 == 5] *= np.float32(16)
    if pattern == "positive":
        x = np.abs(x) + np.float32(1000)
    if pattern == "zeros":
        x[:] = 0
    if pattern == "constant":
        x[:] = np.float32(-3.25) * np.float32(2.0**16)
    exponent = {"large": -4, "subnormal": -136}.get(pattern, -20)
    return (x * np.float32(2.0**exponent)).astype(np.float32)


def ggml_error(library: ctypes.CDLL, x: np.ndarray, kind: GGMLQuantizationType) -> float:
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    out = np.empty((1, x.size // block_size * block_bytes), np.uint8)
    pointers = [ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data)]
    sizes = [ctypes.c_int64(0), ctypes.c_int64(1), ctypes.c_int64(x.size)]
    library.ggml_quantize_chunk(int(kind), *pointers, *sizes, None)
    off = gguf.quants.dequantize(out, kind)[0].astype(np.float64) - x
    return float(np.sqrt((off**2).mean()))


def main() -> None:
    library = ctypes.CDLL(sys.argv[1])
    print("/* quantize_golden.h - written by make_quantize_golden.py with gguf 0.19.0 and ggml's")
    print(" * library: FNV-1a hashes of gguf's bytes, root mean square errors of ggml's. */")
    print(f"enum {{ GOLDEN_COLUMNS = {COLUMNS} }};\n")
    print("typedef enum golden_pattern {")
    print("".join(f"    {p.upper()},\n" for p in PATTERNS), end="")
    print("    N_PATTERNS\n} golden_pattern;\n")
    print("static const struct {\n    phi3_dtype dtype;\n    golden_pattern pattern;")
    print("    uint64_t hash;\n} golden_bytes[] = {")
    for name in EXACT:
        for number, pattern in enumerate(PATTERNS):
            x = numbers(pattern, number).reshape(1, -1)
            data = gguf.quants.quantize(x, GGMLQuantizationType[name]).tobytes()
            print(f"    {{PHI3_{name}, {pattern.upper()}, 0x{fnv1a(data):016x}}},")
    print("};\n")
    print("static const struct {\n    phi3_dtype dtype;\n    golden_pattern pattern;")
    print("    double error;\n} golden_errors[] = {")
    for name in FITTED:
        for pattern in MEASURED:
            x = numbers(pattern, PATTERNS.index(pattern))
            error = ggml_error(library, x, GGMLQuantizationType[name])
            print(f"    {{PHI3_{name}, {pattern.upper()}, {error:.6e}}},")
    print("};")


if __name__ == "__main__":
    main()
