"""How to choose tokens and when to stop: the generation arguments of transformers.

`GenerationConfig` holds them as given. `prepare` lays a call's arguments over the config that was
passed, over the model's own, over the global defaults, and refuses what this version does not do.
`core_arguments` puts the result in the terms of the C library.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InvalidArgumentError, UnsupportedError
from .log import logger, warn_once

# What holds when neither the call nor the model says anything.
GLOBAL_DEFAULTS: dict[str, Any] = {
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "use_cache": True,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "remove_invalid_values": False,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
}

# Fields that act, or that can have no effect on what this version does.
_SUPPORTED = [
    *["max_length", "max_new_tokens", "min_length", "min_new_tokens", "stop_strings"],
    *["do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "use_cache"],
    *["num_return_sequences", "output_scores", "output_logits", "return_dict_in_generate"],
    *["pad_token_id", "bos_token_id", "eos_token_id", "prefill_chunk_size"],
    *["early_stopping", "length_penalty"],  # of beams only
    *["num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"],
    *["assistant_lookbehind", "target_lookbehind", "max_matching_ngram_size"],  # of drafts only
]

# Fields of transformers that this version does not have; the sampling ones matter only then.
_SAMPLING_ONLY_UNSUPPORTED = ["top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"]
_UNSUPPORTED = [
    *["max_time", "num_beams", "bad_words_ids", "renormalize_logits", "forced_bos_token_id"],
    *["forced_eos_token_id", "exponential_decay_length_penalty", "suppress_tokens"],
    *["begin_suppress_tokens", "sequence_bias", "guidance_scale", "prompt_lookup_num_tokens"],
    *["encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"],
    "remove_invalid_values",
]

# Fields of transformers that phi3 will not have.
_REFUSED = [
    *["output_attentions", "output_hidden_states", "token_healing", "watermarking_config"],
    *["use_mtp", "assistant_early_exit", "assistant_ensemble_weight", "speculation_type"],
    *["is_assistant", "cache_implementation", "cache_config", "max_cache_len", "compile_config"],
    *["disable_compile", "continuous_batching_config", "decoder_start_token_id", "low_memory"],
    *["penalty_alpha", "dola_layers", "num_beam_groups", "diversity_penalty", "constraints"],
    "force_words_ids",
]

# Values beside None and the global default that ask for nothing.
_NEUTRAL: dict[str, tuple] = {
    "guidance_scale": (1, 1.0),
    "num_beams": (1,),
    "sequence_bias": ({}, []),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "low_memory": (False,),
}

FIELDS = frozenset([*_SUPPORTED, *_SAMPLING_ONLY_UNSUPPORTED, *_UNSUPPORTED, *_REFUSED])

# Values at which a sampling flag says nothing, so that greedy search need not mention it.
_SILENT_WHEN_GREEDY = {
    "temperature": 1.0,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "top_k": 50,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
_SILENT_WITHOUT_BEAMS = {"early_stopping": False, "length_penalty": 1.0}


class GenerationConfig:
    """Generation arguments by name. What is not given is None: the model may choose."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **kwargs: Any) -> None:
        for name in FIELDS:
            setattr(self, name, None)
        for name, value in kwargs.items():
            setattr(self, name, value)
        self.validate(given=set(kwargs))

    @classmethod
    def from_dict(cls, values: dict[str, Any], **kwargs: Any) -> GenerationConfig:
        return cls(**{**values, **kwargs})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **kwargs: Any) -> GenerationConfig:
        """Reads generation_config.json of a model's directory."""
        from .configuration import read_json
        from .hub import resolve

        return cls.from_dict(read_json(resolve(name), "generation_config.json"), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.__dict__)

    def to_diff_dict(self) -> dict[str, Any]:
        """Only what has been set."""
        return {name: value for name, value in self.to_dict().items() if value is not None}

    def update(self, **kwargs: Any) -> dict[str, Any]:
        """Sets the fields that are named and returns the arguments that are no fields."""
        known = {name for name in kwargs if hasattr(self, name)}
        for name in known:
            setattr(self, name, kwargs[name])
        self.validate(given=known)
        return {name: value for name, value in kwargs.items() if name not in known}

    def fill(self, values: dict[str, Any]) -> None:
        """Sets the fields that are still open."""
        for name, value in values.items():
            if getattr(self, name, None) is None:
                setattr(self, name, value)

    def validate(self, given: set[str]) -> None:
        """Raises for what is wrong by itself; logs flags in `given` that will have no effect."""
        if self.early_stopping not in (None, True, False, "never"):
            raise InvalidArgumentError(
                f"`early_stopping` must be a boolean or 'never', but is {self.early_stopping!r}"
            )
        if self.max_new_tokens is not None and self.max_new_tokens <= 0:
            raise InvalidArgumentError(
                f"`max_new_tokens` must be greater than 0, but is {self.max_new_tokens}"
            )
        self._check_rows()
        idle = self._idle_flags(given)
        if idle:
            warn_once(f"The following generation flags are not valid and may be ignored: {idle}.")

    def _check_rows(self) -> None:
        rows = self.num_return_sequences
        if rows is None or rows <= 1:
            return
        if self.num_beams in (None, 1) and not self.do_sample:
            raise InvalidArgumentError(
                "Greedy search gives one result: set do_sample=True or leave "
                f"`num_return_sequences` at 1 (got {rows})"
            )
        if self.num_beams not in (None, 1) and rows > self.num_beams:
            raise InvalidArgumentError(
                f"`num_return_sequences` ({rows}) must not exceed `num_beams` ({self.num_beams})"
            )

    def _idle_flags(self, given: set[str]) -> list[str]:
        """Flags without effect: sampling flags when greedy, beam flags without beams. A flag that
        the model's files brought along is not held against a call that only asks for greedy."""
        idle = []
        if self.pad_token_id is not None and self.pad_token_id < 0:
            idle.append("pad_token_id")
        if self.do_sample is not True:
            idle += self._set_flags(_SILENT_WHEN_GREEDY, "do_sample", given)
        if self.num_beams in (None, 1):
            idle += self._set_flags(_SILENT_WITHOUT_BEAMS, "num_beams", given)
        if self.return_dict_in_generate is not True:
            outputs = ("output_scores", "output_logits")
            idle += [flag for flag in outputs if getattr(self, flag) is True]
        return idle

    def _set_flags(self, silent: dict[str, Any], mode: str, given: set[str]) -> list[str]:
        return [
            flag
            for flag, quiet in silent.items()
            if getattr(self, flag) not in (None, quiet) and (flag in given or mode not in given)
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        return f"GenerationConfig {json.dumps(self.to_diff_dict(), indent=2, default=str)}"


# ---- From a call's arguments to a plan ----------------------------------------------------------


def prepare(
    own: GenerationConfig, passed: GenerationConfig | None, arguments: dict[str, Any]
) -> tuple[GenerationConfig, dict[str, Any]]:
    """The configuration of one call, and the arguments that are none of it. `own`: the model's."""
    config = copy.deepcopy(passed) if passed is not None else GenerationConfig()
    config.fill(own.to_dict())
    config.fill(GLOBAL_DEFAULTS)
    rest = config.update(**arguments)
    used = set(arguments) - set(rest)
    if passed is not None and used:
        warn_once(
            f"Passing `generation_config` together with generation arguments {sorted(used)} is "
            "deprecated: pass either the one or the others."
        )
    _refuse_unsupported(config)
    _check_processors(config)
    return config, rest


def _asks_for_something(config: GenerationConfig, name: str) -> bool:
    value = getattr(config, name)
    quiet = (None, GLOBAL_DEFAULTS.get(name), *_NEUTRAL.get(name, ()))
    return not any(value is neutral or value == neutral for neutral in quiet)


def _refuse_unsupported(config: GenerationConfig) -> None:
    for name in _REFUSED:
        if _asks_for_something(config, name):
            raise UnsupportedError(f"`{name}` is not supported by phi3")
    later = _UNSUPPORTED + (_SAMPLING_ONLY_UNSUPPORTED if config.do_sample else [])
    for name in later:
        if _asks_for_something(config, name):
            raise UnsupportedError(f"`{name}` is not supported by this version of phi3")


def _check_processors(config: GenerationConfig) -> None:
    penalty = config.repetition_penalty
    if penalty is not None and penalty != 1.0 and not (isinstance(penalty, float) and penalty > 0):
        raise InvalidArgumentError(
            f"`repetition_penalty` has to be a strictly positive float, but is {penalty}"
        )
    if not config.do_sample:
        return
    temperature = config.temperature
    usable = isinstance(temperature, float) and temperature > 0
    if not usable and temperature not in (None, 1.0):
        hint = " For greedy search set `do_sample=False`." if temperature == 0 else ""
        raise InvalidArgumentError(
            f"`temperature` has to be a strictly positive float, but is {temperature}.{hint}"
        )
    top_k = config.top_k
    if top_k is not None and top_k != 0 and not (isinstance(top_k, int) and top_k > 0):
        raise InvalidArgumentError(f"`top_k` has to be a strictly positive integer, but is {top_k}")
    if config.top_p is not None and config.top_p < 0:
        raise InvalidArgumentError(f"`top_p` has to be a float in [0, 1], but is {config.top_p}")
    if config.min_p is not None and not 0 <= config.min_p <= 1:
        raise InvalidArgumentError(f"`min_p` has to be a float in [0, 1], but is {config.min_p}")


class Lengths(NamedTuple):
    """How many new tokens a call may and must give."""

    max_new: int
    min_new: int


def lengths(
    config: GenerationConfig, prompt: int, default_max_length: bool, max_positions: int | None
) -> Lengths:
    """Lengths for prompts of `prompt` tokens, left padding included. `default_max_length` says that
    nobody has set max_length."""
    limit = _length_limit(config, prompt, default_max_length, max_positions)
    if prompt >= limit:
        raise InvalidArgumentError(
            f"Input length of input_ids is {prompt}, but `max_length` is set to {limit}: increase "
            "`max_length` or, better, set `max_new_tokens`"
        )
    floor = config.min_length or 0
    if config.min_new_tokens is not None:
        if config.min_length:
            logger.warning("Both `min_new_tokens` and `min_length` are set: the former holds.")
        floor = prompt + config.min_new_tokens
    if floor > limit:
        warnings.warn(
            f"Unfeasible length constraints: the minimum ({floor}) is larger than the maximum "
            f"({limit}). Generation will stop at the maximum.",
            UserWarning,
            stacklevel=4,
        )
    return Lengths(limit - prompt, max(floor - prompt, 0))


def _length_limit(
    config: GenerationConfig, prompt: int, default_max_length: bool, max_positions: int | None
) -> int:
    if config.max_new_tokens is not None:
        if not default_max_length and config.max_length is not None:
            logger.warning(
                f"Both `max_new_tokens` (={config.max_new_tokens}) and `max_length` "
                f"(={config.max_length}) are set: the former holds."
            )
        return prompt + config.max_new_tokens
    if not default_max_length:
        return config.max_length
    limit = prompt + GLOBAL_DEFAULTS["max_length"]
    if max_positions is not None:
        limit = min(limit, max_positions)
    warnings.warn(
        f"Using the default `max_length` (={limit}) to control the length of the generation. "
        "Set `max_new_tokens` to choose it.",
        UserWarning,
        stacklevel=5,
    )
    return limit


def _id_list(value: Any) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def core_arguments(config: GenerationConfig, length: Lengths) -> dict[str, Any]:
    """The arguments of `_phi3.Generation`. None of an argument means that it is off."""
    strings = config.stop_strings
    return {
        "max_new_tokens": length.max_new,
        "min_new_tokens": length.min_new,
        "do_sample": bool(config.do_sample),
        "repetition_penalty": _or(config.repetition_penalty, 1.0),
        "temperature": _or(config.temperature, 1.0),
        "top_k": _or(config.top_k, 0),
        "top_p": _or(config.top_p, 1.0),
        "min_p": _or(config.min_p, 0.0),
        "eos_token_ids": _id_list(config.eos_token_id),
        "pad_token_id": _or(config.pad_token_id, -1),
        "stop_strings": (strings,) if isinstance(strings, str) else tuple(strings or ()),
        "num_return_sequences": _or(config.num_return_sequences, 1),
        "output_logits": _records(config),
    }


def _records(config: GenerationConfig) -> bool:
    """Whether the result has the logits or scores of every step."""
    wanted = config.output_logits or config.output_scores
    return bool(config.return_dict_in_generate and wanted)


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
