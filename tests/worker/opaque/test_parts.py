"""The parts that read and decide: metrics pages, event streams, bodies, errors, the circuit."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.model import FinishReason
from fairlead.text import NANO, Tokenizer
from fairlead.worker.opaque.answer import Answer
from fairlead.worker.opaque.chunks import DONE, CallDelta, Choice, Delta, EventReader, FunctionDelta
from fairlead.worker.opaque.circuit import FIRST_PAUSE_S, LAST_PAUSE_S, MAX_FAILURES, Circuit
from fairlead.worker.opaque.dialect import Dialect, Kind, Prompts, salt_text, seed_from
from fairlead.worker.opaque.errors import ServerError, What, of_error, of_status
from fairlead.worker.opaque.metrics import ServerLoad, read_load
from fairlead.worker.words import Vocabulary
from tests.worker.fakes import a_request

WORDS = Vocabulary(Tokenizer.load(NANO))

# ------------------------------------------------------------------------ metrics


def test_vllm_tells_its_load_summed_over_its_ranks():
    page = """\
# HELP vllm:num_requests_running Number of requests.
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 4.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:num_preemptions_total{engine="0"} 5.0
vllm:num_preemptions_created{engine="0"} 1.795e+09
vllm:cache_config_info{block_size="128",engine="0",num_gpu_blocks="4096"} 1.0
"""
    assert read_load(page) == ServerLoad(7, 2, 0.75, 5, 4096 * 128)


def test_sglang_and_llama_cpp_have_names_of_their_own():
    sglang = "sglang:num_running_reqs 1\nsglang:num_queue_reqs 2\nsglang:token_usage 0.5\n"
    assert read_load(sglang + "sglang:max_total_num_tokens 9000") == ServerLoad(
        1, 2, 0.5, None, 9000
    )
    llama = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"
    assert read_load(llama) == ServerLoad(1, 0)


@pytest.mark.parametrize(
    "page", ["", "<html>", "vllm:num_requests_running NaN", "vllm:num_requests_running{ 3", "\0"]
)
def test_a_page_that_says_nothing_is_no_load(page):
    assert read_load(page) == ServerLoad()


# ------------------------------------------------------------------------ streams


def test_events_are_cut_wherever_the_network_cuts_them():
    data = (
        b': hello\n\ndata: {"choices":[{"text":"a","finish_reason":null}]}\r\n\r\n'
        b'event: x\ndata:{"choices":[],"usage":{"prompt_tokens":3}}\n\ndata: [DONE]\n\n'
    )
    for width in (1, 7, len(data)):
        reader = EventReader()
        parts = [data[i : i + width] for i in range(0, len(data), width)]
        chunks = [chunk for part in parts for chunk in reader.feed(part)]
        assert chunks[0].choices[0].text == "a"
        assert chunks[1].usage.prompt_tokens == 3
        assert chunks[2] is DONE


@pytest.mark.parametrize("line", [b"data: <html>\n", b'data: {"choices": 3}\n', b"data: \xff\n"])
def test_what_is_no_chunk_is_an_error_of_the_server(line):
    with pytest.raises(ServerError) as caught:
        list(EventReader().feed(line))
    assert caught.value.what is What.ILL


def test_an_error_in_a_stream_is_told_in_its_words():
    with pytest.raises(ServerError, match="out of memory") as caught:
        list(EventReader().feed(b'data: {"error": {"message": "out of memory", "code": 500}}\n'))
    assert caught.value.what is What.ILL


def test_endless_lines_are_given_up():
    with pytest.raises(ServerError, match="over"):
        list(EventReader().feed(b"data: " + b"x" * (17 * 1024 * 1024)))


# ------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        (401, b"", What.KEY),
        (404, b'{"detail": "Not Found"}', What.MISSING),
        (429, b"", What.BUSY),
        (400, b'{"error": "maximum context length is 8"}', What.TOO_LONG),
        (400, b'{"message": "max_tokens=9 cannot be greater than max_model_len=8"}', What.TOO_LONG),
        (413, b"", What.TOO_LONG),
        (400, b'{"error": {"message": "no such field"}}', What.UNSUPPORTED),
        (408, b"", What.ILL),
        (502, b"<html>", What.ILL),
        (307, b"", What.ILL),
    ],
)
def test_statuses_are_sorted_by_what_is_to_be_done(status, body, what):
    assert of_status(status, body).what is what


def test_what_a_server_says_is_clipped_and_on_one_line():
    said = str(of_status(400, b'{"error": {"message": "' + b"x\\n" * 999 + b'"}}'))
    assert len(said) < 350
    assert "\n" not in said
    assert str(of_error({"message": "no"})) == "an error in the stream: no"


# ------------------------------------------------------------------------ bodies


def dialect(kind=Kind.VLLM, prompts=Prompts.TOKENS, **more):
    return Dialect(kind, prompts, "tiny", 512, **more)


def test_openais_own_server_gets_nothing_that_was_not_asked_for():
    body = dialect(Kind.OTHER).body(a_request(ignore_eos=False), (), WORDS)
    assert set(body) == {
        "model",
        "stream",
        "stream_options",
        "prompt",
        "temperature",
        "top_p",
        "seed",
        "max_tokens",
    }


def test_what_is_left_of_an_answer_is_asked_for():
    request = a_request(prompt=4, max_tokens=16, min_tokens=5, logprobs=2)
    body = dialect(returns_ids=True).body(request, [70, 71], WORDS)
    assert body["prompt"] == [0, 1, 2, 3, 70, 71]
    assert (body["max_tokens"], body["min_tokens"]) == (14, 3)
    assert (body["logprobs"], body["return_tokens_as_token_ids"]) == (2, True)
    assert body["return_token_ids"]


def test_an_answers_rest_is_not_drawn_from_the_draws_of_its_beginning():
    assert seed_from(7, 0) == 7
    assert len({seed_from(7, n) for n in range(100)}) == 100
    assert 0 <= seed_from(2**62, 0) < 2**31


def test_a_server_that_makes_the_text_gets_the_stop_strings_too():
    request = a_request(stop=("x",))
    assert dialect(Kind.OTHER, Prompts.TEXT).body(request, (), WORDS)["stop"] == ["x"]
    assert "stop" not in dialect(returns_ids=True).body(request, (), WORDS)


def test_a_tenants_salt_goes_along_and_does_not_name_the_tenant():
    request = msgspec.structs.replace(a_request(), cache_salt=b"acme")
    salt = dialect().body(request, (), WORDS)["cache_salt"]
    assert salt == salt_text(b"acme") != salt_text(b"other")
    assert "acme" not in salt
    assert "cache_salt" not in dialect(Kind.OTHER).body(request, (), WORDS)


def test_a_chat_that_may_use_all_room_is_sent_without_a_limit():
    request = msgspec.structs.replace(
        a_request(prompt=12, max_tokens=500), chat=b'{"messages":[{"role":"user"}]}'
    )
    chat = dialect(Kind.OTHER, Prompts.CHAT)
    assert "max_tokens" not in chat.body(request, (), WORDS)
    request = msgspec.structs.replace(request, max_tokens=20)
    assert chat.body(request, (), WORDS)["max_tokens"] == 20
    assert msgspec.json.decode(msgspec.json.encode(chat.body(request, (), WORDS)))["messages"] == [
        {"role": "user"}
    ]


def test_llama_cpp_has_its_own_name_for_the_repetition_penalty():
    request = a_request(repetition_penalty=1.2)
    assert dialect(Kind.LLAMA_CPP).body(request, (), WORDS)["repeat_penalty"] == 1.2
    assert dialect(Kind.VLLM).body(request, (), WORDS)["repetition_penalty"] == 1.2


# ------------------------------------------------------------------------ answers


def answer(returns_ids=True, produced=(), **request):
    return Answer(a_request(**request), 1, list(produced), WORDS, 0.0, returns_ids=returns_ids)


def test_a_token_that_ends_an_answer_counts_and_is_not_shown():
    eos = next(iter(WORDS.ends))
    one = answer(ignore_eos=False)
    row = one.take(Choice(token_ids=[104, 105, eos], text="hi", finish_reason="stop"))
    assert (row.text, row.token_ids) == ("hi", [104, 105, eos])
    assert one.reason is FinishReason.STOP


def test_half_a_character_waits_for_its_other_half():
    one = answer()
    first, second = "ö".encode()
    assert one.take(Choice(token_ids=[first])).text == ""
    assert one.take(Choice(token_ids=[second])).text == "ö"
    last = one.take(Choice(token_ids=[first], finish_reason="length"))
    assert last.text == "�"


def test_a_server_cannot_give_more_than_was_asked_for():
    one = answer(max_tokens=2)
    row = one.take(Choice(token_ids=[97, 98, 99]))
    assert row.token_ids == [97, 98]
    assert one.reason is FinishReason.LENGTH
    assert one.take(Choice(token_ids=[100])) is None
    text = answer(False, max_tokens=2)
    assert text.take(Choice(text="abc")).token_ids == [97, 98]
    assert text.reason is FinishReason.LENGTH


def test_a_call_that_was_cut_short_is_not_made_whole():
    begun = Delta(tool_calls=[CallDelta(0, FunctionDelta("paint", '{"colour": "r'))])
    for finish, closing in (("tool_calls", "}\n</tool_call>"), ("length", "")):
        request = msgspec.structs.replace(a_request(max_tokens=200), call_format="hermes")
        one = Answer(request, 1, [], WORDS, 0.0, returns_ids=False)
        opening = '<tool_call>\n{"name": "paint", "arguments": {"colour": "r'
        assert one.take(Choice(delta=begun)).text == opening
        row = one.take(Choice(delta=Delta(), finish_reason=finish))
        assert (row.text if row else "") == closing


def test_tokens_behind_a_stop_string_do_not_count():
    one = answer(stop=("b",))
    row = one.take(Choice(token_ids=[97, 98, 99]))
    assert (row.text, row.token_ids) == ("a", [97, 98])
    assert one.reason is FinishReason.STOP


def test_log_probabilities_are_named_by_our_own_tokenizer():
    one = answer(logprobs=1)
    shown = {
        "tokens": ["token_id:97"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"token_id:98": -0.25}],
    }
    row = one.take(Choice(token_ids=[97], logprobs=shown))
    assert row.logprobs == [[-0.5, "a", [["b", -0.25]]]]


# ------------------------------------------------------------------------ the circuit


def test_a_few_failures_in_a_row_open_the_circuit_and_a_success_forgives_them():
    circuit = Circuit()
    circuit.close(0.0)
    for _ in range(3):
        assert [circuit.failed() for _ in range(MAX_FAILURES - 1)] == [False] * (MAX_FAILURES - 1)
        circuit.succeeded()
    assert [circuit.failed() for _ in range(MAX_FAILURES)][-1]


def test_a_server_that_flaps_waits_longer_each_time_and_one_that_was_steady_does_not():
    circuit = Circuit()
    pauses = []
    for t in range(10):
        circuit.close(float(t))
        circuit.open("down", t + 0.5)
        pauses.append(circuit.pause_s(0))
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE_S, LAST_PAUSE_S)
    circuit.close(100.0)
    circuit.open("down", 1000.0)
    assert circuit.pause_s(0) == FIRST_PAUSE_S
    assert not circuit.closed
    assert circuit.down == "down"
