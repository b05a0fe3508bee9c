"""Errors: each is a phi3.Error and the builtin that transformers raises for the same mistake."""

import json

import numpy as np
import phi3
import pytest
from phi3 import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

IDS = [[5, 6, 7, 8]]
GREEDY = {"do_sample": False, "max_new_tokens": 2}

# Arguments of generate() that transformers refuses as well.
MISTAKES = {
    "unknown argument": {"foo": 1},
    "two unknown arguments": {"foo": 1, "max_tokens": 2},
    "no new tokens": {"max_new_tokens": 0},
    "negative new tokens": {"max_new_tokens": -1},
    "prompt at the limit": {"max_length": 4},
    "zero temperature": {"do_sample": True, "temperature": 0.0},
    "integer temperature": {"do_sample": True, "temperature": 2},
    "negative temperature": {"do_sample": True, "temperature": -0.5},
    "negative top_k": {"do_sample": True, "top_k": -1},
    "fractional top_k": {"do_sample": True, "top_k": 3.5},
    "negative top_p": {"do_sample": True, "top_p": -0.1},
    "min_p above one": {"do_sample": True, "min_p": 1.5},
    "integer penalty": {**GREEDY, "repetition_penalty": 2},
    "zero penalty": {**GREEDY, "repetition_penalty": 0.0},
    "two greedy results": {**GREEDY, "num_return_sequences": 2},
    "stop strings without a tokenizer": {**GREEDY, "stop_strings": "x"},
    "early_stopping": {**GREEDY, "early_stopping": "sometimes"},
    "streaming beams": {**GREEDY, "num_beams": 2, "streamer": object()},
}


@pytest.fixture(scope="module")
def model(tiny_chat):
    return tiny_chat[0]


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_transformers_raises_a_base_of_what_phi3_raises(model, tiny_chat_path, mistake):
    import torch
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tiny_chat_path)
    with pytest.raises(Exception) as expected:  # noqa: B017  (whatever it is, it is the oracle)
        theirs.generate(torch.tensor(IDS), **MISTAKES[mistake])
    with pytest.raises(phi3.Error) as found:
        model.generate(IDS, **MISTAKES[mistake])
    assert isinstance(found.value, expected.type)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_value_errors(model, mistake):
    with pytest.raises(phi3.Error) as error:
        model.generate(IDS, **MISTAKES[mistake])
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_beams", 2),
        ("no_repeat_ngram_size", 2),
        ("bad_words_ids", [[1]]),
        ("guidance_scale", 1.5),
        ("max_time", 1.0),
        ("prompt_lookup_num_tokens", 3),
        ("suppress_tokens", [3]),
        ("output_attentions", True),
        ("cache_implementation", "static"),
        ("penalty_alpha", 0.6),
        ("num_beam_groups", 2),
        ("logits_processor", [lambda ids, scores: scores]),
        ("stopping_criteria", [lambda ids, scores: False]),
        ("prefix_allowed_tokens_fn", lambda batch, ids: [1]),
        ("assistant_model", object()),
        ("custom_generate", "somewhere"),
        ("inputs_embeds", [[0.0]]),
    ],
)
def test_what_is_not_supported_is_named(model, argument, value):
    with pytest.raises(phi3.UnsupportedError, match=f"`{argument}`"):
        model.generate(IDS, **GREEDY, **{argument: value})


def test_sampling_flags_that_are_not_supported_only_matter_when_sampling(model):
    model.generate(IDS, **GREEDY, typical_p=0.5)
    with pytest.raises(phi3.UnsupportedError, match="typical_p"):
        model.generate(IDS, do_sample=True, max_new_tokens=2, typical_p=0.5)


def test_arguments_that_ask_for_nothing_are_taken(model):
    plain = model.generate(IDS, **GREEDY)
    nothing = {"num_beams": 1, "guidance_scale": 1.0, "logits_processor": [], "max_time": None}
    assert model.generate(IDS, **GREEDY, **nothing) == plain


@pytest.mark.parametrize(
    "ids",
    [
        "text",
        None.__class__,
        [["a"]],
        [[1.5]],
        [[1], [2, 3]],
        [[]],
        [],
        [[2**31]],
        [[-1]],
        [[32064]],
        np.zeros((1, 2, 3), np.int64),
        {"input_ids": [1]},
    ],
    ids=str,
)
def test_ids_that_are_none(model, ids):
    with pytest.raises(phi3.Error) as error:
        model.generate(ids, **GREEDY)
    assert isinstance(error.value, (TypeError, ValueError))


