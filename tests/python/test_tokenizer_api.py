"""Tokenizers as objects: arguments and results of transformers' own, with the same files."""

import logging

import numpy as np
import phi3
import pytest
from phi3 import AutoTokenizer, BatchEncoding

TEXTS = ["a", "b c d", "", "Hi there 日本 😀x", "<|user|>\nHi<|end|>\n<|assistant|>\n", "x" * 40]


@pytest.fixture()
def tokenizer(tiny_chat_path):
    return AutoTokenizer.from_pretrained(tiny_chat_path)


@pytest.fixture()
def theirs(tiny_chat_path):
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tiny_chat_path)


@pytest.mark.live
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"add_special_tokens": False},
        {"padding": True},
        {"padding": "longest", "padding_side": "right"},
        {"padding": "max_length", "max_length": 50},
        {"padding": "max_length", "max_length": 3, "truncation": True},
        {"padding": True, "pad_to_multiple_of": 8},
        {"truncation": True, "max_length": 2},
        {"max_length": 2},
        {"truncation": False, "max_length": 2},
        {"return_attention_mask": False},
        {"return_offsets_mapping": True},
        {"return_offsets_mapping": True, "padding": True},
        {"return_offsets_mapping": True, "truncation": True, "max_length": 3},
        {"split_special_tokens": True},
    ],
    ids=str,
)
def test_calls_give_what_transformers_gives(tokenizer, theirs, arguments):
    for text in (TEXTS, *TEXTS):
        assert dict(tokenizer(text, **arguments)) == dict(theirs(text, **arguments))


@pytest.mark.live
def test_truncation_side(tokenizer, theirs):
    tokenizer.truncation_side = theirs.truncation_side = "left"
    text = "one two three four five"
    assert tokenizer.encode(text, max_length=3) == theirs.encode(text, max_length=3)


@pytest.mark.live
def test_tensors(tokenizer, theirs):
    for text in ("Hello world", "", ["a", "b c d"]):
        for kind in ("np", "pt"):
            expected = theirs(text, return_tensors=kind, padding=True)
            found = tokenizer(text, return_tensors=kind, padding=True)
            assert list(found) == list(expected)
            for name, value in expected.items():
                assert type(found[name]) is type(value) and found[name].dtype == value.dtype
                assert found[name].tolist() == value.tolist()
                assert found[name].shape == value.shape


def test_tensors_need_rows_of_one_length(tokenizer):
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(["a", "b c d"], return_tensors="np")
    with pytest.raises(ValueError, match="tf"):
        tokenizer("a", return_tensors="tf")


@pytest.mark.live
def test_attributes_are_those_of_transformers(tokenizer, theirs):
    for name in (
        *["bos_token", "eos_token", "unk_token", "pad_token"],
        *["bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id"],
        *["all_special_tokens", "all_special_ids", "special_tokens_map", "vocab_size"],
        *["model_max_length", "padding_side", "truncation_side", "chat_template"],
    ):
        assert getattr(tokenizer, name) == getattr(theirs, name), name
    assert len(tokenizer) == len(theirs)
    assert tokenizer.get_vocab() == theirs.get_vocab()
    assert tokenizer.get_added_vocab() == theirs.get_added_vocab()


@pytest.mark.live
def test_decoding_is_that_of_transformers(tokenizer, theirs):
    ids = [theirs.encode(text) for text in TEXTS]
    for skip in (False, True):
        assert tokenizer.batch_decode(ids, skip_special_tokens=skip) == theirs.batch_decode(
            ids, skip_special_tokens=skip
        )
        for row in ids:
            assert tokenizer.decode(row, skip_special_tokens=skip) == theirs.decode(
                row, skip_special_tokens=skip
            )
            assert tokenizer.convert_ids_to_tokens(row, skip) == theirs.convert_ids_to_tokens(
                row, skip
            )
    assert [tokenizer.tokenize(text) for text in TEXTS] == [theirs.tokenize(t) for t in TEXTS]
    tokens = ["▁Hello", "nope!!", "<|end|>"]
    assert tokenizer.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)


