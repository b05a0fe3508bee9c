"""phi3.Engine: many callers get what each would get alone, from threads, tasks and event loops."""

import asyncio
import gc
import select
import time
from concurrent.futures import ThreadPoolExecutor

import phi3
import pytest

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
SAMPLED = {"max_new_tokens": 20, "do_sample": True, "temperature": 1.3, "top_k": 40}
ENDLESS = {"max_new_tokens": 2000, "do_sample": True, "temperature": 3.0}


@pytest.fixture
def engine(smollm2):
    with phi3.Engine(*smollm2, n_slots=4, queue=20) as made:
        yield made


def alone(smollm2, prompt, seed: int, **settings) -> str:
    """What a pipeline says after the same seed. It draws one number before it begins, as torch's
    DataLoader does; generate() does not."""
    model, tokenizer = smollm2
    ids = tokenizer(prompt)["input_ids"]
    phi3.set_seed(seed)
    row = model.generate([ids], **settings)[0]
    return tokenizer.decode(row[len(ids) :], skip_special_tokens=True)


def wait_until(is_true) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_threads_get_what_each_would_get_alone(engine, smollm2):
    prompts = [f"The number {n} is" for n in range(12)]
    with ThreadPoolExecutor(12) as callers:
        texts = callers.map(
            lambda n: engine.submit(prompts[n], seed=n, **SAMPLED).text(), range(12)
        )
        assert list(texts) == [alone(smollm2, p, n, **SAMPLED) for n, p in enumerate(prompts)]
    stats = engine.stats()
    assert stats["n_finished"] == 12 and stats["new_tokens"] == 12 * 20
    assert stats["n_steps"] < stats["new_tokens"]  # they went together


def test_tasks_get_what_each_would_get_alone(engine, smollm2):
    async def ask(n: int) -> str:
        request = engine.submit(f"The number {n} is", seed=n, **SAMPLED)
        return "".join([piece async for piece in request])

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(ask(n) for n in range(8)))

    expected = [alone(smollm2, f"The number {n} is", n, **SAMPLED) for n in range(8)]
    assert asyncio.run(ask_all()) == expected


def test_company_does_not_matter_in_mixed_mode(smollm2, smollm2_path):
    """Not to the quick ways of many rows, either: prompts of some 40 tokens, alone and eight at once."""
    model = phi3.AutoModelForCausalLM.from_pretrained(smollm2_path, compute_dtype="mixed")
    chats = [[{"role": "user", "content": f"Tell me of the number {n}."}] for n in range(16)]
    settings = {"max_new_tokens": 24, "do_sample": False}
    with phi3.Engine(model, smollm2[1], n_slots=8) as engine:
        expected = [engine.submit(chat, **settings).text() for chat in chats]
        requests = [engine.submit(chat, **settings) for chat in chats]
        assert [request.text() for request in requests] == expected


def test_a_chat_comes_in_pieces(engine):
    request = engine.submit(MESSAGES, do_sample=False)
    pieces = list(request)
    assert "".join(pieces) == "The capital of France is Paris."
    assert len(pieces) > 5
    assert request.finish_reason == "eos"
    info = request.info
    assert info["state"] == "ended" and info["prompt_tokens"] == 37 and info["new_tokens"] == 8
    assert 0 < info["first_token_seconds"] <= info["queue_seconds"] + info["prompt_seconds"] + 0.1
    again = engine.submit(
        [*MESSAGES, {"role": "assistant", "content": "The capital"}], do_sample=False
    )
    assert again.text() == " of France is Paris."
    assert again.info["reused_tokens"] >= 36


def test_ids_and_stop_strings(engine, smollm2):
    ids = smollm2[1]("The capital of France is")["input_ids"]
    request = engine.submit(ids, do_sample=False, max_new_tokens=30, stop_strings=["Paris"])
    assert request.text() == " " and request.finish_reason == "stop"
    request = engine.submit(ids, do_sample=False, max_length=len(ids) + 2)
    assert request.text() == " Paris." and request.finish_reason == "length"


