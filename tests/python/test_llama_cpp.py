"""llama.cpp itself: it loads our files, says the same, and picks the same formats.

Needs llama-cpp-python; skipped where it is not installed.
"""

import ctypes
import os

import checkpoints
import gguf
import gguf_models
import numpy as np
import phi3
import phi3_under_test as phi
import pytest
from test_smollm2 import PROSE, perplexity

llama_cpp = pytest.importorskip("llama_cpp")

FILE_TYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11}
FILE_TYPES |= {"q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17}
FILE_TYPES |= {"q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "f16": 1, "bf16": 32}


def logits_of(path, ids: list[int]) -> np.ndarray:
    model = llama_cpp.Llama(
        str(path), n_ctx=2048, n_batch=2048, logits_all=True, verbose=False, n_threads=2
    )
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


@pytest.fixture(scope="module")
def smollm2_float(smollm2_path, scratch):
    path = scratch / "smollm2-for-llama-cpp.gguf"
    phi3.quantize(smollm2_path, path, "f32")
    return path


@pytest.mark.live
@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_k_m", "q4_0"])
def test_perplexity_is_the_same_there(smollm2_float, tmp_path, kind):
    """But for its activations, which it rounds to 8 bits where weights are quantised."""
    phi3.quantize(smollm2_float, tmp_path / "new.gguf", kind)
    ours = perplexity(phi.logits(phi.load(tmp_path / "new.gguf"), PROSE), PROSE)
    theirs = perplexity(logits_of(tmp_path / "new.gguf", PROSE), PROSE)
    assert theirs == pytest.approx(ours, rel=1e-3 if kind == "f32" else 0.02)


@pytest.mark.live
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_a_phi3_checkpoint_says_the_same_there(tiny_chat_path, tmp_path, kind):
    phi3.quantize(tiny_chat_path, tmp_path / "new.gguf", kind)
    ids = checkpoints.prompt(25)  # within the sliding window, which llama.cpp does not apply
    ours = phi.logits(phi.load(tmp_path / "new.gguf"), ids)
    theirs = logits_of(tmp_path / "new.gguf", ids)
    tolerance = 2e-3 if kind == "f32" else 0.05
    assert np.abs(ours - theirs).max() <= tolerance * (ours.max() - ours.min())


@pytest.mark.live
def test_a_phi3_tokenizer_gives_the_same_ids_there(tiny_chat_path, tmp_path):
    phi3.quantize(tiny_chat_path, tmp_path / "new.gguf", "q8_0")
    model = llama_cpp.Llama(str(tmp_path / "new.gguf"), vocab_only=True, verbose=False)
    tokenizer = phi3.AutoTokenizer.from_pretrained(tmp_path / "new.gguf")
    for text in ("Hello world", "<|user|>\nWhat is 2 + 3?<|end|>\n<|assistant|>\n", "  héllo 😀"):
        found = model.tokenize(text.encode(), add_bos=False, special=True)
        assert found == list(tokenizer(text)["input_ids"])
    assert model.metadata["tokenizer.chat_template"] == tokenizer.chat_template


@pytest.mark.live
@pytest.mark.parametrize("architecture", ["phi3", "llama"])
def test_formats_are_those_that_it_picks(tmp_path, architecture):
    """For every type and tensor, and the same errors or smaller ones."""
    cfg = gguf_models.LLAMA_CONFIG | {"num_hidden_layers": 16}
    source = tmp_path / "float.gguf"
    gguf_models.write(source, architecture, lambda name: gguf.GGMLQuantizationType.F32, cfg)
    for kind, file_type in FILE_TYPES.items():
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread = file_type, 2
        theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
        names = [os.fsencode(path) for path in (source, theirs)]
        assert llama_cpp.llama_model_quantize(*names, ctypes.byref(parameters)) == 0
        phi3.quantize(source, ours, kind, overwrite=True)
        expected = {t.name: t.tensor_type for t in gguf.GGUFReader(theirs).tensors}
        assert {t.name: t.tensor_type for t in gguf.GGUFReader(ours).tensors} == expected, kind
        assert error_of(ours, source) <= 1.01 * error_of(theirs, source), kind


def error_of(path, source) -> float:
    """Root mean square over all weights."""
    exact = {t.name: t.data for t in gguf.GGUFReader(source).tensors}
    squares, count = 0.0, 0
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        off = values - exact[tensor.name].reshape(values.shape)
        squares, count = squares + float((off**2).sum()), count + off.size
    return (squares / count) ** 0.5