def test_decode_takes_what_models_return(tokenizer):
    ids = tokenizer.encode("Hello world")
    for shape in (ids, tuple(ids), np.array(ids), np.array(ids, np.int32)):
        assert tokenizer.decode(shape) == "Hello world"
    for batch in ([ids, ids], np.array([ids, ids])):
        assert tokenizer.decode(batch) == ["Hello world"] * 2 == tokenizer.batch_decode(batch)
    assert tokenizer.decode(ids[0]) == "Hello"
    assert tokenizer.decode([]) == ""


def test_strange_ids(tokenizer):
    assert tokenizer.decode([32063]) == ""
    assert tokenizer.convert_ids_to_tokens(32063) is None
    for ids in ([-1], [2**40], ["a"], [1.5], "text", None):
        with pytest.raises((TypeError, ValueError)):
            tokenizer.decode(ids)


def test_text_that_is_none(tokenizer):
    for text in ("a\ud800", 5, None, b"bytes", [5], ["a", None]):
        with pytest.raises(phi3.InvalidTypeError):
            tokenizer(text)
    with pytest.raises(phi3.UnsupportedError, match="text_pair"):
        tokenizer("a", "b")


def test_clean_up_has_no_effect_and_says_so(tokenizer, caplog):
    phi3.log.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "phi3"):
        text = tokenizer.decode(tokenizer.encode("Hi , there"), clean_up_tokenization_spaces=True)
    assert text == "Hi , there" and "clean_up_tokenization_spaces" in caplog.text


def test_too_long_a_text_is_logged_once(tokenizer, caplog):
    tokenizer.model_max_length = 4
    with caplog.at_level(logging.WARNING, "phi3"):
        for _ in range(2):
            tokenizer("one two three four five six")
    assert len(caplog.messages) == 1 and "> 4" in caplog.messages[0]


def test_special_tokens_can_be_set(tokenizer):
    tokenizer.pad_token = "<|end|>"
    assert tokenizer.pad_token_id == 32007
    assert tokenizer(["a", "b c"], padding=True)["input_ids"][0][0] == 32007
    tokenizer.pad_token_id = None
    assert tokenizer.pad_token is None
    with pytest.raises(ValueError, match="padding token"):
        tokenizer(["a", "b c"], padding=True)
    with pytest.raises(ValueError, match="no token"):
        tokenizer.eos_token = "no such token"


def test_encodings_are_dicts_with_attributes(tokenizer):
    encoding = tokenizer("Hello")
    assert isinstance(encoding, BatchEncoding) and isinstance(encoding, dict)
    assert encoding.input_ids == encoding["input_ids"] == encoding.data["input_ids"]
    assert encoding.input_ids.shape == (1,)
    assert encoding.to("cuda") is encoding
    with pytest.raises(AttributeError, match="token_type_ids"):
        encoding.token_type_ids  # noqa: B018


def test_models_take_encodings(tiny_chat):
    model, tokenizer = tiny_chat
    encoding = tokenizer(["Hello", "A longer one"], padding=True)
    rows = model.generate(**encoding, max_new_tokens=2, do_sample=False)
    assert rows.shape == (2, encoding["input_ids"][0].shape[0] + 2)


def test_long_texts_take_linear_time_and_free_the_gil(tokenizer):
    text = "The quick brown fox jumps over the lazy dog. " * 20000
    ids, offsets = tokenizer.core.encode(text, offsets=True)
    assert len(ids) == len(offsets) and offsets[-1][1] == len(text)
    assert tokenizer.decode(ids) == text


# ---- Chats ------------------------------------------------------------------------------------

