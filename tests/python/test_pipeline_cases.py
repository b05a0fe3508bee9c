"""Forty numbered cases of what a text-generation pipeline does, on phi3 and on transformers itself.

The model is random, so what it says means nothing: the cases are about ids, lengths, ends, kinds of
input and output, and errors. Arguments that this version of phi3 does not have must raise an error
that names them: the tests of these have "later" in their names.
"""

import json
import math
import queue
from pathlib import Path

import numpy as np
import pipeline_libraries
import pytest

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "data" / "goldens.json").read_text(encoding="utf-8")
)
GREEDY = {"do_sample": False, "max_new_tokens": 4}
USER = [{"role": "user", "content": "Hi"}]
BOTH = [*USER, {"role": "assistant", "content": "Well,"}]
TWO = ["Hello", "A much longer prompt here"]
ROW = "▁Hello"

LIBRARIES = [
    pytest.param(pipeline_libraries.Phi3, id="phi3"),
    pytest.param(pipeline_libraries.Transformers, id="transformers", marks=pytest.mark.live),
]


@pytest.fixture(scope="module")
def tiny(scratch):
    return pipeline_libraries.write_tiny(scratch / "tiny")


@pytest.fixture(scope="module", params=LIBRARIES)
def lib(request, tiny):
    return request.param(tiny)


@pytest.fixture
def tokenizer(lib):
    return lib.tokenizer


@pytest.fixture
def pipe(lib):
    return lib.pipe()


def refuses(lib, name: str, call) -> bool:
    """Whether this is phi3, which says that it does not have an argument yet."""
    if lib.name != "phi3":
        return False
    with pytest.raises(lib.UnsupportedError, match=name):
        call()
    return True


def token_ids(pipe, prompt, **arguments) -> list[int]:
    return list(pipe(prompt, return_tensors=True, **arguments)[0]["generated_token_ids"])


# ---- Tokenizer ----------------------------------------------------------------------------------


def test_01_words(lib, tokenizer):
    assert lib.encode("Hello world") == lib.ids("▁Hello", "▁world")
    assert tokenizer("x")["input_ids"][0] != tokenizer.bos_token_id


def test_02_spaces(lib):
    assert lib.encode("") == []
    assert lib.encode(" ") == lib.ids("▁▁")
    assert lib.encode("a  b") == lib.ids("▁a", "▁", "▁b")
    assert lib.encode("\n") == lib.ids("▁", "<0x0A>")


def test_03_a_chat_in_text(lib):
    ids = lib.encode("<|user|>\nHi<|end|>\n<|assistant|>\n")
    assert ids == [32010, *lib.ids("▁Hi"), 32007, 32001]


@pytest.mark.parametrize(
    "space", ["\n", " ", "\n\n ", "\u3000", "\u00a0", "\u0085", "\u2028", "\x0b\x0c"]
)
def test_04_white_space_after_a_control_token_is_swallowed(lib, space):
    assert lib.encode(f"<|user|>{space}Hi") == [32010, *lib.ids("▁Hi")]


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\x1c", "\u180e"])
def test_04_what_unicode_does_not_call_white_space_is_kept(lib, mark):
    assert lib.encode(f"<|user|>{mark}Hi") != [32010, *lib.ids("▁Hi")]


def test_05_endoftext_swallows_nothing(lib):
    expected = [*lib.ids("▁Hi"), 32000, *lib.ids("▁", "<0x0A>", "Y", "o")]
    assert lib.encode("Hi<|endoftext|>\nYo") == expected
    assert lib.encode("Hi <|end|>") == [*lib.ids("▁Hi", "▁"), 32007]


def test_06_bytes(lib):
    assert lib.encode("🧿") == lib.ids("▁", "<0xF0>", "<0x9F>", "<0xA7>", "<0xBF>")
    assert lib.encode("a\0b") == lib.ids("▁a", "<0x00>", "b")


def test_07_decoding_spaces(lib, tokenizer):
    hello = lib.ids("▁Hello")
    assert tokenizer.decode(hello) == "Hello"
    assert tokenizer.decode(lib.ids("▁▁") + hello) == "  Hello"
    assert tokenizer.decode([32007, *hello]) == "<|end|> Hello"
    assert tokenizer.decode([32007, *hello], skip_special_tokens=True) == "Hello"


def test_08_decoding_bytes(lib, tokenizer):
    character = lib.ids("<0xE4>", "<0x97>", "<0x9E>")
    assert tokenizer.decode(character) == "\u45de"
    assert tokenizer.decode(character[:2]) == "\ufffd" * 2
    assert tokenizer.decode(character + lib.ids("<0xE6>")) == "\ufffd" * 4


def test_09_lone_surrogates(lib):
    with pytest.raises(TypeError):
        lib.encode("a\ud800")


