"""Quantising: the bytes are gguf's, the files hold what the checkpoint held, nothing is half written."""

import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import gguf
import gguf_models
import numpy as np
import phi3
import phi3_under_test as phi
import pytest
from gguf import GGMLQuantizationType as Type
from test_smollm2 import PROSE, perplexity

TYPES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "iq4_xs", "q2_k", "q3_k_s", "q3_k_m"]
TYPES += ["q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k", "f16", "bf16", "f32"]
# Rows of 256 and 512 columns: every format fits. Eight layers: the mixtures have something to mix.
CONFIG = gguf_models.CONFIG | {"num_hidden_layers": 8}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """The tiny checkpoints have no tokenizer; every file written of them is said to have none."""
    logger = logging.getLogger("phi3")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module")
def wide(scratch):
    """(directory, weights) of a checkpoint that every format fits."""
    tensors = checkpoints.weights(CONFIG, "quantize", gain=0.5)
    directory = checkpoints.write_directory(scratch / "wide", CONFIG, tensors, "float32")
    return directory, tensors


def tensors_of(path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def expanded(path) -> dict[str, np.ndarray]:
    return {
        name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for name, tensor in tensors_of(path).items()
    }


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if ".partial" in path.name]


# ---- Bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16", "f32"])
def test_bytes_are_those_of_gguf(wide, tmp_path, kind):
    directory, weights = wide
    phi3.quantize(directory, tmp_path / "new.gguf", kind)
    written = tensors_of(tmp_path / "new.gguf")
    expected = gguf_models.gguf_matrices(CONFIG, weights, "phi3")
    compared = 0
    for name, values in expected.items():
        tensor = written[name]
        if tensor.tensor_type in gguf_models.QUANTIZED_BY_GGUF:
            bytes_of_gguf = gguf.quants.quantize(values, tensor.tensor_type).tobytes()
            assert tensor.data.tobytes() == bytes_of_gguf
            compared += 1
    assert compared >= len(expected) - 1  # the head of some is Q6_K
    for norm, source in (("blk.3.attn_norm", "model.layers.3.input_layernorm"),):
        stored = written[norm + ".weight"]
        assert stored.tensor_type == Type.F32 and stored.shape.tolist() == [256]
        assert np.array_equal(stored.data, weights[source + ".weight"])
    for side in ("long", "short"):
        factors = CONFIG["rope_scaling"][f"{side}_factor"]
        assert np.array_equal(written[f"rope_factors_{side}.weight"].data, np.float32(factors))


@pytest.mark.parametrize("kind", TYPES)
def test_weights_survive(wide, tmp_path, kind):
    """The error of each format is in the range that its bits allow."""
    largest = {"q2": 0.40, "q3": 0.22, "q4": 0.11, "iq": 0.11, "q5": 0.06, "q6": 0.03, "q8": 0.01}
    directory, weights = wide
    phi3.quantize(directory, tmp_path / "new.gguf", kind)
    held = expanded(tmp_path / "new.gguf")
    for name, values in gguf_models.gguf_matrices(CONFIG, weights, "phi3").items():
        error = np.sqrt(((held[name] - values) ** 2).mean()) / values.std()
        assert error <= largest.get(kind[:2], 0.003)


def test_the_mixture_of_q4_k_m(wide, tmp_path):
    phi3.quantize(wide[0], tmp_path / "new.gguf", "q4_k_m")
    types = {name: tensor.tensor_type for name, tensor in tensors_of(tmp_path / "new.gguf").items()}
    assert types["output.weight"] == Type.Q6_K and types["token_embd.weight"] == Type.Q4_K
    assert all(types[f"blk.{i}.ffn_up.weight"] == Type.Q4_K for i in range(8))
    for name in ("attn_qkv", "ffn_down"):
        more_bits = [i for i in range(8) if types[f"blk.{i}.{name}.weight"] == Type.Q6_K]
        assert more_bits == [0, 3, 6, 7]


