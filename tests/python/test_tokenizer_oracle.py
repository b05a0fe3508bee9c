"""Ids, places, text and streamed text of phi3's tokenizers against Hugging Face tokenizers.

$PHI3_TEST_TOKENIZER may name a directory with a real tokenizer.json: the tests run over it, too.
"""

import os
import random
from pathlib import Path

import pytest
import tokenizer_oracles as oracles
from phi3 import AutoTokenizer
from phi3._phi3 import StreamDecoder
from tokenizer_texts import LANGUAGES, WHITE_SPACE, generate
from tokenizers import Tokenizer

BATCH = 1000

family = dict(oracles.FAMILY)
if "PHI3_TEST_TOKENIZER" in os.environ:

    def _real(_: Path) -> oracles.Pair:
        path = Path(os.environ["PHI3_TEST_TOKENIZER"])
        return oracles.Pair(path, Tokenizer.from_file(str(path / "tokenizer.json")))

    family["the real one"] = (_real, 100_000)


class Comparison:
    """One tokenizer in both libraries."""

    def __init__(self, pair: oracles.Pair) -> None:
        self.oracle = pair.oracle
        self.special = pair.add_special_tokens
        self.reversible = pair.reversible
        self.phi3 = AutoTokenizer.from_pretrained(str(pair.path))
        self.streams = [StreamDecoder(self.phi3.core, skip) for skip in (False, True)]

    def stream(self, ids: list[int], skip: bool) -> str:
        decoder = self.streams[skip]
        return "".join([*map(decoder.put, ids), decoder.end()])

    def encodings(self, texts: list[str]) -> list[list[int]]:
        """Compares ids and places; gives the ids."""
        expected = self.oracle.encode_batch(texts, add_special_tokens=self.special)
        found = self.phi3(
            texts,
            add_special_tokens=self.special,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        for text, want, ids, offsets in zip(
            texts, expected, found["input_ids"], found["offset_mapping"], strict=True
        ):
            assert ids == want.ids, repr(text)
            assert list(map(tuple, offsets)) == want.offsets, repr(text)
        return found["input_ids"]

    def decodings(self, rows: list[list[int]], skip: bool) -> None:
        expected = self.oracle.decode_batch(rows, skip_special_tokens=skip)
        for ids, want in zip(rows, expected, strict=True):
            assert self.phi3.decode(ids, skip_special_tokens=skip) == want, ids
            assert self.stream(ids, skip) == want, ids


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """comparison(name) -> Comparison; each tokenizer is built once."""
    made = {}

    def make(name: str) -> Comparison:
        if name not in made:
            build = family[name][0] if name in family else oracles.PARTS[name]
            made[name] = Comparison(build(tmp_path_factory.mktemp("tokenizer")))
        return made[name]

    return make


def compare_generated(pair: Comparison, count: int, seed: int) -> None:
    """Strings, and rows of ids: those of the strings, and any in any order."""
    source = random.Random(seed)
    size = pair.oracle.get_vocab_size() + 3
    for start in range(0, count, BATCH):
        ids = pair.encodings([generate(source) for _ in range(min(BATCH, count - start))])
        chosen = [
            [source.randrange(size) for _ in range(source.randint(0, 12))]
            for _ in range(BATCH // 4)
        ]
        skip = start // BATCH % 2 == 1
        pair.decodings(ids, skip)
        pair.decodings(chosen, not skip)


@pytest.mark.parametrize("name", family)
def test_generated_strings(comparison, name):
    compare_generated(comparison(name), family[name][1], seed=11)


@pytest.mark.parametrize("name", oracles.PARTS)
def test_other_parts(comparison, name):
    compare_generated(comparison(name), 2000, seed=12)


@pytest.mark.parametrize("name", family)
def test_languages(comparison, name):
    pair = comparison(name)
    texts = [*LANGUAGES.values(), *(text.upper() for text in LANGUAGES.values())]
    rows = pair.encodings(texts)
    pair.decodings(rows, skip=False)
    for text, ids in zip(texts, rows, strict=True):
        if pair.reversible:
            assert pair.phi3.decode(ids) == text


@pytest.mark.parametrize("name", family)
def test_long_texts(comparison, name):
    """Runs and unbroken texts, where merging works on long stretches."""
    pair = comparison(name)
    source = random.Random(5)
    everything = "".join(LANGUAGES.values())
    texts = [
        everything * 20,
        "".join(everything.split()) * 20,
        "".join(source.choices("etaoinshrdlu", k=30_000)),
        "".join(source.choices(everything, k=30_000)),
        "".join(source.choices(WHITE_SPACE, k=3_000)),
        *(" " * length + "x" for length in range(1, 300, 7)),
        *(character * 5_000 for character in ("a", " ", "\n", "▁", "中", "é", "!", "1")),
        "<|" * 5_000 + "<|end|>" * 300 + "<|end|> " * 300,
    ]
    pair.decodings(pair.encodings(texts), skip=True)


@pytest.mark.parametrize("name", ["phi3.5", "phi4"])
def test_split_special_tokens(comparison, name):
    """Control tokens in the text read as plain characters."""
    pair = comparison(name)
    source = random.Random(6)
    pair.oracle.encode_special_tokens = True
    try:
        for text in (generate(source) for _ in range(2000)):
            expected = pair.oracle.encode(text, add_special_tokens=False).ids
            found = pair.phi3(text, add_special_tokens=False, split_special_tokens=True)
            assert found["input_ids"] == expected, repr(text)
    finally:
        pair.oracle.encode_special_tokens = False


@pytest.mark.parametrize("name", family)
def test_vocabulary(comparison, name):
    pair = comparison(name)
    assert len(pair.phi3) == pair.oracle.get_vocab_size()
    for token, i in pair.oracle.get_vocab(with_added_tokens=True).items():
        assert pair.phi3.convert_tokens_to_ids(token) == i
        assert pair.phi3.convert_ids_to_tokens(i) == token or "gguf" not in name
    if "gguf" not in name:
        assert pair.phi3.vocab_size == pair.oracle.get_vocab_size(with_added_tokens=False)
