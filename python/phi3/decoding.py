"""`model.generate(...)`: prompts in, the same with what the model adds to them out.

The C library chooses the tokens; here the arguments of transformers are sorted out, padding is
taken off before and put back after, and streamers are fed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _phi3, random
from .arrays import IdList, batch_of, from_logits, from_rows, kind_of, masks_of, to_rows
from .errors import InvalidArgumentError, InvalidTypeError, UnsupportedError
from .generation import GenerationConfig, core_arguments, lengths, prepare
from .log import logger
from .outputs import GenerateOutput

# Arguments of transformers' generate() that are not generation settings and that this version does
# not have.
_UNSUPPORTED = [
    *["logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model"],
    *["assistant_tokenizer", "negative_prompt_ids", "negative_prompt_attention_mask"],
]
_REFUSED = ["custom_generate", "synced_gpus", "inputs_embeds", "position_ids"]


class Begun(NamedTuple):
    """A generation that has begun, and what its result is made of."""

    run: _phi3.Generation
    prompt: _Prompt
    config: GenerationConfig
    cache: Any
    streamer: Any
    wants_timings: bool


def generate(*args: Any, **kwargs: Any) -> Any:
    """Continues one sequence of ids or a batch of them. The arguments are those of `begin`.

    Returns the rows with their prompts and new tokens, as the kind of array that came in, or a
    `GenerateOutput` when `return_dict_in_generate` or `output_timings` is set.
    """
    begun = begin(*args, **kwargs)
    result = _result(begun, _Steps(begun.run, begun.config, begun.streamer))
    if begun.wants_timings:
        result["timings"] = begun.run.timings
    return result


def begin(
    core: _phi3.Model,
    defaults: GenerationConfig,
    n_positions: int,
    /,
    inputs: Any = None,
    generation_config: GenerationConfig | None = None,
    *,
    input_ids: Any = None,
    attention_mask: Any = None,
    past_key_values: _phi3.Cache | list[_phi3.Cache] | None = None,
    streamer: Any = None,
    tokenizer: Any = None,
    output_timings: bool = False,
    trust_remote_code: bool | None = None,
    **kwargs: Any,
) -> Begun:
    """Begins a generation: nothing is computed yet, but a streamer has the prompt.

    core, defaults, n_positions: a model, its own settings, and how many tokens it takes; from here
        on, the arguments of `model.generate`.
    inputs, input_ids: rows of ids (a list, lists, a NumPy array, a torch tensor); none: BOS alone.
    attention_mask: 0 where a row is padded. Without it, ids equal to `pad_token_id` count as
        padding unless that is also an EOS.
    past_key_values: a `phi3.Cache` (one for each row): what it has in common with the row is not
        computed again, and it holds the result afterwards.
    streamer: gets the prompt, then every token.
    tokenizer: needed for `stop_strings`.
    output_timings: return a `GenerateOutput` whose `timings` say how many tokens were computed,
        reused and chosen, in how many seconds, and how many a second.
    kwargs: the generation settings, see `phi3.GenerationConfig`.
    """
    _refuse_unsupported(kwargs)
    default_max_length = (
        kwargs.get("max_length") is None
        and getattr(generation_config, "max_length", None) is None
        and defaults.max_length is None
    )
    _refuse_streaming_beams(generation_config, kwargs, streamer)
    config, rest = prepare(defaults, generation_config, kwargs)
    unused = [name for name, value in rest.items() if value is not None]
    if unused:
        raise InvalidArgumentError(
            f"The following `model_kwargs` are not used by the model: {unused} (note: typos in the "
            "generate arguments will also show up in this list)"
        )
    if output_timings:
        config.return_dict_in_generate = True
    prompt = _Prompt(inputs, input_ids, attention_mask, config)
    if streamer is not None:
        repeats = config.num_return_sequences or 1
        streamer.put(batch_of([row for row in prompt.padded for _ in range(repeats)]))
    length = lengths(config, prompt.width, default_max_length, n_positions)
    if config.stop_strings is not None and tokenizer is None:
        raise InvalidArgumentError(
            "stop strings need the model's tokenizer: pass it as the `tokenizer` argument"
        )
    caches = _caches(core, past_key_values, len(prompt.rows), bool(config.return_dict_in_generate))
    run = _phi3.Generation(
        core,
        prompt.rows,
        caches=caches,
        tokenizer=getattr(tokenizer, "core", None),
        random=random.default_generator,
        **core_arguments(config, length),
    )
    cache = past_key_values or (caches[0] if caches else None)
    return Begun(run, prompt, config, cache, streamer, output_timings)


def _refuse_streaming_beams(
    generation_config: GenerationConfig | None, arguments: dict[str, Any], streamer: Any
) -> None:
    beams = arguments.get("num_beams") or getattr(generation_config, "num_beams", None) or 1
    if streamer is not None and beams > 1:
        raise InvalidArgumentError(
            "`streamer` cannot be used with beam search: set `num_beams` to 1"
        )


def _refuse_unsupported(kwargs: dict[str, Any]) -> None:
    for name in [*_UNSUPPORTED, *_REFUSED]:
        value = kwargs.pop(name, None)
        if value is None or value is False or (isinstance(value, list) and not value):
            continue
        version = "" if name in _REFUSED else "this version of "
        raise UnsupportedError(f"`{name}` is not supported by {version}phi3")


# ---- Prompts ------------------------------------------------------------------------------------


class _Prompt:
    """The prompts of a call: as they came (`padded`), and without their padding (`rows`)."""

    def __init__(
        self, inputs: Any, input_ids: Any, attention_mask: Any, config: GenerationConfig
    ) -> None:
        if inputs is not None and input_ids is not None:
            raise InvalidArgumentError("`inputs` and `input_ids` are the same: pass one of them")
        given = inputs if inputs is not None else input_ids
        if given is None:
            if config.bos_token_id is None:
                raise InvalidArgumentError(
                    "`bos_token_id` has to be defined when no `input_ids` are provided."
                )
            given = [[config.bos_token_id]]
        self.kind = kind_of(given)
        self.padded = to_rows(given)
        if len({len(row) for row in self.padded}) > 1:
            raise InvalidArgumentError(
                "the rows of a batch must be of one length: pad them on the left (padding=True)"
            )
        if attention_mask is None:
            attention_mask = _mask_of_padding(self.padded, config)
        masks = masks_of(self.padded, attention_mask)
        # Positions count what is seen, so hidden tokens might as well not be there.
        self.rows = [
            [token for token, seen in zip(row, mask, strict=True) if seen]
            for row, mask in zip(self.padded, masks, strict=True)
        ]
        if any(row and not row[-1] for row in masks):
            logger.warning(
                "A decoder-only model is given right padding: set `padding_side='left'` in the "
                "tokenizer."
            )

    @property
    def width(self) -> int:
        return len(self.padded[0])


def _mask_of_padding(rows: list[list[int]], config: GenerationConfig) -> list[list[int]] | None:
    """1 where an id is not padding; None when padding cannot be told from the text's end."""
    pad, eos = config.pad_token_id, config.eos_token_id
    ends = eos if isinstance(eos, (list, tuple)) else [eos]
    if pad is None or pad in ends or not any(pad in row for row in rows):
        return None
    return [[int(token != pad) for token in row] for row in rows]


