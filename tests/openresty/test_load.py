"""Many clients at once: none lost, none mixed up, none in the way of /health, nothing left behind."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, Server

HERE = Path(__file__).parent
N_CLIENTS = 50


def body_of(server, number: int, **fields) -> dict:
    """What client `number` asks, as no other does."""
    return {
        "model": server.model,
        "messages": [{"role": "user", "content": f"Tell me something about the number {number}."}],
        "temperature": 0.8 if number % 3 else 0,
        "seed": number,
        "max_tokens": 20 + number % 7,
    } | fields


def ask_alone(server, number: int, **fields) -> tuple[str, str]:
    answer = server.post("/v1/chat/completions", body_of(server, number, **fields))
    assert answer.status == 200, answer.body
    (choice,) = answer.json()["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def ask_streaming(server, number: int, **fields) -> tuple[str, str]:
    answer = server.post("/v1/chat/completions", body_of(server, number, stream=True, **fields))
    assert answer.status == 200, answer.body
    *chunks, done = answer.events()
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    return text, choices[-1]["finish_reason"]


@pytest.fixture(scope="module")
def busy_server(tmp_path_factory, smollm2):
    """Room for all clients, in slots and queues, however they fall on the two workers."""
    prefix, options = tmp_path_factory.mktemp("nginx"), "n_slots = 8, queue = 60"
    with Server(prefix, "smollm2-135m", PHI3_MODEL_PATH=smollm2, OPTIONS=options) as running:
        yield running


class HealthProbe(threading.Thread):
    """Asks for /health again and again, on new connections, which fall on all workers."""

    def __init__(self, server):
        super().__init__()
        self.server, self.seconds, self.ended = server, [], threading.Event()

    def run(self):
        while not self.ended.wait(0.01):
            start = time.perf_counter()
            assert self.server.request("GET", "/health").status == 200
            self.seconds.append(time.perf_counter() - start)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def quantile(self, part: float) -> float:
        return sorted(self.seconds)[int(part * len(self.seconds))]


def test_fifty_streams_get_what_each_would_get_alone(busy_server, record_property):
    alone = [ask_alone(busy_server, number) for number in range(N_CLIENTS)]
    with HealthProbe(busy_server) as probe, ThreadPoolExecutor(N_CLIENTS) as clients:
        together = list(
            clients.map(lambda number: ask_streaming(busy_server, number), range(N_CLIENTS))
        )
    assert together == alone
    record_property("health_p50_ms", 1000 * probe.quantile(0.5))
    record_property("health_p99_ms", 1000 * probe.quantile(0.99))
    print(
        f"/health of {len(probe.seconds)}: p50 {1000 * probe.quantile(0.5):.1f} ms,"
        f" p99 {1000 * probe.quantile(0.99):.1f} ms"
    )
    assert len(probe.seconds) > 20
    assert probe.quantile(0.99) < 0.05


def wait_until(is_true, seconds=30) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Leaver:
    """A client that starts a long stream and then goes away."""

    def __init__(self, server, number: int):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        body = body_of(server, number, stream=True, max_tokens=2000, temperature=1.9)
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body))
        # getresponse() would wait for the header, and that for a slot.

    def leave(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def test_clients_that_go_away_take_nothing_with_them(busy_server):
    server = busy_server
    alone = [ask_alone(server, number) for number in range(25)]
    before = server.total("phi3_cancelled_total")
    leavers = [Leaver(server, number) for number in range(40)]  # either worker has 8 of so many
    wait_until(lambda: server.total("phi3_running") == 16)
    with ThreadPoolExecutor(25) as clients:
        answers = [clients.submit(ask_streaming, server, number) for number in range(25)]
        wait_until(lambda: server.total("phi3_running") + server.total("phi3_queued") == 65)
        for leaver in leavers:
            leaver.leave()
        wait_until(lambda: server.total("phi3_cancelled_total") == before + 40)
        assert [answer.result() for answer in answers] == alone
    wait_until(lambda: server.total("phi3_running") == 0)
    # What is left is the caches of those who stayed; now all go.
    last = [Leaver(server, number) for number in range(60)]
    wait_until(lambda: server.total("phi3_running") == 16)
    assert server.total("phi3_kv_cache_bytes") > 0
    for leaver in last:
        leaver.leave()
    wait_until(lambda: server.total("phi3_cancelled_total") == before + 100)
    wait_until(lambda: server.total("phi3_running") + server.total("phi3_queued") == 0)
    wait_until(lambda: server.total("phi3_kv_cache_bytes") == 0)
    assert ask_alone(server, 3) == alone[3]


def test_a_killed_worker_is_replaced_and_serves(busy_server):
    server = busy_server
    answer = ask_alone(server, 7)
    before = server.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(set(server.workers()) - {before[0]}) == 2)
    wait_until(lambda: all(server.request("GET", "/health").status == 200 for _ in range(8)))
    with ThreadPoolExecutor(8) as clients:  # connections fall on both workers
        assert list(clients.map(lambda _: ask_alone(server, 7), range(8))) == [answer] * 8


def test_a_full_queue_says_come_back_later(tmp_path, smollm2):
    options = "n_slots = 1, queue = 1"
    environment = {"PHI3_MODEL_PATH": smollm2, "WORKERS": "1", "OPTIONS": options}
    with Server(tmp_path, "smollm2-135m", **environment) as server:
        leavers = [Leaver(server, 0)]
        wait_until(lambda: server.total("phi3_running") == 1)
        leavers.append(Leaver(server, 1))
        wait_until(lambda: server.total("phi3_queued") == 1)
        for path, message in [
            ("/v1/chat/completions", lambda body: body["error"]["message"]),
            ("/api/chat", lambda body: body["error"]),
        ]:
            refused = server.post(
                path, {"model": server.model, "messages": [{"role": "user", "content": "?"}]}
            )
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "1"
            assert "waiting" in message(refused.json())
        assert server.total("phi3_refused_total") == 2
        for leaver in leavers:
            leaver.leave()
        wait_until(lambda: server.total("phi3_running") + server.total("phi3_queued") == 0)
        assert ask_alone(server, 1)[1] in {"length", "stop"}


def test_workers_share_the_memory_of_the_weights(busy_server, smollm2):
    (weights,) = Path(smollm2).glob("*.gguf")
    for pid in busy_server.workers():  # a copy of one's own would be as large as the file
        assert resident_bytes(pid) < weights.stat().st_size


# ---- Memory -------------------------------------------------------------------------------------


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("RssAnon"))
    return 1024 * int(size)


def ask_often(server, count: int) -> None:
    """Short requests on a connection that stays."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for i in range(count):
        body = {"prompt": f"number {i}", "max_tokens": 1, "stream": i % 2 == 0, "seed": i}
        connection.request("POST", "/v1/completions", json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        assert text.endswith(b"data: [DONE]\n\n" if i % 2 == 0 else b"}\n")
    connection.close()


class Memory(NamedTuple):
    """Bytes that the workers hold, all together."""

    allocated: int  # by malloc
    of_lua: int
    resident: int


def memory_of(server) -> Memory:
    held = {}
    wait_until(lambda: server.total("phi3_running") == 0)
    while set(held) != set(server.workers()):  # connections fall on all workers
        worker = server.request("GET", "/memory").json()
        held[worker["pid"]] = Memory(
            worker["allocated"], worker["of_lua"], resident_bytes(worker["pid"])
        )
    return Memory(*map(sum, zip(*held.values(), strict=True)))


def test_memory_is_flat_over_ten_thousand_requests(tmp_path, tiny_model):
    """What leaks grows in every round. All else does not: caches and compiled Lua find their size.

    malloc and Lua count what is held, to the byte; what is resident also has what malloc keeps for
    later, megabytes that come and go, and what is mapped by other ways than malloc's.
    """
    template = tmp_path / "memory.conf"
    location = f'location = /memory {{ content_by_lua_file "{HERE / "memory.lua"}"; }}'
    text = (ROOT / "lua/serve/nginx.conf").read_text()
    template.write_text(text.replace("location = / {", f"{location}\n\n        location = / {{"))
    n_rounds, n_clients, n_requests = 5, 8, 250
    n_all = (1 + n_rounds) * n_clients * n_requests
    memory = []
    settings = {"OPTIONS": "n_slots = 8", "TEMPLATE": str(template)}
    with (
        Server(tmp_path / "nginx", str(tiny_model), **settings) as server,
        ThreadPoolExecutor(n_clients) as clients,
    ):
        for _ in range(1 + n_rounds):  # the first is not counted: buffers find their size
            list(clients.map(lambda _: ask_often(server, n_requests), range(n_clients)))
            memory.append(memory_of(server))
        wait_until(lambda: server.total("phi3_finished_total") == n_all)
    print("memory of the workers:", *memory, sep="\n")
    a_leak = 24 * n_clients * n_requests  # of malloc's blocks the smallest takes 32 bytes
    rounds = list(pairwise(memory))
    assert min(after.allocated - before.allocated for before, after in rounds) < a_leak
    assert min(after.of_lua - before.of_lua for before, after in rounds) < a_leak
    assert memory[-1].resident - memory[0].resident < 16 << 20  # 40, if each left a page
