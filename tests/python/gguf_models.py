"""Tiny GGUF files of the phi3 and llama architectures with tensors of any type, and what they hold.

``quantized`` makes the bytes of a tensor: by PyPI gguf's quantiser where it has one, else as random
bits with scales of a sensible size, for what counts is that both sides read the same bytes.
``write`` stores a model and returns its weights, expanded by PyPI gguf's dequantiser, under their
Hugging Face names.
"""

from pathlib import Path

import checkpoints
import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# type -> byte offset in a block of its float16 scale, and of its minimum's scale together with what
# that is in scales: a minimum that makes the mean of random bits zero.
RANDOM_BLOCKS = {
    Type.Q2_K: (80, (82, 1.5)),
    Type.Q3_K: (108, None),
    Type.Q4_K: (0, (2, 7.5)),
    Type.Q5_K: (0, (2, 15.5)),
    Type.Q6_K: (208, None),
    Type.IQ4_NL: (0, None),
    Type.IQ4_XS: (0, None),
}
QUANTIZED_BY_GGUF = (
    Type.F32,
    Type.F16,
    Type.BF16,
    Type.Q8_0,
    Type.Q4_0,
    Type.Q4_1,
    Type.Q5_0,
    Type.Q5_1,
)
TYPES = (*QUANTIZED_BY_GGUF, *RANDOM_BLOCKS)

CONFIG = checkpoints.BASE | {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "original_max_position_embeddings": 64,
    "rope_scaling": checkpoints.longrope(32),
}
LLAMA_CONFIG = CONFIG | {"original_max_position_embeddings": 2048, "rope_scaling": None}


def random_bytes(key: str, count: int) -> np.ndarray:
    uniform = checkpoints.noise(key, (count,)) / 3**0.5  # [-1, 1)
    return ((uniform + 1) * 128).astype(np.uint8)


