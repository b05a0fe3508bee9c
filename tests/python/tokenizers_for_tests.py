"""A tokenizer built as Phi-3.5's is, from a vocabulary that a PyPI package carries.

Phi-3.5 uses Llama 2's SentencePiece vocabulary of 32,000 pieces and eleven tokens of its own.
mistral-common ships one of the same size and kind (byte fallback, score-ordered merges, runs of
spaces scored last; the ids differ) as ``data/tokenizer.model.v1``. ``write_phi35_tokenizer`` writes
the ``tokenizer.json`` and ``tokenizer_config.json`` that Phi-3.5 would have with it.
"""

import functools
import importlib.util
import json
from pathlib import Path

import sentencepiece

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's mark of a space

# (content, id, rstrip, special)
ADDED_TOKENS = (
    ("<unk>", 0, False, True),
    ("<s>", 1, False, True),
    ("</s>", 2, True, False),
    ("<|endoftext|>", 32000, False, True),
    ("<|assistant|>", 32001, True, True),
    ("<|placeholder1|>", 32002, True, True),
    ("<|placeholder2|>", 32003, True, True),
    ("<|placeholder3|>", 32004, True, True),
    ("<|placeholder4|>", 32005, True, True),
    ("<|system|>", 32006, True, True),
    ("<|end|>", 32007, True, True),
    ("<|placeholder5|>", 32008, True, True),
    ("<|placeholder6|>", 32009, True, True),
    ("<|user|>", 32010, True, True),
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def find_package(name: str) -> Path:
    """The directory of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the tests need the package {name}")
    return Path(spec.submodule_search_locations[0])


@functools.cache
def sentencepiece_model() -> sentencepiece.SentencePieceProcessor:
    path = find_package("mistral_common") / "data" / "tokenizer.model.v1"
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def merges_by_score(pieces: dict[str, tuple[int, float]]) -> list[list[str]]:
    """Every split of a piece into two pieces, best score first: what BPE merges in which order.

    ``pieces`` maps a piece to its id and score.  Equal scores go in the order of the ids.
    """
    found = []
    for piece, (i, score) in pieces.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                order = (-score, i, pieces[left][0], pieces[right][0])
                found.append((order, left, right))
    found.sort(key=lambda entry: entry[0])
    return [[left, right] for _, left, right in found]


def added_token(content: str, rstrip: bool, special: bool) -> dict:
    return {
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": rstrip,
        "normalized": False,
        "special": special,
    }


@functools.cache
def phi35_tokenizer_json() -> str:
    """The text of tokenizer.json."""
    model = sentencepiece_model()
    vocab = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    normal = {
        piece: (i, model.get_score(i))
        for piece, i in vocab.items()
        if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, **added_token(content, rstrip, special)}
            for content, i, rstrip, special in ADDED_TOKENS
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges_by_score(normal),
        },
    }
    return json.dumps(document, ensure_ascii=False)


def phi35_tokenizer_config() -> dict:
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(i): added_token(content, rstrip, special)
            for content, i, rstrip, special in ADDED_TOKENS
        },
        "bos_token": "<s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizerFast",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }


def write_phi35_tokenizer(directory: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json into an existing directory."""
    (directory / "tokenizer.json").write_text(phi35_tokenizer_json(), encoding="utf-8")
    config = json.dumps(phi35_tokenizer_config(), indent=2)
    (directory / "tokenizer_config.json").write_text(config, encoding="utf-8")
