"""Random numbers of sampling: the generator that every sampling call draws from.

It is PyTorch's, so that `phi3.random.manual_seed(0)` makes phi3 draw the tokens that transformers
draws after `torch.manual_seed(0)`.
"""

from __future__ import annotations

import os

from ._phi3 import Random

# 2^64 different starts; an unseeded program must not repeat itself.
default_generator = Random(int.from_bytes(os.urandom(8), "little"))


def manual_seed(seed: int) -> Random:
    """Starts the default generator over from a seed, as torch.manual_seed does, and returns it."""
    default_generator.seed(int(seed))
    return default_generator


def set_seed(seed: int) -> None:
    """The same by the name that transformers has for it."""
    manual_seed(seed)
