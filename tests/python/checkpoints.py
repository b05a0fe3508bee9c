"""Small random checkpoints of every kind in the Phi-3 family, the same on every machine.

``write(name, dtype, directory)`` makes a Hugging Face directory (config.json,
generation_config.json and safetensors) whose weights come from a hash of their name and position,
so that goldens written on one machine hold on all. Nothing but NumPy is needed; transformers loads
the same directories.

The shapes are those of the real models, scaled down: the short LongRoPE factors end at 64 tokens,
the sliding window is 31.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

VOCAB = 512
LAYERS = 3
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
EOS_IDS = [507, 501, 500]


def factors(count: int, first: float, last: float) -> list[float]:
    """LongRoPE factors that rise from ``first`` to ``last``."""
    return [round(first + (last - first) * (i / (count - 1)) ** 2, 4) for i in range(count)]


def longrope(pairs: int) -> dict:
    return {
        "type": "longrope",
        "short_factor": factors(pairs, 1.0, 2.0),
        "long_factor": factors(pairs, 1.1, 24.0),
    }


# What a family changes in BASE. The seeds were picked so that in 64 greedy tokens after prompt(1),
# prompt(40) and prompt(130) the two best logits are never closer than 0.07 % of the logits' range.
BASE = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "vocab_size": VOCAB,
    "num_hidden_layers": LAYERS,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 500,
    "pad_token_id": 500,
}
FAMILIES = {
    # Phi-3.5-mini: every head has its own keys, head_dim 96, LongRoPE.
    "phi3.5-mini": {
        "seed": 60,
        "hidden_size": 192,
        "intermediate_size": 320,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 64,
        "rope_scaling": longrope(48),
        "sliding_window": 262144,
    },
    # Phi-3-medium-128k: four query heads share a key head.
    "phi3-medium-128k": {
        "seed": 74,
        "hidden_size": 256,
        "intermediate_size": 448,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 64,
        "rope_scaling": longrope(16),
        "sliding_window": 131072,
    },
    # Phi-4-mini: head_dim 128, of which 96 rotate; the head is the embedding.
    "phi4-mini": {
        "seed": 71,
        "hidden_size": 384,
        "intermediate_size": 512,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 64,
        "partial_rotary_factor": 0.75,
        "rope_scaling": longrope(48),
        "sliding_window": 262144,
        "tie_word_embeddings": True,
    },
    # Phi-3-mini-4k: plain rotation, a query sees 31 positions.
    "phi3-mini-4k": {
        "seed": 52,
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "sliding_window": 31,
    },
    # Phi-4: plain rotation with another base, no window.
    "phi4": {
        "seed": 64,
        "hidden_size": 160,
        "intermediate_size": 288,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "max_position_embeddings": 16384,
        "original_max_position_embeddings": 16384,
        "rope_theta": 250000.0,
    },
}


def prompt(length: int) -> list[int]:
    """Ids that look like nothing in particular."""
    return [(131 * i + 7 * length) % 490 + 3 for i in range(length)]


def noise(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 of variance 1, uniform, a function of ``key`` and the position alone (SplitMix64)."""
    start = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    x = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(start)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    uniform = (x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return (uniform * np.float32(3**0.5)).reshape(shape)


def config(name: str, dtype: str = "float32") -> dict:
    """What config.json says."""
    family = {key: value for key, value in FAMILIES[name].items() if key != "seed"}
    return {**BASE, **family, "torch_dtype": dtype}


def weights(cfg: dict, seed: str, gain: float = 1.0) -> dict[str, np.ndarray]:
    """Every tensor of a Phi3ForCausalLM with this configuration, float32.

    ``gain`` scales the layers' matrices: a small one makes a model that forgives rounding, as
    trained ones do.
    """
    hidden, ffn, vocab = cfg["hidden_size"], cfg["intermediate_size"], cfg["vocab_size"]
    heads, kv_heads = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    head_dim = hidden // heads

    def matrix(key: str, rows: int, columns: int, deviation: float) -> np.ndarray:
        scale = np.float32(deviation / columns**0.5)
        return noise(f"{seed}/{key}", (rows, columns)) * scale

    def norm(key: str) -> np.ndarray:
        return np.float32(1) + np.float32(0.2) * noise(f"{seed}/{key}", (hidden,))

    tied = cfg["tie_word_embeddings"]
    found = {
        "model.embed_tokens.weight": matrix("embed", vocab, hidden, 4 if tied else hidden**0.5)
    }
    for layer in range(cfg["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        # The values have to be loud and the attention sharp, or nothing depends on position.
        qk = matrix(f"{layer}.qk", (heads + kv_heads) * head_dim, hidden, 1.6 * gain)
        v = matrix(f"{layer}.v", kv_heads * head_dim, hidden, 1.5 * gain)
        found |= {
            prefix + "input_layernorm.weight": norm(f"{layer}.input_norm"),
            prefix + "self_attn.qkv_proj.weight": np.concatenate([qk, v]),
            prefix + "self_attn.o_proj.weight": matrix(f"{layer}.o", hidden, hidden, 1.5 * gain),
            prefix + "post_attention_layernorm.weight": norm(f"{layer}.post_norm"),
            prefix + "mlp.gate_up_proj.weight": matrix(
                f"{layer}.gate_up", 2 * ffn, hidden, 1.2 * gain
            ),
            prefix + "mlp.down_proj.weight": matrix(f"{layer}.down", hidden, ffn, 1.2 * gain),
        }
    found["model.norm.weight"] = norm("final_norm")
    if not tied:
        found["lm_head.weight"] = matrix("head", vocab, hidden, 3)
    return found


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """float32 rounded to nearest, ties to even, as the 16 bits that are kept."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (
        (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    ).astype(np.uint16)


def stored(values: np.ndarray, dtype: str) -> bytes:
    """A float32 tensor as the bytes of a safetensors file."""
    if dtype == "bfloat16":
        return bfloat16_bits(values).tobytes()
    return values.astype(dtype).tobytes()


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    """Writes one file: the header's length, the header (JSON), the data."""
    header, data, at = {}, [], 0
    for name, values in tensors.items():
        data.append(stored(values, dtype))
        end = at + len(data[-1])
        header[name] = {
            "dtype": DTYPES[dtype],
            "shape": list(values.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(data)


def write_shards(directory: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    """Two shards and their index; the cut goes through a layer."""
    names = list(tensors)
    cut = len(names) // 2 + 1
    where = {}
    for number, part in enumerate((names[:cut], names[cut:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        write_safetensors(directory / file, {name: tensors[name] for name in part}, dtype)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def write_directory(
    directory: Path, cfg: dict, tensors: dict[str, np.ndarray], dtype: str, shards: bool = False
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(cfg, indent=2))
    generation = {
        "bos_token_id": cfg["bos_token_id"],
        "eos_token_id": EOS_IDS if cfg["eos_token_id"] == EOS_IDS[-1] else cfg["eos_token_id"],
        "pad_token_id": cfg["pad_token_id"],
    }
    (directory / "generation_config.json").write_text(json.dumps(generation))
    if shards:
        write_shards(directory, tensors, dtype)
    else:
        write_safetensors(directory / "model.safetensors", tensors, dtype)
    return directory


def write(name: str, dtype: str, directory: Path, **changes) -> Path:
    """Writes a family's checkpoint; ``changes`` replace entries of config.json."""
    cfg = config(name, dtype) | changes
    return write_directory(directory, cfg, weights(cfg, f"{name}/{FAMILIES[name]['seed']}"), dtype)
