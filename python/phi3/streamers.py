"""Streamers: text as it is generated, with the interface and the rules of transformers."""

from __future__ import annotations

from queue import Queue
from typing import Any

from .arrays import to_list
from .errors import InvalidArgumentError

# CJK ideographs, which no space follows: kana and hangul are not among them.
_IDEOGRAPHS = [
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
]


class BaseStreamer:
    """What `generate(streamer=...)` feeds: `put` gets the prompt, then every token; then `end`."""

    def put(self, value: Any) -> None:
        raise NotImplementedError("a streamer must define put(value)")

    def end(self) -> None:
        raise NotImplementedError("a streamer must define end()")


class TextStreamer(BaseStreamer):
    """Prints text as soon as whole words are there. `decode_kwargs` go to tokenizer.decode."""

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self.token_cache: list[int] = []  # since the last line break
        self.print_len = 0  # how much of their text has been given out
        self.next_tokens_are_prompt = True

    def put(self, value: Any) -> None:
        tokens = to_list(value)
        if tokens and isinstance(tokens[0], list):
            if len(tokens) > 1:
                raise InvalidArgumentError("TextStreamer only supports batch size 1")
            tokens = tokens[0]
        if self.skip_prompt and self.next_tokens_are_prompt:
            self.next_tokens_are_prompt = False
            return
        self.token_cache.extend(tokens)
        text = self._text()
        if text.endswith("\n"):
            ready = text[self.print_len :]
            self.token_cache, self.print_len = [], 0
        else:
            complete = len(text) if text and _is_ideograph(text[-1]) else text.rfind(" ") + 1
            ready = text[self.print_len : complete]
            self.print_len += len(ready)
        self.on_finalized_text(ready)

    def end(self) -> None:
        rest = self._text()[self.print_len :] if self.token_cache else ""
        self.token_cache, self.print_len = [], 0
        self.next_tokens_are_prompt = True
        self.on_finalized_text(rest, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Takes the text that is ready; the last of a stream has stream_end set."""
        print(text, flush=True, end="\n" if stream_end else "")

    def _text(self) -> str:
        return self.tokenizer.decode(self.token_cache, **self.decode_kwargs)


class TextIteratorStreamer(TextStreamer):
    """Iterates over the text while another thread generates it. With a timeout, waiting longer than
    that many seconds raises queue.Empty: a generation that failed never ends its stream."""

    def __init__(
        self,
        tokenizer: Any,
        skip_prompt: bool = False,
        timeout: float | None = None,
        **decode_kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.text_queue: Queue[str | None] = Queue()
        self.stop_signal = None
        self.timeout = timeout

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text_queue.put(text, timeout=self.timeout)
        if stream_end:
            self.text_queue.put(self.stop_signal, timeout=self.timeout)

    def __iter__(self) -> TextIteratorStreamer:
        return self

    def __next__(self) -> str:
        value = self.text_queue.get(timeout=self.timeout)
        if value is None:
            raise StopIteration
        return value


def _is_ideograph(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)