def test_10_sizes(tokenizer):
    assert (tokenizer.vocab_size, len(tokenizer)) == (32000, 32011)
    assert tokenizer.decode([32063]) == ""
    assert tokenizer.convert_tokens_to_ids("nope!!") == 0


def test_11_padding_goes_left(lib, tokenizer):
    batch = tokenizer(["a", "b c d"], padding=True)
    assert batch["input_ids"] == [[32000, 32000, *lib.ids("▁a")], lib.ids("▁b", "▁c", "▁d")]
    assert batch["attention_mask"] == [[0, 0, 1], [1, 1, 1]]


def test_12_offsets(tokenizer):
    offsets = tokenizer("Hi there 日本 🧿x", return_offsets_mapping=True)["offset_mapping"]
    expected = [(0, 2), (2, 8), (8, 9), (9, 10), (10, 11), (11, 12), *[(12, 13)] * 4, (13, 14)]
    assert list(map(tuple, offsets)) == expected


def test_13_clean_up_changes_nothing(lib, tokenizer):
    ids = lib.encode("Hi , there")
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == "Hi , there"


# ---- Template -----------------------------------------------------------------------------------


def test_14_template(tokenizer):
    text = tokenizer.apply_chat_template(USER, tokenize=False)
    assert text == "<|user|>\nHi<|end|>\n<|endoftext|>"
    assert set(tokenizer.apply_chat_template(USER)) == {"input_ids", "attention_mask"}


def test_15_continuing_the_last_message(tokenizer):
    text = tokenizer.apply_chat_template(BOTH, tokenize=False, continue_final_message=True)
    assert text == "<|user|>\nHi<|end|>\n<|assistant|>\nWell,"
    with pytest.raises(ValueError):
        tokenizer.apply_chat_template(BOTH, continue_final_message=True, add_generation_prompt=True)


def test_16_control_tokens_in_content(lib, tokenizer):
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a<|end|>b"}], return_dict=False
    )
    assert list(ids) == [32010, *lib.ids("▁a"), 32007, *lib.ids("▁b"), 32007, 32000]


