"""phi3's logits and greedy tokens against transformers', on random checkpoints of the family."""

import checkpoints
import numpy as np
import phi3_under_test as phi
import pytest
import scenarios

pytestmark = pytest.mark.live

FREE_GREEDY = {"do_sample": False, "eos_token_id": None}


@pytest.fixture(scope="module")
def oracle():
    import transformers_oracle

    return transformers_oracle


def span(logits: np.ndarray) -> float:
    return float(logits.max() - logits.min())


@pytest.mark.parametrize("device", phi.DEVICES)
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_float32_logits(checkpoint, oracle, family, device):
    """Every position of prompts of 1 to 200 tokens: within a thousandth of the range."""
    directory = checkpoint(family)
    model, truth = phi.load(directory, device), oracle.load(directory)
    for length in scenarios.LOGIT_LENGTHS:
        ids = checkpoints.prompt(length)
        expected = oracle.logits(truth, ids)
        difference = np.abs(phi.logits(model, ids) - expected).max()
        assert difference <= 1e-3 * span(expected), f"prompt of {length}"


@pytest.mark.parametrize("device", phi.DEVICES)
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_greedy_tokens(checkpoint, oracle, family, device):
    directory = checkpoint(family)
    model, truth = phi.load(directory, device), oracle.load(directory)
    for length in scenarios.GREEDY_LENGTHS:
        prompts = [checkpoints.prompt(length)]
        arguments = {**FREE_GREEDY, "max_new_tokens": scenarios.GREEDY_COUNT}
        expected = oracle.generate(truth, prompts, **arguments)
        assert phi.generate(model, prompts, **arguments) == expected, f"prompt of {length}"


@pytest.mark.parametrize("family", ["phi3.5-mini", "phi3-medium-128k", "phi4-mini"])
def test_crossing_the_border_equals_transformers_without_a_cache(checkpoint, oracle, family):
    directory = checkpoint(family)
    ids = checkpoints.prompt(55)
    expected = oracle.greedy_without_cache(oracle.load(directory), ids, 20)
    tokens = phi.generate(phi.load(directory), [ids], **FREE_GREEDY, max_new_tokens=20)
    assert tokens == [expected]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_sixteen_bit_logits(checkpoint, oracle, family, dtype):
    """The default mode errs less than transformers' two attentions differ in bfloat16."""
    directory = checkpoint(family, dtype)
    truth = oracle.load(directory, "float32")
    eager, sdpa = (oracle.load(directory, "bfloat16", attention) for attention in ("eager", "sdpa"))
    model = phi.load(directory, "cpu", "mixed")
    ours, theirs = [], []
    for length in (17, 64, 130):  # no step crosses the LongRoPE border
        ids = checkpoints.prompt(length)
        expected = oracle.logits(truth, ids)
        found = phi.logits_in_steps(model, ids, 4 * length // 5)
        ours.append(np.abs(found - expected).ravel())
        theirs.append(np.abs(oracle.logits(eager, ids) - oracle.logits(sdpa, ids)).ravel())
    ours, theirs = np.concatenate(ours), np.concatenate(theirs)
    assert ours.mean() <= theirs.mean()
    assert ours.max() <= theirs.max()


@pytest.mark.parametrize("device", phi.DEVICES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_sixteen_bit_weights_in_float32_mode(checkpoint, oracle, family, dtype, device):
    directory = checkpoint(family, dtype)
    model, truth = phi.load(directory, device), oracle.load(directory)
    ids = checkpoints.prompt(70)
    expected = oracle.logits(truth, ids)
    assert np.abs(phi.logits(model, ids) - expected).max() <= 1e-3 * span(expected)


@pytest.mark.parametrize(
    "family, changes",
    [
        ("phi3.5-mini", {"original_max_position_embeddings": 256}),
        ("phi3.5-mini", {"max_position_embeddings": 512}),
        ("phi4-mini", {"partial_rotary_factor": None}),
        ("phi3-mini-4k", {"sliding_window": 30}),
        ("phi3-mini-4k", {"sliding_window": None}),
        ("phi4", {"rope_theta": 10000.0}),
    ],
)
def test_the_checkpoints_notice_what_they_are_for(checkpoint, oracle, family, changes):
    """Without this the tests above could pass with a rotation or a window that is not there."""
    if changes == {"partial_rotary_factor": None}:  # all 128 dimensions rotate: more factors
        changes = {"partial_rotary_factor": 1.0, "rope_scaling": checkpoints.longrope(64)}
    ids = checkpoints.prompt(130)
    expected = oracle.logits(oracle.load(checkpoint(family)), ids)
    changed = oracle.logits(oracle.load(checkpoint(family, **changes)), ids)
    assert np.abs(changed - expected).max() > 0.05 * span(expected)
