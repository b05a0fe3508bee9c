"""Memory: loading and freeing over and over, and failing over and over, takes no more of it."""

import gc
import sys

import numpy as np
import phi3
import pytest
from limits import least
from phi3 import AutoTokenizer, _phi3

ROUNDS = 200


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def growth(call, rounds=ROUNDS) -> int:
    """How much the process has grown after `rounds` calls, the first tenth not counted."""
    for _ in range(max(rounds // 10, 3)):
        call()
    gc.collect()
    before = resident_bytes()
    for _ in range(rounds):
        call()
    gc.collect()
    return resident_bytes() - before


def assert_flat(call, limit: float, rounds=ROUNDS) -> None:
    assert least(lambda: growth(call, rounds), limit) < limit


def test_loading_and_freeing_models(tiny_chat_path):
    """A load of this checkpoint takes more than 20 MB."""

    def call():
        model = _phi3.Model(str(tiny_chat_path))
        model.forward([[1, 2, 3]])

    assert_flat(call, 20e6)


def test_loading_and_freeing_gguf_models(smollm2_path):
    def call():
        _phi3.Model(str(smollm2_path))

    assert_flat(call, 30e6)


def test_loading_and_freeing_tokenizers(tiny_chat_path):
    def call():
        tokenizer = AutoTokenizer.from_pretrained(tiny_chat_path)
        tokenizer.decode(tokenizer.encode("Hello world"))

    assert_flat(call, 10e6, 40)


def test_generating(tiny_chat):
    model, tokenizer = tiny_chat
    ids = [tokenizer.encode("Hello there")] * 2

    def call():
        model.generate(
            ids,
            do_sample=True,
            max_new_tokens=4,
            stop_strings=["zzz"],
            tokenizer=tokenizer,
            return_dict_in_generate=True,
            output_scores=True,
        )

    assert_flat(call, 5e6)


def test_failing(tiny_chat, tmp_path):
    model, tokenizer = tiny_chat
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    cache = _phi3.Cache(model.core)
    mistakes = [
        lambda: _phi3.Model(str(broken)),
        lambda: _phi3.Tokenizer(str(broken)),
        lambda: _phi3.resolve("no/such"),
        lambda: model.core.forward([[1], [2**31]], caches=[cache, cache]),
        lambda: model.core.forward([[1], [2]], caches=[cache, cache]),
        lambda: model.core.forward([[1], [99999]]),
        lambda: _phi3.Generation(model.core, [[1], [2]], caches=[cache, 5], max_new_tokens=1),
        lambda: _phi3.Generation(model.core, [[1]], stop_strings=("a", 5), max_new_tokens=1),
        lambda: _phi3.Generation(model.core, [[1]], eos_token_ids=["a"], max_new_tokens=1),
        lambda: _phi3.Generation(model.core, [[1]], do_sample=True, temperature=-1.0),
        lambda: tokenizer.core.render_chat([("user", "a", None), ("user", 5, None)]),
        lambda: tokenizer.core.encode("a\ud800" + "b" * 10000),
        lambda: tokenizer.core.decode([1, 2, "x"]),
        lambda: tokenizer.core.decode(np.zeros(3)),
        lambda: model.core.forward([[1, 2]]).__getitem__((0, 9)),
    ]

    def call():
        for mistake in mistakes:
            with pytest.raises(phi3.Error if mistake is not mistakes[-1] else IndexError):
                mistake()

    assert_flat(call, 5e6, 1000)


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="reference counts are CPython's")
def test_types_are_released(tiny_chat):
    """An object holds its type, and lets go of it."""
    model, tokenizer = tiny_chat
    makers = [
        lambda: _phi3.Cache(model.core),
        lambda: _phi3.Random(0),
        lambda: _phi3.StreamDecoder(tokenizer.core),
        lambda: _phi3.Generation(model.core, [[1]], max_new_tokens=1),
        lambda: model.core.forward([[1]]),
        lambda: model.core.forward([[1]])[0],
    ]
    for make in makers:
        kind = type(make())
        before = sys.getrefcount(kind)
        objects = [make() for _ in range(10)]
        assert sys.getrefcount(kind) >= before + 10
        del objects
        assert sys.getrefcount(kind) == before
