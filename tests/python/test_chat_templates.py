"""phi3's native chat templates against Jinja itself, on the templates' own sources.

``data/chat_templates`` holds the sources that model files carry.  Each is rendered with jinja2 as
transformers renders it, and with phi3 while jinja2 is out of its reach.  The texts must be equal.
"""

import json
import random
import sys
from pathlib import Path
from unittest import mock

import phi3
import pytest
from tokenizers_for_tests import phi35_tokenizer_config, write_phi35_tokenizer

jinja2 = pytest.importorskip("jinja2")
pytest.importorskip("jinja2.sandbox")

SOURCES = {
    path.stem: path.read_bytes().decode()
    for path in sorted((Path(__file__).parent.parent / "data" / "chat_templates").glob("*.jinja"))
}
TAG = "CONTINUE_FINAL_MESSAGE_TAG "
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}

ROLES = ("system", "user", "assistant")
ODD_ROLES = ("tool", "User", "", "system ", "<|user|>", "ключ", "assistant\n", "developer")
PIECES = (
    "<|end|>",
    "<|user|>",
    "<|im_start|>system\n",
    "<|tool|>",
    "<s>",
    "{{ eos_token }}",
    "{% endfor %}",
    "\\n",
    "\r\n",
    "\n",
    "\t",
    "\0",
    " ",
    "\u00a0",
    "\u3000",
    "\u200b",
    "\ufeff",
    "'\"",
    "<&>",
    "🦜",
    "e\u0301",
    "日本語",
    "עברית",
    "hello",
    "0",
)


# ---- What Jinja makes of a conversation -----------------------------------------------------------


def jinja_template(source: str):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    return environment.from_string(source)


def render_with_jinja(
    template, messages, add_generation_prompt=False, continue_final_message=False
) -> str:
    """The recipe of transformers: a final message to be continued is marked, and the text cut there."""
    messages = [{key: value for key, value in m.items() if value is not None} for m in messages]
    if continue_final_message:
        messages[-1]["content"] += TAG
    text = template.render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        **SPECIAL_TOKENS,
    )
    if not continue_final_message:
        return text
    if TAG.strip() not in text:
        raise ValueError("the final message does not appear")
    return text[: text.rindex(TAG)]


# ---- Conversations -------------------------------------------------------------------------------


def random_text(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return ""
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))


def random_message(rng: random.Random) -> dict:
    role = rng.choice(ODD_ROLES if rng.random() < 0.1 else ROLES)
    message = {"role": role, "content": random_text(rng)}
    if rng.random() < 0.3:
        tools = [{"name": random_text(rng), "parameters": {}}]
        message["tools"] = rng.choice(
            ("", None, json.dumps(tools, ensure_ascii=rng.random() < 0.5))
        )
    return message


def random_conversation(rng: random.Random) -> tuple[list[dict], dict]:
    messages = [random_message(rng) for _ in range(rng.randrange(1, 7))]
    options = rng.choice(({}, {"add_generation_prompt": True}, {"continue_final_message": True}))
    return messages, options


def usual_conversations():
    """System or none, turns that alternate, and each way to end: what chats really look like."""
    turns = [{"role": ROLES[1 + i % 2], "content": f"Turn {i}.\n"} for i in range(4)]
    system = {"role": "system", "content": "You are a helpful AI assistant."}
    for head in (
        [],
        [system],
        [{**system, "content": ""}],
        [{**system, "tools": '[{"name": "f"}]'}],
    ):
        for count in range(1, 5):
            for options in (
                {},
                {"add_generation_prompt": True},
                {"continue_final_message": True},
                {"add_generation_prompt": False, "continue_final_message": False},
            ):
                yield head + turns[:count], options


def conversations(seed: str, count: int):
    rng = random.Random(seed)
    yield from usual_conversations()
    for _ in range(count):
        yield random_conversation(rng)


# ---- Tokenizers with each template ---------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer_directory(tmp_path_factory):
    """tokenizer_directory(source) -> a directory whose tokenizer carries that template."""

    def write(source: str) -> Path:
        directory = tmp_path_factory.mktemp("chat")
        write_phi35_tokenizer(directory)
        config = {**phi35_tokenizer_config(), "chat_template": source}
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
        return directory

    return write


def outcome(render, *arguments, **options):
    """The text, or that there is none."""
    try:
        return render(*arguments, **options)
    except (ValueError, jinja2.TemplateError):
        return "refused"


def without_jinja():
    """While this is entered phi3 cannot fall back on Jinja: what it renders, it renders natively."""
    hidden = {name: None for name in sys.modules if name.split(".")[0] == "jinja2"}
    return mock.patch.dict(sys.modules, hidden)


