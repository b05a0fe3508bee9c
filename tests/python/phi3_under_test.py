"""phi3 asked the same questions as transformers_oracle.py asks transformers."""

import functools

import numpy as np

DEVICES = ("cpu", "reference")


@functools.cache
def load(directory, device="cpu", compute_dtype="float32", kv_cache_dtype="auto"):
    from phi3 import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(directory),
        device_map=device,
        compute_dtype=compute_dtype,
        kv_cache_dtype=kv_cache_dtype,
    )


def logits(model, ids: list[int]) -> np.ndarray:
    """[n_tokens][vocab] float32: the logits after every token."""
    found = np.asarray(model([ids]).logits)
    assert found.dtype == np.float32 and found.shape[:2] == (1, len(ids))
    return found[0]


def logits_in_steps(model, ids: list[int], first: int) -> np.ndarray:
    """[n_tokens][vocab]: the same from a prefill of ``first`` ids and then one id at a time."""
    output = model([ids[:first]], use_cache=True)
    cache, found = output.past_key_values, [np.asarray(output.logits)[0]]
    for token in ids[first:]:
        found.append(np.asarray(model([[token]], past_key_values=cache).logits)[0])
    return np.concatenate(found)


def generate(
    model, prompts: list[list[int]], seed: int | None = None, **arguments
) -> list[list[int]]:
    """The new tokens of every row. Prompts of unequal length are padded on the left and masked."""
    import phi3

    width = max(map(len, prompts))
    pad = 500
    rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    if seed is not None:
        phi3.random.manual_seed(seed)
    out = np.asarray(model.generate(rows, attention_mask=mask, **arguments))
    return out[:, width:].tolist()


def greedy_without_cache(model, ids: list[int], count: int) -> list[int]:
    """Greedy tokens, each from a forward over the whole sequence."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits(model, ids)[-1].argmax()))
    return ids[-count:]
