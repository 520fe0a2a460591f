"""A server's latency from a few small requests, and what its reports are made of."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.latency.coefficients import from_coefficients
from fairlead.memory.prefix import chain_hashes
from fairlead.model import StepShape
from fairlead.text import NANO, Tokenizer
from fairlead.worker.opaque.answer import Answer
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.chunks import Choice
from fairlead.worker.opaque.dialect import Dialect, Kind, Prompts
from fairlead.worker.opaque.load import Load, Prefixes
from fairlead.worker.opaque.measure import measure
from fairlead.worker.opaque.measure_embedding import measure_embedding
from fairlead.worker.opaque.metrics import ServerLoad
from fairlead.worker.words import Vocabulary
from tests.worker.fakes import a_request, a_spec
from tests.worker.opaque.fake_server import FakeServer, serving

WORDS = Vocabulary(Tokenizer.load(NANO))


@pytest.mark.parametrize("prompts", [Prompts.TOKENS, Prompts.TEXT, Prompts.CHAT])
async def test_a_step_is_at_least_as_long_as_the_server_takes_between_tokens(prompts):
    dialect = Dialect(Kind.VLLM, prompts, "tiny", 100, returns_ids=prompts is Prompts.TOKENS)
    async with serving(FakeServer(pace_s=0.004)) as server:
        api = Api(server.url)
        found = await measure(api, dialect, WORDS, max_sequences=4, seed="x")
        await api.close()
    step_s = from_coefficients(found).step_s(StepShape(1, 16, 0, 0.0, 0, 1))
    # From above there is no bound: a busy machine makes it look slow.
    assert step_s > 0.003


async def test_of_one_that_embeds_only_the_prompts_are_measured():
    dialect = Dialect(Kind.VLLM, Prompts.TOKENS, "tiny", 300, embeds_only=True)
    async with serving(FakeServer(pace_s=0.004)) as server:
        api = Api(server.url)
        found = await measure_embedding(api, dialect, WORDS, max_sequences=4, seed="x")
        await api.close()
    step_s = from_coefficients(found).step_s(StepShape(0, 0, 64, 2048.0, 64, 1))
    assert step_s > 0.003
    assert {len(body["input"]) for body in server.embedded} == {8, 64, 256}
    assert not server.bodies


def a_load(tells_cache=False) -> Load:
    spec = a_spec(n_blocks=10, block_tokens=4)
    return Load(spec, from_coefficients(spec.latency), tells_cache)


def an_answer(name="r1", *, prompt=8, begun=False) -> Answer:
    request = a_request(name, prompt=prompt)
    names = chain_hashes(request.token_ids, 4)
    request = msgspec.structs.replace(request, block_hashes=names)
    answer = Answer(request, 1, (), WORDS, 0.0, returns_ids=True)
    if begun:
        answer.take(Choice(token_ids=[97]))
    return answer


def test_a_report_counts_what_is_ours_and_what_others_brought():
    load = a_load()
    ours = [an_answer(begun=True), an_answer("r2", prompt=12)]
    load.hear(ServerLoad(running=3, waiting=2, kv_fraction=0.4), running=1, waiting=1)
    report = load.report(ours, 1.0, whole_cache=False)
    assert (report.running, report.waiting) == (3, 2)
    assert report.free_blocks == 6
    assert report.context_tokens == 9
    assert report.queued_tokens == 24  # Ours, and somebody else's that is taken to be like it.
    assert report.cache_events is None


def test_a_prompt_that_was_computed_lately_is_not_queued_work():
    load = a_load()
    load.began(an_answer(begun=True))
    assert load.report([an_answer("r2", prompt=9)], 1.0, whole_cache=False).queued_tokens == 1


def test_without_a_page_memory_is_what_our_contexts_take():
    assert a_load().report([an_answer(begun=True)], 1.0, whole_cache=False).free_blocks == 7


def test_gaps_between_tokens_tell_the_slowdown():
    load = a_load()
    for _ in range(50):
        load.gap(4e-4, 2, 1, 9)
    assert load.report([], 1.0, whole_cache=False).slowdown == pytest.approx(2.0)


def test_busy_time_is_while_something_is_inside():
    load = a_load()
    load.asked(an_answer(), 1.0)
    assert load.report([], 3.0, whole_cache=False).busy_s == 2.0
    load.rests(4.0)
    assert load.report([], 9.0, whole_cache=False).busy_s == 3.0


def test_only_the_latest_prefixes_are_remembered():
    prefixes = Prefixes(3)
    first, second = chain_hashes(range(8), 4), chain_hashes(range(50, 58), 4)
    prefixes.computed(first)
    prefixes.computed(second)
    assert prefixes.n_leading(second) == 2
    assert prefixes.n_leading(first) == 0
