"""OpenAI's wire format, byte by byte; test_clients.py speaks it with OpenAI's own client."""

import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def chat(server, **fields):
    body = {"model": server.model, "messages": QUESTION, "temperature": 0} | fields
    return server.post("/v1/chat/completions", body)


def test_a_whole_answer(server):
    answer = chat(server, max_tokens=40)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == server.model
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert "Paris" in choice["message"]["content"]
    usage = body["usage"]
    assert usage["prompt_tokens"] == 37
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same(server):
    whole = chat(server).json()
    streamed = chat(server, stream=True, stream_options={"include_usage": True})
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    *chunks, usage, done = streamed.events()
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_without_usage_a_stream_has_none(server):
    *chunks, done = chat(server, stream=True).events()
    assert done == "[DONE]"
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_length_is_a_finish_reason(server, field):
    body = chat(server, **{field: 3}).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("stop", [" capital", ["nothing", " capital", "France"]])
def test_text_ends_before_a_stop_string(server, stop):
    body = chat(server, stop=stop).json()
    assert body["choices"][0]["message"]["content"] == "The"
    assert body["choices"][0]["finish_reason"] == "stop"


def test_a_seed_repeats_itself(server):
    sampled = {"temperature": 1.5, "max_tokens": 20}
    texts = [
        chat(server, seed=seed, **sampled).json()["choices"][0]["message"]["content"]
        for seed in [1, 1, 2]
    ]
    assert texts[0] == texts[1] != texts[2]
    unseeded = {
        chat(server, **sampled).json()["choices"][0]["message"]["content"] for _ in range(4)
    }
    assert len(unseeded) > 1


def test_several_choices(server):
    sampled = {"temperature": 1.5, "max_tokens": 20, "n": 3, "seed": 5}
    body = chat(server, **sampled).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert len(set(texts)) == 3
    assert body["usage"]["prompt_tokens"] == 37
    assert body["usage"]["completion_tokens"] == 60
    streamed = ["", "", ""]
    for chunk in chat(server, stream=True, **sampled).events()[:-1]:
        (choice,) = chunk["choices"]
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == texts


def test_content_may_be_parts(server):
    parts = [
        {"type": "text", "text": "What is the capital "},
        {"type": "text", "text": "of France?"},
    ]
    body = chat(server, messages=[{"role": "user", "content": parts}]).json()
    assert body == chat(server).json() | {"id": body["id"], "created": body["created"]}


def test_harmless_fields_are_taken(server):
    answer = chat(
        server, max_tokens=1, user="me", metadata={"a": "b"}, store=False, logprobs=False, n=1,
        frequency_penalty=0, presence_penalty=0, logit_bias={}, tools=[], stop=None,
        response_format={"type": "text"}, parallel_tool_calls=True, service_tier="auto",
    )  # fmt: skip
    assert answer.status == 200, answer.body


def complete(server, **fields):
    return server.post("/v1/completions", {"model": server.model, "temperature": 0} | fields)


def test_a_completion(server):
    body = complete(server, prompt="The capital of France is", max_tokens=2).json()
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == " Paris."
    assert body["choices"][0]["finish_reason"] == "length"
    *chunks, done = complete(
        server, prompt="The capital of France is", max_tokens=2, stream=True
    ).events()
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " Paris."


def test_completions_of_several_prompts_and_ids(server):
    prompts = ["The capital of France is", "One, two, three,"]
    body = complete(server, prompt=prompts).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert all(choice["finish_reason"] == "length" for choice in body["choices"])
    assert body["usage"]["completion_tokens"] == 32
    for prompt, choice in zip(prompts, body["choices"], strict=True):
        assert complete(server, prompt=prompt).json()["choices"][0]["text"] == choice["text"]
    assert complete(server, prompt=[504, 3575, 282, 4649, 314], max_tokens=1).status == 200


def test_models(server):
    listing = server.request("GET", "/v1/models").json()
    assert listing["object"] == "list"
    (model,) = listing["data"]
    assert model["id"] == server.model and model["object"] == "model"
    assert server.request("GET", f"/v1/models/{server.model}").json() == model
    missing = server.request("GET", "/v1/models/gpt-4")
    assert missing.status == 404
    assert missing.json()["error"]["code"] == "model_not_found"