USER = [{"role": "user", "content": "Hi"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *USER]
OTHER_TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.live
@pytest.mark.parametrize("template", [None, OTHER_TEMPLATE])
@pytest.mark.parametrize("conversation", [USER, SYSTEM, [USER, SYSTEM]], ids=["1", "2", "batch"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"tokenize": False},
        {"add_generation_prompt": True},
        {"add_generation_prompt": True, "return_dict": False},
        {"continue_final_message": True, "tokenize": False},
        {"padding": True},
        {"truncation": True, "max_length": 3},
        {"max_length": 3},
    ],
    ids=str,
)
def test_chats_are_rendered_as_by_transformers(
    tokenizer, theirs, template, conversation, arguments
):
    expected = theirs.apply_chat_template(conversation, chat_template=template, **arguments)
    found = tokenizer.apply_chat_template(conversation, chat_template=template, **arguments)
    assert (dict(found) if isinstance(found, dict) else found) == (
        dict(expected) if hasattr(expected, "keys") else expected
    )


def test_chat_mistakes(tokenizer):
    with pytest.raises(ValueError):
        tokenizer.apply_chat_template([])
    with pytest.raises(ValueError, match="not compatible"):
        tokenizer.apply_chat_template(USER, continue_final_message=True, add_generation_prompt=True)
    with pytest.raises(TypeError, match="content"):
        tokenizer.apply_chat_template([{"role": "user", "content": 5}])
    with pytest.raises(TypeError, match="dict"):
        tokenizer.apply_chat_template(["Hi"])
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        tokenizer.apply_chat_template(USER)


def test_a_template_may_raise(tokenizer):
    import jinja2

    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(jinja2.TemplateError, match="alternate") as error:
        tokenizer.apply_chat_template(USER, chat_template=template)
    assert isinstance(error.value, phi3.Error)
    with pytest.raises(phi3.Error):
        tokenizer.apply_chat_template(USER, chat_template="{% if %}")


def test_templates_are_kept_in_a_sandbox(tokenizer):
    for template in (
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
    ):
        with pytest.raises(phi3.Error):
            tokenizer.apply_chat_template(USER, chat_template=template, tokenize=False)


def test_tools_reach_a_template(tokenizer):
    template = "{{ tools | tojson }} {{ extra }}"
    text = tokenizer.apply_chat_template(
        USER, chat_template=template, tools=[{"name": "é"}], extra=5, tokenize=False
    )
    assert text == '[{"name": "é"}] 5'


def test_other_templates_need_jinja(tokenizer, monkeypatch):
    import sys

    from phi3 import chat_template

    chat_template._compile.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(phi3.MissingPackageError, match="pip install"):
        tokenizer.apply_chat_template(USER, chat_template=OTHER_TEMPLATE)
    assert tokenizer.apply_chat_template(USER, tokenize=False).startswith("<|user|>")


def test_special_tokens_that_are_replaced_reach_the_template(tiny_chat_path):
    """The native renderer knows those of the files; other ones go to jinja2."""
    tokenizer = phi3.AutoTokenizer.from_pretrained(tiny_chat_path)
    text = tokenizer.apply_chat_template(USER, tokenize=False)
    assert text.endswith("<|endoftext|>")
    other = text.replace("<|endoftext|>", "<|end|>")
    assert tokenizer.apply_chat_template(USER, tokenize=False, eos_token="<|end|>") == other
    tokenizer.eos_token = "<|end|>"
    assert tokenizer.apply_chat_template(USER, tokenize=False) == other


@pytest.mark.parametrize(
    "argument",
    [{"sanitize_control_tokens": True}, {"return_assistant_tokens_mask": True}, {"tools": [print]}],
)
def test_what_a_chat_cannot_have_yet_is_refused(tiny_chat_path, argument):
    """Above all where ignoring it would let a stranger's text pass for the template's."""
    tokenizer = phi3.AutoTokenizer.from_pretrained(tiny_chat_path)
    with pytest.raises(phi3.UnsupportedError, match=next(iter(argument)).rstrip("s")):
        tokenizer.apply_chat_template(USER, **argument)
