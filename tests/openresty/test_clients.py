"""The real Python clients of OpenAI and Ollama, with only their base_url or host changed."""

import pytest

openai = pytest.importorskip("openai")
ollama = pytest.importorskip("ollama")

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
ANSWER = "The capital of France is Paris."
GREEDY = {"temperature": 0, "max_tokens": 40}


# ---- OpenAI -------------------------------------------------------------------------------------


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def test_openai_lists_the_model(client, server):
    assert [model.id for model in client.models.list()] == [server.model]
    assert client.models.retrieve(server.model).object == "model"


def test_openai_answers(client, server):
    completion = client.chat.completions.create(model=server.model, messages=QUESTION, **GREEDY)
    (choice,) = completion.choices
    assert choice.message.content == ANSWER
    assert choice.message.role == "assistant" and choice.finish_reason == "stop"
    usage = completion.usage
    assert usage.prompt_tokens > 10 and 5 < usage.completion_tokens <= 40
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_openai_streams_the_same(client, server):
    stream = client.chat.completions.create(
        model=server.model,
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
        **GREEDY,
    )
    chunks = list(stream)
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == ANSWER
    assert sum(piece != "" for piece in pieces) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 5 and not chunks[-1].choices


def test_openai_stops_at_a_text(client, server):
    completion = client.chat.completions.create(
        model=server.model, messages=QUESTION, stop=[" Paris"], **GREEDY
    )
    assert completion.choices[0].message.content == "The capital of France is"
    assert completion.choices[0].finish_reason == "stop"


def test_openai_cuts_at_max_tokens(client, server):
    completion = client.chat.completions.create(
        model=server.model, messages=QUESTION, temperature=0, max_tokens=3
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 3
    assert ANSWER.startswith(completion.choices[0].message.content)


def test_openai_draws_the_same_for_the_same_seed(client, server):
    def draw(seed):
        completion = client.chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": "Invent a name for a cat."}],
            temperature=1.5,
            max_tokens=24,
            seed=seed,
        )
        return completion.choices[0].message.content

    assert draw(7) == draw(7)
    assert len({draw(seed) for seed in range(4)}) > 1


def test_openai_continues_a_text(client, server):
    completion = client.completions.create(
        model=server.model, prompt="1, 2, 3, 4, 5,", temperature=0, max_tokens=6
    )
    assert completion.choices[0].text.startswith(" 6, 7")


def test_openai_has_its_errors(client, server):
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model=server.model, messages=QUESTION, temperature=-1)


# ---- Ollama -------------------------------------------------------------------------------------


@pytest.fixture
def host(server):
    return ollama.Client(host=server.url)


def test_ollama_lists_and_shows_the_model(host, server):
    (listed,) = host.list().models
    assert listed.model.split(":")[0] == server.model
    shown = host.show(listed.model)
    assert shown.details.family
    assert shown.modelinfo


def test_ollama_answers(host, server):
    response = host.chat(server.model, QUESTION, options={"temperature": 0, "num_predict": 40})
    assert response.message.content == ANSWER
    assert response.done and response.done_reason == "stop"
    assert response.prompt_eval_count > 10 and response.eval_count > 5
    assert 0 < response.eval_duration <= response.total_duration


def test_ollama_streams_the_same(host, server):
    options = {"temperature": 0, "num_predict": 40}
    parts = list(host.chat(server.model, QUESTION, stream=True, options=options))
    assert "".join(part.message.content for part in parts) == ANSWER
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def test_ollama_generates(host, server):
    response = host.generate(
        server.model, "1, 2, 3, 4, 5,", raw=True, options={"temperature": 0, "num_predict": 6}
    )
    assert response.response.startswith(" 6, 7")
    assert response.done_reason == "length"


def test_ollama_has_its_errors(host):
    with pytest.raises(ollama.ResponseError, match="no-such-model") as refused:
        host.chat("no-such-model", QUESTION)
    assert refused.value.status_code == 404
