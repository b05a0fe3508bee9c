"""The cases that the Lua suite asks, too: same names, same results, same errors.

The answers in cases.json are transformers' own; see tests/data/make_cases.py.
"""

import copy
import json
import sys
from pathlib import Path

import phi3
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
CASES = json.loads((DATA / "cases.json").read_text(encoding="utf-8"))

# The exceptions that a failure's code in Lua stands for.
CODES = {
    "invalid argument": phi3.InvalidArgumentError | phi3.InvalidIndexError,
    "unsupported": phi3.UnsupportedError,
    "misuse": phi3.InvalidArgumentError,
}


def cases(kind: str):
    return pytest.mark.parametrize("case", CASES[kind], ids=range(1, 1 + len(CASES[kind])))


@pytest.fixture(scope="module")
def pipes(smollm2, tiny_chat):
    def make(parts):
        return phi3.pipeline("text-generation", model=parts[0], tokenizer=parts[1])

    return {"smollm2": make(smollm2), "tiny": make(tiny_chat)}


def check(case: dict, expected: str, call) -> None:
    """Runs a case whose result, or error, is in it."""
    if case.get("seed") is not None:
        phi3.random.manual_seed(case["seed"])
    if "error" not in case:
        assert call() == case[expected]
        return
    code, message = case["error"]
    with pytest.raises(phi3.Error) as failure:
        call()
    assert isinstance(failure.value, CODES[code])
    assert str(failure.value).startswith(message)


@cases("encode")
def test_encode(pipes, case):
    assert pipes[case["model"]].tokenizer.encode(case["text"]) == case["ids"]


@cases("decode")
def test_decode(pipes, case):
    tokenizer, skip = pipes[case["model"]].tokenizer, case["skip_special_tokens"]
    assert tokenizer.decode(case["ids"], skip_special_tokens=skip) == case["text"]


@cases("chat")
def test_chat(pipes, case):
    tokenizer = pipes[case["model"]].tokenizer
    messages, options = case["messages"], case["options"]
    check(
        case,
        "text",
        lambda: tokenizer.apply_chat_template(messages, tokenize=False, **options),
    )


@pytest.mark.filterwarnings("ignore")
@cases("generate")
def test_generate(pipes, case):
    model = pipes["tiny"].model
    check(case, "sequences", lambda: model.generate(case["ids"], **case["args"]))


@pytest.mark.filterwarnings("ignore")
@cases("pipeline")
def test_pipeline(pipes, case):
    pipe = pipes[case["model"]]
    check(case, "output", lambda: pipe(copy.deepcopy(case["inputs"]), **case["args"]))


@pytest.mark.live
def test_answers_are_those_of_transformers():
    sys.path.insert(0, str(DATA))
    import make_cases

    assert make_cases.main(["--check"]) == 0
