"""Tokenizers: `AutoTokenizer.from_pretrained`, with the interface of transformers' tokenizers."""

from __future__ import annotations

import os
from typing import Any

from . import _phi3
from .arrays import to_list
from .chat_template import render
from .configuration import read_json
from .encoding import BatchEncoding, longest_row, pad, truncate
from .errors import InvalidArgumentError, InvalidTypeError, UnsupportedError
from .hub import resolve
from .log import logger, warn_once

_UNLIMITED = int(1e30)  # model_max_length when nobody names one, as in transformers
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


class _SpecialTokenId:
    """The attribute `pad_token_id`, say. It can be set: the C tokenizer does not need to know."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    def __get__(self, tokenizer: PreTrainedTokenizer, owner: type) -> int | None:
        return tokenizer._special_ids[self.role]

    def __set__(self, tokenizer: PreTrainedTokenizer, token_id: int | None) -> None:
        tokenizer._special_ids[self.role] = token_id


class _SpecialToken:
    """The attribute `pad_token`, say: the same by its spelling."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    def __get__(self, tokenizer: PreTrainedTokenizer, owner: type) -> str | None:
        token_id = tokenizer._special_ids[self.role]
        return None if token_id is None else tokenizer.core.id_to_token(token_id)

    def __set__(self, tokenizer: PreTrainedTokenizer, token: str | None) -> None:
        token_id = None if token is None else tokenizer.core.token_to_id(token)
        if token is not None and token_id is None:
            raise InvalidArgumentError(f"{token!r} is no token of this tokenizer")
        tokenizer._special_ids[self.role] = token_id