@pytest.mark.parametrize("mask", [[[1, 1, 1]], [[0, 0, 0, 0]], [["x"] * 4], [[1] * 4] * 2], ids=str)
def test_masks_that_do_not_fit(model, mask):
    with pytest.raises(phi3.Error, match="attention_mask"):
        model.generate(IDS, attention_mask=mask, **GREEDY)
    with pytest.raises(phi3.Error, match="attention_mask"):
        model(IDS, attention_mask=mask)


def test_forward_sees_every_id_between_the_first_and_the_last(model):
    with pytest.raises(phi3.UnsupportedError, match="attention_mask"):
        model(IDS, attention_mask=[[1, 0, 1, 1]])


def test_forward_names_what_it_does_not_take(model):
    with pytest.raises(TypeError, match="labels"):
        model(IDS, labels=IDS)


# ---- Finding and loading models ---------------------------------------------------------------


@pytest.mark.parametrize("loader", [AutoConfig, AutoModelForCausalLM, AutoTokenizer])
def test_a_name_that_is_nowhere(loader, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(phi3.ModelNotFoundError) as error:
        loader.from_pretrained("somebody/something")
    assert isinstance(error.value, OSError)
    assert "somebody/something" in str(error.value)
    assert str(tmp_path) in str(error.value)  # a place that was tried


def test_names_of_the_wrong_type():
    with pytest.raises(TypeError, match="int"):
        AutoModelForCausalLM.from_pretrained(7)
    with pytest.raises(phi3.Error):
        AutoModelForCausalLM.from_pretrained("nul\0character")


def test_unknown_arguments_of_from_pretrained_are_named(tiny_chat_path):
    with pytest.raises(TypeError, match="'load_in_5bit'"):
        AutoModelForCausalLM.from_pretrained(tiny_chat_path, load_in_5bit=True)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("device_map", "tpu"),
        ("device_map", {"a": "cpu", "b": 0}),
        ("compute_dtype", "int3"),
        ("kv_cache_dtype", "float8"),
        ("dtype", "float64"),
        ("n_threads", -1),
    ],
)
def test_values_that_loading_cannot_take(tiny_chat_path, argument, value):
    with pytest.raises(phi3.Error):
        AutoModelForCausalLM.from_pretrained(tiny_chat_path, **{argument: value})


def test_a_broken_file_is_named(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 100)
    for loader in (AutoModelForCausalLM, AutoTokenizer):
        with pytest.raises(phi3.BadFileError, match="broken.gguf") as error:
            loader.from_pretrained(broken)
        assert isinstance(error.value, (OSError, ValueError))


def test_a_model_of_another_family_is_named(tmp_path):
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(phi3.Error, match="bert"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_auto_classes_are_not_made():
    for auto in (AutoConfig, AutoModelForCausalLM, AutoTokenizer):
        with pytest.raises(phi3.Error, match="from_pretrained"):
            auto()


# ---- Pipelines --------------------------------------------------------------------------------


def test_parts_of_a_pipeline(tiny_chat):
    model, tokenizer = tiny_chat
    with pytest.raises(RuntimeError):
        pipeline()
    with pytest.raises(RuntimeError):
        pipeline(model=model, tokenizer=tokenizer)
    with pytest.raises(RuntimeError):
        pipeline("text-generation", tokenizer=tokenizer)
    with pytest.raises(KeyError, match="text-generation"):
        pipeline("text2text-generation", model=model, tokenizer=tokenizer)
    with pytest.raises(phi3.Error, match="tokenizer"):
        pipeline("text-generation", model=model)


def test_memory_stays_with_its_model(tiny_chat, checkpoint):
    """A cache of one model is no use to another."""
    other = AutoModelForCausalLM.from_pretrained(checkpoint("phi4"))
    with pytest.raises(phi3.Error):
        tiny_chat[0].generate(IDS, past_key_values=phi3.Cache(other.core), **GREEDY)
    with pytest.raises(TypeError):
        tiny_chat[0].generate(IDS, past_key_values="cache", **GREEDY)
