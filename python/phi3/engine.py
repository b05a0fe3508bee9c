"""`phi3.Engine`: many callers, one model: a thread of the library generates for all together.

    engine = phi3.Engine("smollm2-135m", n_slots=8)
    request = engine.submit([{"role": "user", "content": "Hello!"}])
    for piece in request:  # or: async for piece in request
        print(piece, end="")

What a request gets does not depend on its company: it is what it would get alone for its seed. But
on CUDA, whose tensor cores take many rows another way than few.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Iterator
from typing import Any

from . import _phi3
from .errors import InvalidArgumentError
from .generation import Lengths, core_arguments, prepare
from .modeling import AutoModelForCausalLM, Phi3ForCausalLM
from .pipelines import DEFAULTS, Chat, is_message
from .random import default_generator
from .tokenization import AutoTokenizer, PreTrainedTokenizer


class Request:
    """What `Engine.submit` gives: a stream of text. Abandoning an iteration cancels it."""

    def __init__(self, core: _phi3.Request) -> None:
        self.core = core
        self.finish_reason: str | None = None  # "eos", "stop" or "length" once it has finished

    def take(self) -> str:
        """The text that has come since the last take, perhaps none, without waiting. After the end,
        `finish_reason` is set; a request that failed or was cancelled raises."""
        text, _, self.finish_reason = self.core.take()
        return text

    def fileno(self) -> int:
        """A descriptor for select and event loops that can be read from while there is news."""
        return self.core.fileno()

    def cancel(self) -> None:
        """Stops the request within one step. It then raises `phi3.StoppedError`."""
        self.core.cancel()

    @property
    def info(self) -> dict[str, Any]:
        """Its state, its tokens (prompt, reused, new) and its times in seconds."""
        return self.core.info()

    def text(self) -> str:
        """Waits for the end and returns the text that was not taken yet."""
        return "".join(self)

    def __iter__(self) -> Iterator[str]:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        try:
            while self.finish_reason is None:
                poll.poll()
                if text := self.take():
                    yield text
        finally:
            self.cancel()  # which means nothing to one that has ended

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while self.finish_reason is None:
                await self._news()
                if text := self.take():
                    yield text
        finally:
            self.cancel()

    async def _news(self) -> None:
        loop = asyncio.get_running_loop()
        news = loop.create_future()
        descriptor = self.fileno()
        loop.add_reader(descriptor, lambda: news.done() or news.set_result(None))
        try:
            await news
        finally:
            loop.remove_reader(descriptor)


class Engine:
    """Generates for any number of threads and tasks at once.

    model, tokenizer: objects or names. n_slots: how many requests are generated together. queue:
    how many more may wait; `submit` raises `phi3.QueueFullError` beyond. max_length: tokens that a
    prompt and its answer may have together, which bounds the memory of the slots; None: as many as
    the model takes. n_threads: 0: as the model was loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike | Phi3ForCausalLM,
        tokenizer: str | PreTrainedTokenizer | None = None,
        *,
        n_slots: int = 4,
        queue: int = 64,
        max_length: int | None = None,
        n_threads: int = 0,
    ) -> None:
        if tokenizer is None:
            tokenizer = model.name_or_path if isinstance(model, Phi3ForCausalLM) else model
        if isinstance(model, (str, os.PathLike)):
            model = AutoModelForCausalLM.from_pretrained(model)
        if isinstance(tokenizer, (str, os.PathLike)):
            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        if n_slots < 1 or queue < 1:
            raise InvalidArgumentError("n_slots and queue must be at least 1")
        self.model, self.tokenizer = model, tokenizer
        self.core = _phi3.Engine(
            model.core,
            tokenizer.core,
            n_slots=n_slots,
            n_queue=queue,
            max_length=max_length or 0,
            n_threads=n_threads,
        )

    def submit(self, inputs: Any, *, seed: int | None = None, **kwargs: Any) -> Request:
        """Puts a chat (a list of messages), a text or ids into the queue.

        kwargs: the generation settings, with the defaults of a pipeline; one sequence. A stop
        string is not part of the text. seed: of the request's own random numbers; None: drawn.
        """
        prompt, is_rendered = self._prompt_of(inputs)
        own = self.model.generation_config
        defaults = {k: v for k, v in DEFAULTS.items() if k not in own.to_diff_dict()}
        if not {**own.to_diff_dict(), **defaults, **kwargs}.get("do_sample"):
            defaults.pop("temperature", None)
        if kwargs.get("max_length") is not None:
            defaults.pop("max_new_tokens", None)
        config, unknown = prepare(own, None, {**defaults, **kwargs})
        if unknown:
            raise InvalidArgumentError(f"submit() does not take {sorted(unknown)}")
        new = [-1 if n is None else n for n in (config.max_new_tokens, config.min_new_tokens)]
        lengths = {name: kwargs[name] for name in ("max_length", "min_length") if kwargs.get(name)}
        return Request(
            self.core.submit(
                prompt,
                seed=(default_generator.next() if seed is None else int(seed)) & (2**64 - 1),
                add_special_tokens=not is_rendered,
                **core_arguments(config, Lengths(*new)),
                **lengths,
            )
        )

    def _prompt_of(self, inputs: Any) -> tuple[Any, bool]:
        """The prompt, and whether it has its special tokens already."""
        if not (isinstance(inputs, (list, tuple)) and inputs and is_message(inputs[0])):
            return inputs, False
        chat = Chat(inputs)
        continues = chat.continues(None)
        text = self.tokenizer.apply_chat_template(
            chat.messages,
            tokenize=False,
            add_generation_prompt=not continues,
            continue_final_message=continues,
        )
        return text, True

    def stats(self) -> dict[str, Any]:
        """Counts since the start (requests, tokens, seconds) and what is held now."""
        return self.core.stats()

    def close(self) -> None:
        """Stops the requests that have not ended, and the thread."""
        self.core.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
