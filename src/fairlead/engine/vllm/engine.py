"""vLLM behind the calls of our embedded engine: rows in, tokens out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq

import numpy as np
from vllm.exceptions import VLLMError
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.output import CachedRequestData, GrammarOutput, SchedulerOutput
from vllm.v1.outputs import LogprobsLists, ModelRunnerOutput

from fairlead.engine.endings import Endings
from fairlead.engine.grammar import Grammars
from fairlead.engine.models import fingerprint
from fairlead.engine.output import Output, TokenLogprobs
from fairlead.engine.transfer import Place
from fairlead.engine.vllm.config import VllmEngineConfig
from fairlead.engine.vllm.core import Core
from fairlead.engine.vllm.images import Images
from fairlead.engine.vllm.memory import FIRST_BLOCK, BlockMemory
from fairlead.engine.vllm.residents import Part, Residents, Told, passes
from fairlead.engine.vllm.runner_side import Arrival
from fairlead.engine.vllm.sampling import arguments, draws, token_seed
from fairlead.instance.sequence import Sequence
from fairlead.model import ProtocolError, RequestId, Row, Sampling
from fairlead.text import model_folder


class VllmEngine:
    """One vLLM and its KV memory. Synchronous; to be used from one thread."""

    def __init__(self, core: Core, config: VllmEngineConfig) -> None:
        """`core` was started with `config`."""
        self._executor = core.engine_core.model_executor
        self._shutdown = core.engine_core.shutdown
        self._most_tokens = core.most_tokens
        self._eos = config.eos_token_ids
        self._residents = Residents()
        self._grammars = Grammars(model_folder(config.model), core.vocab_size, self._eos)
        self._endings = Endings(self._eos, self._grammars)
        self._images = _images(core, config)
        self.n_blocks = core.n_blocks - FIRST_BLOCK
        self.block_tokens = core.block_tokens
        self.kv_token_bytes = core.kv_token_bytes
        self.max_context = core.max_context
        """Tokens of prompt and output that the model's positions allow; memory may allow fewer."""
        self.vocab_size = core.vocab_size
        self.device = core.device
        self.embeds = False
        """Its runner gives tokens and keeps the states they were made of."""

    def run(self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence]) -> Output:
        """One iteration: computes the KV of every row's tokens, and draws a token for each row
        that samples.

        `sequences` are read, not changed. Each row's blocks must cover its tokens already. More
        tokens than vLLM takes at once are computed in several passes.
        """
        output = Output()
        for part in passes(rows, self._most_tokens):
            self._pass(part, sequences, output)
        return output

    def objection(self, sampling: Sampling) -> str:
        """Why outputs cannot be sampled like that; empty where they can."""
        try:
            self._params(sampling)
        except (VLLMError, ValueError) as error:
            return f"vLLM cannot sample like that: {error}"
        return self._grammars.objection(sampling) if sampling.constrained else ""

    def forget(self, request_id: RequestId) -> None:
        """A request left: vLLM is told so at the next step. Unknown ones are fine."""
        self._residents.forget(request_id)
        self._grammars.forget(request_id)

    def close(self) -> None:
        """vLLM's processes and memory go."""
        self._shutdown()

    # ---------------------------------------------------------------- hand-offs

    @property
    def moves_kv(self) -> bool:
        """Whether `write_image` and `import_image` can be called: not where the model's KV is
        spread over several processes."""
        return self._images is not None

    def write_image(self, blocks: Seq[int], n_tokens: int, start: int, place: Place) -> memoryview:
        """The KV of a sequence's `n_tokens` from `start` on, in the memory that `place` gives."""
        assert self._images is not None
        return self._images.write(blocks, start, start + n_tokens, place)

    def import_image(self, image: bytes | memoryview, blocks: Seq[int]) -> None:
        """Puts it into `blocks`. Raises `ProtocolError`, and changes nothing, where it is none or
        of another model or layout."""
        if self._images is None:
            raise ProtocolError("the KV of this instance is spread over several processes")
        self._images.put(image, blocks)

    # ---------------------------------------------------------------- a pass

    def _pass(
        self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence], output: Output
    ) -> None:
        told = self._residents.tell(rows, sequences)
        self._enter(told)
        ran = self._executor.execute_model(_scheduler_output(told))
        if ran is None:  # What a runner of models that draw tokens says; sampling is apart.
            ran = self._executor.sample_tokens(self._grammar(told))
        for part in told.parts:
            if part.row.samples:
                self._take(part, ran, output)

    def _enter(self, told: Told) -> None:
        """What a `SchedulerOutput` has no words for."""
        arrivals = [self._arrival(part) for part in told.parts if part.is_new]
        seeds = {
            part.resident.name: token_seed(part.resident.sequence)
            for part in told.parts
            if part.row.samples and draws(part.resident.sequence.request.sampling)
        }
        if arrivals or seeds:
            self._executor.collective_rpc("fairlead_enter", args=(arrivals, seeds))

    def _arrival(self, part: Part) -> Arrival:
        sequence = part.resident.sequence
        n = sequence.prompt_tokens
        params = self._params(sequence.request.sampling)
        return Arrival(part.resident.name, sequence.token_ids[:n], sequence.token_ids[n:], params)

    def _params(self, sampling: Sampling) -> SamplingParams:
        return SamplingParams(**arguments(sampling, self._eos, self.vocab_size))

    def _grammar(self, told: Told) -> GrammarOutput | None:
        held = [
            part.resident
            for part in told.parts
            if part.row.samples and part.resident.sequence.request.sampling.constrained
        ]
        if not held:
            return None
        bits = [self._grammars.bits(resident.sequence) for resident in held]
        return GrammarOutput([resident.name for resident in held], np.stack(bits))

    def _take(self, part: Part, ran: ModelRunnerOutput, output: Output) -> None:
        sequence = part.resident.sequence
        i = ran.req_id_to_index[part.resident.name]
        (token,) = ran.sampled_token_ids[i]
        output.tokens[sequence.id] = token
        if (why := self._endings.why(sequence, token)) is not None:
            output.stopped[sequence.id] = why
        n = sequence.request.sampling.logprobs
        if n is not None:
            assert ran.logprobs is not None
            output.logprobs[sequence.id] = _logprobs(ran.logprobs.slice_request(i, 1), n)