# ---- Models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "q8_0", "q4_0", "q4_k_m"])
@pytest.mark.parametrize("family", ["phi3.5-mini", "phi3-medium-128k", "phi4-mini", "phi3-mini-4k"])
def test_loaded_quantised_written_and_loaded_again(checkpoint, tmp_path, family, kind):
    """All three give the same logits, to the bit: rounded at load, rounded into a file, saved."""
    directory = checkpoint(family, "bfloat16")
    ids = checkpoints.prompt(100)
    model = phi3.AutoModelForCausalLM.from_pretrained(directory, quantization=kind)
    model.save_pretrained(tmp_path / "saved.gguf")
    phi3.quantize(directory, tmp_path / "quantized.gguf", kind)
    assert (tmp_path / "saved.gguf").read_bytes() == (tmp_path / "quantized.gguf").read_bytes()
    again = phi3.AutoModelForCausalLM.from_pretrained(tmp_path / "saved.gguf")
    assert np.array_equal(phi.logits(model, ids), phi.logits(again, ids))
    assert model.dtype == again.dtype and set(again.generation_config.eos_token_id) == set(
        checkpoints.EOS_IDS
    )


@pytest.mark.parametrize("compute_dtype", ["float32", "mixed"])
def test_logits_are_those_of_the_rounded_weights(wide, tmp_path, compute_dtype):
    """Expanded by gguf and written as a float32 checkpoint, they say the same."""
    directory, _ = wide
    phi3.quantize(directory, tmp_path / "new.gguf", "q5_k_m")
    tensors = gguf_models.phi3_weights(CONFIG, expanded(tmp_path / "new.gguf"))
    checkpoints.write_directory(tmp_path / "rounded", CONFIG, tensors, "float32")
    ids = checkpoints.prompt(90)
    expected = phi.logits(phi.load(tmp_path / "rounded"), ids)
    found = phi.logits(phi.load(tmp_path / "new.gguf", compute_dtype=compute_dtype), ids)
    tolerance = 1e-4 if compute_dtype == "float32" else 0.05
    assert np.abs(found - expected).max() <= tolerance * (expected.max() - expected.min())


def test_a_kept_file_knows_the_quantisation(wide, tmp_path, monkeypatch):
    monkeypatch.setenv("PHI3_CACHE_DIR", str(tmp_path))
    ids = checkpoints.prompt(20)

    def logits(kind):
        model = phi3.AutoModelForCausalLM.from_pretrained(
            wide[0], quantization=kind, compute_dtype="mixed"
        )
        return phi.logits(model, ids)

    first = {kind: logits(kind) for kind in ("q4_0", "q8_0", None)}
    for kind, expected in first.items():
        assert np.array_equal(logits(kind), expected)
    assert not np.array_equal(first["q4_0"], first["q8_0"])


def test_a_directory_gets_what_a_checkpoint_has(tiny_chat_path, tmp_path):
    model = phi3.AutoModelForCausalLM.from_pretrained(tiny_chat_path, quantization="q8_0")
    model.save_pretrained(tmp_path / "new" / "model")
    names = {path.name for path in (tmp_path / "new" / "model").iterdir()}
    assert {"model.gguf", "config.json", "generation_config.json", "tokenizer.json"} <= names
    again = phi3.AutoModelForCausalLM.from_pretrained(tmp_path / "new" / "model")
    tokenizer = phi3.AutoTokenizer.from_pretrained(tmp_path / "new" / "model")
    assert again.dtype == "q8_0" and tokenizer.chat_template
    model.save_pretrained(tmp_path / "new" / "model")  # what is there is replaced


