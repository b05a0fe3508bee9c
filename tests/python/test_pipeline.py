"""Pipelines: the inputs and outputs of transformers' own, on the same small model in float32."""

import copy
import types

import phi3
import pytest
from phi3 import GenerationConfig, TextGenerationPipeline, pipeline

GREEDY = {"do_sample": False, "max_new_tokens": 6}
USER = [{"role": "user", "content": "Hi"}]
BEGUN = [*USER, {"role": "assistant", "content": "Well,"}]
LONG = [
    {"role": "system", "content": "Be brief."},
    *BEGUN,
    {"role": "user", "content": "What else?"},
]


@pytest.fixture()
def pipe(tiny_chat):
    return pipeline("text-generation", model=tiny_chat[0], tokenizer=tiny_chat[1])


@pytest.fixture(scope="module")
def theirs(tiny_chat_path):
    transformers = pytest.importorskip("transformers")
    return transformers.pipeline(
        "text-generation", model=str(tiny_chat_path), device="cpu", dtype="float32"
    )


# ---- Against transformers ---------------------------------------------------------------------

INPUTS = {
    "str": "Hello",
    "empty str": "",
    "one chat": USER,
    "chat to be continued": BEGUN,
    "long chat": LONG,
    "tuple chat": tuple(USER),
    "list of one str": ["Hello"],
    "list of str": ["Hello", "A much longer prompt here", "Yo"],
    "list of chats": [USER, BEGUN, LONG],
    "tuple of chats": (USER, LONG),
    "list of one chat": [USER],
}
ARGUMENTS = [
    {},
    {"return_full_text": False},
    {"return_full_text": True},
    {"return_tensors": True},
    {"return_text": True},
    {"skip_special_tokens": False},
    {"prefix": "Say: "},
    {"add_special_tokens": False},
    {"continue_final_message": False},
    {"stop_sequence": "e"},
    {"stop_sequence": ["zz", "a"], "return_full_text": False},
    {"max_new_tokens": None, "max_length": 12},
    {"eos_token_id": list(range(0, 32000, 3))},
    {"min_new_tokens": 4, "eos_token_id": list(range(0, 32000, 2))},
    {"repetition_penalty": 1.5},
    {"truncation": True},
    {"handle_long_generation": "hole"},
    {"tokenizer_encode_kwargs": {"truncation": True, "max_length": 3}},
]


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
def test_calls_give_what_transformers_gives(pipe, theirs, inputs, arguments):
    arguments = {**GREEDY, **arguments}
    try:
        expected = theirs(copy.deepcopy(INPUTS[inputs]), **arguments)
    except Exception as error:
        with pytest.raises(type(error)) as found:
            pipe(INPUTS[inputs], **arguments)
        assert isinstance(found.value, phi3.Error)
    else:
        assert pipe(INPUTS[inputs], **arguments) == expected


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arguments", [{}, {"return_tensors": True}], ids=str)
@pytest.mark.parametrize("inputs", ["list of str", "list of chats", "list of one str"])
@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_batches_give_what_transformers_gives(pipe, theirs, inputs, arguments, batch_size):
    expected = theirs(INPUTS[inputs], batch_size=batch_size, **GREEDY, **arguments)
    found = pipe(INPUTS[inputs], batch_size=batch_size, **GREEDY, **arguments)
    assert found == expected


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inputs", ["Hello", ["Hello", "Yo there"], USER])
@pytest.mark.parametrize("count", [1, 3])
def test_sampling_draws_what_transformers_draws(pipe, theirs, inputs, count):
    import torch

    arguments = {"max_new_tokens": 6, "temperature": 0.9, "num_return_sequences": count}
    torch.manual_seed(11)
    expected = theirs(inputs, **arguments)
    phi3.random.manual_seed(11)
    assert pipe(inputs, **arguments) == expected


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_defaults_are_those_of_transformers(pipe, theirs):
    """256 new tokens, sampled at temperature 0.7."""
    import torch

    torch.manual_seed(2)
    expected = theirs("Hello", return_tensors=True)
    phi3.set_seed(2)
    assert pipe("Hello", return_tensors=True) == expected


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch_size", [1, 2])
def test_scores_are_returned_as_by_transformers(pipe, theirs, batch_size):
    arguments = {**GREEDY, "return_dict_in_generate": True, "output_scores": True}
    arguments |= {"output_logits": True, "batch_size": batch_size, "eos_token_id": None}
    expected = theirs(["Hello", "A longer prompt"], **arguments)
    found = pipe(["Hello", "A longer prompt"], **arguments)
    for (ours,), (other,) in zip(found, expected, strict=True):
        assert ours.keys() == other.keys()
        assert ours["generated_text"] == other["generated_text"]
        for name in ("scores", "logits"):
            assert len(ours[name]) == len(other[name]) == GREEDY["max_new_tokens"]
            assert ours[name][2] == pytest.approx(other[name][2], abs=1e-3)


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("constructor", "call"),
    [
        ({"return_full_text": False}, {}),
        ({"max_new_tokens": 3}, {}),
        ({"max_new_tokens": 3}, {"max_new_tokens": 5}),
        ({"repetition_penalty": 1.8}, {"generation_config": {"max_new_tokens": 4}}),
        ({"batch_size": 2, "prefix": "Oh "}, {}),
        ({"max_length": 9}, {}),
        ({"generation_config": {"max_new_tokens": 4}}, {"repetition_penalty": 1.3}),
        ({"stop_sequence": "e"}, {}),
        ({"return_tensors": True}, {}),
    ],
    ids=str,
)
def test_constructor_arguments_are_defaults(tiny_chat, theirs, constructor, call):
    import transformers

    def with_configs(arguments, make):
        return {
            name: make(**value) if name == "generation_config" else value
            for name, value in arguments.items()
        }

    def run(make_pipeline, model, tokenizer, make_config):
        made = make_pipeline(
            "text-generation",
            model=model,
            tokenizer=tokenizer,
            do_sample=False,
            **with_configs(constructor, make_config),
        )
        return made(["Hello", "Yo there"], **with_configs(call, make_config))

    if "generation_config" in call:  # it replaces do_sample too, so say it again
        call = {"generation_config": {**call["generation_config"], "do_sample": False}}
    expected = run(
        transformers.pipeline, theirs.model, theirs.tokenizer, transformers.GenerationConfig
    )
    assert run(pipeline, *tiny_chat, GenerationConfig) == expected


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "inputs",
    [
        [],
        ("a", "b"),
        map(str, "ab"),
        None,
        7,
        USER[0],
        [USER, "text"],
        ["text", USER],
        ["a", 5],
        [[]],
    ],
    ids=str,
)
def test_inputs_that_are_refused(pipe, theirs, inputs):
    with pytest.raises(Exception) as expected:  # noqa: B017  (whatever it is, it is the oracle)
        theirs(inputs, **GREEDY)
    with pytest.raises(phi3.Error) as found:
        pipe(inputs, **GREEDY)
    assert isinstance(found.value, expected.type)


