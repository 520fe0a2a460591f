"""Whom a call with tools can go to, and what its answer is held to."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.gateway.output_schema import output_schema
from fairlead.gateway.schemas import Body
from fairlead.gateway.served import ServedModel
from fairlead.gateway.tools.grammar import calls_grammar, text_or_calls_grammar
from fairlead.gateway.tools.offer import Choice, Offer, check_together
from fairlead.model import RequestError
from fairlead.text.call_format import MARKS, SHAPES, CallFormat


def format_for(model: ServedModel) -> CallFormat:
    """How calls are written on the way from its engines. Workers of servers with calls of their
    own write them so; where the model has no way of its own, any will do."""
    return model.tokenizer.call_format or CallFormat.HERMES


def check_servable(model: ServedModel, offer: Offer | None, *, called: bool) -> bool:
    """Whether only servers that take chats can serve it. Raises `RequestError` where nobody can.
    `called`: its messages hold calls."""
    tokenizer = model.tokenizer
    if (offer is None and not called) or tokenizer.call_format is not None:
        return False
    if offer is None and tokenizer.takes_tools:
        return False
    if model.passes_chats:
        return True
    param = "tools" if offer is not None else "messages"
    if not tokenizer.takes_tools:
        raise RequestError(
            f"{param}: the chat template of {model.name} has no place for tools; leave them out, or"
            " describe them in the prompt",
            param=param,
            code="unsupported",
        )
    raise RequestError(
        f"tools: the chat template of {model.name} writes calls in a way that is not known here;"
        f" known are {', '.join(known.value for known in CallFormat)}",
        param=param,
        code="unsupported",
    )


def stop_marks(model: ServedModel, offer: Offer | None) -> tuple[str, ...]:
    """Strings that end an answer in which one call is enough."""
    if offer is None or not offer.only_one or offer.choice is Choice.REQUIRED:
        return ()
    shape = SHAPES[format_for(model)]
    return (shape.ends,) if shape.begins else ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """Of the two at most one is set."""

    json_schema: str = ""
    grammar: str = ""


_ANY_TEXT = Constraint()


def constraint(body: Body, model: ServedModel, offer: Offer | None) -> Constraint:
    """What the answer is held to. Raises `RequestError` where nobody can do that."""
    schema = output_schema(body.response_format)
    required = offer is not None and offer.choice is Choice.REQUIRED
    if not schema and not required:
        return _once_called(body, model, offer)
    wanted = "tool_choice" if required else "response_format"
    _check_enforceable(model, wanted)
    _check_ends(body, wanted)
    if offer is None:
        return Constraint(json_schema=schema)
    check_together(offer.callable, "tool_choice")
    else_schema = "" if required else schema
    return Constraint(
        grammar=calls_grammar(
            format_for(model),
            offer.callable,
            only_one=offer.only_one,
            else_schema=else_schema,
            marks=_marks_are_tokens(model),
        )
    )


def _once_called(body: Body, model: ServedModel, offer: Offer | None) -> Constraint:
    """A call that the model begins by itself is held to its schema where the function is strict,
    and an engine can do that; servers with calls of their own read `strict` themselves."""
    strict = [function for function in offer.callable if function.strict] if offer else []
    if offer is None or not strict or not model.constrains_output:
        return _ANY_TEXT
    _check_ends(body, "strict")
    check_together(strict, "strict")
    marks = _marks_are_tokens(model)
    return Constraint(grammar=text_or_calls_grammar(format_for(model), offer.callable, marks=marks))


def _marks_are_tokens(model: ServedModel) -> bool:
    return all(map(model.tokenizer.has_token, MARKS))


def _check_enforceable(model: ServedModel, wanted: str) -> None:
    if not model.constrains_output and not model.passes_chats:
        raise RequestError(
            f"{wanted} is not supported: no engine of {model.name} can constrain its output;"
            " describe in the prompt what you want, or serve the model with an embedded engine",
            param=wanted,
            code="unsupported",
        )


def _check_ends(body: Body, wanted: str) -> None:
    for name in ("ignore_eos", "min_tokens"):
        if getattr(body, name):
            raise RequestError(
                f"{name} contradicts {wanted}, which says when an answer is over",
                param=name,
                code="invalid_value",
            )
