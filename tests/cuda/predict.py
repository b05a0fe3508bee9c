#!/usr/bin/env python3
"""Bytes and operations of every CUDA kernel in a step of Phi-3.5-mini, and the least time that they
take on a card: a prediction, no measurement. Needs no GPU.

A kernel's time is the larger of bytes / memory bandwidth and operations / tensor rate, both as the
card's data sheet names them. A launch inside a graph adds --gap microseconds in which nothing is
read; what a real card loses beyond that is what a measurement is for.

    predict.py [--gap MICROSECONDS] [--kernels]
"""

import argparse
import dataclasses


@dataclasses.dataclass(frozen=True)
class Card:
    name: str
    bandwidth: float  # bytes a second
    tensor: float  # dense bfloat16 operations a second, added up in float32


# NVIDIA's data sheets. T4 has compute capability 7.5: no bfloat16, no cp.async, while ours start at
# 8.0. A100 and L4 stand for what data centres have in its place.
CARDS = [
    Card("H100 SXM", 3.35e12, 989e12),
    Card("A100 SXM 80 GB", 2.039e12, 312e12),
    Card("RTX 4090", 1.008e12, 165e12),
    Card("L4", 0.3e12, 121e12),
]


@dataclasses.dataclass(frozen=True)
class Model:
    hidden: int = 3072
    layers: int = 32
    heads: int = 32
    kv_heads: int = 32
    head_dim: int = 96
    intermediate: int = 8192
    vocabulary: int = 32064

    @property
    def matrices(self):
        """Of a layer: name -> (outputs, columns)."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim
        return {
            "qkv": (qkv, self.hidden),
            "o": (self.hidden, self.heads * self.head_dim),
            "gate_up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }


# Columns and bytes of a block.
FORMATS = {
    "bf16": (1, 2),
    "q4_0": (32, 18),
    "q8_0": (32, 34),
    "q4_k": (256, 144),
    "q6_k": (256, 210),
}

KV_BYTES = 2  # of an element of the cache


def format_of(mixture, name, layer, layers):
    """What a file of this kind stores a matrix in. q4_k_m as llama.cpp mixes it: the head, and qkv
    and down of about half of the layers, in q6_k."""
    if mixture != "q4_k_m":
        return mixture
    eighth = layers // 8
    more = layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2
    return "q6_k" if name == "head" or (name in ("qkv", "down") and more) else "q4_k"


def weight_bytes(format_name, outputs, columns):
    block, size = FORMATS[format_name]
    return outputs * columns // block * size


@dataclasses.dataclass
class Work:
    """A kernel's launches in one step."""

    launches: int = 0
    bytes: float = 0
    operations: float = 0  # of the tensor cores

    def add(self, n_bytes, operations=0.0, launches=1):
        self.launches += launches
        self.bytes += n_bytes
        self.operations += operations

    def seconds(self, card, gap=0.0):
        return max(self.bytes / card.bandwidth, self.operations / card.tensor) + gap * self.launches


class Step(dict):
    """Kernel name -> Work."""

    def __missing__(self, name):
        self[name] = Work()
        return self[name]

    def seconds(self, card, gap=0.0):
        return sum(work.seconds(card, gap) for work in self.values())


def add_few_rows(step, format_name, outputs, columns, rows):
    """Our own kernels: weights once, x in 8 bits where weights are quantised."""
    x = 4 * rows * columns
    if format_name != "bf16":
        step["round_to_int8"].add(x + rows * columns * 1.5)
        x = rows * columns * 1.5
    kernel = f"multiply_{'floats' if format_name == 'bf16' else 'pieces'} {format_name}"
    step[kernel].add(weight_bytes(format_name, outputs, columns) + x + 4 * rows * outputs)


def add_many_rows(step, format_name, outputs, columns, rows):
    """Panels of bfloat16 and cuBLAS."""
    step["round_to_bfloat16"].add(6 * rows * columns)
    panel = 2 * outputs * columns
    if format_name != "bf16":
        step[f"expand_pieces {format_name}"].add(
            weight_bytes(format_name, outputs, columns) + panel
        )
    step["cuBLAS"].add(
        panel + 2 * rows * columns + 4 * rows * outputs, 2 * rows * outputs * columns
    )


