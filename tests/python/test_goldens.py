"""phi3 against what transformers answered when tests/data/goldens.json was written."""

import json
from pathlib import Path

import checkpoints
import numpy as np
import phi3_under_test as phi
import pytest
import scenarios

GOLDENS = json.loads(
    (Path(__file__).parents[1] / "data" / "goldens.json").read_text(encoding="utf-8")
)
FREE_GREEDY = {"do_sample": False, "eos_token_id": None, "max_new_tokens": scenarios.GREEDY_COUNT}


@pytest.mark.parametrize("device", phi.DEVICES)
@pytest.mark.parametrize("family, dtype", scenarios.GOLDEN_CHECKPOINTS)
def test_logits(checkpoint, family, dtype, device):
    """In float32, within a thousandth of the logits' range."""
    model = phi.load(checkpoint(family, dtype), device)
    for length in scenarios.GOLDEN_LENGTHS:
        golden = GOLDENS["logits"][f"{family}/{dtype}"][str(length)]
        positions = scenarios.golden_positions(length)
        logits = phi.logits(model, checkpoints.prompt(length))[positions]
        difference = np.abs(logits[:, scenarios.GOLDEN_IDS] - np.array(golden["logits"]))
        assert difference.max() <= 1e-3 * golden["range"], f"prompt of {length}"
        if dtype == "float32":
            assert logits.argmax(-1).tolist() == golden["argmax"], f"prompt of {length}"


@pytest.mark.parametrize("device", phi.DEVICES)
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
@pytest.mark.parametrize("length", scenarios.GREEDY_LENGTHS)
def test_greedy(checkpoint, family, length, device):
    model = phi.load(checkpoint(family), device)
    tokens = phi.generate(model, [checkpoints.prompt(length)], **FREE_GREEDY)
    assert tokens == [GOLDENS["greedy"][family][str(length)]]


@pytest.mark.parametrize("name", scenarios.GENERATE)
def test_generate(checkpoint, name):
    """Sampling with a seed, penalties, lengths and ends."""
    prompts, seed, arguments = scenarios.GENERATE[name]
    model = phi.load(checkpoint("phi3.5-mini"))
    assert phi.generate(model, prompts, seed, **arguments) == GOLDENS["generate"][name]


def spelled(**scaling) -> dict:
    """phi3.5-mini's config.json with its rotation spelled in another way."""
    factors = checkpoints.FAMILIES["phi3.5-mini"]["rope_scaling"]
    lists = {key: factors[key] for key in ("short_factor", "long_factor")}
    return {"rope_scaling": {**scaling, **lists}}


SPELLINGS = {
    "type su": spelled(type="su"),
    "type yarn": spelled(type="yarn"),
    "rope_type longrope": spelled(rope_type="longrope"),
    "both keys": spelled(rope_type="longrope", type="longrope"),
    "rope_parameters": {
        "rope_theta": None,
        "rope_scaling": None,
        "rope_parameters": {
            **spelled(rope_type="longrope", rope_theta=10000.0)["rope_scaling"],
            "original_max_position_embeddings": 64,
            "partial_rotary_factor": 1.0,
        },
    },
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_old_and_new_spellings_of_longrope_are_one(checkpoint, spelling):
    ids = checkpoints.prompt(80)
    expected = phi.logits(phi.load(checkpoint("phi3.5-mini")), ids)
    respelled = phi.logits(phi.load(checkpoint("phi3.5-mini", **SPELLINGS[spelling])), ids)
    assert np.array_equal(respelled, expected)


@pytest.mark.parametrize("dtype", checkpoints.DTYPES)
def test_two_shards_hold_the_model_of_one(checkpoint, scratch, dtype):
    cfg = checkpoints.config("phi3.5-mini", dtype)
    seed = f"phi3.5-mini/{checkpoints.FAMILIES['phi3.5-mini']['seed']}"
    tensors = checkpoints.weights(cfg, seed)
    shards = checkpoints.write_directory(
        scratch / f"sharded-{dtype}", cfg, tensors, dtype, shards=True
    )
    ids = checkpoints.prompt(40)
    expected = phi.logits(phi.load(checkpoint("phi3.5-mini", dtype)), ids)
    assert np.array_equal(phi.logits(phi.load(shards), ids), expected)


@pytest.mark.parametrize("device", phi.DEVICES)
def test_crossing_the_longrope_border_equals_starting_afresh(checkpoint, device):
    """From 60 tokens to 70: at 65 the whole cache is recomputed with the long factors."""
    model = phi.load(checkpoint("phi3-medium-128k"), device)
    ids = checkpoints.prompt(60)
    tokens = phi.generate(model, [ids], do_sample=False, eos_token_id=None, max_new_tokens=10)
    assert tokens == [phi.greedy_without_cache(model, ids, 10)]


@pytest.mark.parametrize("family", ["phi3.5-mini", "phi3-mini-4k"])
def test_a_batch_gives_each_row_what_it_gets_alone(checkpoint, family):
    """Also when one row is above the LongRoPE border and the other is not, or windows differ."""
    model = phi.load(checkpoint(family))
    prompts = [checkpoints.prompt(length) for length in (3, 50, 64, 100)]
    arguments = {"do_sample": False, "eos_token_id": None, "max_new_tokens": 24}
    alone = [phi.generate(model, [ids], **arguments)[0] for ids in prompts]
    assert phi.generate(model, prompts, **arguments) == alone
