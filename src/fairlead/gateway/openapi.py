"""The OpenAPI document of what is served, made of the structures that bodies are decoded into."""

from __future__ import annotations

from typing import Any

import msgspec

import fairlead
from fairlead.gateway.embeddings import EmbeddingBody
from fairlead.gateway.schemas import ChatBody, CompletionBody
from fairlead.gateway.translations.messages import CountBody, MessageBody
from fairlead.gateway.translations.responses import ResponseBody

_BODIES = (ChatBody, CompletionBody, EmbeddingBody, MessageBody, CountBody, ResponseBody)
_REF = "#/components/schemas/{name}"
_ERRORS = {
    400: "the request cannot be served as it is",
    401: "no valid API key",
    403: "this key may not do that",
    404: "no such model, tenant or address",
    405: "another method is wanted",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is of another type",
    429: "too much for now: `retry-after` says when to come back",
    503: "nobody can serve it now: `retry-after` says when to come back",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MESSAGE_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}
_WORDS = {"type": "string", "minLength": 1}
_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_PROMPTS = [_WORDS, _IDS, *({"type": "array", "minItems": 1, "items": i} for i in (_WORDS, _IDS))]
_LIST = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array"}},
}
_OBJECT = {"type": "object"}


def document(for_operators: bool = True) -> dict[str, Any]:
    """The whole document; without what is `for_operators` where that has a port of its own."""
    _, components = msgspec.json.schema_components(_BODIES, ref_template=_REF)
    for component in components.values():
        _drop_refused(component)
    for name, field in (("CompletionBody", "prompt"), ("EmbeddingBody", "input")):
        # The decoder cannot tell lists apart; `prompts.py` does.
        components[name]["properties"][field] = {"anyOf": _PROMPTS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead",
            "version": fairlead.__version__,
            "description": "Fields of other servers that are not listed are accepted and ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths() | (_OPERATORS if for_operators else {}),
        "components": {
            "schemas": {**components, "Error": _ERROR, "MessageError": _MESSAGE_ERROR},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{"bearer": []}, {"key": []}, {}],
    }


def _drop_refused(component: dict[str, Any]) -> None:
    """Fields of any type are there only to be refused by name: nobody need hear of them."""
    fields = component.get("properties", {})
    for name in [name for name, schema in fields.items() if not set(schema) - {"default"}]:
        del fields[name]


def _paths() -> dict[str, Any]:
    days = {
        "name": "days",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 3660},
    }
    tenant = {"name": "tenant", "in": "query", "schema": {"type": "string"}}
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/v1/chat/completions": _post("Answer a chat", ChatBody, "chat.completion", streams=True),
        "/v1/completions": _post("Go on with a text", CompletionBody, "", streams=True),
        "/v1/embeddings": _post("Vectors of texts", EmbeddingBody, "list"),
        "/v1/messages": _post("Anthropic's Messages API", MessageBody, "message", streams=True),
        "/v1/messages/count_tokens": _post("Tokens of a prompt", CountBody, ""),
        "/v1/responses": _post("OpenAI's Responses API", ResponseBody, "response", streams=True),
        "/v1/models": _get("Models that this key may use", _LIST, (401, 403)),
        "/v1/models/{model}": _get("One model", _OBJECT, (401, 403, 404), model),
        "/v1/usage": _get("What was used", _LIST, (400, 401, 403, 404), days, tenant),
        "/health": _get("The gateway runs", _OBJECT),
        "/ready": _get(
            "Every pool has an instance; 503 while one has none", _OBJECT, (), ready=True
        ),
        "/openapi.json": _get("This document", _OBJECT),
    }


def _post(summary: str, body: type, kind: str, *, streams: bool = False) -> dict[str, Any]:
    error = "MessageError" if body in (MessageBody, CountBody) else "Error"
    shown: dict[str, Any] = {"application/json": {"schema": _OBJECT}}
    if streams:
        shown["text/event-stream"] = {"schema": {"type": "string"}}
    content = {"application/json": {"schema": {"$ref": _REF.format(name=body.__name__)}}}
    wrong = (400, 401, 403, 404, 408, 413, 415, 429, 503)
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": {"description": f"the {kind or 'answer'}", "content": shown},
                **_wrong(wrong, error),
            },
        }
    }


def _get(
    summary: str,
    schema: dict[str, Any],
    wrong: tuple[int, ...] = (),
    *parameters: dict[str, Any],
    ready: bool = False,
) -> dict[str, Any]:
    good = {"description": "as asked", "content": {"application/json": {"schema": schema}}}
    responses = {"200": good, **({"503": good} if ready else {}), **_wrong(wrong, "Error")}
    return {"get": {"summary": summary, "parameters": [*parameters], "responses": responses}}


def _wrong(statuses: tuple[int, ...], schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(name=schema)}}}
    return {
        str(status): {"description": _ERRORS[status], "content": content} for status in statuses
    }


def _text() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {"description": "in Prometheus' text format", "content": content}


_OPERATORS = {
    "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": _text()}}},
}
