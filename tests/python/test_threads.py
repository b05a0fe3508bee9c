"""Threads: two generate with one model and get what they get alone, while a third keeps running."""

import threading
import time

import phi3
from limits import least
from phi3 import pipeline

GREEDY = {"do_sample": False, "max_new_tokens": 24, "eos_token_id": None}
PROMPTS = ["Once upon a time", "The capital of France is", "def main():", "Dear Sir or Madam,"]


def run_together(*calls):
    """Results of calls that run at the same time, each in a thread of its own."""
    results = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index, call):
        start.wait()
        try:
            results[index] = call()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_shared_model_gives_each_thread_its_own(smollm2):
    model, tokenizer = smollm2
    ids = [[tokenizer.encode(prompt)] for prompt in PROMPTS]
    alone = [model.generate(prompt, **GREEDY) for prompt in ids]
    calls = [lambda prompt=prompt: model.generate(prompt, **GREEDY) for prompt in ids]
    assert run_together(*calls[:2]) == alone[:2]
    assert run_together(*calls) == alone


def test_a_shared_pipeline_gives_each_thread_its_own(smollm2_path):
    """Whichever thread finds the cache of the last call, what is kept equals what is computed."""
    pipe = pipeline("text-generation", model=smollm2_path)
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS[:2]]
    settings = {"do_sample": False, "max_new_tokens": 12}

    def talk(chat):
        for _ in range(2):
            chat = pipe(chat, **settings)[0]["generated_text"]
            chat = [*chat, {"role": "user", "content": "Go on."}]
        return chat

    alone = []
    for chat in chats:
        pipe.reset()
        alone.append(talk(chat))
    assert run_together(*(lambda chat=chat: talk(chat) for chat in chats)) == alone


def test_a_third_thread_keeps_running(smollm2):
    """The GIL is free while the model computes: pauses of another thread stay short."""
    model, tokenizer = smollm2
    ids = [tokenizer.encode(PROMPTS[0] + " and" * 200)]

    def longest_pause() -> float:
        """As a share of the time that two others generate."""
        done = threading.Event()
        pauses = []

        def count():
            last = time.perf_counter()
            while not done.is_set():
                time.sleep(0.001)
                now = time.perf_counter()
                pauses.append(now - last)
                last = now

        counter = threading.Thread(target=count)
        counter.start()
        try:
            start = time.perf_counter()
            run_together(*[lambda: model.generate(ids, **GREEDY)] * 2)
            elapsed = time.perf_counter() - start
        finally:
            done.set()
            counter.join()
        assert len(pauses) > 20 * elapsed
        return max(pauses) / elapsed

    assert least(longest_pause, 0.25) < 0.25


def test_loading_frees_the_gil(smollm2_path):
    ticks = []
    done = threading.Event()

    def count():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    counter = threading.Thread(target=count)
    counter.start()
    start = time.perf_counter()
    phi3._phi3.Model(str(smollm2_path))
    end = time.perf_counter()
    done.set()
    counter.join()
    assert sum(start < tick < end for tick in ticks) >= (end - start) / 0.1


def test_one_generation_belongs_to_one_thread(smollm2):
    """The second thread is told; the first goes on."""
    model, tokenizer = smollm2
    ids = tokenizer.encode("word " * 300)
    run = phi3._phi3.Generation(model.core, [ids], max_new_tokens=2)
    results = run_together(run.run, run.run)
    kinds = sorted(type(result).__name__ for result in results)
    assert kinds in (["BusyError", "list"], ["InvalidArgumentError", "list"])


def test_one_cache_belongs_to_one_thread(smollm2):
    model, tokenizer = smollm2
    ids = [tokenizer.encode("word " * 300)]
    cache = phi3.Cache(model.core)

    def forward():
        return model(ids, past_key_values=cache, logits_to_keep=1).logits.shape

    results = run_together(forward, forward)
    assert all(result == (1, 1, 49152) or isinstance(result, phi3.BusyError) for result in results)
    assert len(cache) in (len(ids[0]), 2 * len(ids[0]))


def test_tokenizers_are_shared(smollm2):
    tokenizer = smollm2[1]
    text = "The quick brown fox. " * 3000
    alone = tokenizer.encode(text)
    assert run_together(*[lambda: tokenizer.encode(text)] * 4) == [alone] * 4


def test_random_numbers_lock_themselves(tiny_chat):
    model = tiny_chat[0]
    draws = run_together(
        *[lambda: model.generate([[5, 6]], do_sample=True, max_new_tokens=8, eos_token_id=None)] * 4
    )
    assert not any(isinstance(draw, BaseException) for draw in draws)
    assert [len(rows[0]) for rows in draws] == [10] * 4
