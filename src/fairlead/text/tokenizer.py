"""A model's tokenizer, as its folder describes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from fairlead.model import ModelError, RequestError
from fairlead.text.call_format import MARKS, CallFormat
from fairlead.text.chat import Messages, chat_template_in
from fairlead.text.detokenizer import Detokenizer, PieceDetokenizer, WindowDetokenizer
from fairlead.text.folder import model_folder, read_json
from fairlead.text.pieces import bytes_are_ids, pieces_of

SPECIAL_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
UNBOUNDED = 10**9
"""`model_max_length` of at least this means that nobody said."""


class Tokenizer:
    """Text to token ids and back, with the model's chat template and the tokens that end it."""

    def __init__(self, folder: Path, name: str = "") -> None:
        """Raises `ModelError` where `folder` does not hold a usable tokenizer."""
        self.name = name or str(folder)
        self._tokenizer = _read_tokenizer(folder)
        config = read_json(folder, "config.json")
        settings = read_json(folder, "tokenizer_config.json")
        special = _special_tokens(settings)
        made_of = json.loads(self._tokenizer.to_str())
        self._pieces = pieces_of(self._tokenizer, made_of)
        self._chat_template = chat_template_in(folder, special)
        added_tokens = self._tokenizer.get_added_tokens_decoder()
        self._special = {
            token_id: added.content
            for token_id, added in added_tokens.items()
            if added.special and added.content not in MARKS
        }
        self._added = frozenset(added.content for added in added_tokens.values())
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        """Tokens there are; the model may have a few more rows than this."""
        self.special_ids: frozenset[int] = frozenset(self._special)
        """Tokens that are never part of the text."""
        self.bos_token_id = self._id_of(special.get("bos_token"))
        self.pad_token_id = self._id_of(special.get("pad_token"))
        self.eos_token_ids = self._eos_token_ids(folder, config, special)
        """Tokens that end an answer."""
        self.max_context = _max_context(config, settings)
        """Most tokens of prompt and output together; None where the model does not say."""
        self._bytes_are_ids = bytes_are_ids(made_of)
        self._special_ids_by_name = {text: token_id for token_id, text in self._special.items()}
        self._special_pattern = _any_of(self._special.values())

    @classmethod
    def load(cls, model: str) -> Tokenizer:
        """The tokenizer of `fairlead-nano`, of a local folder in Hugging Face format, or of a
        name on the hub. Raises `ModelError` where there is none."""
        return cls(model_folder(model), model)

    @property
    def has_chat_template(self) -> bool:
        return self._chat_template is not None

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template writes down tools."""
        return self._chat_template is not None and self._chat_template.takes_tools

    @property
    def call_format(self) -> CallFormat | None:
        """How the model writes calls of tools; None where it has none, or none that is known."""
        return None if self._chat_template is None else self._chat_template.call_format

    def has_token(self, text: str) -> bool:
        """Whether `text` is always a token of its own, whatever stands around it."""
        return text in self._added

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, with whatever the tokenizer puts around a text by itself."""
        return self._encode(text, add_special_tokens=True)

    def encode_bare(self, text: str) -> list[int]:
        """Ids of `text` and nothing around it."""
        return self._encode(text, add_special_tokens=False)

    def encode_chat(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Ids of a chat as its template writes it; `variables` are further ones for the template.

        Raises `RequestError` where there is no template, or where it refuses the messages.
        """
        if self._chat_template is None:
            raise RequestError(
                f"model {self.name!r} has no chat template; use /v1/completions, or add a"
                " chat_template.jinja to its folder",
                code="no_chat_template",
            )
        text = self._chat_template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            variables=variables or {},
        )
        return self._encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out, broken characters as U+FFFD."""
        detokenizer = self.detokenizer()
        return detokenizer.text(ids) + detokenizer.rest()

    def raw_text(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens by their names."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def detokenizer(self) -> Detokenizer:
        """A fresh one, for the tokens of one sequence as they come."""
        if self._pieces is not None:
            return PieceDetokenizer(self._pieces)
        return WindowDetokenizer(self._tokenizer.decode)

    def token_text(self, token_id: int) -> str:
        """What to print for this token alone; special tokens by their name."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that this token alone stands for; special tokens by their name."""
        if token_id in self._special:
            return self._special[token_id].encode()
        if self._pieces is None:
            return str(self._tokenizer.decode([token_id])).encode()
        table = self._pieces.table
        return table[token_id] if token_id < len(table) else b""

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"the text is not valid Unicode ({error.reason} at character {error.start}); send"
                " well-formed UTF-8, without lone surrogates"
            ) from error
        if not self._bytes_are_ids:
            ids = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
            return list(ids)
        return self._encode_bytes(text, data)

    def _encode_bytes(self, text: str, data: bytes) -> list[int]:
        """The same ids 50 times faster, where a byte is its own id."""
        if not self._special_pattern.search(text):
            return list(data)
        ids: list[int] = []
        for index, part in enumerate(self._special_pattern.split(text)):
            ids += [self._special_ids_by_name[part]] if index % 2 else part.encode()
        return ids

    def _id_of(self, token: str | None) -> int | None:
        return None if token is None else self._tokenizer.token_to_id(token)

    def _eos_token_ids(
        self, folder: Path, config: Mapping[str, Any], special: Mapping[str, str]
    ) -> frozenset[int]:
        told = read_json(folder, "generation_config.json").get("eos_token_id")
        if told is None:
            told = config.get("eos_token_id")
        ids = told if isinstance(told, list) else [told]
        return frozenset(
            token_id
            for token_id in [*ids, self._id_of(special.get("eos_token"))]
            if isinstance(token_id, int)
        )


def _read_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelError(
            f"model folder {str(folder)!r} has no tokenizer.json; expected a folder in Hugging Face"
            " format with a fast tokenizer"
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain `Exception`
        raise ModelError(f"cannot read {path}: {error}; copy the model again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Such as {"bos_token": "<s>"}, under the names that chat templates use."""
    found: dict[str, str] = {}
    for name in [f"{name}_token" for name in SPECIAL_NAMES]:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            found[name] = token
    return found


def _max_context(config: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    for place, key in (
        (config, "max_position_embeddings"),
        (inner if isinstance(inner, dict) else {}, "max_position_embeddings"),
        (settings, "model_max_length"),
    ):
        value = place.get(key)
        if isinstance(value, int | float) and 0 < value < UNBOUNDED:
            return int(value)
    return None


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches and captures any of `texts`; nothing at all where there are none."""
    return re.compile("(" + ("|".join(re.escape(text) for text in texts) or "(?!)") + ")")
