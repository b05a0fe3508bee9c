"""The predicted times of the CUDA kernels (tests/cuda/predict.py) add up, and count what files hold."""

import importlib.util
import pathlib
import subprocess
import sys

import gguf
import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "cuda" / "predict.py"


@pytest.fixture(scope="module")
def predict():
    spec = importlib.util.spec_from_file_location("predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["predict"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["predict"]


def test_formats_are_those_of_gguf(predict):
    for name, size in predict.FORMATS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]] == size


def test_decode_reads_every_weight_once(predict):
    model = predict.Model()
    layer = sum(outputs * columns for outputs, columns in model.matrices.values())
    weights = layer * model.layers + model.vocabulary * model.hidden
    # The published size of the model, less its embedding table and norms.
    assert weights == pytest.approx(3_821_079_552 - 32064 * 3072, rel=1e-3)
    step = predict.make_step(model, "bf16", 0, 1)
    assert step["multiply_floats bf16"].bytes == pytest.approx(2 * weights, rel=1e-3)
    assert step["multiply_floats bf16"].launches == 4 * model.layers + 1


def test_depth_costs_the_cache_and_nothing_else(predict):
    model = predict.Model()
    near, far = (predict.make_step(model, "q4_0", depth, 1) for depth in (0, 4096))
    cache = 2 * 4096 * model.kv_heads * model.head_dim * predict.KV_BYTES * model.layers
    assert far["attend_rows"].bytes - near["attend_rows"].bytes == cache
    assert {k: v for k, v in near.items() if k != "attend_rows"} == {
        k: v for k, v in far.items() if k != "attend_rows"
    }


def test_prefill_multiplies_every_weight_for_every_row(predict):
    model = predict.Model()
    layer = sum(outputs * columns for outputs, columns in model.matrices.values())
    step = predict.make_step(model, "q8_0", 0, 512)
    assert step["cuBLAS"].operations == 2 * 512 * layer * model.layers
    card = predict.CARDS[0]
    assert step.seconds(card) > step["cuBLAS"].operations / card.tensor


def test_it_prints_every_case(predict):
    text = subprocess.run(
        [sys.executable, str(SCRIPT), "--kernels"], capture_output=True, text=True, check=True
    ).stdout
    for mixture in predict.MIXTURES:
        for case, _, _ in predict.CASES:
            assert f"{mixture}, {case}" in text
