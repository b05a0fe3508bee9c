"""What the server refuses: always with a 4xx, a reason and the field's name, and it serves on."""

import json
import random
import socket

import pytest

MESSAGES = [{"role": "user", "content": "Hello!"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def problem_of(answer) -> tuple[str, str | None]:
    """The message of a refusal in its protocol's shape, and the field it is about."""
    body = answer.json()
    error = body["error"]
    if isinstance(error, str):
        assert set(body) == {"error"}
        return error, None
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error["message"], error["param"]


@pytest.mark.parametrize("path", [CHAT, TEXT, "/api/chat", "/api/generate", "/api/show"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"{'a': 1}",
        b'{"model": NaN}',
        b"\xff\xfe{}",
        b"[" * 5000,
    ],
)
def test_what_is_no_json_object(server, path, body):
    answer = server.post(path, body)
    assert answer.status == 400
    message, _ = problem_of(answer)
    assert "JSON" in message


BAD_CHATS = {
    "messages": [None, "Hello!", [], {}, [1], [None], ["Hello!"], [{}], [{"role": "user"}],
                 [{"role": 1, "content": "x"}], [{"content": "x"}], [{"role": "user", "content": 1}],
                 [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
                 [{"role": "user", "content": ["x"]}], [{"role": "user", "content": "x", "colour": 1}],
                 [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]],
    "model": [1, [], True],
    "stream": ["yes", 1, []],
    "stream_options": [True, [1], {"colour": 1}, {"include_usage": "yes"}],
    "stop": [1, [1], [""], "", ["a"] * 17, {"a": "b"}],
    "seed": ["one", 1.5, 1e300, []],
    "temperature": ["hot", -0.1, 2.1, [], True],
    "top_p": ["all", 0, -1, 1.1],
    "top_k": [-1, 0.5, "all"],
    "min_p": [-0.1, 1.1],
    "repetition_penalty": [0, -1],
    "max_tokens": [0, -1, 1.5, "all", 1e300],
    "max_completion_tokens": [0, -5],
    "n": [0, -1, 1.5, 100, "two"],
    "frequency_penalty": [1, "x"],
    "presence_penalty": [-1],
    "logit_bias": [{"50256": -100}],
    "logprobs": [True],
    "top_logprobs": [5],
    "response_format": [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}, "text"],
    "tools": [[{"type": "function", "function": {"name": "f"}}]],
    "tool_choice": ["required"],
    "modalities": [["audio"], "text"],
    "functions": [[]],
    "temprature": [1],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CHATS)
def test_bad_fields_of_a_chat_are_named(server, name):
    for value in BAD_CHATS[name]:
        answer = server.post(CHAT, {"model": server.model, "messages": MESSAGES, name: value})
        assert answer.status == 400, (value, answer.body)
        message, param = problem_of(answer)
        assert name in message and name in param, value


@pytest.mark.parametrize(
    "prompt", [None, 5, [], {}, [[]], [None], ["a", 1], [-1], [1.5], [10**6], [[1], "a"], ""]
)
def test_bad_prompts(server, prompt):
    answer = server.post(TEXT, {"model": server.model, "prompt": prompt})
    assert answer.status == 400, answer.body
    assert problem_of(answer)[0]


BAD_OLLAMA = [
    ("/api/chat", {"messages": "Hello!"}),
    ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
    ("/api/chat", {"messages": MESSAGES, "tools": [{"type": "function"}]}),
    ("/api/chat", {"messages": MESSAGES, "format": "json"}),
    ("/api/chat", {"messages": MESSAGES, "think": True}),
    ("/api/chat", {"messages": MESSAGES, "options": {"temperature": -1}}),
    ("/api/chat", {"messages": MESSAGES, "options": {"num_ctx": 10**6}}),
    ("/api/chat", {"messages": MESSAGES, "options": {"num_predict": -7}}),
    ("/api/chat", {"messages": MESSAGES, "options": {"mirostat": 2}}),
    ("/api/chat", {"messages": MESSAGES, "options": {"colour": 2}}),
    ("/api/chat", {"messages": MESSAGES, "options": []}),
    ("/api/generate", {"prompt": 5}),
    ("/api/generate", {"prompt": "x", "suffix": "y"}),
    ("/api/generate", {"prompt": "x", "images": ["aGk="]}),
    ("/api/generate", {"prompt": "x", "options": {"stop": [1]}}),
]


@pytest.mark.parametrize("path, fields", BAD_OLLAMA)
def test_bad_fields_of_ollama_are_named(server, path, fields):
    if fields.get("options") == []:
        fields = fields | {"options": [1]}
    answer = server.post(path, {"model": server.model} | fields)
    assert answer.status == 400, answer.body
    message, _ = problem_of(answer)
    *_, (name, value) = fields.items()
    names = {name} | set(value if isinstance(value, dict) else [])
    assert any(part in message for part in names) or "images" in message


@pytest.mark.parametrize(
    "path, fields",
    [
        (CHAT, {"messages": MESSAGES}),
        (TEXT, {"prompt": "x"}),
        ("/api/chat", {"messages": MESSAGES}),
        ("/api/generate", {"prompt": "x"}),
        ("/api/show", {}),
    ],
)
def test_unknown_models(server, path, fields):
    answer = server.post(path, {"model": "gpt-4"} | fields)
    assert answer.status == 404
    message, _ = problem_of(answer)
    assert "gpt-4" in message and server.model in message


def test_text_that_is_not_utf8(server):
    for path, body in [
        (CHAT, b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}'),
        (CHAT, b'{"messages": [{"role": "user", "content": "x"}], "stop": "\xc3"}'),
        (TEXT, b'{"prompt": "\xf0\x9f\x98"}'),
        ("/api/generate", b'{"model": "smollm2-135m", "prompt": "\xed\xa0\x80"}'),
    ]:
        answer = server.post(path, body)
        assert answer.status == 400, (body, answer.body)
        assert "UTF-8" in problem_of(answer)[0]


def test_prompts_that_are_too_long(server):
    answer = server.post(TEXT, {"prompt": "one two " * 5000})
    assert answer.status == 400
    assert "too long" in problem_of(answer)[0]
    streamed = server.post(TEXT, {"prompt": "one two " * 5000, "stream": True})
    assert streamed.status == 400 and streamed.headers["Content-Type"] == "application/json"


def test_bodies_that_are_too_large(server):
    for path in (CHAT, "/api/chat"):
        answer = server.post(path, b" " * (5 << 20))
        assert answer.status == 413
        assert "client_max_body_size" in problem_of(answer)[0]


def test_paths_and_methods(server):
    missing = server.request("GET", "/v1/nothing")
    assert missing.status == 404 and "/v1/nothing" in problem_of(missing)[0]
    assert problem_of(server.request("GET", "/api/nothing"))[1] is None
    wrong = server.request("GET", CHAT)
    assert wrong.status == 405 and wrong.headers["Allow"] == "POST, OPTIONS"
    assert server.post("/v1/models", {}).status == 405
    assert server.request("DELETE", "/api/chat").status == 405


def test_pages_from_elsewhere_may_ask(server):
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization, content-type"}  # fmt: skip
    answer = server.request("OPTIONS", CHAT, headers=asked)
    assert answer.status == 204 and answer.body == b""
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert server.request("GET", "/v1/models").headers["Access-Control-Allow-Origin"] == "*"
    assert server.post(CHAT, b"{").headers["Access-Control-Allow-Origin"] == "*"


def test_http_that_is_broken(server):
    for text in (
        b"\x00\x01\x02\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(text)
            assert b" 400 " in connection.recv(4096)


def random_value(source: random.Random, depth=0):
    scalars = [None, True, False, 0, -1, 1, 2, 0.5, 1e308, -1e308, "", "x", "\0", "é" * 50, "user"]
    kind = source.random()
    if depth < 3 and kind < 0.15:
        return [random_value(source, depth + 1) for _ in range(source.randrange(4))]
    if depth < 3 and kind < 0.3:
        keys = ["role", "content", "type", "text", "include_usage", "temperature", "stop", "seed"]
        return {
            source.choice(keys): random_value(source, depth + 1) for _ in range(source.randrange(4))
        }
    return source.choice(scalars)


def test_nothing_that_a_client_sends_is_the_servers_fault(server):
    source = random.Random(7)
    chat = ["messages", *BAD_CHATS]
    for _ in range(400):
        body = {"messages": MESSAGES, "max_tokens": 1}
        for name in source.sample(chat, source.randrange(1, 4)):
            body[name] = random_value(source)
        if isinstance(body["max_tokens"], int | float) and body["max_tokens"] > 2:
            body["max_tokens"] = 2
        answer = server.post(CHAT, body)
        assert answer.status < 500, (json.dumps(body), answer.body)
        if body.get("max_tokens") is None and answer.status == 200:
            assert answer.json
    assert "internal error" not in server.log.read_text()
    assert server.request("GET", "/health").status == 200
