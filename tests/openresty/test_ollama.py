"""Ollama's wire format, line by line; test_clients.py speaks it with Ollama's own client."""

from datetime import datetime

import pytest

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0}


def chat(server, **fields):
    body = {"model": server.model, "messages": MESSAGES, "options": GREEDY} | fields
    return server.post("/api/chat", body)


def assert_durations(line):
    assert line["prompt_eval_count"] == 37 and line["eval_count"] == 8
    parts = line["prompt_eval_duration"] + line["eval_duration"]
    assert 10**5 < line["prompt_eval_duration"] < parts <= line["total_duration"] < 60 * 10**9


def test_a_chat_is_lines(server):
    answer = chat(server)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    *lines, last = answer.lines()
    assert not any(line["done"] for line in lines) and last["done"]
    assert all(line["model"] == server.model for line in lines)
    assert all(line["message"]["role"] == "assistant" for line in lines)
    assert all(datetime.fromisoformat(line["created_at"]).tzinfo for line in lines)
    assert len(lines) > 3
    assert (
        "".join(line["message"]["content"] for line in lines) == "The capital of France is Paris."
    )
    assert last["done_reason"] == "stop" and last["message"]["content"] == ""
    assert_durations(last)


def test_a_chat_is_one_object_without_stream(server):
    body = chat(server, stream=False).json()
    assert body["message"] == {"role": "assistant", "content": "The capital of France is Paris."}
    assert body["done"] is True
    assert_durations(body)


def test_latest_is_the_model_too(server):
    body = chat(server, model=f"{server.model}:latest", stream=False).json()
    assert body["model"] == f"{server.model}:latest"


@pytest.mark.parametrize("stream", [True, False])
def test_generate_is_a_chat_of_one_message(server, stream):
    fields = {"model": server.model, "prompt": MESSAGES[0]["content"], "options": GREEDY}
    lines = server.post("/api/generate", fields | {"stream": stream}).lines()
    assert "".join(line["response"] for line in lines) == "The capital of France is Paris."
    assert lines[-1]["done"] and len(lines) > 3 or not stream


def test_generate_with_a_system_message_and_raw(server):
    fields = {"model": server.model, "prompt": "The capital of France is", "stream": False}
    raw = server.post(
        "/api/generate", fields | {"raw": True, "options": GREEDY | {"num_predict": 2}}
    )
    assert raw.json()["response"] == " Paris."
    assert raw.json()["done_reason"] == "length"
    asked = server.post(
        "/api/generate", fields | {"system": "Answer in one word.", "options": GREEDY}
    )
    chatted = chat(server, stream=False, messages=[
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "The capital of France is"},
    ])  # fmt: skip
    assert asked.json()["response"] == chatted.json()["message"]["content"]


def test_options(server):
    def answer(**options):
        return chat(server, stream=False, options={"num_predict": 12} | options).json()

    stopped = answer(temperature=0, stop=[" capital"])
    assert stopped["message"]["content"] == "The" and stopped["done_reason"] == "stop"
    same = [answer(seed=4, temperature=1.5)["message"]["content"] for _ in range(2)]
    assert same[0] == same[1] != answer(seed=5, temperature=1.5)["message"]["content"]
    assert answer(temperature=0, num_thread=1, num_ctx=2048)["done"]
    one = answer(temperature=1.5, top_k=1)["message"]["content"]
    assert one == answer(temperature=0)["message"]["content"]


def test_without_a_prompt_the_model_is_loaded(server):
    for path, fields in [("/api/chat", {}), ("/api/chat", {"messages": []}), ("/api/generate", {})]:
        body = server.post(path, {"model": server.model} | fields).json()
        assert body["done"] and body["done_reason"] == "load"


def test_what_the_server_says_of_its_model(server):
    (tag,) = server.request("GET", "/api/tags").json()["models"]
    assert tag["name"] == f"{server.model}:latest" and 90e6 < tag["size"] < 110e6
    assert tag["details"]["format"] == "gguf" and tag["details"]["quantization_level"] == "Q4_1"
    (running,) = server.request("GET", "/api/ps").json()["models"]
    assert running["context_length"] == 4096
    shown = server.post("/api/show", {"model": server.model}).json()
    assert "im_start" in shown["template"] and shown["capabilities"] == ["completion"]
    assert shown["model_info"]["llama.context_length"] == 8192
    assert server.request("GET", "/api/version").json()["version"].count(".") == 2
