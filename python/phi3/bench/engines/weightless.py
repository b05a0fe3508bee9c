"""A model as deep as another, whose layers have next to no weights: what a step costs without them.

In: a directory, the number of layers. Out: a Hugging Face checkpoint there. Its matrices are as
small as can be shared between two threads, so that every layer still hands its work to them.
"""

from __future__ import annotations

import json
import math
import pathlib
import struct

WIDTH = 32  # of the hidden state and of the MLP; two heads share it
CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "vocab_size": WIDTH,
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
LAYER = {
    "input_layernorm": [WIDTH],
    "self_attn.qkv_proj": [3 * WIDTH, WIDTH],
    "self_attn.o_proj": [WIDTH, WIDTH],
    "post_attention_layernorm": [WIDTH],
    "mlp.gate_up_proj": [2 * WIDTH, WIDTH],
    "mlp.down_proj": [WIDTH, WIDTH],
}


def write(directory: str, n_layers: int) -> None:
    path = pathlib.Path(directory)
    (path / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": n_layers}))
    shapes = {"model.embed_tokens.weight": [WIDTH, WIDTH], "model.norm.weight": [WIDTH]}
    for layer in range(n_layers):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in LAYER.items()}
    header, size = {}, 0
    for name, shape in shapes.items():
        start, size = size, size + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, size]}
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
