"""Writes sampler_goldens.h: what torch and transformers make of the same logits and seeds.

    python tests/data/make_sampler_goldens.py

Needs torch and transformers. The C tests (test_random.c, test_sampler.c) read the header.
"""

import itertools
import pathlib

import numpy as np
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 2000
N_TOKENS = 12
IDS = [5, 17, 5, 1999, 3]
EOS = [3, 40]

# repetition_penalty, forbid_eos, temperature, top_k, top_p, min_p, seed
CASES = [
    (1.0, False, 1.0, 0, 1.0, 0.0, 0),
    (1.0, False, 0.7, 50, 1.0, 0.0, 1),
    (1.0, False, 1.3, 0, 0.87, 0.0, 2),
    (1.0, False, 1.0, 0, 0.1, 0.0, 3),
    (1.0, False, 1.0, 0, 0.0, 0.0, 4),
    (1.0, False, 1.0, 0, 1.0, 0.2, 5),
    (1.0, False, 1.0, 1, 1.0, 0.0, 6),
    (1.0, False, 2.0, 5000, 1.0, 1.0, 7),
    (1.3, True, 0.5, 40, 0.95, 0.05, 123456789012345),
    (0.8, True, 3.0, 300, 0.53, 0.0, 2**32 - 1),
]


def make_logits() -> np.ndarray:
    """Numbers in [-8, 8) from a linear congruential generator, every tenth one rounded (ties)."""
    state, values = 99, []
    for i in range(VOCAB):
        state = (state * 1664525 + 1013904223) % 2**32
        value = np.float32(state >> 8) / np.float32(2**20) - np.float32(8)
        values.append(np.float32(np.floor(value)) if i % 10 == 0 else value)
    return np.array(values, np.float32)


def process(case: tuple, logits: np.ndarray) -> torch.Tensor:
    penalty, forbid_eos, temperature, top_k, top_p, min_p, _ = case
    processors = LogitsProcessorList()
    if penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    if forbid_eos:
        processors.append(MinLengthLogitsProcessor(len(IDS) + 1, torch.tensor(EOS)))
    if temperature != 1.0:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    if min_p:
        processors.append(MinPLogitsWarper(min_p))
    return processors(torch.tensor([IDS]), torch.from_numpy(logits.copy())[None])


def check_no_tie_is_cut(case: tuple, logits: np.ndarray, scores: torch.Tensor) -> None:
    """torch.sort orders equals as it likes, so which of them top_p keeps says nothing."""
    without_top_p = process((*case[:4], 1.0, *case[5:]), logits)
    kept = scores > -torch.inf
    assert not torch.isin(without_top_p[~kept & (without_top_p > -torch.inf)], scores[kept]).any()


def run_lengths(kept: list[bool]) -> list[int]:
    """[kept, removed, kept, ...] counts; the first may be 0."""
    runs = [(key, len(list(group))) for key, group in itertools.groupby(kept)]
    return ([] if runs[0][0] else [0]) + [length for _, length in runs]


def c_list(values: list) -> str:
    return "{" + ", ".join(str(value) for value in values) + "}"


def main() -> None:
    logits = make_logits()
    lines = [
        "/* Written by make_sampler_goldens.py from torch "
        f"{torch.__version__} and transformers: do not edit. */",
        "",
        f"enum {{ GOLDEN_VOCAB = {VOCAB}, GOLDEN_TOKENS = {N_TOKENS} }};",
        f"static const int32_t golden_ids[] = {c_list(IDS)};",
        f"static const int32_t golden_eos[] = {c_list(EOS)};",
        "",
        "/* torch.empty(1000).exponential_() after manual_seed(seed): the first and last five. */",
        "static const struct {",
        "    uint64_t seed;",
        "    float first[5], last[5];",
        "} golden_exponentials[] = {",
    ]
    for seed in (0, 1, 42, 2**32 - 1, 2**32, 123456789012345):
        torch.manual_seed(seed)
        draws = [float(x).hex() + "f" for x in torch.empty(1000).exponential_()]
        lines.append(f"    {{{seed}ull, {c_list(draws[:5])}, {c_list(draws[-5:])}}},")
    lines += [
        "};",
        "",
        "static const struct golden_case {",
        "    double repetition_penalty;",
        "    bool forbid_eos;",
        "    double temperature;",
        "    int64_t top_k;",
        "    double top_p, min_p;",
        "    uint64_t seed;",
        "    float score; /* of the most likely token */",
        "    size_t n_runs; /* how many tokens are kept, removed, kept, ... */",
        "    const int *runs;",
        "    int32_t tokens[GOLDEN_TOKENS]; /* torch.multinomial, one draw each */",
        "} golden_cases[] = {",
    ]
    for case in CASES:
        scores = process(case, logits)
        check_no_tie_is_cut(case, logits, scores)
        runs = run_lengths((scores[0] > -torch.inf).tolist())
        torch.manual_seed(case[-1])
        probabilities = torch.softmax(scores, -1)
        tokens = [torch.multinomial(probabilities, 1).item() for _ in range(N_TOKENS)]
        fields = [case[0], str(case[1]).lower(), *case[2:6], f"{case[6]}ull"]
        lines.append(
            f"    {{{', '.join(map(str, fields))}, {float(scores.max()).hex()}f, {len(runs)},\n"
            f"     (const int[]){c_list(runs)},\n     {c_list(tokens)}}},"
        )
    lines += ["};", ""]
    (pathlib.Path(__file__).parent / "sampler_goldens.h").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
