"""GenerationConfig: its fields, their precedence, and what is logged about idle flags."""

import json
import logging

import phi3
import pytest
from phi3 import GenerationConfig, generation, log

IDS = [[5, 6, 7, 8]]


@pytest.fixture(autouse=True)
def warnings_come_again():
    log.warn_once.cache_clear()


@pytest.fixture(scope="module")
def model(tiny_chat):
    return tiny_chat[0]


@pytest.mark.live
def test_the_fields_are_those_of_transformers():
    import transformers

    theirs = {name for name in vars(transformers.GenerationConfig()) if not name.startswith("_")}
    assert theirs - generation.FIELDS <= {"transformers_version"}
    assert theirs >= generation.FIELDS


@pytest.mark.live
def test_the_global_defaults_are_those_of_transformers():
    import transformers

    theirs = transformers.GenerationConfig()._get_default_generation_params()
    assert {k: v for k, v in theirs.items() if v is not None} == generation.GLOBAL_DEFAULTS


@pytest.mark.live
@pytest.mark.parametrize(
    ("own", "passed", "arguments"),
    [
        ({}, None, {}),
        ({"top_k": 7, "temperature": 0.5, "do_sample": True}, None, {}),
        ({"top_k": 7}, {"top_k": 8}, {}),
        ({"top_k": 7}, {"top_k": 8}, {"top_k": 9}),
        ({"top_k": 7}, {"top_k": 8}, {"top_k": None}),
        ({"top_k": 7, "top_p": 0.5}, {"do_sample": True}, {"top_p": None}),
        ({"max_new_tokens": 5, "eos_token_id": [1, 2]}, None, {"eos_token_id": None}),
        ({"do_sample": True, "min_p": 0.1}, {"min_p": 0.2}, {"do_sample": False}),
    ],
)
def test_precedence_is_that_of_transformers(tiny_chat_path, own, passed, arguments):
    """Arguments beat the config passed, which beats the model's, which beats the global defaults."""
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tiny_chat_path)
    theirs.generation_config = transformers.GenerationConfig(**own)
    given = None if passed is None else transformers.GenerationConfig(**passed)
    expected, _ = theirs._prepare_generation_config(given, **arguments)
    given = None if passed is None else GenerationConfig(**passed)
    found, rest = generation.prepare(GenerationConfig(**own), given, arguments)
    assert rest == {}
    for name in generation.FIELDS - {"transformers_version"}:
        assert getattr(found, name) == getattr(expected, name), name


def test_fields_start_empty():
    config = GenerationConfig()
    assert all(getattr(config, name) is None for name in generation.FIELDS)
    assert config.to_diff_dict() == {}
    assert GenerationConfig(top_k=3).to_diff_dict() == {"top_k": 3}
    assert GenerationConfig(top_k=3) == GenerationConfig.from_dict({"top_k": 3}) != config


def test_update_gives_back_what_it_does_not_know():
    config = GenerationConfig(top_k=3)
    assert config.update(top_k=4, foo=1) == {"foo": 1}
    assert config.top_k == 4


def test_a_model_knows_its_own(model, tiny_chat_path, smollm2):
    written = json.loads((tiny_chat_path / "generation_config.json").read_text())
    assert model.generation_config == GenerationConfig(**written)
    assert model.generation_config.bos_token_id == 1
    assert smollm2[0].generation_config.eos_token_id == [smollm2[1].eos_token_id]


def test_idle_flags_are_logged_once(model, caplog):
    with caplog.at_level(logging.WARNING, "phi3"):
        for _ in range(2):
            model.generate(IDS, do_sample=False, temperature=0.0, max_new_tokens=1)
    assert len(caplog.messages) == 1
    assert "['temperature']" in caplog.messages[0]


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        ({"top_p": 0.5}, "['top_p']"),
        ({"top_k": 5, "min_p": 0.1}, "['min_p', 'top_k']"),
        ({"length_penalty": 2.0}, "['length_penalty']"),
        ({"output_scores": True}, "['output_scores']"),
        ({"temperature": 1.0, "top_k": 50, "top_p": 1.0}, None),
        ({"do_sample": True, "top_p": 0.5}, None),
    ],
)
def test_idle_flags(caplog, arguments, idle):
    with caplog.at_level(logging.WARNING, "phi3"):
        GenerationConfig(**arguments)
    assert [idle in message for message in caplog.messages] == ([] if idle is None else [True])


def test_a_config_and_arguments_together_are_logged(model, caplog):
    with caplog.at_level(logging.WARNING, "phi3"):
        model.generate(IDS, GenerationConfig(max_new_tokens=1), do_sample=False)
    assert "do_sample" in caplog.text and "deprecated" in caplog.text


def test_the_default_length_is_twenty_more(model):
    with pytest.warns(UserWarning, match="max_new_tokens"):
        (row,) = model.generate(IDS, do_sample=False, eos_token_id=None)
    assert len(row) == len(IDS[0]) + 20


def test_lengths(model):
    def new(**arguments):
        (row,) = model.generate(IDS, do_sample=False, eos_token_id=None, **arguments)
        return len(row) - len(IDS[0])

    assert new(max_length=9) == 5
    assert new(max_new_tokens=3, max_length=50) == 3
    assert new(generation_config=GenerationConfig(max_new_tokens=2)) == 2
    with pytest.warns(UserWarning, match="Unfeasible"):
        assert new(max_new_tokens=2, min_new_tokens=5) == 2


def test_minimum_lengths_hold_eos_back(model):
    """The first greedy token is declared EOS: it comes at once, or not before the minimum."""
    eos = model.generate(IDS, do_sample=False, max_new_tokens=1)[0][-1]

    def new(**arguments):
        (row,) = model.generate(
            IDS, do_sample=False, max_new_tokens=8, eos_token_id=eos, **arguments
        )
        return row[len(IDS[0]) :]

    assert new() == [eos]
    assert eos not in new(min_new_tokens=4)[:4]
    assert eos not in new(min_length=len(IDS[0]) + 4)[:4]


def test_padding_counts_as_prompt(model):
    """max_length is measured with the padding of the batch, as in transformers."""
    rows = model.generate(
        [[32000, 32000, 5, 6], [5, 6, 7, 8]],
        attention_mask=[[0, 0, 1, 1], [1, 1, 1, 1]],
        do_sample=False,
        max_length=6,
        eos_token_id=None,
    )
    assert [len(row) for row in rows] == [6, 6]


def test_seeds_repeat(model):
    def draw():
        return model.generate(IDS, do_sample=True, temperature=1.5, max_new_tokens=8)

    phi3.set_seed(3)
    first, second = draw(), draw()
    phi3.random.manual_seed(3)
    assert draw() == first and draw() == second != first
