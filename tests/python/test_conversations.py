"""Chats that last: reused keys and values must never change what is said.

The model is a random Phi-3.5 whose short LongRoPE factors end at 64 tokens, so a chat crosses the
border within a few turns.
"""

import phi3_under_test as phi
import pipeline_libraries
import pytest

ARGUMENTS = {"do_sample": False, "max_new_tokens": 7}
QUESTIONS = (
    "Which river flows through the town?",
    "How old is the bridge?",
    "Who takes the toll?",
    "What do the boats carry in spring, and where do they go?",
    "Is there a mill?",
)


@pytest.fixture(scope="module")
def directory(scratch):
    return pipeline_libraries.write_tiny(scratch / "tiny64", original=64, maximum=512)


@pytest.fixture(scope="module")
def new_pipe(directory):
    """new_pipe() -> a pipeline with nothing in its memory, on one shared model."""
    import phi3

    model = phi.load(directory)
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(directory))
    return lambda: phi3.pipeline("text-generation", model=model, tokenizer=tokenizer)


def length(pipe, messages) -> int:
    return len(pipe.tokenizer.apply_chat_template(messages, return_dict=False))


def turns(pipe, questions, messages=()):
    """The chat after every answer."""
    messages = list(messages)
    for question in questions:
        messages = pipe([*messages, {"role": "user", "content": question}], **ARGUMENTS)
        messages = messages[0]["generated_text"]
        yield messages


def afresh(new_pipe, messages):
    """The same answer from a pipeline that has seen nothing."""
    return new_pipe()(messages[:-1], **ARGUMENTS)[0]["generated_text"]


def test_a_chat_across_the_longrope_border_and_back(new_pipe):
    pipe = new_pipe()
    chats = list(turns(pipe, QUESTIONS))
    lengths = [length(pipe, chat) for chat in chats]
    assert lengths[0] < 64 < lengths[-1]
    assert chats == [afresh(new_pipe, chat) for chat in chats]

    # Trimmed to its last answer, the chat fits the short factors again.
    trimmed = list(turns(pipe, QUESTIONS[:1], chats[-1][-1:]))[0]
    assert length(pipe, trimmed) < 64
    assert trimmed == afresh(new_pipe, trimmed)


def test_cutting_the_end_off_a_long_chat_brings_the_short_factors_back(new_pipe):
    pipe = new_pipe()
    chats = list(turns(pipe, QUESTIONS))
    assert pipe(chats[0][:-1], **ARGUMENTS)[0]["generated_text"] == chats[0]


def test_an_answer_asked_for_again_is_the_same(new_pipe):
    pipe = new_pipe()
    first = pipe(QUESTIONS[3], **ARGUMENTS)
    assert pipe(QUESTIONS[3], **ARGUMENTS) == first


@pytest.mark.parametrize("pipes", [1, 2], ids=["in one pipeline", "in two pipelines"])
def test_two_chats_take_turns(new_pipe, pipes):
    there = [new_pipe() for _ in range(pipes)]
    one, two = turns(there[0], QUESTIONS[:4]), turns(there[-1], QUESTIONS[:0:-1])
    for pair in zip(one, two, strict=True):
        assert list(pair) == [afresh(new_pipe, chat) for chat in pair]


@pytest.mark.live
def test_the_chat_is_that_of_transformers(new_pipe, directory):
    theirs = pipeline_libraries.Transformers(directory).pipe()
    assert list(turns(new_pipe(), QUESTIONS)) == list(turns(theirs, QUESTIONS))
