"""A tokenizer that is written into a GGUF file gives the ids of the tokenizer.json that it came from."""

import json
import random
from pathlib import Path

import checkpoints
import phi3
import pytest
import tokenizer_oracles
from tokenizer_texts import LANGUAGES, generate

WRITTEN = ["phi3.5", "phi4", "phi4-mini"]
REFUSED = ["removed", "runs of digits", "plain text", "metaspace first", "odd normalizers"]


def converted(builder, directory: Path) -> Path:
    """A GGUF file from a tiny checkpoint with this tokenizer."""
    directory.mkdir()
    builder(directory)
    added = json.loads((directory / "tokenizer.json").read_text())["added_tokens"]
    vocab = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    size = max([*vocab.values(), *(token["id"] for token in added)]) + 7
    checkpoints.write("phi3-mini-4k", "float32", directory, vocab_size=size)
    phi3.quantize(directory, directory.parent / "new.gguf", "q8_0")
    return directory.parent / "new.gguf"


@pytest.mark.parametrize("kind", WRITTEN)
def test_ids_are_those_of_the_tokenizer_json(tmp_path, kind):
    path = converted(tokenizer_oracles.FAMILY[kind][0], tmp_path / "checkpoint")
    before = phi3.AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    after = phi3.AutoTokenizer.from_pretrained(path)
    assert len(after) == len(before) and after.chat_template == before.chat_template
    assert after.bos_token_id == before.bos_token_id
    assert before.eos_token_id in (None, after.eos_token_id)  # the model's own, where it has none
    source = random.Random(5)
    texts = [*LANGUAGES.values(), *(generate(source) for _ in range(2000))]
    flags = {token.content for token in added_tokens_with_flags(tmp_path / "checkpoint")}
    compared = 0
    for text in texts:
        if kind != "phi3.5" and any(content.strip() in text for content in flags):
            continue  # GGUF has no words for lstrip, single_word and the like
        ids = list(before(text)["input_ids"])
        assert list(after(text)["input_ids"]) == ids
        assert after.decode(ids) == before.decode(ids)
        compared += 1
    assert compared > 1000


def added_tokens_with_flags(directory: Path) -> list:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return list(tokenizer.get_added_tokens_decoder().values())


@pytest.mark.parametrize("kind", REFUSED)
def test_what_gguf_has_no_words_for_is_refused(tmp_path, kind):
    with pytest.raises(phi3.UnsupportedError, match="GGUF has no words for"):
        converted(tokenizer_oracles.PARTS[kind], tmp_path / "checkpoint")
    assert list(tmp_path.glob("*.gguf")) == []


def test_a_chat_is_rendered_alike(tiny_chat_path, tmp_path):
    phi3.quantize(tiny_chat_path, tmp_path / "new.gguf", "q4_0")
    before = phi3.AutoTokenizer.from_pretrained(tiny_chat_path)
    after = phi3.AutoTokenizer.from_pretrained(tmp_path / "new.gguf")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  héllo\n<|end|> 😀 "},
    ]
    arguments = {"add_generation_prompt": True, "return_dict": False}
    expected = before.apply_chat_template(messages, **arguments)
    assert list(after.apply_chat_template(messages, **arguments)) == list(expected)


def test_a_tokenizer_that_is_too_large(tiny_chat_path, tmp_path):
    """Rows of the embedding and ids must agree."""
    from tokenizers_for_tests import write_phi35_tokenizer

    directory = checkpoints.write("phi3-mini-4k", "float32", tmp_path / "small")
    write_phi35_tokenizer(directory)
    with pytest.raises(phi3.BadFileError, match="ids up to 32010, but the embedding has 512 rows"):
        phi3.quantize(directory, tmp_path / "new.gguf", "q8_0")