def add_attention(step, model, depth, rows):
    """`rows` new positions after `depth` old ones: each reads all before it."""
    width = model.kv_heads * model.head_dim
    qkv = (model.heads + 2 * model.kv_heads) * model.head_dim
    step["rope_append"].add(2 * 4 * rows * qkv + 2 * rows * width * KV_BYTES)
    cache = 2 * (depth + rows) * width * KV_BYTES
    seen = rows * depth + rows * (rows + 1) / 2
    operations = 4 * seen * model.heads * model.head_dim
    activations = 8 * rows * model.heads * model.head_dim
    if rows > 16:
        step["attend_tiles"].add(cache * -(-rows // 64) / 2 + activations, operations)
    else:
        step["attend_rows"].add(cache + activations)


def make_step(model, mixture, depth, rows):
    """A forward of `rows` positions of one sequence, the last of which gets logits."""
    step = Step()
    add = add_few_rows if rows <= 8 else add_many_rows
    for layer in range(model.layers):
        for name, (outputs, columns) in model.matrices.items():
            add(step, format_of(mixture, name, layer, model.layers), outputs, columns, rows)
        step["add_rms_norm"].add(2 * 16 * rows * model.hidden, launches=2)
        step["swiglu"].add(12 * rows * model.intermediate)
        add_attention(step, model, depth, rows)
    step["add_rms_norm"].add(16 * rows * model.hidden)
    head = format_of(mixture, "head", 0, model.layers)
    add_few_rows(step, head, model.vocabulary, model.hidden, 1)
    step["top_k"].add(4 * model.vocabulary)
    return step


CASES = [
    ("decode at 0", 0, 1),
    ("decode at 4096", 4096, 1),
    ("prefill 512", 0, 512),
]
MIXTURES = ["q4_0", "q4_k_m", "q8_0", "bf16"]


def print_summary(model, gap):
    names = "".join(f"{card.name:>27}" for card in CARDS)
    print(f"{'':24}{'':>10}{'':>10}{names}")
    columns = f"{'ms':>9}{'+ gaps':>8}{'tok/s':>10}" * len(CARDS)
    print(f"{'':24}{'GB':>10}{'TFLOP':>10}{columns}")
    for mixture in MIXTURES:
        for case, depth, rows in CASES:
            step = make_step(model, mixture, depth, rows)
            n_bytes = sum(w.bytes for w in step.values()) / 1e9
            operations = sum(w.operations for w in step.values()) / 1e12
            line = f"{mixture + ', ' + case:24}{n_bytes:10.2f}{operations:10.2f}"
            for card in CARDS:
                bound, with_gaps = step.seconds(card), step.seconds(card, gap)
                line += f"{bound * 1e3:9.2f}{with_gaps * 1e3:8.2f}{rows / with_gaps:10.0f}"
            print(line)


def print_kernels(model, gap):
    for mixture in MIXTURES:
        for case, depth, rows in CASES:
            print(f"\n{mixture}, {case}")
            columns = "".join(f"{card.name:>16}" for card in CARDS)
            print(f"{'kernel':22}{'launches':>9}{'MB':>10}{'GFLOP':>10}{columns}  (us, with gaps)")
            for name, work in make_step(model, mixture, depth, rows).items():
                times = "".join(f"{work.seconds(card, gap) * 1e6:16.1f}" for card in CARDS)
                print(
                    f"{name:22}{work.launches:9}{work.bytes / 1e6:10.1f}"
                    f"{work.operations / 1e9:10.1f}{times}"
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--gap",
        type=float,
        default=1.0,
        help="microseconds from one kernel of a graph to the next, an assumption (default 1)",
    )
    parser.add_argument("--kernels", action="store_true", help="every kernel, not only the sums")
    args = parser.parse_args()
    print("Phi-3.5-mini, predicted: no card was measured.")
    print_summary(Model(), args.gap * 1e-6)
    if args.kernels:
        print_kernels(Model(), args.gap * 1e-6)


if __name__ == "__main__":
    main()