def test_a_gguf_file_keeps_its_keys(smollm2_path, tmp_path):
    phi3.quantize(smollm2_path, tmp_path / "new.gguf", "q8_0")
    before, after = gguf.GGUFReader(smollm2_path), gguf.GGUFReader(tmp_path / "new.gguf")
    own = {"general.file_type", "general.quantization_version", "general.alignment"}
    header = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
    for name, field in before.fields.items():
        if name not in own | header:
            assert after.fields[name].contents() == field.contents(), name
    assert after.get_field("general.file_type").contents() == 7
    assert {t.name for t in after.tensors} == {t.name for t in before.tensors}


@pytest.fixture(scope="module")
def smollm2_float(smollm2_path, scratch):
    path = scratch / "smollm2-f32.gguf"
    phi3.quantize(smollm2_path, path, "f32")
    return path


def test_as_it_is_stored_nothing_changes(smollm2_path, smollm2_float, tmp_path):
    """Copied, or expanded to float32: the same weights."""
    phi3.quantize(smollm2_path, tmp_path / "copy.gguf", None)
    before = tensors_of(smollm2_path)
    for name, tensor in tensors_of(tmp_path / "copy.gguf").items():
        assert tensor.tensor_type == before[name].tensor_type
        assert tensor.data.tobytes() == before[name].data.tobytes()
    held = expanded(smollm2_path)
    for name, values in expanded(smollm2_float).items():
        assert np.array_equal(values, held[name])


@pytest.mark.parametrize(
    ("kind", "largest"), [("q8_0", 1.01), ("q6_k", 1.01), ("q4_k_m", 1.06), ("q4_0", 1.12)]
)
def test_perplexity_of_a_trained_model(smollm2_float, tmp_path, kind, largest):
    """Against the float32 weights. llama.cpp's own files of these types: 1.004, 1.005, 1.04, 1.08."""
    phi3.quantize(smollm2_float, tmp_path / "new.gguf", kind)
    exact = perplexity(phi.logits(phi.load(smollm2_float), PROSE), PROSE)
    found = perplexity(phi.logits(phi.load(tmp_path / "new.gguf"), PROSE), PROSE)
    assert found <= largest * exact


# ---- Mistakes, interrupts, a full disk ----------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tmp_path, value):
    tensors = checkpoints.weights(CONFIG, "quantize", gain=0.5)
    tensors["model.layers.1.mlp.down_proj.weight"][5, 77] = value
    directory = checkpoints.write_directory(tmp_path / "bad", CONFIG, tensors, "float32")
    where = r"ffn_down.*NaN or infinity in row 5, column 77"
    with pytest.raises(phi3.BadFileError, match=where):
        phi3.quantize(directory, tmp_path / "new.gguf", "q4_0")
    with pytest.raises(phi3.BadFileError, match="down_proj.*row 5, column 77"):
        phi3.AutoModelForCausalLM.from_pretrained(directory, quantization="q4_0")
    assert not (tmp_path / "new.gguf").exists() and leftovers(tmp_path) == []


def test_weights_that_are_too_large(tmp_path):
    tensors = checkpoints.weights(CONFIG, "quantize", gain=0.5)
    tensors["lm_head.weight"][7, 3] = 1e30
    directory = checkpoints.write_directory(tmp_path / "bad", CONFIG, tensors, "float32")
    with pytest.raises(
        phi3.UnsupportedError, match=r"output\.weight.*row 7.*too large for float16"
    ):
        phi3.quantize(directory, tmp_path / "new.gguf", "f16")


def test_names_of_types(wide, tmp_path):
    for kind in ("q4", "q4_k_x", "", "int4"):
        with pytest.raises(phi3.InvalidArgumentError, match="known are q4_0, .*q4_k_m"):
            phi3.quantize(wide[0], tmp_path / "new.gguf", kind)
        with pytest.raises(phi3.InvalidArgumentError, match="known are q4_0"):
            phi3.AutoModelForCausalLM.from_pretrained(wide[0], quantization=kind)
    phi3.quantize(wide[0], tmp_path / "new.gguf", "Q4_K_M")  # as llama.cpp writes it


