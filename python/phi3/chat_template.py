"""Chat templates: messages in, the prompt's text out.

The templates of the Phi-3 family and ChatML are in the C library. Any other is rendered with
jinja2, in its sandbox, because a template comes from whoever made the model.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import Any

from . import _phi3
from .errors import (
    InvalidArgumentError,
    InvalidTypeError,
    MissingPackageError,
    UnsupportedError,
)

Messages = list[dict[str, Any]]

_CUT_HERE = "<<phi3 continues here>>"  # marks the end of the message to be continued


def render(
    messages: Messages,
    template: str | None,
    *,
    core: _phi3.Tokenizer | None,
    add_generation_prompt: bool,
    continue_final_message: bool,
    variables: dict[str, Any],
) -> str:
    """The prompt of one conversation. `core` is the tokenizer if template and special tokens are
    those of its files, which the C library goes by; `variables` are what a template may look at
    beside the messages."""
    messages = [_without_none(message) for message in messages]
    if not messages:
        raise InvalidArgumentError("A conversation without messages has no prompt.")
    if continue_final_message and add_generation_prompt:
        raise InvalidArgumentError(
            "continue_final_message and add_generation_prompt are not compatible: the one goes on "
            "with the last message, the other begins a new one."
        )
    if continue_final_message and not isinstance(messages[-1].get("content"), str):
        raise InvalidArgumentError(
            "continue_final_message is set but the last message has no text."
        )
    if template is None:
        raise InvalidArgumentError(
            "This tokenizer has no chat template: pass one as `chat_template`, or set "
            "tokenizer.chat_template."
        )
    if core is not None:
        try:
            return core.render_chat(
                [_fields(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
        except UnsupportedError:
            pass
    variables = {**variables, "add_generation_prompt": add_generation_prompt}
    if continue_final_message:
        return _render_open(template, messages, variables)
    return _render_jinja(template, messages, variables)


def _without_none(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InvalidTypeError(f"a chat message must be a dict, not {type(message).__name__}")
    return {key: value for key, value in message.items() if value is not None}


def _fields(message: dict[str, Any]) -> tuple[str, str, str | None]:
    """Role, content and tools of a message, as the C library takes them."""
    for key in ("role", "content"):
        if key not in message:
            raise InvalidArgumentError(f"a chat message has no {key!r}: {message!r}")
        if not isinstance(message[key], str):
            raise InvalidTypeError(f"the {key} of a chat message must be a str: {message[key]!r}")
    tools = message.get("tools")
    if tools is not None and not isinstance(tools, str):
        tools = json.dumps(tools, ensure_ascii=False)
    return message["role"], message["content"], tools


# ---- Other templates ----------------------------------------------------------------------------


def _render_open(template: str, messages: Messages, variables: dict[str, Any]) -> str:
    """The prompt up to the end of the last message's text."""
    last = {**messages[-1], "content": messages[-1]["content"] + _CUT_HERE}
    text = _render_jinja(template, [*messages[:-1], last], variables)
    before, mark, _ = text.rpartition(_CUT_HERE)
    if not mark:
        raise InvalidArgumentError(
            "continue_final_message is set but the chat template leaves the last message out."
        )
    return before


def _render_jinja(template: str, messages: Messages, variables: dict[str, Any]) -> str:
    compiled, template_error = _compile(template)
    try:
        return compiled.render(**_plain({**variables, "messages": messages}))
    except template_error as error:
        raise _chat_template_error()(str(error)) from error


def _plain(value: Any) -> Any:
    """Only plain data for the template: objects have methods, and templates are untrusted."""
    text = json.dumps(value, default=lambda other: f"<{type(other).__name__}>")
    return json.loads(text)


@functools.cache
def _chat_template_error() -> type[InvalidArgumentError]:
    """An error of the template itself; jinja2's users catch it as theirs."""
    from jinja2 import TemplateError

    return type("ChatTemplateError", (InvalidArgumentError, TemplateError), {"__module__": "phi3"})


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> tuple[Any, type[Exception]]:
    """The compiled template, and the class of the errors that rendering it may raise."""
    try:
        import jinja2
        from jinja2 import nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingPackageError(
            "This model's chat template is not one that phi3 has built in. Rendering it needs the "
            "package jinja2: pip install 'phi3[templates]'"
        ) from error

    class Generation(Extension):
        """`{% generation %}` marks what the assistant said, for training; here it is only text."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **kwargs: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **kwargs)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    try:
        return environment.from_string(template), jinja2.TemplateError
    except jinja2.TemplateError as error:
        raise _chat_template_error()(str(error)) from error
