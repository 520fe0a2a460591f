"""What a server is asked before it is an instance, and what is said where it is no good."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.model import ConfigError
from fairlead.text import NANO, Tokenizer
from fairlead.worker.opaque.api import Api, base_url
from fairlead.worker.opaque.dialect import Kind, Prompts
from fairlead.worker.opaque.errors import ServerError, What
from fairlead.worker.opaque.introduce import SAMPLE, Asked, Facts, introduce
from fairlead.worker.words import Vocabulary
from tests.worker.opaque.fake_server import FakeServer, serving

WORDS = Vocabulary(Tokenizer.load(NANO))
VLLM_PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="tiny"} 3.0
vllm:cache_config_info{block_size="32",num_gpu_blocks="100"} 1.0
"""


async def meet(server: FakeServer, key: str = "", **asked: Any) -> Facts:
    async with serving(server):
        api = Api(server.url, key)
        try:
            return await introduce(api, Asked(**({"served_as": "tiny"} | asked)), WORDS)
        finally:
            await api.close()


async def test_a_vllm_takes_token_ids_gives_them_and_tells_its_load():
    facts = await meet(FakeServer(page=VLLM_PAGE))
    assert (facts.dialect.kind, facts.dialect.prompts) == (Kind.VLLM, Prompts.TOKENS)
    assert facts.dialect.returns_ids
    assert facts.has_metrics
    assert facts.load.running == 3
    assert facts.load.kv_tokens == 3200
    assert facts.max_context == 512
    assert facts.health_path == "/health"


async def test_a_server_that_stumbles_over_token_ids_gets_text():
    facts = await meet(FakeServer(owned_by="me", takes_ids=False, returns_ids=False))
    assert (facts.dialect.kind, facts.dialect.prompts) == (Kind.OTHER, Prompts.TEXT)
    assert not facts.dialect.returns_ids
    assert not facts.has_metrics


async def test_one_that_serves_chats_only_says_so_and_works_once_that_is_set():
    server = FakeServer(owned_by="cloud", has_completions=False)
    with pytest.raises(ConfigError, match=r'set prompts = "chat"'):
        await meet(server)
    facts = await meet(server, prompts="chat")
    assert facts.dialect.prompts is Prompts.CHAT
    assert not facts.dialect.goes_on


EMBEDS: dict[str, Any] = {"has_completions": False, "has_chats": False}


@pytest.mark.parametrize("lacks", [400, 404, 405, 501])
async def test_one_that_serves_embeddings_only_is_asked_for_a_vector(lacks):
    server = FakeServer(**EMBEDS, lacks=lacks)
    facts = await meet(server)
    assert facts.dialect.embeds_only
    assert facts.dialect.prompts is Prompts.TOKENS
    assert "gives embeddings only" in str(facts)
    text = FakeServer(**EMBEDS, lacks=lacks, takes_ids=False)
    assert (await meet(text)).dialect.prompts is Prompts.TEXT
    assert (await meet(server, prompts="text")).dialect.prompts is Prompts.TEXT


@pytest.mark.parametrize("prompts", ["auto", "tokens", "text", "chat"])
async def test_one_that_gives_neither_a_token_nor_a_vector_is_an_error(prompts):
    with pytest.raises(ConfigError, match=r"gives no token \(status 404: Not Found\)"):
        await meet(FakeServer(**EMBEDS, embeds=None), prompts=prompts)
    with pytest.raises(ConfigError, match=r"gives no token"):
        await meet(FakeServer(**EMBEDS, embeds=False), prompts=prompts)


async def test_one_that_gives_tokens_and_vectors_is_not_taken_for_less():
    assert not (await meet(FakeServer())).dialect.embeds_only
    with pytest.raises(ServerError):
        await meet(FakeServer(**EMBEDS, lacks=500))


async def test_a_wrong_key_is_told_by_what_the_server_says_of_it():
    with pytest.raises(ConfigError, match=r"refuses our key.*Incorrect API key.*api_key_file"):
        await meet(FakeServer(key="right"), key="wrong")
    assert (await meet(FakeServer(key="right"), key="right")).max_context == 512


async def test_a_model_that_is_not_served_is_told_with_those_that_are():
    with pytest.raises(ConfigError, match=r"does not serve 'other', it serves 'tiny'.*served_as"):
        await meet(FakeServer(), served_as="other")


async def test_a_context_shorter_than_promised_is_an_error():
    with pytest.raises(ConfigError, match=r"promises a max_context of 4096.* has 512 at"):
        await meet(FakeServer(), max_context=4096)
    assert (await meet(FakeServer(), max_context=100)).max_context == 100


async def test_a_server_that_does_not_say_its_context_has_the_tokenizers():
    assert (await meet(FakeServer(max_context=None))).max_context == WORDS.max_context


async def test_another_tokenizer_is_noticed():
    with pytest.raises(ConfigError, match="another tokenizer than ours"):
        await meet(FakeServer(tokenizes_to=[1, 2, 3]))
    assert await meet(FakeServer(tokenizes_to=list(WORDS.tokens_of(SAMPLE))))


async def test_a_server_that_is_down_may_come_back():
    server = FakeServer()
    async with serving(server):
        pass
    with pytest.raises(ServerError) as caught:
        await introduce(Api(server.url), Asked("tiny"), WORDS)
    assert caught.value.what is What.UNREACHABLE
    with pytest.raises(ServerError) as ill:
        await meet(FakeServer(status=500, says="the engine is dead"))
    assert ill.value.what is What.ILL
    assert "the engine is dead" in str(ill.value)


async def test_what_is_no_openai_server_is_told_what_was_expected():
    server = FakeServer()
    async with serving(server):
        with pytest.raises(ConfigError, match=r"/tokenize/v1/models: status 404.*before /v1"):
            await introduce(Api(server.url + "/tokenize"), Asked("tiny"), WORDS)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "http://", "http://x:99999"])
def test_what_is_no_address_is_an_error(url):
    with pytest.raises(ConfigError, match="no address of a server"):
        base_url(url)


@pytest.mark.parametrize("url", ["http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/"])
def test_an_address_may_end_in_v1_or_not(url):
    assert base_url(url) == "http://a:1"