def _caches(
    core: _phi3.Model, given: Any, n_rows: int, returned: bool
) -> list[_phi3.Cache | None] | None:
    """One cache for each row. A single row whose result is a dict gets one to return."""
    if given is None:
        return [_phi3.Cache(core)] if returned and n_rows == 1 else None
    caches = [given] if isinstance(given, _phi3.Cache) else given
    if not isinstance(caches, (list, tuple)) or len(caches) != n_rows:
        raise InvalidTypeError("past_key_values must be a phi3.Cache, or one for each row")
    return list(caches)


# ---- Steps and result ---------------------------------------------------------------------------


class _Steps:
    """Runs a generation to its end: the new tokens of every row and what was to be recorded."""

    def __init__(self, run: _phi3.Generation, config: GenerationConfig, streamer: Any) -> None:
        record = bool(config.return_dict_in_generate)
        self.scores: list[_phi3.Logits] | None = [] if record and config.output_scores else None
        self.logits: list[_phi3.Logits] | None = [] if record and config.output_logits else None
        if streamer is None and self.scores is None and self.logits is None:
            self.tokens = run.run()
            return
        steps = []
        while not run.done:
            steps.append(run.step())
            if self.scores is not None:
                self.scores.append(run.scores())
            if self.logits is not None:
                self.logits.append(run.logits())
            if streamer is not None:
                streamer.put(IdList(steps[-1]))
        if streamer is not None:
            streamer.end()
        self.tokens = [list(row) for row in zip(*steps, strict=True)]


def _result(begun: Begun, steps: _Steps) -> Any:
    prompt = begun.prompt
    repeats = len(steps.tokens) // len(prompt.padded)
    rows = [prompt.padded[i // repeats] + new for i, new in enumerate(steps.tokens)]
    sequences = from_rows(rows, prompt.kind)
    if not begun.config.return_dict_in_generate:
        return sequences
    return GenerateOutput(
        sequences=sequences,
        scores=_recorded(steps.scores, prompt.kind),
        logits=_recorded(steps.logits, prompt.kind),
        past_key_values=begun.cache,
    )


def _recorded(steps: list[_phi3.Logits] | None, kind: str | None) -> tuple | None:
    return None if steps is None else tuple(from_logits(step, kind) for step in steps)