def set_float16(blocks: np.ndarray, offset: int, values: np.ndarray) -> None:
    """Writes one float16 into each block. blocks [n_blocks][block_bytes]"""
    blocks[:, offset : offset + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


def random_blocks(values: np.ndarray, kind: Type, key: str) -> np.ndarray:
    """Blocks of random bits whose standard deviation is that of ``values``: [rows][row_bytes]."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    count = rows * columns // block_size
    blocks = random_bytes(key, count * block_bytes).reshape(count, block_bytes)
    scale_at, minimum = RANDOM_BLOCKS[kind]
    shape = (count * block_size // columns, columns // block_size * block_bytes)

    def scaled(unit: float) -> np.ndarray:
        scales = unit * (1 + 0.4 * checkpoints.noise(f"{key}/scales", (count,)))
        set_float16(blocks, scale_at, scales)
        if minimum:
            set_float16(blocks, minimum[0], scales * minimum[1])
        return blocks.reshape(shape)

    deviation = gguf.quants.dequantize(scaled(1.0), kind).std()
    return scaled(float(values.std() / deviation))


def quantized(values: np.ndarray, kind: Type, key: str) -> np.ndarray:
    """[rows][row_bytes] uint8."""
    if kind in RANDOM_BLOCKS:
        return random_blocks(values, kind, key)
    return gguf.quants.quantize(values, kind).view(np.uint8)


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """q or k rows as llama GGUFs keep them: the halves of a head's rotation pairs interleaved."""
    head_dim = rows.shape[0] // heads
    return rows.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def gguf_matrices(cfg: dict, hf: dict[str, np.ndarray], architecture: str) -> dict[str, np.ndarray]:
    """GGUF's matrices, float32, under GGUF's names, from a Phi3ForCausalLM's."""
    head_dim = cfg["hidden_size"] // cfg["num_attention_heads"]
    heads, kv_heads = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    found = {"token_embd.weight": hf["model.embed_tokens.weight"]}
    if "lm_head.weight" in hf:
        found["output.weight"] = hf["lm_head.weight"]
    for layer in range(cfg["num_hidden_layers"]):
        source, target = f"model.layers.{layer}.", f"blk.{layer}."
        qkv = hf[source + "self_attn.qkv_proj.weight"]
        gate_up = hf[source + "mlp.gate_up_proj.weight"]
        found[target + "attn_output.weight"] = hf[source + "self_attn.o_proj.weight"]
        found[target + "ffn_down.weight"] = hf[source + "mlp.down_proj.weight"]
        if architecture == "phi3":
            found[target + "attn_qkv.weight"] = qkv
            found[target + "ffn_up.weight"] = gate_up
            continue
        q, k, v = np.split(qkv, [heads * head_dim, (heads + kv_heads) * head_dim])
        gate, up = np.split(gate_up, 2)
        found[target + "attn_q.weight"] = permuted(q, heads)
        found[target + "attn_k.weight"] = permuted(k, kv_heads)
        found[target + "attn_v.weight"] = v
        found[target + "ffn_gate.weight"] = gate
        found[target + "ffn_up.weight"] = up
    return found


def unpermuted(rows: np.ndarray, heads: int) -> np.ndarray:
    head_dim = rows.shape[0] // heads
    return rows.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def phi3_weights(cfg: dict, held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A Phi3ForCausalLM's weights from the float32 tensors of a GGUF of either architecture."""
    found = {
        "model.embed_tokens.weight": held["token_embd.weight"],
        "model.norm.weight": held["output_norm.weight"],
    }
    if "output.weight" in held:
        found["lm_head.weight"] = held["output.weight"]
    for layer in range(cfg["num_hidden_layers"]):
        source, target = f"blk.{layer}.", f"model.layers.{layer}."
        if source + "attn_qkv.weight" in held:
            qkv, gate_up = held[source + "attn_qkv.weight"], held[source + "ffn_up.weight"]
        else:
            q = unpermuted(held[source + "attn_q.weight"], cfg["num_attention_heads"])
            k = unpermuted(held[source + "attn_k.weight"], cfg["num_key_value_heads"])
            qkv = np.concatenate([q, k, held[source + "attn_v.weight"]])
            gate_up = np.concatenate(
                [held[source + "ffn_gate.weight"], held[source + "ffn_up.weight"]]
            )
        found[target + "self_attn.qkv_proj.weight"] = qkv
        found[target + "mlp.gate_up_proj.weight"] = gate_up
        found[target + "self_attn.o_proj.weight"] = held[source + "attn_output.weight"]
        found[target + "mlp.down_proj.weight"] = held[source + "ffn_down.weight"]
        found[target + "input_layernorm.weight"] = held[source + "attn_norm.weight"]
        found[target + "post_attention_layernorm.weight"] = held[source + "ffn_norm.weight"]
    return found


def add_metadata(writer: gguf.GGUFWriter, cfg: dict) -> None:
    head_dim = cfg["hidden_size"] // cfg["num_attention_heads"]
    writer.add_name("tiny")
    writer.add_context_length(cfg["max_position_embeddings"])
    writer.add_embedding_length(cfg["hidden_size"])
    writer.add_feed_forward_length(cfg["intermediate_size"])
    writer.add_block_count(cfg["num_hidden_layers"])
    writer.add_head_count(cfg["num_attention_heads"])
    writer.add_head_count_kv(cfg["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(cfg["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(cfg["rope_theta"])
    if cfg["rope_scaling"]:
        maximum, original = cfg["max_position_embeddings"], cfg["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        factor = (1 + np.log(maximum / original) / np.log(original)) ** 0.5
        writer.add_rope_scaling_attn_factors(float(factor))


def add_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    """A SentencePiece-like vocabulary: three control tokens, the bytes, letters."""
    letters = [chr(ord("a") + i % 26) * (i // 26 + 1) for i in range(size - 259)]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + letters
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(letters))])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(letters))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def write(
    path: Path, architecture: str, choose, cfg: dict, tied: bool = False
) -> dict[str, np.ndarray]:
    """Writes a GGUF whose matrix NAME has the type choose(NAME).

    Returns the weights of the same model as a Phi3ForCausalLM, expanded to float32 by PyPI gguf.
    """
    hf = checkpoints.weights(cfg | {"tie_word_embeddings": tied}, f"gguf/{architecture}", gain=0.5)
    writer = gguf.GGUFWriter(path, architecture)
    add_metadata(writer, cfg)
    add_tokenizer(writer, cfg["vocab_size"])
    held = {"output_norm.weight": hf["model.norm.weight"]}
    for layer in range(cfg["num_hidden_layers"]):
        norms = f"model.layers.{layer}."
        held[f"blk.{layer}.attn_norm.weight"] = hf[norms + "input_layernorm.weight"]
        held[f"blk.{layer}.ffn_norm.weight"] = hf[norms + "post_attention_layernorm.weight"]
    for name, values in held.items():
        writer.add_tensor(name, values)
    if cfg["rope_scaling"]:
        for kind in ("long", "short"):
            values = np.array(cfg["rope_scaling"][f"{kind}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{kind}.weight", values)
    for name, values in gguf_matrices(cfg, hf, architecture).items():
        kind = choose(name)
        data = quantized(values, kind, f"{architecture}/{name}")
        writer.add_tensor(name, data, raw_dtype=kind)
        held[name] = gguf.quants.dequantize(data, kind)
    finish(writer)
    return phi3_weights(cfg, held)


def write_readout(path: Path, kind: Type, head: np.ndarray) -> None:
    """Writes a model that shows its head: the logits after token t are column t, to the last bit.

    head [512][row_bytes of 256 columns]. Token t is 2**24 in dimension t. The one layer adds zero,
    the final norm makes 16 of it (2**20 is the root of the mean square, and hides epsilon), the
    norm's weight makes that 1.
    """
    cfg = LLAMA_CONFIG | {"num_hidden_layers": 1, "intermediate_size": 256}
    writer = gguf.GGUFWriter(path, "phi3")
    add_metadata(writer, cfg)
    add_tokenizer(writer, cfg["vocab_size"])
    embedding = np.zeros((512, 256), np.float32)
    np.fill_diagonal(embedding[:256], 2**24)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", head, raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.full(256, 1 / 16, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(256, np.float32))
    for name, rows in (("attn_qkv", 512), ("attn_output", 256), ("ffn_up", 512), ("ffn_down", 256)):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((rows, 256), np.float32))
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
