"""Random streams of a scene: one for each part, so that none depends on how much another draws."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """What the parts of a scene are drawn from."""

    scenario: np.random.Generator
    agents: np.random.Generator
    clutter: np.random.Generator


def generator(seed: int, *names: object) -> np.random.Generator:
    """A random stream of its own for every (seed, names)."""
    digest = hashlib.sha256("/".join(str(n) for n in names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])
