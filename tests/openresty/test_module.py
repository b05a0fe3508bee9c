"""resty.phi3 in somebody's own configuration, and plain phi3 in nginx."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import LUA_CDIR, ROOT, Server

HERE = Path(__file__).parent
LUA_DIR = os.environ.get("LUA_DIR", str(ROOT / "lua"))


def start(directory: Path, smollm2: str, **environment) -> Server:
    template = directory / "module.conf"
    text = (HERE / "module.conf").read_text().replace("@PROGRAM@", str(HERE / "program.lua"))
    template.write_text(text)
    return Server(
        directory / "nginx",
        "smollm2-135m",
        PHI3_MODEL_PATH=smollm2,
        TEMPLATE=str(template),
        **environment,
    )


@pytest.fixture(scope="module")
def module(tmp_path_factory, smollm2):
    with start(tmp_path_factory.mktemp("module"), smollm2) as running:
        yield running


def text_of(server, path: str) -> str:
    return server.request("GET", path).body.decode()


def chat(server, lua: str) -> dict:
    return server.request("POST", "/chat", lua.encode()).json()


def outside(command: list[str], **environment: str) -> bytes:
    """What a program prints outside nginx."""
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=120)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


def test_the_same_program_says_the_same_in_nginx(module, smollm2):
    paths = {"LUA_PATH": f"{LUA_DIR}/?.lua;;", "LUA_CPATH": f"{LUA_CDIR}/?.so;;"}
    program = str(HERE / "program.lua")
    expected = outside(["luajit", program], PHI3_MODEL_PATH=smollm2, **paths)
    assert module.request("GET", "/program").body == expected
    text, streamed = expected.decode().split("\n", 1)
    assert "Paris" in text and streamed == text
    answer = chat(
        module,
        """{{role = "system", content = "You are a helpful AI assistant."},
            {role = "user", content = "What is the capital of France, and what is it known for?"}},
           {max_new_tokens = 60, do_sample = false}""",
    )
    assert answer["answer"]["text"] == text


def test_a_stream_is_an_iterator(module):
    *pieces, last = text_of(module, "/pieces").split("|")
    assert "".join(pieces) == "The capital of France is Paris."
    assert len(pieces) > 5 and last == "eos 8\n"


def test_a_chat_takes_messages_a_text_or_ids(module):
    greedy = "{max_new_tokens = 2, do_sample = false}"
    for prompt in ('"The capital of France is"', "{504, 3575, 282, 4649, 314}"):
        answer = chat(module, f"{prompt}, {greedy}")["answer"]
        assert answer["text"] == " Paris."
        assert answer["finish_reason"] == "length"
        assert answer["info"]["prompt_tokens"] == 5 and answer["info"]["new_tokens"] == 2
    opened = chat(
        module,
        """{{role = "user", content = "What is the capital of France?"},
            {role = "assistant", content = "The capital of France"}}, {do_sample = false}""",
    )
    assert opened["answer"]["text"] == " is Paris."


def test_a_seed_repeats_itself(module):
    texts = [
        chat(module, f'"Once", {{max_new_tokens = 12, temperature = 1.5, seed = {seed}}}')["answer"]
        for seed in (3, 3, 4)
    ]
    assert texts[0]["text"] == texts[1]["text"] != texts[2]["text"]


@pytest.mark.parametrize(
    "lua, code, part",
    [
        ('"Hi", {max_new_tokens = 0}', "invalid argument", "max_new_tokens"),
        ('"Hi", {temperature = -1}', "invalid argument", "temperature"),
        ('"", {}', "invalid argument", "empty"),
        ("{}, {}", "invalid argument", "messages"),
        ('"Hi", {num_beams = 2}', "unsupported", "num_beams"),
        ('("one two "):rep(5000), {}', "invalid argument", "too long"),
        ('"\\255", {}', "wrong type", "UTF-8"),
    ],
)
def test_what_can_happen_is_nil_message_code(module, lua, code, part):
    answer = chat(module, lua)
    assert answer["ok"] and "answer" not in answer
    assert answer["code"] == code and part in answer["message"]


@pytest.mark.parametrize(
    "lua", ['"Hi", {temprature = 1}', "5, {}", '"Hi", 5', '"Hi", {seed = "x"}']
)
def test_misuse_is_an_error(module, lua):
    answer = chat(module, lua)
    assert not answer["ok"] and isinstance(answer["answer"], str)


def test_before_the_fork_there_is_a_clear_error(module):
    refused = text_of(module, "/before-fork")
    assert "init_worker_by_lua" in refused and "init_by_lua" in refused
    assert "call init_worker{model = ...}" in text_of(module, "/early")


def test_a_model_of_the_master_is_refused_in_the_worker(tmp_path, smollm2):
    with start(tmp_path, smollm2, PRELOAD="1") as server:
        assert text_of(server, "/inherited").startswith("used after fork: ")
        assert "load models after the fork" in text_of(server, "/result")
        answer = chat(server, '"Hi", {}')
        assert answer["code"] == "used after fork" and "after the fork" in answer["message"]


def test_a_missing_model_is_reported_by_every_call(tmp_path, smollm2):
    with start(tmp_path, smollm2, OPTIONS='model = "no-such-model"') as server:
        loaded, message, code = json.loads(text_of(server, "/result"))
        assert loaded is None and code == "not found" and "no-such-model" in message
        assert chat(server, '"Hi", {}')["message"] == message
    assert "phi3 could not load no-such-model" in server.log.read_text()
