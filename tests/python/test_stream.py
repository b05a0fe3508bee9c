"""Streams: the text of an answer, pulled piece by piece. The same is held of Lua in stream_spec.lua."""

import gc

import phi3
import pytest

GREEDY = {"do_sample": False, "max_new_tokens": 24}
CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def pipe(tiny_chat):
    model, tokenizer = tiny_chat
    return phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)


def whole(pipe, inputs, **kwargs):
    return pipe(inputs, return_full_text=False, **{**GREEDY, **kwargs})[0]["generated_text"]


@pytest.mark.parametrize("inputs", ["Once upon a time", CHAT])
@pytest.mark.parametrize("name", ["tiny_chat", "smollm2"])
def test_pieces_join_to_the_answer(request, name, inputs):
    model, tokenizer = request.getfixturevalue(name)
    pipe = phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)
    pieces = list(pipe.stream(inputs, **GREEDY))
    assert len(pieces) > 1 and all(pieces)
    assert "".join(pieces) == whole(pipe, inputs)


def test_pieces_are_whole_characters(pipe):
    settings = {"do_sample": True, "temperature": 8.0, "max_new_tokens": 60, "eos_token_id": None}
    phi3.random.manual_seed(1)
    pieces = list(pipe.stream("Hello", **settings))
    phi3.random.manual_seed(1)
    assert "".join(pieces) == whole(pipe, "Hello", **settings)


def test_a_stream_may_be_left_at_any_time(pipe):
    expected = whole(pipe, "Hello")
    for count in range(1, 6):
        for i, _ in enumerate(pipe.stream("Hello", do_sample=False, max_new_tokens=3000), 1):
            if i == count:
                break
        assert whole(pipe, "Hello") == expected


def test_it_says_why_it_ended_and_how_long_it_took(pipe):
    stream = pipe.stream("Hello", do_sample=False, max_new_tokens=3)
    assert repr(stream) == "<phi3.Stream>" and stream.finish_reason is stream.timings is None
    assert len(list(stream)) <= 3
    assert stream.finish_reason == "length" and stream.timings["new_tokens"] == 3
    assert next(stream, None) is None
    assert repr(stream) == "<phi3.Stream (closed)>"
    stream.close()


@pytest.mark.parametrize("leave", ["close", "with", "collected"])
def test_the_conversation_is_given_back(pipe, leave):
    stream = pipe.stream(CHAT, **GREEDY)
    assert pipe._cache is None
    next(stream)
    if leave == "close":
        stream.close()
    elif leave == "with":
        with stream:
            pass
    else:
        del stream
        gc.collect()
    assert len(pipe._cache) > 0
    with pipe.stream(CHAT, **GREEDY) as again:
        next(again)
    assert again.timings["reused_tokens"] > 0 and again.finish_reason is None


def test_streams_side_by_side(pipe):
    prompts = ["Hello", "Once upon", "The end"]
    streams = [pipe.stream(prompt, **GREEDY) for prompt in prompts]
    texts = [""] * len(prompts)
    for _ in range(GREEDY["max_new_tokens"] + 1):
        texts = [text + next(stream, "") for text, stream in zip(texts, streams, strict=True)]
    assert texts == [whole(pipe, prompt) for prompt in prompts]


@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        (["a", "b"], {}, "a stream is of one string or one chat"),
        ([CHAT, CHAT], {}, "a stream is of one string or one chat"),
        ((text for text in "ab"), {}, "a stream is of one string or one chat"),
        (7, {}, "a stream is of one string or one chat"),
        ("a", {"do_sample": True, "num_return_sequences": 2}, "a stream gives one sequence"),
        ("a", {"streamer": object()}, "leave `streamer` out"),
        ("a", {"do_sample": True, "temperature": 0.0}, "strictly positive float"),
        ("a", {"no_such_argument": 1}, "no_such_argument"),
    ],
)
def test_what_cannot_be_streamed(pipe, inputs, arguments, message):
    whole(pipe, "Hello")
    with pytest.raises(ValueError, match=message) as caught:
        pipe.stream(inputs, **arguments)
    assert isinstance(caught.value, phi3.Error)
    assert pipe._cache is not None
