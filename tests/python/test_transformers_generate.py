"""phi3's generate() against transformers' own, with the same seeds: same tokens."""

import subprocess
import sys
from pathlib import Path

import phi3_under_test as phi
import pytest
import scenarios
from checkpoints import prompt

pytestmark = pytest.mark.live

MAKE_GOLDENS = Path(__file__).parents[1] / "data" / "make_goldens.py"


@pytest.fixture(scope="module")
def oracle():
    import transformers_oracle

    return transformers_oracle


def test_the_goldens_are_what_transformers_says_today():
    done = subprocess.run(
        [sys.executable, str(MAKE_GOLDENS), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", scenarios.GENERATE)
@pytest.mark.parametrize("family", ["phi4-mini", "phi3-mini-4k"])
def test_generate(checkpoint, oracle, family, name):
    """The scenarios of the goldens on other checkpoints, and other seeds."""
    prompts, seed, arguments = scenarios.GENERATE[name]
    seed = None if seed is None else seed + 100
    directory = checkpoint(family)
    expected = oracle.generate(oracle.load(directory), prompts, seed, **arguments)
    assert phi.generate(phi.load(directory), prompts, seed, **arguments) == expected


def test_one_generator_for_all_calls(checkpoint, oracle):
    """Two calls after one seed draw from where the first stopped."""
    directory = checkpoint("phi3.5-mini")
    arguments = {**scenarios.SAMPLE, "temperature": 2.0}
    truth, model = oracle.load(directory), phi.load(directory)
    expected = oracle.generate(truth, [prompt(9)], 3, **arguments)
    expected += oracle.generate(truth, [prompt(9)], **arguments)
    found = phi.generate(model, [prompt(9)], 3, **arguments)
    found += phi.generate(model, [prompt(9)], **arguments)
    assert found == expected
    assert found[0] != found[1]


def test_set_seed_is_manual_seed(checkpoint):
    import phi3

    model = phi.load(checkpoint("phi3.5-mini"))
    arguments = {**scenarios.SAMPLE, "temperature": 2.0}
    expected = phi.generate(model, [prompt(9)], 5, **arguments)
    phi3.set_seed(5)
    assert phi.generate(model, [prompt(9)], **arguments) == expected