class PreTrainedTokenizer:
    """Text to ids and back. Any number of threads may share one that nobody changes."""

    bos_token, bos_token_id = _SpecialToken(), _SpecialTokenId()
    eos_token, eos_token_id = _SpecialToken(), _SpecialTokenId()
    unk_token, unk_token_id = _SpecialToken(), _SpecialTokenId()
    pad_token, pad_token_id = _SpecialToken(), _SpecialTokenId()

    def __init__(self, core: _phi3.Tokenizer, path: str) -> None:
        written = read_json(path, "tokenizer_config.json")
        self.core = core
        self.name_or_path = path
        self.padding_side: str = written.get("padding_side", "left")
        self.truncation_side: str = written.get("truncation_side", "right")
        self.model_max_length: int = core.model_max_length or _UNLIMITED
        self.chat_template: str | None = core.chat_template
        self.additional_special_tokens = _contents(written, "additional_special_tokens")
        self._special_ids: dict[str, int | None] = dict(core.special_ids)
        self._warned_of_length = False

    # ---- Vocabulary -----------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary without the added tokens."""
        return self.core.vocab_size

    def __len__(self) -> int:
        return len(self.core)

    def get_vocab(self) -> dict[str, int]:
        tokens = ((self.core.id_to_token(i), i) for i in range(len(self)))
        return {token: i for token, i in tokens if token is not None} | self.get_added_vocab()

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        return {content: token_id for content, token_id, _ in self.core.added_tokens}

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        return self.get_added_vocab()

    @property
    def special_tokens_map(self) -> dict[str, str]:
        roles = {role: getattr(self, role) for role in _ROLES}
        return {role: token for role, token in roles.items() if token is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        return list(
            dict.fromkeys([*self.special_tokens_map.values(), *self.additional_special_tokens])
        )

    @property
    def all_special_ids(self) -> list[int]:
        return self.convert_tokens_to_ids(self.all_special_tokens)

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        """Ids of tokens by their spelling; unknown ones become the unknown token."""
        if isinstance(tokens, str):
            token_id = self.core.token_to_id(tokens)
            return self.unk_token_id if token_id is None else token_id
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Spellings of ids. Here only the tokens of `all_special_tokens` can be skipped."""
        ids = to_list(ids)
        if isinstance(ids, int):
            return self.core.id_to_token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self.core.id_to_token(i) for i in ids if i not in skipped]

    # ---- Text to ids ----------------------------------------------------------------------------

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text by their spelling; added ones with the white space they swallow."""
        ids, offsets = self.core.encode(text, add_special_tokens=add_special_tokens, offsets=True)
        added = {token_id for _, token_id, _ in self.core.added_tokens}
        return [
            token_id in added and text[start:end] or self.core.id_to_token(token_id) or ""
            for token_id, (start, end) in zip(ids, offsets, strict=True)
        ]

    def encode(self, text: str, *, return_tensors: str | None = None, **kwargs: Any) -> Any:
        """The ids of a text: `tokenizer(text, ...)["input_ids"]`."""
        return self(text, return_tensors=return_tensors, **kwargs)["input_ids"]

    def __call__(
        self,
        text: str | list[str],
        text_pair: None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_offsets_mapping: bool = False,
        split_special_tokens: bool = False,
    ) -> BatchEncoding:
        """Ids and attention mask of a text or a list of texts.

        padding: True or "longest", "max_length", or False. truncation: True to cut at `max_length`,
        else at `model_max_length`; `max_length` alone cuts too. return_tensors: "np" or "pt".
        return_offsets_mapping: where each token stood, in characters. split_special_tokens: read
        control tokens in the text as plain characters: for text that comes from strangers.
        """
        if text_pair is not None:
            raise UnsupportedError("`text_pair` is not supported: these models have no text pairs")
        single = isinstance(text, str)
        texts: Any = [text] if single else text
        if not isinstance(texts, (list, tuple)):
            raise InvalidTypeError(
                f"text must be a str or a list of str, not {type(text).__name__}"
            )
        encoded = [
            self.core.encode(
                item,
                add_special_tokens=add_special_tokens,
                split_special_tokens=split_special_tokens,
                offsets=return_offsets_mapping,
            )
            for item in texts
        ]
        columns = {"input_ids": encoded}
        if return_offsets_mapping:
            columns = {
                "input_ids": [ids for ids, _ in encoded],
                "offset_mapping": [offsets for _, offsets in encoded],
            }
        if return_attention_mask is not False:
            columns["attention_mask"] = [[1] * len(ids) for ids in columns["input_ids"]]
        length = self._truncation_length(padding, truncation, max_length)
        if length is not None:
            truncate(columns, length, self.truncation_side)
        self._warn_of_length(longest_row(columns))
        width = self._padded_width(longest_row(columns), padding, max_length, pad_to_multiple_of)
        if width is not None:
            pad(columns, width, padding_side or self.padding_side, self.pad_token_id)
        return BatchEncoding.of(columns, single, return_tensors)

    def _truncation_length(
        self, padding: bool | str, truncation: bool | str | None, max_length: int | None
    ) -> int | None:
        """The length to cut every row to; None to leave them as they are."""
        if truncation is None:
            truncation = max_length is not None and padding is False
        if truncation in (False, "do_not_truncate"):
            return None
        if truncation not in (True, "longest_first", "only_first"):
            raise InvalidArgumentError(f"{truncation!r} is not a way to truncate")
        return max_length if max_length is not None else self.model_max_length

    def _padded_width(
        self, longest: int, padding: bool | str, max_length: int | None, multiple: int | None
    ) -> int | None:
        """The length to pad every row to; None to leave them as they are."""
        if padding in (False, "do_not_pad"):
            return None
        if padding not in (True, "longest", "max_length"):
            raise InvalidArgumentError(f"{padding!r} is not a way to pad")
        if self.pad_token_id is None:
            raise InvalidArgumentError(
                "Asking to pad but the tokenizer does not have a padding token: set one, for "
                "example `tokenizer.pad_token = tokenizer.eos_token`"
            )
        width = longest
        if padding == "max_length":
            limit = max_length if max_length is not None else self.model_max_length
            if limit >= _UNLIMITED:
                return None
            width = max(longest, limit)
        return -(-width // multiple) * multiple if multiple else width

    def _warn_of_length(self, longest: int) -> None:
        if longest > self.model_max_length and not self._warned_of_length:
            self._warned_of_length = True
            logger.warning(
                f"Token indices sequence length is longer than the model's maximum ({longest} > "
                f"{self.model_max_length})."
            )

    # ---- Ids to text ----------------------------------------------------------------------------

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """The text of one id or a sequence of ids; a list of texts for a batch of sequences."""
        if clean_up_tokenization_spaces:
            warn_once("`clean_up_tokenization_spaces` has no effect on BPE tokenizers.")
        ids = to_list(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if isinstance(ids, (list, tuple)) and ids and isinstance(to_list(ids[0]), (list, tuple)):
            return [self.core.decode(to_list(row), skip_special_tokens) for row in ids]
        return self.core.decode(ids, skip_special_tokens)

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        return [self.decode(sequence, **kwargs) for sequence in to_list(sequences)]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self.core.decode(self.convert_tokens_to_ids(tokens))

    # ---- Chats ----------------------------------------------------------------------------------

    def apply_chat_template(
        self,
        conversation: list,
        tools: list | None = None,
        documents: list | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        sanitize_control_tokens: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The prompt of a conversation, or of a list of them: ids with their mask, or the text when
        `tokenize` is False. The templates of the Phi-3 family and ChatML are built in; any other
        needs the package jinja2 (`pip install phi3[templates]`). `kwargs` are template variables.
        """
        if sanitize_control_tokens:
            raise UnsupportedError("`sanitize_control_tokens` is not supported by this version")
        if return_assistant_tokens_mask:
            raise UnsupportedError(
                "`return_assistant_tokens_mask` is not supported by this version"
            )
        if any(callable(tool) for tool in tools or ()):
            raise UnsupportedError("a tool must be given as a JSON schema, not as a function")
        is_batch = bool(conversation) and isinstance(conversation[0], (list, tuple))
        template = chat_template or self.chat_template
        variables = {"tools": tools, "documents": documents, **kwargs}
        texts = [
            render(
                messages,
                template,
                core=self.core if self._is_of_files(template, variables) else None,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables={**self.special_tokens_map, **variables},
            )
            for messages in (conversation if is_batch else [conversation])
        ]
        text = texts if is_batch else texts[0]
        if not tokenize:
            return text
        encoding = self(
            text,
            add_special_tokens=False,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
            **(tokenizer_kwargs or {}),
        )
        return encoding if return_dict else encoding["input_ids"]

    def _is_of_files(self, template: str | None, variables: dict[str, Any]) -> bool:
        """Whether template and special tokens are those of the tokenizer's files, rather than what
        a call or an assignment has put in their place."""
        replaced = {"bos_token", "eos_token"} & variables.keys()
        own_tokens = self._special_ids == self.core.special_ids
        return template == self.core.chat_template and not replaced and own_tokens

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"special_tokens={self.special_tokens_map})"
        )


def _contents(config: dict[str, Any], name: str) -> list[str]:
    """The spellings in a list of tokens of tokenizer_config.json, written as str or as dict."""
    tokens = config.get(name)
    tokens = tokens if isinstance(tokens, list) else []
    return [token["content"] if isinstance(token, dict) else token for token in tokens]


class AutoTokenizer:
    """`AutoTokenizer.from_pretrained(name)`."""

    def __init__(self) -> None:
        raise InvalidTypeError("use AutoTokenizer.from_pretrained(name)")

    @staticmethod
    def from_pretrained(
        name: str | os.PathLike,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        gguf_file: str | None = None,
        padding_side: str | None = None,
        trust_remote_code: bool | None = None,
        use_fast: bool = True,
    ) -> PreTrainedTokenizer:
        """Loads the tokenizer of a model by the model's name or path. `trust_remote_code` and
        `use_fast` have no effect: no code is run, and there is one kind of tokenizer."""
        path = resolve(
            name,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            gguf_file=gguf_file,
        )
        tokenizer = PreTrainedTokenizer(_phi3.Tokenizer(path), path)
        if padding_side is not None:
            tokenizer.padding_side = padding_side
        return tokenizer
