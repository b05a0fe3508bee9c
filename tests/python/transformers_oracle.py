"""What transformers says: the few calls with which the live tests and make_goldens.py ask it.

Importing this module imports torch and transformers, so it is imported inside the live tests only.
"""

import functools

import numpy as np
import torch
import transformers

torch.set_num_threads(2)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@functools.cache
def load(directory, dtype: str = "float32", attention: str = "sdpa"):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation=attention
    )
    return model.eval()


def logits(model, ids: list[int]) -> np.ndarray:
    """[n_tokens][vocab] float32: the logits after every token."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def generate(
    model, prompts: list[list[int]], seed: int | None = None, **arguments
) -> list[list[int]]:
    """The new tokens of every row. Prompts of unequal length are padded on the left and masked."""
    width = max(map(len, prompts))
    pad = model.generation_config.pad_token_id
    rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    if seed is not None:
        torch.manual_seed(seed)
    out = model.generate(torch.tensor(rows), attention_mask=torch.tensor(mask), **arguments)
    return out[:, width:].tolist()


def greedy_without_cache(model, ids: list[int], count: int) -> list[int]:
    """Greedy tokens, each from a forward over the whole sequence: LongRoPE by its definition."""
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item())
    return ids[-count:]


@functools.cache
def load_llama_gguf(path):
    """A llama GGUF in float32, expanded and un-permuted by transformers itself."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    state = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.eval()


def load_gguf_tokenizer(path):
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def perplexity(model, ids: list[int]) -> float:
    truth = torch.tensor(ids[1:])
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits(model, ids)[:-1]), truth)
    return float(torch.exp(loss))