def test_paths_that_cannot_be_written(wide, tmp_path):
    there = tmp_path / "there.gguf"
    there.write_text("precious")
    with pytest.raises(phi3.FileAccessError, match="there.gguf: exists already"):
        phi3.quantize(wide[0], there, "q4_0")
    assert there.read_text() == "precious"
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(phi3.FileAccessError, match="is (a directory|no regular file)"):
            phi3.quantize(wide[0], path, "q4_0", overwrite=True)
    with pytest.raises(phi3.ModelNotFoundError, match="no/such.gguf: cannot write: No such file"):
        phi3.quantize(wide[0], tmp_path / "no" / "such.gguf", "q4_0")
    with pytest.raises(phi3.InvalidArgumentError, match="empty"):
        phi3.quantize(wide[0], "", "q4_0")
    with pytest.raises(phi3.InvalidArgumentError, match="n_threads"):
        phi3.quantize(wide[0], tmp_path / "new.gguf", "q4_0", n_threads=-1)


def test_a_file_may_replace_its_source(wide, tmp_path):
    path = tmp_path / "model.gguf"
    phi3.quantize(wide[0], path, "f32")
    phi3.quantize(path, tmp_path / "other.gguf", "q8_0")
    phi3.quantize(path, path, "q8_0", overwrite=True)
    assert path.read_bytes() == (tmp_path / "other.gguf").read_bytes()


def test_an_exception_of_the_progress_callback_leaves_nothing(wide, tmp_path):
    seen = []

    def progress(done: float) -> None:
        seen.append(done)
        if done > 0.4:
            raise KeyboardInterrupt

    old = tmp_path / "new.gguf"
    old.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        phi3._phi3.quantize(wide[0], "q4_k_m", old, overwrite=True, progress=progress)
    assert old.read_text() == "old" and leftovers(tmp_path) == []
    assert seen == sorted(seen) and 0.4 < seen[-1] < 1
    seen.clear()
    phi3._phi3.quantize(wide[0], "q8_0", old, overwrite=True, progress=lambda d: seen.append(d))
    assert seen[0] == 0 and seen[-1] == 1


def run(*arguments, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "phi3", "quantize", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


def test_a_full_disk_is_told_and_leaves_the_old_file(smollm2_path, tmp_path):
    old = tmp_path / "new.gguf"
    old.write_text("old")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))

    result = run(smollm2_path, old, "--type", "q8_0", "--force", preexec_fn=limit)
    assert result.returncode == 1
    assert str(old) in result.stderr and "File too large" in result.stderr
    assert old.read_text() == "old" and leftovers(tmp_path) == []


def test_ctrl_c_leaves_nothing(smollm2_float, tmp_path):
    """Right after the new file is begun, and later, when it may be whole; never is there half of it."""
    path = tmp_path / "new.gguf"
    for delay in (0, 0.05, 0.1, 0.2):
        command = [sys.executable, "-m", "phi3", "quantize", smollm2_float, path, "--force"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not leftovers(tmp_path):
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=60)
        assert status != 0 or delay > 0
        assert leftovers(tmp_path) == []
        assert not path.exists() or len(tensors_of(path)) == 272
        path.unlink(missing_ok=True)


def test_the_command(wide, tmp_path):
    path = tmp_path / "new.gguf"
    result = run(wide[0], path, "--type", "q4_0")
    assert result.returncode == 0 and "q4_0" in result.stderr and path.exists()
    size = os.path.getsize(path)
    again = run(wide[0], path)
    assert again.returncode == 1 and "exists already" in again.stderr
    assert again.stderr.splitlines()[-1].startswith("phi3: ") and os.path.getsize(path) == size
    assert run(wide[0], path, "--type", "q8_0", "--force").returncode == 0
    assert os.path.getsize(path) > size
    twice = run(path, tmp_path / "twice.gguf", "--type", "q4_k_m")
    assert twice.returncode == 0 and "quantised already" in twice.stderr
