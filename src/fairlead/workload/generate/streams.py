"""Random generators by name: one for each purpose, so that a new one leaves the others alone."""

from __future__ import annotations

import numpy as np

from fairlead.workload.draws import stream_key


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of this name; equal seeds and names draw the same."""
    return np.random.Generator(np.random.PCG64(stream_key(seed, name)))
