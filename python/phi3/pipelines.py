"""Pipelines: `pipeline("text-generation", ...)`, with the inputs and outputs of transformers.

A call goes through three steps: `_preprocess` makes ids of a prompt, `_forward` lets the model
continue a batch of them, `_postprocess` makes records of the result.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from . import _phi3
from .errors import (
    Error,
    InvalidArgumentError,
    InvalidIndexError,
    InvalidTypeError,
    PipelineError,
    UnknownTaskError,
)
from .generation import FIELDS
from .hub import DEFAULT_MODEL
from .modeling import AutoModelForCausalLM, Phi3ForCausalLM
from .outputs import GenerateOutput
from .random import default_generator
from .stream import Stream
from .tokenization import AutoTokenizer, PreTrainedTokenizer

# What holds for a pipeline where neither the call nor the model's files say anything.
DEFAULTS = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}

# Arguments for the first step and for the last; the rest is for generate().
_ENCODING = ("truncation", "padding", "add_special_tokens", "max_length")
_CHAT = ("continue_final_message", "tools", "documents")
_PREPROCESS = {*_ENCODING, *_CHAT, "prefix", "handle_long_generation", "tokenizer_encode_kwargs"}
_POSTPROCESS = {
    *["return_full_text", "return_tensors", "return_text", "skip_special_tokens"],
    *["clean_up_tokenization_spaces", "continue_final_message"],
}


_RETURNING = ("return_tensors", "return_full_text")


class Chat:
    """One conversation, told apart from a list of prompts."""

    def __init__(self, messages: Any) -> None:
        if not all(map(is_message, messages)):
            raise InvalidArgumentError("every message of a chat needs a 'role' and a 'content'")
        self.messages = messages

    def continues(self, wish: bool | None) -> bool:
        """Whether the model goes on with the last message rather than answers it."""
        return self.messages[-1]["role"] == "assistant" if wish is None else wish


class Prompt(NamedTuple):
    """A prompt on its way: the ids that the model gets, and what the caller gave."""

    ids: list[int]
    given: str | Chat


def is_message(value: object) -> bool:
    return isinstance(value, dict) and "role" in value and "content" in value


class TextGenerationPipeline:
    """Continues texts and answers chats.

    Keyword arguments of the constructor are defaults for those of a call. The keys and values of
    the last conversation are kept, so that going on with it only computes what is new. Threads may
    share a pipeline.
    """

    task = "text-generation"

    def __init__(
        self,
        model: Phi3ForCausalLM,
        tokenizer: PreTrainedTokenizer,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **defaults: Any,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tokenizer.padding_side = "left"
        self.defaults = defaults
        self.batch_size = batch_size
        self._cache: _phi3.Cache | None = None  # of the last conversation; None while in use
        self._cache_lock = threading.Lock()
        _check_arguments(defaults)

    @property
    def device(self) -> str:
        return self.model.device

    @property
    def dtype(self) -> str:
        return self.model.dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r})"

    def __call__(
        self,
        text_inputs: Any,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continues a str, a chat (a list of {"role": ..., "content": ...}), a list of either, or a
        generator of either, which gives an iterator.

        return_full_text: True, prompt and new text, or the chat with the answer appended; False,
            the new text alone. return_tensors: True, `generated_token_ids` in place of the text.
        continue_final_message: go on with the chat's last message; None, if it is the assistant's.
        prefix: goes before prompts that are str. stop_sequence: one or more str that end the text.
        skip_special_tokens (True), clean_up_tokenization_spaces: how ids become text.
        truncation, padding, max_length, add_special_tokens, tokenizer_encode_kwargs: how text
            becomes ids. handle_long_generation="hole": keep what fits of the prompt's end.
        tools, documents: for the chat template. batch_size: how many prompts run at once.
        output_timings: True, every record gets the `timings` of the batch it was computed in.
        The rest are generation settings, see `phi3.GenerationConfig`, and arguments of generate().

        A str or chat gives a list of `num_return_sequences` records, anything else a list of them.
        """
        _check_arguments(kwargs)
        call = _Call(self, kwargs)
        batch_size = batch_size or (self.batch_size or 1 if batch_size is None else 0)
        if batch_size < 1:
            raise InvalidArgumentError(f"batch_size must be at least 1, but is {batch_size}")
        inputs = _recognise(text_inputs)
        if isinstance(inputs, list):
            return list(call.run_all(inputs, batch_size))
        if isinstance(inputs, types.GeneratorType) or _is_dataset(inputs):
            return call.run_all(inputs, batch_size)
        return call.run([call.preprocess(inputs)])[0]

    def stream(self, text_inputs: Any, **kwargs: Any) -> Stream:
        """The new text of a str or a chat, piece by piece, each computed when it is asked for:

            for piece in pipe.stream(messages):
                print(piece, end="", flush=True)

        kwargs: as for a call of the pipeline. Those who want to be handed the text instead pass
        `streamer` to such a call.
        """
        _check_arguments(kwargs)
        call = _Call(self, kwargs)
        given = _recognise(text_inputs)
        if not isinstance(given, (str, Chat)):
            raise InvalidArgumentError("a stream is of one string or one chat, not of a list")
        return call.stream(call.preprocess(given))

    # ---- The last conversation ------------------------------------------------------------------

    def take_cache(self) -> _phi3.Cache:
        """The keys and values of the last conversation, for one thread: another gets empty ones."""
        with self._cache_lock:
            cache, self._cache = self._cache, None
        return cache if cache is not None else _phi3.Cache(self.model.core)

    def put_cache(self, cache: _phi3.Cache | None) -> None:
        """Keeps a conversation for the next call; None forgets the last one."""
        with self._cache_lock:
            self._cache = cache

    def reset(self) -> None:
        """Forgets the last conversation and gives its memory back."""
        self.put_cache(None)