# ---- By itself --------------------------------------------------------------------------------


def test_a_total_length_cuts_texts_but_not_chats(pipe):
    """So a text that is too long is as long as the limit, which leaves no room for an answer."""
    with pytest.raises(ValueError, match="is 2,"):
        pipe("Hello there you", max_length=2, do_sample=False)
    with pytest.raises(ValueError, match="is 4,"):
        pipe(USER, max_length=2, do_sample=False)


def test_exclusive_arguments(pipe):
    for arguments in (
        {"return_text": True, "return_full_text": True},
        {"return_tensors": True, "return_full_text": False},
        {"return_tensors": True, "return_text": True},
        {"handle_long_generation": "cut"},
        {"batch_size": 0},
        {"foo": 1},
    ):
        with pytest.raises(ValueError):
            pipe("x", **arguments, **GREEDY)


def test_a_later_message_must_be_whole(pipe):
    with pytest.raises(ValueError, match="content"):
        pipe([*USER, {"role": "assistant"}], **GREEDY)


def test_messages_are_the_callers_own_objects(pipe):
    chat = copy.deepcopy(LONG)
    (record,) = pipe(chat, **GREEDY)
    answer = record["generated_text"]
    assert answer is not chat and chat == LONG
    assert all(ours is theirs for ours, theirs in zip(answer, chat, strict=False))
    assert answer[-1]["role"] == "assistant" and len(answer) == len(chat) + 1


def test_a_continued_message_is_a_new_one(pipe):
    chat = [*USER, {"role": "assistant", "content": "Well,", "note": 1}]
    (record,) = pipe(chat, **GREEDY)
    last = record["generated_text"][-1]
    assert set(last) == {"role", "content"} and last["content"].startswith("Well,")
    assert chat[-1]["content"] == "Well,"


def test_generators_are_lazy(pipe):
    taken = []

    def prompts():
        for text in ("Hello", "Yo", "Hey"):
            taken.append(text)
            yield text

    results = pipe(prompts(), **GREEDY)
    assert isinstance(results, types.GeneratorType)
    assert next(results) == pipe("Hello", **GREEDY)
    assert len(taken) < 3
    assert len(list(results)) == 2
    assert pipe((text for text in ()), **GREEDY) == []


