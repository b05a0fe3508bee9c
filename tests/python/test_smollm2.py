"""A trained model: SmolLM2-135M, the embedded default, as GGUF and as a Phi-3 checkpoint."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import gguf
import gguf_models
import numpy as np
import phi3_under_test as phi
import pytest
import scenarios

DATA = Path(__file__).parents[1] / "data"
GOLDEN = json.loads((DATA / "goldens.json").read_text(encoding="utf-8"))["smollm2"]
PROSE = GOLDEN["prose"][: scenarios.PROSE_TOKENS]


@pytest.fixture(scope="module")
def exact(smollm2_path):
    return phi.load(smollm2_path, "cpu", "float32")


@pytest.fixture(scope="module")
def mixed(smollm2_path):
    return phi.load(smollm2_path, "cpu", "mixed")


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    return smollm2[1]


def has_tiles() -> bool:
    import phi3

    return phi3.info()["cpu_isa"] == "avx512_amx"


@pytest.fixture
def same_way_for_any_rows():
    if has_tiles():
        pytest.skip("mixed prompts of 32 rows go through AMX's tiles; test_without_tiles")


def greedy_texts(model, tokenizer, prompts: list[list[int]]) -> list[str]:
    arguments = {"do_sample": False, "max_new_tokens": scenarios.SMOLLM2_COUNT}
    return [tokenizer.decode(phi.generate(model, [ids], **arguments)[0]) for ids in prompts]


def perplexity(logits: np.ndarray, ids: list[int]) -> float:
    rows = logits[:-1].astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    chosen = rows[np.arange(len(rows)), ids[1:]]
    return float(np.exp((np.log(np.exp(rows).sum(axis=1)) - chosen).mean()))


def test_prompts_get_the_ids_of_transformers(tokenizer):
    prompts = [tokenizer(text)["input_ids"] for text in scenarios.SMOLLM2_TEXTS]
    for turns in scenarios.SMOLLM2_CHATS:
        chat = scenarios.chat(turns)
        prompts.append(
            tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        )
    assert [list(ids) for ids in prompts] == GOLDEN["prompts"]
    prose = (DATA / "prose.txt").read_text(encoding="utf-8")
    assert list(tokenizer(prose)["input_ids"]) == GOLDEN["prose"]


def test_float32_mode_writes_the_texts_of_transformers(exact, tokenizer):
    assert greedy_texts(exact, tokenizer, GOLDEN["prompts"]) == GOLDEN["texts"]


def test_perplexity(exact, mixed):
    """float32 mode has transformers' perplexity; the mixed mode stays within one percent."""
    reference = perplexity(phi.logits(exact, PROSE), PROSE)
    assert reference == pytest.approx(GOLDEN["perplexity"], rel=1e-4)
    assert perplexity(phi.logits(mixed, PROSE), PROSE) == pytest.approx(reference, rel=0.01)


@pytest.mark.parametrize("compute_dtype", ["float32", "mixed"])
@pytest.mark.parametrize("kv_cache_dtype", ["bfloat16", "int8"])
def test_perplexity_with_a_small_cache(smollm2_path, compute_dtype, kv_cache_dtype):
    """Within half a percent of that with a float16 cache."""
    ids = GOLDEN["prose"]
    half, small = (
        phi.logits(phi.load(smollm2_path, "cpu", compute_dtype, kv), ids)
        for kv in ("float16", kv_cache_dtype)
    )
    assert not np.array_equal(half, small)
    assert perplexity(small, ids) == pytest.approx(perplexity(half, ids), rel=0.005)


@pytest.mark.parametrize("first", [1, 7, 40])
@pytest.mark.parametrize("kv_cache_dtype", ["float16", "bfloat16", "int8"])
@pytest.mark.usefixtures("same_way_for_any_rows")
def test_logits_do_not_depend_on_how_a_text_is_cut(smollm2_path, kv_cache_dtype, first):
    """To the bit, in the mixed mode: a cache holds the same however it was filled."""
    model = phi.load(smollm2_path, "cpu", "mixed", kv_cache_dtype)
    whole = phi.logits(model, PROSE[:100])
    assert np.array_equal(phi.logits_in_steps(model, PROSE[:100], first), whole)


def test_the_default_mode_of_a_small_model_is_exact(smollm2, exact):
    assert np.array_equal(phi.logits(smollm2[0], PROSE[:50]), phi.logits(exact, PROSE[:50]))


@pytest.mark.live
def test_float32_logits_are_those_of_transformers(exact, smollm2_path):
    """Over 300 tokens, expanded and un-permuted by transformers itself."""
    import transformers_oracle as oracle

    expected = oracle.logits(oracle.load_llama_gguf(smollm2_path), PROSE[:300])
    difference = np.abs(phi.logits(exact, PROSE[:300]) - expected).max()
    assert difference <= 1e-3 * (expected.max() - expected.min())


