from __future__ import annotations

from pathlib import Path

import pytest

FLEET = """\
[[pool]]
name = "h100"
model = "llama-3.1-8b"
engine = "emulated"
hardware = "h100-llama-3.1-8b"
instances = 2

[policy]
admission = "always"
routing = "round-robin"
batching = "fcfs"

[objectives.interactive]
ttft_s = 1.0
tpot_s = 0.05
[objectives.batch]

[workload]
default = "interactive"
mix = { batch = 0.3 }
"""
TRACE = "azure-conv-slice"


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """A fleet file of two emulated instances."""
    path = tmp_path / "two.toml"
    path.write_text(FLEET)
    return str(path)