def test_generators_of_chats_and_messages(pipe):
    chats = pipe((chat for chat in (USER, LONG)), **GREEDY)
    assert list(chats) == pipe([USER, LONG], **GREEDY)
    assert pipe((message for message in LONG), **GREEDY) == pipe(LONG, **GREEDY)


@pytest.mark.live
def test_datasets_of_torch_are_lazy(pipe):
    import torch

    class Prompts(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return ("Hello", "Yo")[index]

    results = pipe(Prompts(), **GREEDY)
    assert not isinstance(results, list)
    assert list(results) == pipe(["Hello", "Yo"], **GREEDY)


def test_batches_need_prompts_and_padding(pipe, tiny_chat_path):
    with pytest.raises(RuntimeError, match="empty"):
        pipe(["Hello", ""], batch_size=2, **GREEDY)
    pipe.tokenizer = phi3.AutoTokenizer.from_pretrained(tiny_chat_path)
    pipe.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="pad_token"):
        pipe(["Hello", "Yo"], batch_size=2, **GREEDY)


def test_long_prompts_leave_a_hole(pipe, tiny_chat_path):
    pipe.tokenizer = phi3.AutoTokenizer.from_pretrained(tiny_chat_path)
    pipe.tokenizer.model_max_length = 10
    text = "one two three four five six seven eight nine ten"
    (record,) = pipe(text, handle_long_generation="hole", return_tensors=True, **GREEDY)
    ids = pipe.tokenizer.encode(text)[-4:]
    assert record["generated_token_ids"][:4] == ids
    with pytest.raises(ValueError, match="hole"):
        pipe(text, handle_long_generation="hole", do_sample=False, max_new_tokens=11)


def test_names_make_pipelines(tiny_chat_path):
    by_task = pipeline("text-generation", model=str(tiny_chat_path), dtype="float32")
    by_model = pipeline(model=tiny_chat_path, torch_dtype="auto", device=0, trust_remote_code=True)
    assert isinstance(by_model, TextGenerationPipeline)
    assert by_task("Hello", **GREEDY) == by_model("Hello", **GREEDY)
    assert by_model.device == "cpu" and by_model.tokenizer.padding_side == "left"


# ---- The last conversation is kept ------------------------------------------------------------


def conversation(pipe, turns):
    messages = []
    for turn in turns:
        messages = pipe([*messages, {"role": "user", "content": turn}], **GREEDY)[0][
            "generated_text"
        ]
    return messages


def test_going_on_computes_only_what_is_new(pipe):
    messages = conversation(pipe, ["Hi"])
    cache = pipe.take_cache()
    seen = list(cache.ids)
    pipe.put_cache(cache)
    prompt = pipe.tokenizer.apply_chat_template(
        [*messages, {"role": "user", "content": "And?"}], add_generation_prompt=True
    )["input_ids"]
    common = next(
        (i for i, (a, b) in enumerate(zip(seen, prompt, strict=False)) if a != b), len(seen)
    )
    assert common >= 4  # the first turn's prompt at least
    assert pipe.take_cache() is cache


def test_going_on_gives_what_starting_over_gives(pipe, tiny_chat):
    turns = ["Hi", "And then?", "Why is that so?", "Thank you!"]
    kept = conversation(pipe, turns)

    class Forgetful(TextGenerationPipeline):
        def put_cache(self, cache):
            super().put_cache(None)

    assert conversation(Forgetful(*tiny_chat), turns) == kept


def test_another_conversation_is_not_mixed_in(pipe, tiny_chat):
    fresh = pipeline("text-generation", model=tiny_chat[0], tokenizer=tiny_chat[1])
    expected = fresh(LONG, **GREEDY)
    for other in (USER, BEGUN, "Hello", LONG[:2]):
        pipe(other, **GREEDY)
        assert pipe(LONG, **GREEDY) == expected


def test_what_is_kept_can_be_forgotten(pipe):
    pipe(USER, **GREEDY)
    assert len(pipe.take_cache()) > 0
    pipe(USER, **GREEDY)
    pipe.reset()
    assert len(pipe.take_cache()) == 0


def test_a_failure_leaves_the_pipeline_usable(pipe):
    expected = pipe(USER, **GREEDY)
    with pytest.raises(ValueError):
        pipe(USER, foo=1)
    assert pipe(USER, **GREEDY) == expected
