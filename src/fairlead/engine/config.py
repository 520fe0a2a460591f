"""What the embedded engine wants to know before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.model import ConfigError

DTYPES = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One model on one device. Checked at construction, all problems in one `ConfigError`."""

    model: str
    """`fairlead-nano`, a local folder in Hugging Face format, or a hub name."""
    dtype: str = "auto"
    """auto: float32 on the CPU, where results then do not depend on batch shapes; bfloat16 on
    CUDA."""
    device: str = "auto"
    """auto: CUDA where there is one."""
    threads: int | None = None
    """CPU threads of the whole process; None leaves torch's own choice. With several workers on a
    machine give each its share, and set OMP_WAIT_POLICY=passive."""
    block_tokens: int = 16
    n_blocks: int | None = None
    """KV blocks; None takes as many as fit into `kv_bytes`."""
    kv_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, got {value}"
            for name, value in self._counts()
            if value is not None and value < 1
        ]
        if self.dtype not in DTYPES:
            problems.append(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.device not in DEVICES:
            problems.append(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        if problems:
            raise ConfigError(f"engine of model {self.model!r}: {'; '.join(problems)}")

    def _counts(self) -> list[tuple[str, int | None]]:
        names = ("threads", "block_tokens", "n_blocks", "kv_bytes")
        return [(name, getattr(self, name)) for name in names]
