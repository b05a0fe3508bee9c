"""Loading: packed weights that are kept in a file, how much memory a load takes, the progress bar."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type, GGUFWriter
from phi3 import AutoModelForCausalLM, _phi3

IDS = [[1, 5, 9, 3, 7, 2]]
ROWS, COLUMNS, LAYERS, VOCAB = 2048, 2048, 6, 4096


def random_blocks(random, rows: int, columns: int) -> np.ndarray:
    """Q8_0 blocks: a small float16 scale and 32 codes."""
    blocks = random.integers(0, 256, (rows, columns // 32, 34), dtype=np.uint8)
    blocks[..., :2] = np.frombuffer(np.float16(0.0005).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


@pytest.fixture(scope="module")
def big_path(tmp_path_factory) -> Path:
    """A phi3 GGUF of 276 MB in Q8_0, with a tied head: computed in mixed mode."""
    path = tmp_path_factory.mktemp("big") / "big.gguf"
    random = np.random.default_rng(1)
    writer = GGUFWriter(path, "phi3")
    for add, value in {
        writer.add_context_length: 512,
        writer.add_embedding_length: COLUMNS,
        writer.add_feed_forward_length: 4096,
        writer.add_block_count: LAYERS,
        writer.add_head_count: 32,
        writer.add_head_count_kv: 32,
        writer.add_rope_dimension_count: 64,
        writer.add_layer_norm_rms_eps: 1e-5,
    }.items():
        add(value)
    writer.add_token_list([f"t{i}" for i in range(VOCAB)])
    writer.add_eos_token_id(2)
    matrices = {"token_embd": (VOCAB, COLUMNS)}
    norms = ["output_norm"]
    for i in range(LAYERS):
        matrices[f"blk.{i}.attn_qkv"] = (3 * ROWS, COLUMNS)
        matrices[f"blk.{i}.attn_output"] = (ROWS, COLUMNS)
        matrices[f"blk.{i}.ffn_up"] = (2 * 4096, COLUMNS)
        matrices[f"blk.{i}.ffn_down"] = (ROWS, 4096)
        norms += [f"blk.{i}.attn_norm", f"blk.{i}.ffn_norm"]
    for name, (rows, columns) in matrices.items():
        blocks = random_blocks(random, rows, columns)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=Type.Q8_0)
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(COLUMNS, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(path, **options) -> bytes:
    model = _phi3.Model(str(path), compute_dtype="mixed", **options)
    return bytes(memoryview(model.forward(IDS)).cast("B"))


def run(code: str, *args, **environment) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- Kept files ----------------------------------------------------------------------------------


def test_nothing_is_written_unasked(smollm2_path, tmp_path, monkeypatch):
    monkeypatch.delenv("PHI3_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    logits(smollm2_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kept_file_gives_the_same_logits(smollm2_path, tmp_path):
    expected = logits(smollm2_path)
    directory = tmp_path / "packed"
    assert logits(smollm2_path, packed_dir=str(directory)) == expected
    (file,) = directory.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert logits(smollm2_path, packed_dir=str(directory)) == expected
    assert list(directory.iterdir()) == [file]


def test_one_byte_of_damage_is_noticed(smollm2_path, tmp_path, caplog):
    expected = logits(smollm2_path, packed_dir=str(tmp_path))
    (file,) = tmp_path.iterdir()
    with open(file, "r+b") as damaged:
        damaged.seek(file.stat().st_size // 2)
        byte = damaged.read(1)[0]
        damaged.seek(-1, os.SEEK_CUR)
        damaged.write(bytes([byte ^ 1]))
    assert logits(smollm2_path, packed_dir=str(tmp_path)) == expected
    assert "checksum is wrong" in caplog.text


def test_the_environment_names_the_directory(smollm2_path, tmp_path, monkeypatch):
    monkeypatch.setenv("PHI3_CACHE_DIR", str(tmp_path / "kept"))
    logits(smollm2_path, packed_dir="")
    assert not (tmp_path / "kept").exists()
    AutoModelForCausalLM.from_pretrained(smollm2_path, compute_dtype="mixed")
    assert len(list((tmp_path / "kept").iterdir())) == 1
    other = tmp_path / "other"
    AutoModelForCausalLM.from_pretrained(smollm2_path, compute_dtype="mixed", packed_dir=other)
    assert len(list(other.iterdir())) == 1


def test_float32_packs_nothing_that_is_kept_for_mixed(smollm2_path, tmp_path):
    _phi3.Model(str(smollm2_path), compute_dtype="float32", packed_dir=str(tmp_path))
    assert all("float32" in file.name for file in tmp_path.iterdir())


def test_a_place_that_cannot_be_written(smollm2_path, caplog):
    expected = logits(smollm2_path)
    assert logits(smollm2_path, packed_dir="/proc/phi3") == expected
    assert "packed into memory" in caplog.text


def test_an_interrupt_leaves_no_file(smollm2_path, tmp_path):
    def stop(done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _phi3.Model(
            str(smollm2_path), compute_dtype="mixed", packed_dir=str(tmp_path), progress=stop
        )
    assert list(tmp_path.iterdir()) == []


# ---- Memory --------------------------------------------------------------------------------------

PEAK = """
    import sys
    from phi3 import _phi3

    def status(field):
        with open("/proc/self/status") as lines:
            return next(int(s.split()[1]) * 1024 for s in lines if s.startswith(field))

    _phi3.Model(sys.argv[2], compute_dtype="mixed").forward([[1, 2]])
    before = status("VmRSS:")
    model = _phi3.Model(sys.argv[1], compute_dtype="mixed", packed_dir=sys.argv[3])
    model.forward([[1, 2, 3]])
    print(status("VmHWM:") - before, status("RssAnon:"), status("RssFile:"))
"""
KV_AND_WORKSPACE = 24e6  # a page of 64 positions: 64 * 2 * 6 * 2048 * 2 bytes, and activations


def test_peak_memory_of_a_load(big_path, tiny_chat_path):
    peak, _, _ = map(int, run(PEAK, big_path, tiny_chat_path, "").split())
    assert peak < 1.1 * big_path.stat().st_size + KV_AND_WORKSPACE


def test_a_kept_file_is_the_memory(big_path, tiny_chat_path, tmp_path):
    """Mapped weights are shared: what the process has of its own stays small."""
    for _ in range(2):
        peak, own, _ = map(int, run(PEAK, big_path, tiny_chat_path, tmp_path).split())
        assert peak < 1.1 * big_path.stat().st_size + KV_AND_WORKSPACE
        assert own < 0.35 * big_path.stat().st_size


# ---- The bar -------------------------------------------------------------------------------------


def test_a_bar_only_for_people(smollm2_path, capfd):
    AutoModelForCausalLM.from_pretrained(smollm2_path)
    AutoModelForCausalLM.from_pretrained(smollm2_path, progress=False)
    assert capfd.readouterr() == ("", "")


def test_the_bar_gets_to_the_end(smollm2_path, capfd):
    pytest.importorskip("tqdm")
    AutoModelForCausalLM.from_pretrained(smollm2_path, compute_dtype="mixed", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Loading model" in err
    assert "100%" in err


def test_an_error_of_the_callback_stops_the_load(smollm2_path):
    def fail(done: float) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        _phi3.Model(str(smollm2_path), progress=fail)