def _images(core: Core, config: VllmEngineConfig) -> Images | None:
    runner = core.runner()
    if runner is None:
        return None
    memory = BlockMemory(runner.kv_caches, core.n_blocks)
    return Images(memory, fingerprint(model_folder(config.model)), core.block_tokens)


def _scheduler_output(told: Told) -> SchedulerOutput:
    """Everybody as one whom the runner has met: those who are new as if they had been preempted."""
    parts = told.parts
    n_tokens = {part.resident.name: part.row.n for part in parts}
    output = SchedulerOutput.make_empty()
    output.scheduled_cached_reqs = CachedRequestData(
        req_ids=[part.resident.name for part in parts],
        resumed_req_ids={part.resident.name for part in parts if part.is_new},
        new_token_ids=[],
        all_token_ids={},
        new_block_ids=[_block_ids(part) for part in parts],
        num_computed_tokens=[part.row.start for part in parts],
        num_output_tokens=[part.resident.sequence.n_produced for part in parts],
    )
    output.num_scheduled_tokens = n_tokens
    output.total_num_scheduled_tokens = sum(n_tokens.values())
    output.finished_req_ids = told.gone
    return output


def _block_ids(part: Part) -> tuple[list[int], ...] | None:
    if not part.blocks and not part.is_new:
        return None
    return ([block + FIRST_BLOCK for block in part.blocks],)


def _logprobs(row: LogprobsLists, n: int) -> TokenLogprobs:
    """vLLM puts the token that was drawn before the likeliest ones."""
    ids: Iterable[int] = row.logprob_token_ids[0].tolist()
    values: Iterable[float] = row.logprobs[0].tolist()
    (_, drawn), *top = zip(ids, values, strict=True)
    return TokenLogprobs(drawn, tuple(top[:n]))