def expect_equal(tokenizer, template, messages, options) -> str:
    """Native text and Jinja's must be one; gives it."""
    expected = outcome(render_with_jinja, template, messages, **options)
    with without_jinja():
        got = outcome(tokenizer.apply_chat_template, messages, tokenize=False, **options)
    assert got == expected, (messages, options)
    return expected


# ---- Tests ---------------------------------------------------------------------------------------


def test_the_sources_are_there():
    assert {"phi-3-mini", "phi-3.5-mini", "phi-4", "phi-4-mini", "chatml", "smollm2"} <= set(
        SOURCES
    )


@pytest.mark.parametrize("name", SOURCES)
def test_native_text_is_jinjas(name, tokenizer_directory):
    template = jinja_template(SOURCES[name])
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(tokenizer_directory(SOURCES[name])))
    refused = 0
    for messages, options in conversations(name, 600):
        refused += expect_equal(tokenizer, template, messages, options) == "refused"
    assert refused < 100  # the comparison was mostly of texts


def test_the_template_of_a_gguf_file(smollm2_path):
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(smollm2_path))
    assert tokenizer.chat_template == SOURCES["smollm2"]
    for messages, options in usual_conversations():
        expect_equal(tokenizer, jinja_template(SOURCES["smollm2"]), messages, options)


SPELLINGS = {
    "backslash-n": lambda source: source.replace("\n", "\\n"),
    "crlf": lambda source: source.replace("\n", "\r\n"),
    "cr": lambda source: source.replace("\n", "\r"),
    "newline at the end": lambda source: source + "\n",
    "two newlines at the end": lambda source: source + "\r\n\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["phi-3.5-mini", "phi-4-mini", "smollm2"])
def test_spellings_of_newlines(name, spelling, tokenizer_directory):
    source = SPELLINGS[spelling](SOURCES[name])
    template = jinja_template(source)
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(tokenizer_directory(source)))
    for messages, options in conversations(name + spelling, 40):
        expect_equal(tokenizer, template, messages, options)


@pytest.mark.parametrize(
    "change",
    [
        lambda source: source + "\n\n\n",
        lambda source: "\n" + source,
        lambda source: source.replace("<|end|>", "<|End|>", 1),
        lambda source: source.replace("eos_token", "bos_token"),
        lambda source: source.replace("\n", "\\\\n"),
    ],
)
def test_another_template_is_never_taken_for_a_known_one(change, tokenizer_directory):
    source = change(SOURCES["phi-3.5-mini"])
    template = jinja_template(source)
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(tokenizer_directory(source)))
    for messages, options in conversations("changed", 20):
        expected = outcome(render_with_jinja, template, messages, **options)
        got = outcome(tokenizer.apply_chat_template, messages, tokenize=False, **options)
        assert got == expected, (messages, options)


def test_an_unknown_template_without_jinja_says_what_to_do(tokenizer_directory):
    source = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(tokenizer_directory(source)))
    with without_jinja(), pytest.raises((phi3.Error, ImportError), match="jinja2"):
        tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)


def test_a_big_message(tokenizer_directory):
    content = "0123456789abcde\0" * 640_000  # 10 MB
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(tokenizer_directory(SOURCES["chatml"])))
    messages = [{"role": "user", "content": content}]
    with without_jinja():
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"<|im_start|>user\n{content}<|im_end|>\n"


def test_what_transformers_refuses(tokenizer_directory):
    directory = tokenizer_directory(SOURCES["phi-3.5-mini"])
    tokenizer = phi3.AutoTokenizer.from_pretrained(str(directory))
    user = {"role": "user", "content": "Hi"}
    with pytest.raises(ValueError):
        tokenizer.apply_chat_template([], tokenize=False)
    with pytest.raises(ValueError, match="not compatible"):
        tokenizer.apply_chat_template(
            [user], tokenize=False, add_generation_prompt=True, continue_final_message=True
        )
    with pytest.raises(ValueError, match="does not appear"):
        tokenizer.apply_chat_template(
            [user, {"role": "tool", "content": "x"}], tokenize=False, continue_final_message=True
        )


@pytest.mark.live
@pytest.mark.parametrize("name", SOURCES)
def test_native_text_is_that_of_transformers(name, tokenizer_directory):
    transformers = pytest.importorskip("transformers")
    directory = str(tokenizer_directory(SOURCES[name]))
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    ours = phi3.AutoTokenizer.from_pretrained(directory)
    for messages, options in conversations("live " + name, 100):
        expected = outcome(theirs.apply_chat_template, messages, tokenize=False, **options)
        got = outcome(ours.apply_chat_template, messages, tokenize=False, **options)
        assert got == expected, (messages, options)