def _check_arguments(kwargs: dict[str, Any]) -> None:
    """Refuses arguments that exclude each other."""
    given = {name for name in _POSTPROCESS if kwargs.get(name) is not None}
    for one, other in [
        ("return_text", "return_full_text"),
        ("return_tensors", "return_full_text"),
        ("return_text", "return_tensors"),
    ]:
        if one in given and other in given:
            raise InvalidArgumentError(f"`{one}` is mutually exclusive with `{other}`")
    handling = kwargs.get("handle_long_generation")
    if handling not in (None, "hole"):
        raise InvalidArgumentError(
            f"`handle_long_generation` must be None or 'hole', but is {handling!r}"
        )


def _without_overruled(defaults: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments that a call leaves in force: a generation_config replaces all
    generation settings, and one way to say what to return replaces another."""
    overruled = set(FIELDS) if kwargs.get("generation_config") is not None else set()
    if any(kwargs.get(name) is not None for name in _RETURNING):
        overruled.update(_RETURNING)
    return {name: value for name, value in defaults.items() if name not in overruled}


class _Call:
    """One call of a pipeline: its arguments, sorted by the step that they are for."""

    def __init__(self, pipe: TextGenerationPipeline, kwargs: dict[str, Any]) -> None:
        self.pipe = pipe
        self.model, self.tokenizer = pipe.model, pipe.tokenizer
        given = {**_without_overruled(pipe.defaults, kwargs), **kwargs}
        self.first = {name: given[name] for name in _PREPROCESS if given.get(name) is not None}
        self.last = {name: given[name] for name in _POSTPROCESS if given.get(name) is not None}
        if "max_length" not in kwargs:  # in the constructor it is no limit for the tokenizer
            self.first.pop("max_length", None)
        dropped = (_PREPROCESS | _POSTPROCESS) - {"max_length"}
        self.generation = {name: value for name, value in given.items() if name not in dropped}
        self._settle_generation()

    # ---- Arguments of generate() ----------------------------------------------------------------

    def _settle_generation(self) -> None:
        """Lays the pipeline's own defaults under what the caller and the model's files say."""
        arguments = self.generation
        if arguments.get("max_length", 0) is None:
            del arguments["max_length"]
        if (stop := arguments.pop("stop_sequence", None)) is not None:
            arguments["stop_strings"] = [stop] if isinstance(stop, str) else stop
            arguments["tokenizer"] = self.tokenizer
        config = arguments.get("generation_config")
        set_before = self.model.generation_config.to_diff_dict()
        if config is not None:
            set_before |= config.to_diff_dict()
        self.settings = {**set_before, **arguments}
        added = {k: v for k, v in self._defaults().items() if k not in self.settings}
        if "max_length" in self.settings:
            added.pop("max_new_tokens", None)
        if not {**self.settings, **added}.get("do_sample"):
            added.pop("temperature", None)
        self.settings |= added
        self._add_prefix_to_lengths(added)
        if config is None:
            arguments.update(added)
        else:
            arguments["generation_config"] = copy.deepcopy(config)
            arguments["generation_config"].update(**added)

    def _defaults(self) -> dict[str, Any]:
        ids = {
            "pad_token_id": self.tokenizer.pad_token_id,
            "bos_token_id": self.tokenizer.bos_token_id,
        }
        return {**DEFAULTS, **{name: value for name, value in ids.items() if value is not None}}

    def _add_prefix_to_lengths(self, added: dict[str, Any]) -> None:
        """A total length does not count the prefix."""
        prefix = self.first.get("prefix")
        if not prefix:
            return
        special = self.first.get("add_special_tokens", False)
        count = len(self.tokenizer.encode(prefix, add_special_tokens=special))
        for total, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if total in self.settings and new not in self.settings:
                added[total] = self.settings[total] + count

    # ---- Steps ----------------------------------------------------------------------------------

    def run_all(self, inputs: Iterable, batch_size: int) -> Iterator[list[dict]]:
        """Records for each of many prompts, one batch at a time."""
        default_generator.next()  # torch's DataLoader draws a seed here, so that seeded runs agree
        prompts = map(self.preprocess, inputs)
        while batch := list(itertools.islice(prompts, batch_size)):
            yield from self.run(batch, padded=batch_size > 1)

    def run(self, batch: list[Prompt], padded: bool = False) -> list[list[dict]]:
        """Records for each prompt of a batch."""
        output = self.forward(batch, padded)
        extra = dict(output) if isinstance(output, GenerateOutput) else {}
        sequences = extra.pop("sequences", output)
        extra.pop("past_key_values", None)
        timings = extra.pop("timings", None)
        repeats = len(sequences) // len(batch)
        width = max(len(prompt.ids) for prompt in batch)
        records = []
        for i, sequence in enumerate(sequences):
            record = self.record(batch[i // repeats].given, sequence, width)
            for name, steps in extra.items():
                record[name] = [step[i].tolist() for step in steps]
            if timings is not None:
                record["timings"] = dict(timings)
            records.append(record)
        return [records[i : i + repeats] for i in range(0, len(records), repeats)]

    def preprocess(self, given: Any) -> Prompt:
        options = {name: self.first[name] for name in _ENCODING if name in self.first}
        options |= self.first.get("tokenizer_encode_kwargs", {})
        if isinstance(given, Chat):
            ids = self._chat_ids(given, options)
        elif isinstance(given, str):
            ids = self.tokenizer(self.first.get("prefix", "") + given, **options)["input_ids"]
        else:
            raise InvalidTypeError(
                "a prompt must be a str or a chat (a list of dicts with 'role' and 'content'), not "
                f"{type(given).__name__}"
            )
        if self.first.get("handle_long_generation") == "hole":
            ids = self._leave_hole(ids)
        return Prompt(list(ids), given)

    def _chat_ids(self, chat: Chat, options: dict[str, Any]) -> list[int]:
        options.pop("add_special_tokens", None)
        continues = chat.continues(self.first.get("continue_final_message"))
        return self.tokenizer.apply_chat_template(
            chat.messages,
            tools=self.first.get("tools"),
            documents=self.first.get("documents"),
            add_generation_prompt=not continues,
            continue_final_message=continues,
            return_dict=False,
            **options,
        )

    def _leave_hole(self, ids: list[int]) -> list[int]:
        """The end of a prompt that leaves room for what is to come."""
        new = self.settings.get("max_new_tokens")
        if new is None:
            new = self.settings["max_length"] - len(ids)
            if new < 0:
                raise InvalidArgumentError("We cannot infer how many new tokens are expected")
        room = self.tokenizer.model_max_length - new
        if len(ids) <= room:
            return ids
        if room <= 0:
            raise InvalidArgumentError(
                "`hole` cannot help: the number of new tokens exceeds the model's maximum length"
            )
        return ids[-room:]

    def forward(self, batch: list[Prompt], padded: bool) -> Any:
        if len(batch) > 1 or padded:
            return self._forward_padded(batch)
        arguments, give_back = self._arguments_of(*batch)
        try:
            return self.model.generate(**arguments)
        finally:
            give_back()

    def stream(self, prompt: Prompt) -> Stream:
        """The new text of a prompt; the pipeline's cache comes back when it is over."""
        if self.generation.get("streamer") is not None:
            raise InvalidArgumentError("a stream gives the text itself: leave `streamer` out")
        arguments, give_back = self._arguments_of(prompt)
        try:
            skip = self.last.get("skip_special_tokens", True)
            decoder = _phi3.StreamDecoder(self.tokenizer.core, skip_special_tokens=skip)
            return Stream(self.model.begin(**arguments), decoder, give_back)
        except BaseException:
            give_back()
            raise

    def _arguments_of(self, prompt: Prompt) -> tuple[dict[str, Any], Callable[[], None]]:
        """The arguments of generate() for one prompt, which gets the pipeline's cache where it
        keeps one, and what gives the cache back."""
        arguments = dict(self.generation)
        if prompt.ids:
            arguments |= {"input_ids": [prompt.ids], "attention_mask": [[1] * len(prompt.ids)]}
        if "past_key_values" in arguments or self.settings.get("use_cache") is False:
            return arguments, lambda: None
        cache = arguments["past_key_values"] = self.pipe.take_cache()
        return arguments, lambda: self.pipe.put_cache(cache)

    def _forward_padded(self, batch: list[Prompt]) -> Any:
        pad = self.tokenizer.pad_token_id
        if pad is None:
            raise InvalidArgumentError(
                "Pipeline with tokenizer without pad_token cannot do batching: set "
                "`pipe.tokenizer.pad_token_id`"
            )
        width = max(len(prompt.ids) for prompt in batch)
        if width and not all(prompt.ids for prompt in batch):
            raise PipelineError("an empty prompt cannot be in a batch with others")
        if not width:
            return self.model.generate(None, **self.generation)
        gaps = [width - len(prompt.ids) for prompt in batch]
        rows = [[pad] * gap + prompt.ids for gap, prompt in zip(gaps, batch, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        return self.model.generate(rows, attention_mask=mask, **self.generation)

    def record(self, given: str | Chat, sequence: list[int], width: int) -> dict[str, Any]:
        """What the caller gets for one sequence, whose first `width` ids are the prompt."""
        if self.last.get("return_tensors") is not None:
            return {"generated_token_ids": list(sequence)}
        text = self.tokenizer.decode(
            sequence[width:],
            skip_special_tokens=self.last.get("skip_special_tokens", True),
            clean_up_tokenization_spaces=self.last.get("clean_up_tokenization_spaces"),
        )
        if not self.last.get("return_full_text", True):
            return {"generated_text": text}
        if isinstance(given, str):
            return {"generated_text": given + text}
        messages = list(given.messages)
        if given.continues(self.last.get("continue_final_message")):
            last = messages.pop()
            messages.append({"role": last["role"], "content": last["content"] + text})
        else:
            messages.append({"role": "assistant", "content": text})
        return {"generated_text": messages}


# ---- Inputs -------------------------------------------------------------------------------------


def _recognise(inputs: Any) -> Any:
    """Tells chats from lists of prompts: a str, a Chat, a list of these, or an iterator of them."""
    if isinstance(inputs, types.GeneratorType):
        return _recognise_generator(inputs)
    if not isinstance(inputs, (list, tuple)):
        return inputs
    if not inputs:
        raise InvalidIndexError("an empty list holds no prompt")
    if is_message(inputs[0]):
        return Chat(inputs)
    if _is_chat(inputs[0]) and all(map(_is_chat, inputs)):
        return [Chat(chat) for chat in inputs]
    return inputs


def _recognise_generator(inputs: Iterator) -> Any:
    try:
        first = next(inputs)
    except StopIteration:
        return []
    if is_message(first):
        return Chat([first, *inputs])
    everything = itertools.chain([first], inputs)
    if _is_chat(first):
        return (Chat(chat) for chat in everything)
    return (prompt for prompt in everything)


def _is_chat(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and is_message(value[0])


def _is_dataset(inputs: Any) -> bool:
    """Whether this is a torch Dataset, without importing torch for the question."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(inputs, data.Dataset)


# ---- The factory --------------------------------------------------------------------------------


def pipeline(
    task: str | None = None,
    model: str | os.PathLike | Phi3ForCausalLM | None = None,
    config: Any = None,
    tokenizer: str | PreTrainedTokenizer | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    use_fast: bool = True,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = "auto",
    torch_dtype: Any = None,
    trust_remote_code: bool | None = None,
    model_kwargs: dict[str, Any] | None = None,
    pipeline_class: type[TextGenerationPipeline] | None = None,
    **kwargs: Any,
) -> TextGenerationPipeline:
    """A pipeline for a task; there is one, "text-generation".

    model, tokenizer: objects or names. `model_kwargs` go to from_pretrained, `kwargs` are defaults
    for the arguments of a call. `config`, `use_fast` and `trust_remote_code` have no effect: the
    model's own files say what it is, and no code of theirs is run.
    """
    _check_parts(task, model, tokenizer)
    source: dict[str, Any] = {"revision": revision, "token": token}
    if "local_files_only" in kwargs:
        source["local_files_only"] = kwargs.pop("local_files_only")
    name: Any = DEFAULT_MODEL if model is None else model
    is_name = isinstance(name, (str, os.PathLike))
    if tokenizer is None and not is_name:
        raise Error(
            "Impossible to guess which tokenizer to use: pass `tokenizer`, an object or a name."
        )
    options = {
        "device_map": _available_device(device) if device is not None else device_map,
        "dtype": torch_dtype if torch_dtype is not None and dtype == "auto" else dtype,
        **(model_kwargs or {}),
    }
    loaded = AutoModelForCausalLM.from_pretrained(name, **source, **options) if is_name else name
    words = name if tokenizer is None else tokenizer
    if isinstance(words, (str, os.PathLike)):
        words = AutoTokenizer.from_pretrained(words, **source)
    return (pipeline_class or TextGenerationPipeline)(loaded, words, **kwargs)


def _check_parts(task: str | None, model: Any, tokenizer: Any) -> None:
    if task is None and model is None:
        raise PipelineError("Impossible to instantiate a pipeline without a task or a model.")
    if model is None and tokenizer is not None:
        raise PipelineError("A tokenizer without a model does not make a pipeline: pass `model`.")
    if task is None and not isinstance(model, (str, os.PathLike)):
        raise PipelineError(
            "Inferring the task automatically needs the name of a model: pass 'text-generation'."
        )
    if task not in (None, TextGenerationPipeline.task):
        raise UnknownTaskError(
            f"Unknown task {task}, available tasks are ['{TextGenerationPipeline.task}']"
        )


def _available_device(device: Any) -> Any:
    """The device asked for, or the CPU where there is no GPU to be device 0, as in transformers."""
    has_cuda = any(b["available"] and b["name"].startswith("cuda") for b in _phi3.backends())
    return "cpu" if isinstance(device, int) and device >= 0 and not has_cuda else device