def test_17_odd_chats(tokenizer):
    with pytest.raises(ValueError):
        tokenizer.apply_chat_template([])
    chat = [{"role": "tool", "content": "x"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<|endoftext|>"


# ---- Pipeline -----------------------------------------------------------------------------------


def test_18_kinds_of_input(pipe):
    one, list_of_one = pipe("Hello", **GREEDY), pipe(["Hello"], **GREEDY)
    assert list(one[0]) == ["generated_text"]
    assert list_of_one[0] == one
    two = pipe(["Hello", "Yo"], **GREEDY)
    assert len(two) == 2 and isinstance(two[0], list)


def test_18_the_text_is_that_of_transformers(pipe):
    assert pipe("Hello", **GREEDY)[0]["generated_text"] == GOLDEN["pipeline"]["text"]
    answer = pipe(USER, **GREEDY)[0]["generated_text"][-1]["content"]
    assert answer == GOLDEN["pipeline"]["answer"]


def test_19_new_text_is_decoded_alone_later_prefix_allowed_tokens_fn(lib, pipe):
    def call():
        world = lib.ids("▁world")
        arguments = {**GREEDY, "max_new_tokens": 2, "prefix_allowed_tokens_fn": lambda *_: world}
        return pipe("Hello", **arguments)[0]["generated_text"]

    if not refuses(lib, "prefix_allowed_tokens_fn", call):
        assert call() == "Helloworld world"


def test_19_new_text_is_decoded_alone(pipe, tokenizer):
    ids = token_ids(pipe, "Hello", **GREEDY)
    text = pipe("Hello", **GREEDY)[0]["generated_text"]
    assert text == "Hello" + tokenizer.decode(ids[1:], skip_special_tokens=True)


def test_20_chats_get_an_answer(pipe):
    messages = pipe(USER, **GREEDY)[0]["generated_text"]
    assert messages[:-1] == USER and messages[-1]["role"] == "assistant"
    alone = pipe(USER, return_full_text=False, **GREEDY)[0]["generated_text"]
    assert alone == messages[-1]["content"]


def test_21_chats_that_end_with_the_assistant_are_continued(pipe):
    messages = pipe(BOTH, **GREEDY)[0]["generated_text"]
    assert len(messages) == 2 and messages[-1]["content"].startswith("Well,")
    messages = pipe(BOTH, continue_final_message=False, **GREEDY)[0]["generated_text"]
    assert len(messages) == 3


def test_22_ids_of_a_chat(lib, pipe):
    assert token_ids(pipe, USER, **GREEDY)[:4] == [32010, *lib.ids("▁Hi"), 32007, 32001]


def test_23_arguments_that_exclude_each_other_or_do_not_exist(pipe):
    with pytest.raises(ValueError):
        pipe("x", return_text=True, return_full_text=True)
    with pytest.raises(ValueError):
        pipe("x", return_tensors=True, return_full_text=False)
    with pytest.raises(ValueError, match="foo"):
        pipe("x", foo=1, **GREEDY)


def test_24_a_batch_says_what_its_prompts_say_alone(pipe):
    assert pipe(TWO, batch_size=2, **GREEDY) == pipe(TWO, **GREEDY)


def test_25_ids_of_a_batch_show_its_padding(lib, pipe):
    records = pipe(TWO, batch_size=2, return_tensors=True, **GREEDY)
    assert list(records[0][0]["generated_token_ids"])[:5] == [32000] * 4 + lib.ids("▁Hello")


def test_26_num_return_sequences(pipe):
    arguments = {"num_return_sequences": 2, "do_sample": True, "max_new_tokens": 2}
    assert [len(records) for records in pipe(["Hello", "Yo"], **arguments)] == [2, 2]
    with pytest.raises(ValueError):
        pipe("x", num_return_sequences=2, **GREEDY)


def test_27_inputs_that_are_none(pipe):
    with pytest.raises(IndexError):
        pipe([], **GREEDY)
    with pytest.raises(TypeError):
        pipe(("a", "b"), **GREEDY)
    assert pipe((text for text in ()), **GREEDY) == []


def test_27_a_generator_is_answered_lazily(pipe):
    asked = []

    def prompts():
        for text in ("a", "b", "c"):
            asked.append(text)
            yield text

    answers = pipe(prompts(), **GREEDY)
    assert not isinstance(answers, list)
    assert next(iter(answers)) == pipe("a", **GREEDY)
    assert asked != ["a", "b", "c"]


def test_28_an_empty_prompt_starts_from_bos(pipe):
    ids = token_ids(pipe, "", **GREEDY)
    assert ids[0] == 1 and len(ids) == 5


# ---- generate() ---------------------------------------------------------------------------------


def test_29_temperature_zero(lib, pipe):
    with pytest.raises(ValueError, match="do_sample=False"):
        pipe("x", temperature=0.0)
    with lib.log() as lines:
        assert pipe("x", temperature=0.0, **GREEDY) == pipe("x", **GREEDY)
    assert any("['temperature']" in line for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [{"temperature": 2}, {"top_k": -1}, {"top_p": -0.1}, {"min_p": 1.5}, {"max_new_tokens": 0}],
    ids=str,
)
def test_30_values_out_of_range(pipe, arguments):
    with pytest.raises(ValueError):
        pipe("x", do_sample=True, **arguments)


def test_30_top_p_above_one_is_off(pipe):
    assert pipe("x", top_p=1.5, do_sample=True, max_new_tokens=1)


def test_31_max_length(pipe):
    prompt = "Hello there you"
    assert len(token_ids(pipe, prompt, max_length=8, do_sample=False)) == 8
    with pytest.raises(ValueError, match="is 2"):  # the prompt, cut to two ids
        pipe(prompt, max_length=2, do_sample=False)
    with pytest.raises(ValueError, match="is 4"):  # a chat is not cut
        pipe(USER, max_length=2, do_sample=False)


def test_32_eos_and_min_new_tokens(pipe):
    free = token_ids(pipe, "Hello", **GREEDY)
    second = free[2]
    assert second != free[1]
    assert token_ids(pipe, "Hello", eos_token_id=[second, 9], **GREEDY) == free[:3]
    late = token_ids(pipe, "Hello", eos_token_id=second, min_new_tokens=3, **GREEDY)
    assert len(late) >= 4 and second not in late[1:4]


def test_33_repetition_penalty(lib):
    (seen,) = lib.ids(ROW)
    output = lib.generate(
        [seen],
        repetition_penalty=2.0,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **GREEDY,
    )
    logits, scores = np.asarray(output.logits[0])[0], np.asarray(output.scores[0])[0]
    penalised = logits[seen] / 2 if logits[seen] > 0 else logits[seen] * 2
    assert scores[seen] == pytest.approx(penalised, abs=1e-6)
    others = np.arange(len(logits)) != seen
    assert np.array_equal(scores[others], logits[others])


def test_34_seeded_sampling_is_a_race_of_exponentials(lib):
    """MT19937 makes 53 random bits for every logit; the greatest p / -log(1 - u) wins."""
    ids = lib.encode("Hello there")
    lib.seed(0)
    output = lib.generate(
        ids,
        do_sample=True,
        temperature=0.7,
        top_k=50,
        max_new_tokens=8,
        eos_token_id=None,
        pad_token_id=0,
    )
    twister = np.random.RandomState(0)
    for _ in range(8):
        scores = lib.last_logits(ids) / np.float32(0.7)
        kept = scores >= np.sort(scores)[-50]
        weights = np.where(kept, np.exp(scores - scores.max()), np.float32(0))
        weights /= weights.sum()
        bits = twister.randint(0, 2**32, size=(32064, 2), dtype=np.uint32).astype(np.uint64)
        uniform = ((bits[:, 0] << np.uint64(32) | bits[:, 1]) & np.uint64(2**53 - 1)) * 2.0**-53
        ids = [*ids, int((weights / (-np.log1p(-uniform)).astype(np.float32)).argmax())]
    assert np.asarray(output).tolist() == [ids]


def test_35_a_stop_string_may_begin_in_the_prompt(pipe):
    first = pipe("Hello", return_full_text=False, do_sample=False, max_new_tokens=1)
    word = first[0]["generated_text"]
    assert len(word) >= 3 and word.isascii() and word == word.strip()
    stopped = pipe("Hello", stop_sequence="o" + word[:2], return_full_text=False, **GREEDY)
    assert stopped[0]["generated_text"] == word
    assert pipe("Hello", return_full_text=False, **GREEDY)[0]["generated_text"] != word
    with pytest.raises(ValueError, match="tokenizer"):
        pipe("Hello", stop_strings="x", **GREEDY)


def test_36_prompt_lookup_later(lib, pipe):
    def call():
        return pipe("Hello", prompt_lookup_num_tokens=3, **GREEDY)

    if not refuses(lib, "prompt_lookup_num_tokens", call):
        assert call() == pipe("Hello", **GREEDY)
        with pytest.raises(ValueError):
            pipe(["Hello", "Yo there"], batch_size=2, prompt_lookup_num_tokens=3, **GREEDY)


def test_36_beams_do_not_stream(lib, pipe, tokenizer):
    with pytest.raises(ValueError, match="streamer"):
        pipe("x", num_beams=2, streamer=lib.TextStreamer(tokenizer), **GREEDY)


def test_37_beam_scores_later(lib):
    ids = lib.encode("Hello there")

    def call():
        return lib.generate(
            ids,
            num_beams=3,
            num_return_sequences=2,
            return_dict_in_generate=True,
            output_scores=True,
            **GREEDY,
        )

    if not refuses(lib, "num_beams", call):
        output = call()
        steps = lib.model.compute_transition_scores(
            output.sequences, output.scores, output.beam_indices
        )
        scores = np.asarray(output.sequences_scores)
        assert np.allclose(np.asarray(steps).sum(1) / 4, scores, atol=1e-5)
        assert scores[0] >= scores[1]


# ---- Streamers ----------------------------------------------------------------------------------


def test_38_what_a_streamer_emits(lib, tokenizer):
    class Listener(lib.TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            heard.append(text)

    def emitted(text):
        heard.clear()
        streamer = Listener(tokenizer)
        for token in lib.encode(text):
            streamer.put(lib.array([token]))
        streamer.end()
        return list(heard)

    heard = []
    lines = emitted("Hello\n world\nfoo bar")
    assert lines == ["", "Hello\n", "", "world\n", "", "foo ", "bar"]
    assert emitted("你好 世界") == ["", "你", "好", " ", "世", "界", ""]


def test_39_an_idle_iterator_times_out(lib, tokenizer):
    with pytest.raises(queue.Empty):
        next(lib.TextIteratorStreamer(tokenizer, timeout=0.05))


def test_39_a_stream_joins_to_the_new_text(lib, pipe, tokenizer):
    streamer = lib.TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    arguments = {**GREEDY, "eos_token_id": token_ids(pipe, "Hello", **GREEDY)[3]}
    pipe("Hello", streamer=streamer, **arguments)
    expected = pipe("Hello", return_full_text=False, **arguments)[0]["generated_text"]
    assert "".join(streamer) == expected


def test_39_forced_eos_later(lib, pipe):
    def call():
        return token_ids(pipe, "Hello", forced_eos_token_id=32007, **GREEDY)

    if not refuses(lib, "forced_eos_token_id", call):
        assert call()[-1] == 32007


# ---- LongRoPE -----------------------------------------------------------------------------------


def test_40_crossing_the_longrope_border(lib, scratch):
    directory = scratch / "tiny32"
    if not directory.exists():
        pipeline_libraries.write_tiny(directory, original=32, maximum=256)
    short = type(lib)(directory)
    ids = [(7919 * i) % 31000 + 300 for i in range(28)]
    output = short.generate(
        ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    for _ in range(12):
        ids = [*ids, int(short.last_logits(ids).argmax())]
    assert np.asarray(output).tolist() == [ids]
    assert short.attention_factor(short.model) == pytest.approx(math.sqrt(1.6), rel=1e-6)
