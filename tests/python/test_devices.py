"""Devices: their words, how models are placed and split, and what a machine without CUDA says.

The words are in devices.json, which the Lua suite reads, too. Splits between CUDA devices and the CPU
are in tests/cuda.
"""

import json
from pathlib import Path

import numpy as np
import phi3
import pytest
from phi3 import AutoModelForCausalLM
from phi3_under_test import logits, logits_in_steps

CASES = json.loads((Path(__file__).parents[1] / "data" / "devices.json").read_text("utf-8"))
CODES = {
    "invalid argument": phi3.InvalidArgumentError,
    "out of memory": phi3.OutOfMemoryError,
}
SPLIT = {"model": "cpu", "model.layers.1": "reference", "lm_head": "reference"}
IDS = [1, 450, 483, 310, 344, 338, 263, 472]
WIDE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
HAS_CUDA = any(b["available"] and b["name"].startswith("cuda") for b in phi3.info()["backends"])


def load(path, **options):
    return AutoModelForCausalLM.from_pretrained(str(path), **options)


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch):
    """What "auto" comes to on a machine without CUDA."""
    monkeypatch.delenv("PHI3_DEVICE", raising=False)
    if HAS_CUDA:
        monkeypatch.setenv("PHI3_DEVICE", "cpu")


@pytest.mark.parametrize("case", CASES, ids=range(1, 1 + len(CASES)))
def test_words(tiny_chat_path, case):
    options = {"device_map": case["device_map"], "max_memory": case.get("max_memory")}
    if "error" not in case:
        model = load(tiny_chat_path, **options)
        assert model.hf_device_map == case["map"]
        assert model.device == list(case["map"].values())[-1]
        return
    code, message = case["error"]
    with pytest.raises(CODES[code]) as caught:
        load(tiny_chat_path, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": 1.5}, "device_map must be a str, an int, .* not float"),
        ({"device_map": True}, "device_map must be a str, an int, .* not bool"),
        ({"device_map": {"": None}}, "device_map must be .* not NoneType"),
        ({"device_map": {1: "cpu"}}, "a key of device_map must be str, not int"),
        ({"max_memory": 1.5}, "max_memory must be an int, a str .* not float"),
        ({"max_memory": {"cpu": [1]}}, "max_memory must be .* not list"),
        ({"max_memory": {None: 1}}, "a key of max_memory must be str or int, not NoneType"),
    ],
)
def test_wrong_types(tiny_chat_path, options, message):
    with pytest.raises(phi3.InvalidTypeError, match=message):
        load(tiny_chat_path, **options)


def test_an_empty_map(tiny_chat_path):
    with pytest.raises(phi3.InvalidArgumentError, match="empty"):
        load(tiny_chat_path, device_map={})


def test_torch_devices(tiny_chat_path):
    torch = pytest.importorskip("torch")
    assert load(tiny_chat_path, device_map=torch.device("cpu")).device == "cpu"
    assert load(tiny_chat_path, device_map={"": torch.device("cpu")}).hf_device_map == {"": "cpu"}


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA device")
def test_without_cuda(tiny_chat_path):
    """Everything works, and asking for CUDA says what is missing."""
    cuda = phi3.info()["backends"][0]
    assert cuda["name"] == "cuda" and not cuda["available"] and cuda["detail"]
    for device in ("cuda", "cuda:0", "cuda:3", 0, {"": 0}):
        with pytest.raises(phi3.DeviceError, match="CUDA"):
            load(tiny_chat_path, device_map=device)
    with pytest.raises(phi3.DeviceError, match="max_memory"):
        load(tiny_chat_path, device_map="cpu", max_memory={0: "6GiB"})
    with pytest.raises(phi3.DeviceError, match="CUDA"):
        phi3.pipeline("text-generation", model=str(tiny_chat_path), device="cuda")
    model = load(tiny_chat_path, device_map="auto", max_memory={0: "6GiB", "cpu": "30GiB"})
    assert model.hf_device_map == {"": "cpu"}


def test_the_report_is_a_map(tiny_chat_path):
    model = load(tiny_chat_path, device_map=SPLIT)
    again = load(tiny_chat_path, device_map=model.hf_device_map)
    assert again.hf_device_map == model.hf_device_map
    assert again.device == "reference" and repr(again).endswith("device='reference')")


@pytest.mark.parametrize("family", ["phi3.5-mini", "phi3-mini-4k", "phi4-mini"])
def test_split_models_say_the_same(checkpoint, family):
    """In the exact mode backends differ in the order of sums only. phi4-mini's head is tied."""
    path = checkpoint(family)
    whole = load(path, device_map="reference", compute_dtype="float32")
    split = load(path, device_map=SPLIT, compute_dtype="float32")
    expected, found = logits(whole, IDS), logits(split, IDS)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
    assert np.abs(logits_in_steps(split, IDS, 3) - expected).max() <= 1e-4 * np.ptp(expected)
    assert split.core.kv_token_bytes == whole.core.kv_token_bytes
    new = [m.generate([IDS], max_new_tokens=20, do_sample=False)[0] for m in (whole, split)]
    assert new[0] == new[1]


@pytest.mark.parametrize("quantization", ["q4_0", "q6_k", "bf16"])
def test_split_and_quantized(checkpoint, quantization):
    path = checkpoint("phi3-mini-4k", **WIDE)
    models = [
        load(path, device_map=where, compute_dtype="float32", quantization=quantization)
        for where in ("reference", SPLIT)
    ]
    expected, found = (logits(model, IDS) for model in models)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def test_split_models_keep_packed_weights_apart(checkpoint, tmp_path):
    """The packed weights of a part do not take the place of all."""
    path = checkpoint("phi3-mini-4k", **WIDE)
    options = {"quantization": "q4_0", "compute_dtype": "mixed", "packed_dir": tmp_path}
    load(path, device_map="cpu", **options)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    for _ in range(2):
        found = logits(load(path, device_map=SPLIT, **options), IDS)
    assert {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir()}.items() >= kept.items()
    assert len(list(tmp_path.iterdir())) == 2
    options["packed_dir"] = ""
    assert np.array_equal(found, logits(load(path, device_map=SPLIT, **options), IDS))


def test_many_rows_of_a_split_model(tiny_chat_path):
    split = load(tiny_chat_path, device_map=SPLIT, compute_dtype="float32")
    whole = load(tiny_chat_path, device_map="reference", compute_dtype="float32")
    rows = [IDS, IDS[:3], [1, 2, 3, 4, 5], list(range(1, 300))]
    for row in rows:
        alone = whole.generate([row], max_new_tokens=6, do_sample=False)[0]
        assert split.generate([row], max_new_tokens=6, do_sample=False)[0] == alone
    batch = phi3._phi3.Generation(split.core, rows, max_new_tokens=6).run()
    for row, new in zip(rows, batch, strict=True):
        assert list(new) == whole.generate([row], max_new_tokens=6, do_sample=False)[0][len(row) :]
