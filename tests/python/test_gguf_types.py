"""Every tensor type of GGUF: its expansion against PyPI gguf's, and models made of it."""

import checkpoints
import gguf
import gguf_models
import numpy as np
import phi3_under_test as phi
import pytest
from gguf import GGMLQuantizationType as Type

ARCHITECTURES = {"phi3": gguf_models.CONFIG, "llama": gguf_models.LLAMA_CONFIG}
# Prefill and the steps of one token after it are both beyond the LongRoPE border of the phi3 files.
IDS = checkpoints.prompt(80)
PREFILL = 66


def finite_rows(kind: Type, rows: int, columns: int) -> np.ndarray:
    """Random bits of a type, without infinities and NaNs: [rows][row_bytes]."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    needed = rows * columns // block_size
    spare = needed * 5 // 4
    blocks = gguf_models.random_bytes(f"blocks/{kind.name}", spare * block_bytes).reshape(
        spare, block_bytes
    )
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(gguf.quants.dequantize(blocks, kind).reshape(spare, -1)).all(axis=1)
    assert finite.sum() >= needed
    return blocks[finite][:needed].reshape(rows, -1)


@pytest.mark.parametrize("device", phi.DEVICES)
@pytest.mark.parametrize("kind", gguf_models.TYPES, ids=lambda kind: kind.name)
def test_expansion_is_bit_for_bit_that_of_gguf(scratch, kind, device):
    """A model whose logits after token t are column t of its head, whatever bits that has."""
    rows = finite_rows(kind, 512, 256)
    path = scratch / f"readout-{kind.name}.gguf"
    if not path.exists():
        gguf_models.write_readout(path, kind, rows)
    expected = gguf.quants.dequantize(rows, kind)
    found = phi.logits(phi.load(path, device, "float32"), list(range(256))).T
    assert np.array_equal(found, expected)


def q4_k_m(name: str) -> Type:
    """The mixture that llama.cpp calls Q4_K_M: Q6_K where it matters most."""
    if name == "output.weight" or "attn_v" in name or "attn_qkv" in name or "ffn_down" in name:
        return Type.Q6_K
    return Type.Q4_K


def jumble(name: str) -> Type:
    """q, k, v and gate, up of one layer all differ."""
    kinds = {"attn_q.": Type.Q4_K, "attn_k.": Type.Q8_0, "attn_v.": Type.F16, "ffn_gate": Type.Q5_1}
    kinds |= {
        "ffn_up": Type.IQ4_XS,
        "ffn_down": Type.Q3_K,
        "token_embd": Type.Q5_0,
        "output.": Type.BF16,
    }
    return next((kind for part, kind in kinds.items() if part in name), Type.Q4_1)


MIXTURES = {
    "Q4_0 with Q6_K head": lambda name: Type.Q6_K if name == "output.weight" else Type.Q4_0,
    "Q4_K_M": q4_k_m,
    "jumble": jumble,
}
CHOICES = {kind.name: (lambda _, kind=kind: kind) for kind in gguf_models.TYPES} | MIXTURES


@pytest.fixture(scope="module")
def files(scratch):
    """files(architecture, choice, tied) -> (GGUF, the same weights in float32 as a directory)."""
    made = {}

    def make(architecture: str, choice: str, tied: bool = False):
        key = f"{architecture}-{choice.replace(' ', '-')}" + ("-tied" if tied else "")
        if key not in made:
            path, directory = scratch / f"{key}.gguf", scratch / f"{key}-float32"
            cfg = ARCHITECTURES[architecture]
            weights = gguf_models.write(path, architecture, CHOICES[choice], cfg, tied)
            cfg = cfg | {"tie_word_embeddings": tied}
            made[key] = path, checkpoints.write_directory(directory, cfg, weights, "float32")
        return made[key]

    return make


def assert_same_model(path, expected: np.ndarray, devices) -> None:
    """Exact in float32 mode; in the default mode the same direction at every position."""
    span = expected.max() - expected.min()
    for device in devices:
        exact = phi.logits_in_steps(phi.load(path, device, "float32"), IDS, PREFILL)
        assert np.abs(exact - expected).max() <= 1e-3 * span, device
        fast = phi.logits_in_steps(phi.load(path, device, "mixed"), IDS, PREFILL)
        lengths = np.linalg.norm(fast, axis=1) * np.linalg.norm(expected, axis=1)
        assert ((fast * expected).sum(axis=1) / lengths).min() >= 0.999, device


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gguf_is_the_model_of_its_expanded_weights(files, architecture, choice):
    path, directory = files(architecture, choice)
    expected = phi.logits(phi.load(directory), IDS)
    devices = ("cpu", "reference") if architecture == "phi3" else ("cpu",)
    assert_same_model(path, expected, devices)


@pytest.mark.parametrize("choice", ["Q4_0", "Q6_K", "F16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tied_gguf(files, architecture, choice):
    path, directory = files(architecture, choice, tied=True)
    assert_same_model(path, phi.logits(phi.load(directory), IDS), phi.DEVICES)


@pytest.mark.live
@pytest.mark.parametrize("choice", ["F32", "Q4_0", "jumble"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gguf_against_transformers(files, architecture, choice):
    """The chain's end: transformers computes the expanded weights."""
    import transformers_oracle as oracle

    path, directory = files(architecture, choice)
    assert_same_model(path, oracle.logits(oracle.load(directory), IDS), ("cpu",))


@pytest.mark.live
@pytest.mark.parametrize("choice", ["Q8_0", "Q4_K"])
def test_a_llama_gguf_as_transformers_reads_it(files, choice):
    """transformers expands and un-permutes the file by itself."""
    import transformers_oracle as oracle

    path, _ = files("llama", choice)
    truth = oracle.load_llama_gguf(path)
    assert_same_model(path, oracle.logits(truth, IDS), ("cpu",))