def test_select_watches_requests(engine):
    requests = [engine.submit("Once", seed=n, **SAMPLED) for n in range(3)]
    texts = dict.fromkeys(requests, "")
    while open_requests := [r for r in requests if r.finish_reason is None]:
        ready, _, _ = select.select(open_requests, [], [], 30)
        assert ready
        for request in ready:
            texts[request] += request.take()
    assert all(texts.values())


def test_a_full_queue(smollm2):
    with phi3.Engine(*smollm2, n_slots=1, queue=1) as engine:
        first = engine.submit("Once", **ENDLESS)
        wait_until(lambda: engine.stats()["n_running"] == 1)
        engine_queue = [engine.submit("Once", **ENDLESS)]
        with pytest.raises(phi3.QueueFullError, match="waiting already"):
            engine.submit("Once", **ENDLESS)
        assert engine.stats()["n_refused"] == 1
        first.cancel()
        with pytest.raises(phi3.StoppedError, match="cancelled"):
            first.text()
        del engine_queue
        gc.collect()
        wait_until(lambda: engine.stats()["n_running"] + engine.stats()["n_waiting"] == 0)
        assert engine.stats()["kv_bytes"] == 0


def test_abandoned_iterations_and_cancelled_tasks_stop(engine):
    for piece in engine.submit("Once", **ENDLESS):
        assert piece
        break
    gc.collect()
    wait_until(lambda: engine.stats()["n_cancelled"] == 1)

    async def give_up() -> None:
        async def read() -> None:
            async for _ in engine.submit("Once", **ENDLESS):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    wait_until(lambda: engine.stats()["n_cancelled"] == 2)
    assert engine.stats()["n_running"] == 0


def test_close_ends_what_runs(smollm2):
    engine = phi3.Engine(*smollm2)
    request = engine.submit("Once", **ENDLESS)
    wait_until(lambda: engine.stats()["n_running"] == 1)
    engine.close()
    engine.close()
    with pytest.raises(phi3.StoppedError, match="the engine was closed"):
        request.text()
    for use in (engine.stats, lambda: engine.submit("Once")):
        with pytest.raises(phi3.InvalidArgumentError, match="closed"):
            use()


@pytest.mark.parametrize(
    "prompt, settings, error, words",
    [
        ("", {}, phi3.InvalidArgumentError, "empty"),
        ("Hi", {"temperature": -1.0}, phi3.InvalidArgumentError, "temperature"),
        ("Hi", {"max_new_tokens": 0}, phi3.InvalidArgumentError, "max_new_tokens"),
        ("Hi", {"num_return_sequences": 2}, phi3.InvalidArgumentError, "num_return_sequences"),
        ("Hi", {"colour": 1}, phi3.InvalidArgumentError, "colour"),
        ("Hi", {"num_beams": 2}, phi3.UnsupportedError, "num_beams"),
        ("one two " * 50, {}, phi3.InvalidArgumentError, "too long"),
        ([10**6], {}, phi3.InvalidArgumentError, "vocabulary"),
        ("\ud800", {}, phi3.InvalidTypeError, None),
        (5, {}, phi3.InvalidTypeError, None),
    ],
)
def test_bad_requests(smollm2, prompt, settings, error, words):
    with phi3.Engine(*smollm2, max_length=50) as engine:
        with pytest.raises(error, match=words):
            engine.submit(prompt, **{"do_sample": True} | settings).text()
        assert engine.submit("Hi", do_sample=False, max_new_tokens=1).text()


@pytest.mark.parametrize(
    "options", [{"n_slots": 0}, {"queue": -1}, {"max_length": 1}, {"n_slots": 10**6}]
)
def test_bad_engines(smollm2, options):
    with pytest.raises(phi3.InvalidArgumentError):
        phi3.Engine(*smollm2, **options)
