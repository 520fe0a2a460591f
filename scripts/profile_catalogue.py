"""Which profiles are shipped, what they are made from, and public facts about GPUs and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int
    """As the driver reports it."""


GPUS = {
    "h100": Gpu("NVIDIA H100 SXM 80 GB", 81559 * MIB),
    "h200": Gpu("NVIDIA H200 SXM 141 GB", 143771 * MIB),
    "a100": Gpu("NVIDIA A100 SXM 80 GB", 81920 * MIB),
    "l40s": Gpu("NVIDIA L40S 48 GB", 46068 * MIB),
    "b200": Gpu("NVIDIA B200 SXM 180 GB", 182630 * MIB),
    "rtxpro6000": Gpu("NVIDIA RTX PRO 6000 Blackwell 96 GB", 97887 * MIB),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a dense decoder with gated MLPs, grouped-query attention and untied ends."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    max_context: int

    @property
    def _matrix_parameters(self) -> int:
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def _other_parameters(self) -> int:
        """Embedding, output head and norms: kept in 16 bits whatever the matrices are."""
        return 2 * self.vocabulary * self.hidden + (2 * self.layers + 1) * self.hidden

    def weights_bytes(self, precision: str) -> int:
        each = {"bf16": 2, "fp8": 1}[precision]
        return each * self._matrix_parameters + 2 * self._other_parameters

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers, in bf16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


ARCHITECTURES = {
    "llama-3.1-8b": Architecture(
        "meta-llama/Llama-3.1-8B-Instruct", 32, 4096, 32, 8, 128, 14336, 128256, 131072
    ),
    "llama-3.1-70b": Architecture(
        "meta-llama/Llama-3.1-70B-Instruct", 80, 8192, 64, 8, 128, 28672, 128256, 131072
    ),
    "qwen3-32b": Architecture("Qwen/Qwen3-32B", 64, 5120, 64, 8, 128, 25600, 151936, 40960),
}


@dataclass(frozen=True, slots=True)
class Runs:
    """The overhead is fitted to these rows of whole-engine measurements."""

    engine: str
    where: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SameAs:
    """The overhead is what the runs of another profile showed."""

    profile: str


@dataclass(frozen=True, slots=True)
class Constant:
    """The overhead is a time per step, measured elsewhere."""

    host_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Entry:
    gpu: str
    model: str
    precision: str
    tensor_parallel: int
    points: str
    """File name in `iters/`."""
    overhead: Runs | SameAs | Constant
    note: str = ""

    @property
    def name(self) -> str:
        count = f"x{self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        suffix = "" if self.precision == "bf16" else f"-{self.precision}"
        return f"{self.gpu}{count}-{self.model}{suffix}"


_ELSEWHERE = Constant(
    1.5e-3,
    "1.5 ms a step, as measured for vLLM 0.19 serving Llama-3.1-8B on an RTX PRO 6000; "
    "no whole-engine run of this GPU and model was available",
)
_H200_FP8 = Constant(
    1.5e-3,
    "1.5 ms a step, as measured for vLLM 0.19 serving Llama-3.1-8B on an RTX PRO 6000; ten runs of "
    "vLLM 0.12.0 on this GPU and model exist and were not used: at a fixed concurrency the kernels "
    "alone would already take 14 to 124% longer than these runs report",
)
_UNCALIBRATED = (
    "Norms, rotary embedding and activation are not in the kernel tables. On the H100, where whole "
    "engines were measured, their like made prefill about a tenth longer."
)
_JAGGED = (
    " The fp8 matrix table of this GPU jumps with the batch, and no smooth form follows it; for "
    "Llama-3.1-70B on two of them the kernels alone sum up to 3 to 10% more than the whole engine "
    "took. Do not lean on this profile."
)


def _aic(
    gpu: str, model: str, precision: str, n: int, overhead: Runs | SameAs | Constant, note: str = ""
) -> Entry:
    system = gpu if gpu == "l40s" else f"{gpu}_sxm"
    return Entry(
        gpu, model, precision, n, f"aic_{system}_{model}_{precision}_tp{n}", overhead, note
    )


def _rtx(model: str, n: int, overhead: Constant, note: str) -> Entry:
    points = f"llmservingsim_rtxpro6000_{model}_tp{n}"
    return Entry("rtxpro6000", model, "bf16", n, points, overhead, note)


def _llama_70b(system: str, n: int) -> Runs:
    return Runs(
        "vLLM, October 2025",
        {
            "backend": "vllm",
            "system": system,
            "model_path": "meta-llama/Llama-3.1-70B",
            "precision": "fp8",
            "mode": "agg",
            "tp_size": float(n),
        },
    )


CATALOGUE = [
    _aic(
        "h100",
        "llama-3.1-8b",
        "bf16",
        1,
        Runs(
            "TensorRT-LLM 1.0.0rc3",
            {
                "backend": "trtllm",
                "system": "h100_sxm",
                "model_path": "meta-llama/Llama-3.1-8B-Instruct",
                "precision": None,
                "tp_size": 1.0,
            },
        ),
    ),
    _aic("h100", "llama-3.1-8b", "fp8", 1, SameAs("h100-llama-3.1-8b")),
    _aic("h100", "llama-3.1-70b", "fp8", 2, _llama_70b("h100_sxm", 2)),
    _aic("h100", "llama-3.1-70b", "fp8", 4, _llama_70b("h100_sxm", 4)),
    _aic("h100", "llama-3.1-70b", "fp8", 8, _llama_70b("h100_sxm", 8)),
    _aic("h100", "llama-3.1-70b", "bf16", 4, SameAs("h100x4-llama-3.1-70b-fp8")),
    _aic("h100", "llama-3.1-70b", "bf16", 8, SameAs("h100x8-llama-3.1-70b-fp8")),
    _aic(
        "h100",
        "qwen3-32b",
        "bf16",
        2,
        Runs(
            "vLLM 0.12.0",
            {
                "backend": "vllm",
                "system": "h100_sxm",
                "model_path": "Qwen/Qwen3-32B",
                "precision": None,
                "mode": "agg",
                "tp_size": 2.0,
            },
        ),
    ),
    _aic("h200", "llama-3.1-8b", "bf16", 1, _ELSEWHERE, _UNCALIBRATED),
    _aic("h200", "llama-3.1-8b", "fp8", 1, _H200_FP8, _UNCALIBRATED),
    _aic("a100", "llama-3.1-8b", "bf16", 1, _ELSEWHERE, _UNCALIBRATED),
    _aic("l40s", "llama-3.1-8b", "bf16", 1, _ELSEWHERE, _UNCALIBRATED),
    _aic("l40s", "llama-3.1-8b", "fp8", 1, _ELSEWHERE, _UNCALIBRATED),
    _aic("b200", "llama-3.1-8b", "bf16", 1, _ELSEWHERE, _UNCALIBRATED),
    _aic("b200", "llama-3.1-8b", "fp8", 1, _ELSEWHERE, _UNCALIBRATED + _JAGGED),
    _rtx(
        "llama-3.1-8b",
        1,
        Constant(
            1.5e-3,
            "1.5 ms a step, set on 300 requests that vLLM 0.19 served with this GPU and model; a "
            "replay of the same requests then agrees within 1% in mean TTFT, TPOT and end-to-end "
            "time, where without it they are 4 to 11% too short",
        ),
        "Mixed steps beyond 300,000 tokens of decode context are priced too low, by 15% on average "
        "and up to 42%.",
    ),
    _rtx(
        "qwen3-32b",
        2,
        Constant(1.5e-3, "1.5 ms a step, as measured for Llama-3.1-8B on the same GPU"),
        "Communication between the two GPUs was not measured and is not in here: real steps are "
        "longer.",
    ),
]
