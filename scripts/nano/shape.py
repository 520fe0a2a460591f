"""The files of fairlead-nano that are written rather than trained: tokenizer, template, notes."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from fairlead.text.pieces import byte_letters

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIALS = (BEGIN, END, *ROLES.values(), PAD)
"""Ids from 256 on, in this order; the ids below are the bytes themselves."""
SPECIAL_IDS = {name: 256 + index for index, name in enumerate(SPECIALS)}
CONTEXT_TOKENS = 8192

CHAT_TEMPLATE = """\
{{- '<|begin|>' -}}
{%- if tools -%}
  {{- '<|system|>These functions can be called:\\n<tools>' -}}
  {%- for tool in tools -%}
    {{- '\\n' + tool | tojson -}}
  {%- endfor -%}
  {{- '\\n</tools>\\nA call is written as <tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n\
</tool_call><|end|>' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role in ('system', 'developer') -%}
    {{- '<|system|>' -}}
  {%- elif message.role in ('user', 'assistant') -%}
    {{- '<|' + message.role + '|>' -}}
  {%- elif message.role == 'tool' -%}
    {{- '<|user|><tool_response>\\n' -}}
  {%- else -%}
    {{- raise_exception('fairlead-nano knows the roles system, developer, user, assistant and tool,\
 not ' + message.role) -}}
  {%- endif -%}
  {%- if message.content is string -%}
    {{- message.content -}}
  {%- elif message.content -%}
    {{- message.content | map(attribute='text') | join('\\n') -}}
  {%- endif -%}
  {%- if message.role == 'tool' -%}
    {{- '\\n</tool_response>' -}}
  {%- endif -%}
  {%- for call in message.tool_calls or [] -%}
    {{- '\\n' if message.content or not loop.first -}}
    {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
    {{- (call.function.arguments | tojson) + '}\\n</tool_call>' -}}
  {%- endfor -%}
  {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>' -}}
{%- endif -%}
"""

README = """\
fairlead-nano: a chat model of about three million parameters that comes with Fairlead, so that
everything runs without a download. It speaks a little English and knows very little.

Made by `scripts/make_nano.py`, which writes the whole training text itself (`scripts/nano/`), so
nobody else's text or weights are in it. Seed {seed}, {steps} steps; digest of the training
conversations {digest}.

Llama-shaped, float16, context of {context} tokens. One token a byte: the ids 0 to 255 are the
bytes, and 256 on are {specials}.
Trained on conversations of up to 1024 tokens; beyond, its English falls apart.
Tools in a chat request are shown to the model, as in Hermes, but it was not taught to call them.

Licensed under the Apache License, Version 2.0, as Fairlead is.
"""


def tokenizer() -> Tokenizer:
    """One token a byte, no merges, and the special tokens."""
    made = Tokenizer(models.BPE(vocab=byte_letters(), merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    return made


def write_texts(folder: Path, *, seed: int, steps: int, digest: str) -> None:
    """Everything but config and weights, into `folder`."""
    tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT_TOKENS,
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    text = README.format(
        seed=seed, steps=steps, digest=digest, context=CONTEXT_TOKENS, specials=", ".join(SPECIALS)
    )
    (folder / "README").write_text(text)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