@pytest.fixture(scope="module")
def as_phi3(smollm2_path, scratch):
    """as_phi3(dtype) -> directory: q, k, v and gate, up joined, the permutation undone."""
    cfg = checkpoints.BASE | {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "original_max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    reader = gguf.GGUFReader(smollm2_path)
    theta = reader.get_field("llama.rope.freq_base").contents()
    epsilon = reader.get_field("llama.attention.layer_norm_rms_epsilon").contents()
    cfg |= {"rope_theta": theta, "rms_norm_eps": epsilon}
    held = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    weights = gguf_models.phi3_weights(cfg, held)

    def write(dtype: str) -> Path:
        directory = scratch / f"smollm2-{dtype}"
        return checkpoints.write_directory(directory, cfg | {"torch_dtype": dtype}, weights, dtype)

    return write


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_as_a_phi3_checkpoint_it_writes_the_same(as_phi3, tokenizer, dtype):
    """Rounding the weights to bfloat16 changes no word of these texts, in transformers either."""
    model = phi.load(as_phi3(dtype), "cpu", "float32")
    prompts, texts = GOLDEN["prompts"][1:5], GOLDEN["texts"][1:5]
    assert greedy_texts(model, tokenizer, prompts) == texts


def test_the_capital_of_france(smollm2):
    import phi3

    pipe = phi3.pipeline("text-generation", model=smollm2[0], tokenizer=smollm2[1])
    messages = scenarios.chat(["What is the capital of France?"])
    answer = pipe(messages, max_new_tokens=32, do_sample=False)[0]["generated_text"][-1]
    assert answer["role"] == "assistant"
    assert "Paris" in answer["content"]


def test_a_chat_whose_turns_end_with_the_padding_token(smollm2):
    """<|im_end|> in a prompt is not padding, even where it ends no text."""
    import phi3

    model, tokenizer = smollm2
    messages = scenarios.chat(["What is the capital of France?"])
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    arguments = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    expected = phi.generate(model, [list(ids)], **arguments)[0]
    pipe = phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)
    record = pipe(messages, return_tensors=True, **arguments)[0]
    assert list(record["generated_token_ids"])[len(ids) :] == expected


def test_a_second_turn_computes_only_what_is_new(smollm2):
    """The same words as from scratch, in a fraction of the time that the first turn took."""
    import phi3

    model, tokenizer = smollm2
    story = tokenizer.decode(GOLDEN["prose"])
    messages = scenarios.chat(["Read this text.\n" + story])
    arguments = {"max_new_tokens": 2, "do_sample": False}
    pipe = phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)

    begun = time.monotonic()
    messages = pipe(messages, **arguments)[0]["generated_text"]
    first = time.monotonic() - begun
    messages = messages + [{"role": "user", "content": "What did the clerk learn?"}]
    begun = time.monotonic()
    reused = pipe(messages, **arguments)[0]["generated_text"][-1]
    second = time.monotonic() - begun

    fresh = phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)
    assert reused == fresh(messages, **arguments)[0]["generated_text"][-1]
    assert second < first / 3


@pytest.mark.parametrize("topic", ["the moon", "bread", "whales", "volcanoes"])
@pytest.mark.usefixtures("same_way_for_any_rows")
def test_a_conversation_goes_on_as_if_computed_afresh(exact, mixed, tokenizer, topic):
    """In either mode, turn for turn: the words that a new pipeline finds for the same chat."""
    import phi3

    model = exact if topic == "bread" else mixed
    arguments = {"max_new_tokens": 32, "do_sample": False}
    pipe = phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)
    messages = scenarios.chat([f"Tell me something about {topic}."])
    for question in ("Why?", "Give an example.", "Thank you."):
        fresh = phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)
        expected = fresh(messages, **arguments)[0]["generated_text"]
        messages = pipe(messages, **arguments)[0]["generated_text"]
        assert messages == expected
        messages = messages + [{"role": "user", "content": question}]


@pytest.mark.skipif("not has_tiles()", reason="the tests above have run")
def test_without_tiles():
    """What was skipped above, in a process that does without AMX."""
    tests = "how_a_text_is_cut or computed_afresh"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        tests,
    ]
    environment = os.environ | {"PHI3_CPU_ISA": "avx512_bf16"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "13 passed" in done.stdout and "skipped" not in done.stdout, done.stdout


@pytest.mark.parametrize("seed", range(8))
def test_fewer_logits_choose_the_same_tokens(exact, seed):
    """A step that hands over no more than its candidates, beside one that hands over all logits."""
    import phi3

    settings = {"max_new_tokens": 12, "return_dict_in_generate": True}
    if seed > 0:
        settings |= {"do_sample": True, "top_k": 10 * seed, "temperature": 0.5 + 0.3 * seed}
        settings |= {"top_p": 0.9 if seed % 2 else 1.0, "num_return_sequences": 1 + seed % 3}
    sequences = []
    for output_logits in (False, True):
        phi3.set_seed(seed)
        output = exact.generate([PROSE[:40]], output_logits=output_logits, **settings)
        assert (output.logits is not None) == output_logits
        sequences.append(output.sequences)
    assert sequences[0] == sequences[1]
