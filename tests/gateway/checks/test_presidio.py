"""Personal data in prompts, found by Presidio where it is installed."""

from __future__ import annotations

import pytest

from fairlead.checks import Allow, CheckedCall, Refuse, Replace
from fairlead.checks.presidio import Presidio, replaced
from fairlead.model import ConfigError

TEXT = "I am ann@example.com, card 4111 1111 1111 1111, on 10.1.2.3"


def call(*texts):
    return CheckedCall("", "m", [{"role": "user", "content": text} for text in texts])


def test_of_spans_that_overlap_the_surest_is_replaced():
    spans = [(0, 5, "LONG"), (3, 8, "LATER"), (8, 9, "NEXT")]
    assert replaced("abcdefghij", spans) == "<LONG>fgh<NEXT>j"
    assert replaced("abc", []) == "abc"


@pytest.fixture(scope="module")
def presidio():
    pytest.importorskip("presidio_analyzer", reason="pip install 'fairlead[checks]'")
    return Presidio()


def test_what_has_a_form_is_replaced_and_the_rest_stays(presidio):
    said = presidio.check(call("nothing here", TEXT))
    assert isinstance(said, Replace)
    assert [message["content"] for message in said.messages] == [
        "nothing here",
        "I am <EMAIL_ADDRESS>, card <CREDIT_CARD>, on 10.1.2.3",
    ]
    assert presidio.check(call("nothing here")) == Allow()


def test_it_refuses_by_kind_and_never_quotes(presidio):
    said = Presidio(entities=["CREDIT_CARD", "IP_ADDRESS"], action="refuse").check(call(TEXT))
    assert said == Refuse("it holds CREDIT_CARD, IP_ADDRESS")


def test_what_cannot_be_is_explained(presidio):
    with pytest.raises(ConfigError, match="PERSON cannot be found so"):
        Presidio(entities=["PERSON"])
    with pytest.raises(ConfigError, match="is not installed"):
        Presidio(model="en_core_web_nothing")
    with pytest.raises(ConfigError, match="replace or refuse"):
        Presidio(action="hide")
