"""Ctrl-C: KeyboardInterrupt within 0.3 s, in prefill and in decode, and objects that stay usable."""

import subprocess
import sys
import textwrap

import pytest
from limits import least

PROGRAM = """
import os, signal, sys, threading, time
from phi3 import AutoModelForCausalLM, AutoTokenizer, Cache, pipeline

model = AutoModelForCausalLM.from_pretrained({path!r}, device_map={device!r})
tokenizer = AutoTokenizer.from_pretrained({path!r})
greedy = dict(do_sample=False, eos_token_id=None)
short = [tokenizer.encode("Once upon a time")]
expected = model.generate(short, max_new_tokens=4, **greedy)
sent = []

def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

def interrupted(call, after):
    timer = threading.Timer(after, interrupt)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        print(f"answered after {{time.perf_counter() - sent[-1]:.3f}} s")
        return
    timer.cancel()
    sys.exit("it ended before it was interrupted")

cache = Cache(model.core)
{body}
assert model.generate(short, max_new_tokens=4, **greedy) == expected
assert model.generate(short, max_new_tokens=4, past_key_values=cache, **greedy) == expected
print("still usable")
"""

BODIES = {
    "prefill": """
long = [tokenizer.encode("word " * 6000)]
interrupted(lambda: model.generate(long, max_new_tokens=1, past_key_values=cache, **greedy), 0.3)
assert len(cache) == 0, len(cache)
""",
    "decode": """
interrupted(lambda: model.generate(short, max_new_tokens=100000, **greedy), 0.5)
""",
    "streaming": """
class Quiet:
    def put(self, value): pass
    def end(self): sys.exit("the stream must not end")
interrupted(lambda: model.generate(short, max_new_tokens=100000, streamer=Quiet(), **greedy), 0.5)
""",
    "forward": """
long = [tokenizer.encode("word " * 6000)]
interrupted(lambda: model(long, logits_to_keep=1, past_key_values=cache), 0.3)
assert len(cache) == 0, len(cache)
""",
    "pipeline": """
pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
chat = [{"role": "user", "content": "Tell me a story."}]
before = pipe(chat, do_sample=False, max_new_tokens=4)
interrupted(lambda: pipe(chat, max_new_tokens=100000, **greedy), 0.5)
assert pipe(chat, do_sample=False, max_new_tokens=4) == before
""",
}


def run(path, body, device="cpu"):
    code = PROGRAM.format(path=str(path), body=textwrap.dedent(body), device=device)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    answered, usable = result.stdout.splitlines()
    assert usable == "still usable"
    return float(answered.split()[2])


def assert_soon(path, body):
    assert least(lambda: run(path, body), 0.3) < 0.3


@pytest.mark.parametrize("phase", BODIES)
def test_ctrl_c_is_answered_soon(smollm2_path, phase):
    assert_soon(smollm2_path, BODIES[phase])


def test_a_signal_handler_may_raise_anything(smollm2_path):
    body = """
    class Enough(Exception): pass
    def raise_enough(*_): raise Enough
    signal.signal(signal.SIGALRM, raise_enough)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    start = time.perf_counter()
    try:
        model.generate(short, max_new_tokens=100000, **greedy)
    except Enough:
        print(f"answered after {time.perf_counter() - start - 0.3:.3f} s")
    """
    assert_soon(smollm2_path, body)


def test_a_signal_handler_that_returns_stops_nothing(smollm2_path):
    body = """
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(time.perf_counter()))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    start = time.perf_counter()
    model.generate(short, max_new_tokens=100, **greedy)
    assert len(seen) == 1
    print(f"answered after {seen[0] - start - 0.2:.3f} s")
    """
    assert_soon(smollm2_path, body)
