"""Timings: what generate(), pipelines and the command line tell of them."""

import subprocess
import sys

import phi3
import pytest
from phi3 import pipeline

COUNTS = ("prompt_tokens", "reused_tokens", "computed_tokens", "new_tokens")
GREEDY = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}


def counts(timings: dict) -> tuple:
    assert timings["prompt_seconds"] > 0 and timings["decode_seconds"] > 0
    assert timings["first_token_seconds"] >= timings["prompt_seconds"]
    assert timings["prompt_tokens_per_second"] > 0 and timings["decode_tokens_per_second"] > 0
    return tuple(timings[name] for name in COUNTS)


def test_generate_tells_timings_when_asked(tiny_chat):
    model, _ = tiny_chat
    plain = model.generate([[5, 6, 7]], **GREEDY)
    output = model.generate([[5, 6, 7]], output_timings=True, **GREEDY)
    assert output.sequences == plain and counts(output.timings) == (3, 0, 3 + 4, 5)
    assert model.generate([[5]], return_dict_in_generate=True, **GREEDY).timings is None


def test_what_a_cache_has_is_told(tiny_chat):
    model, _ = tiny_chat
    cache = phi3.Cache(model.core)
    model.generate([[5, 6, 7]], past_key_values=cache, **GREEDY)
    output = model.generate([[5, 6, 7, 8, 9]], past_key_values=cache, output_timings=True, **GREEDY)
    assert counts(output.timings) == (5, 3, 2 + 4, 5)


def test_rates_follow_from_the_seconds(tiny_chat):
    model, _ = tiny_chat
    timings = model.generate([[5, 6], [7, 8]], output_timings=True, **GREEDY).timings
    assert counts(timings) == (4, 0, 4 + 2 * 4, 10)
    assert timings["prompt_tokens_per_second"] == pytest.approx(4 / timings["prompt_seconds"])
    assert timings["decode_tokens_per_second"] == pytest.approx(8 / timings["decode_seconds"])


def test_pipelines_tell_timings_when_asked(tiny_chat):
    pipe = pipeline("text-generation", model=tiny_chat[0], tokenizer=tiny_chat[1])
    (plain,) = pipe("Hello", **GREEDY)
    (record,) = pipe("Hello", output_timings=True, **GREEDY)
    assert set(record) == {"generated_text", "timings"}
    assert record["generated_text"] == plain["generated_text"]
    n_prompt, n_reused, _, n_new = counts(record["timings"])
    assert n_reused == n_prompt - 1 and n_new == 5
    first, second = pipe(["Hello", "You"], batch_size=2, output_timings=True, **GREEDY)
    assert counts(first[0]["timings"]) == counts(second[0]["timings"])


def test_chat_tells_speeds_when_verbose(smollm2_path):
    """Each turn on a line of standard error; the second one reuses the first."""
    arguments = [sys.executable, "-m", "phi3", "chat", str(smollm2_path), "--max-new-tokens", "4"]
    result = subprocess.run(
        [*arguments, "-v"], input="Hi\nBye\n", capture_output=True, text=True, timeout=120
    )
    first, second = [line for line in result.stderr.splitlines() if "tokens/s" in line]
    assert "known" not in first and "of them known" in second
    for line in (first, second):
        assert "prompt: " in line and "answer: 4 tokens" in line and "first token after" in line
