"""Streamers: the pieces of text that transformers' own give for the same tokens, and threads."""

import queue
import random
import threading

import numpy as np
import phi3
import pytest
from phi3 import TextIteratorStreamer, TextStreamer

TEXTS = [
    "Hello\n world\nfoo bar",
    "你好 世界",
    "ひらがな カタカナ 한글 漢字",
    "one",
    "",
    "  leading and trailing  ",
    "line\n\n\nbreaks\n",
    "😀 emoji 👩‍👩‍👧 in between",
    "mixed 中文 and English, 混ぜる。",
]


class Pieces(TextStreamer):
    """Keeps what it is told to print."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pieces = []
        self.ended = 0

    def on_finalized_text(self, text, stream_end=False):
        self.pieces.append(text)
        self.ended += stream_end


@pytest.fixture(scope="module")
def tokenizer(tiny_chat):
    return tiny_chat[1]


def stream(tokenizer, ids, **kwargs):
    streamer = Pieces(tokenizer, **kwargs)
    for token in ids:
        streamer.put([token])
    streamer.end()
    return streamer.pieces


def test_words_lines_and_ideographs(tokenizer):
    pieces = stream(tokenizer, tokenizer.encode("Hello\n world\nfoo bar"))
    assert pieces == ["", "Hello\n", "", "world\n", "", "foo ", "bar"]
    pieces = stream(tokenizer, tokenizer.encode("你好 世界"))
    assert "".join(pieces) == "你好 世界" and pieces[1:3] == ["你", "好"]


@pytest.mark.live
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_those_of_transformers(tokenizer, tiny_chat_path, text):
    import torch
    import transformers

    class Theirs(transformers.TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            pieces.append(text)

    theirs = transformers.AutoTokenizer.from_pretrained(tiny_chat_path)
    random_ids = random.Random(text).choices(range(3, 32011), k=60)
    for ids in (theirs.encode(text), random_ids):
        for arguments in ({}, {"skip_special_tokens": True}):
            pieces = []
            streamer = Theirs(theirs, **arguments)
            for token in ids:
                streamer.put(torch.tensor([token]))
            streamer.end()
            assert stream(tokenizer, ids, **arguments) == pieces


def test_a_prompt_is_skipped_again_after_every_end(tokenizer):
    streamer = Pieces(tokenizer, skip_prompt=True)
    for _ in range(2):
        streamer.put([tokenizer.encode("a prompt")])
        streamer.put(tokenizer.encode("yes"))
        streamer.end()
    assert "".join(streamer.pieces) == "yesyes" and streamer.ended == 2


def test_only_one_row_is_streamed(tokenizer):
    with pytest.raises(ValueError, match="batch size 1"):
        TextStreamer(tokenizer).put([[1, 2], [3, 4]])


def test_arrays_are_taken(tokenizer):
    ids = tokenizer.encode("Hello world")
    streamer = Pieces(tokenizer)
    streamer.put(np.array([ids]))
    streamer.end()
    assert "".join(streamer.pieces) == "Hello world"


def test_it_prints(tokenizer, capsys):
    streamer = TextStreamer(tokenizer)
    streamer.put([tokenizer.encode("Hello there world")])
    streamer.end()
    assert capsys.readouterr().out == "Hello there world\n"


def test_an_idle_iterator_times_out(tokenizer):
    with pytest.raises(queue.Empty):
        next(TextIteratorStreamer(tokenizer, timeout=0.05))


def test_an_iterator_gives_what_another_thread_generates(tiny_chat):
    model, tokenizer = tiny_chat
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    ids = [tokenizer.encode("Hello there")]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=30)
    thread = threading.Thread(
        target=model.generate, args=(ids,), kwargs={"streamer": streamer, **settings}
    )
    thread.start()
    text = "".join(streamer)
    thread.join()
    (row,) = model.generate(ids, **settings)
    assert text == tokenizer.decode(row[len(ids[0]) :])


def test_a_streamer_sees_prompt_and_tokens(tiny_chat):
    """Any object with put() and end() will do; the prompt comes as a batch, tokens as rows."""

    class Recorder(phi3.BaseStreamer):
        def __init__(self):
            self.values, self.ends = [], 0

        def put(self, value):
            self.values.append((value.shape, value.tolist()))

        def end(self):
            self.ends += 1

    recorder = Recorder()
    (row,) = tiny_chat[0].generate(
        [[5, 6, 7]], streamer=recorder, max_new_tokens=3, do_sample=False, eos_token_id=None
    )
    assert recorder.values[0] == ((1, 3), [[5, 6, 7]])
    assert [value for _, value in recorder.values[1:]] == [[token] for token in row[3:]]
    assert [shape for shape, _ in recorder.values[1:]] == [(1,)] * 3
    assert recorder.ends == 1


def test_a_stream_that_fails_is_not_ended(tiny_chat):
    streamer = Pieces(tiny_chat[1])
    with pytest.raises(ValueError):
        tiny_chat[0].generate([[5, 6, 7]], streamer=streamer, max_length=2, do_sample=False)
    assert streamer.ended == 0 and streamer.token_cache == [5, 6, 7]


def test_the_decoder_of_the_library_never_splits_a_character(tiny_chat):
    tokenizer = tiny_chat[1]
    ids = tokenizer.encode("héllo 😀 日本語")
    decoder = phi3.StreamDecoder(tokenizer.core)
    pieces = [decoder.put(token) for token in ids] + [decoder.end()]
    assert "".join(pieces) == tokenizer.decode(ids)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
