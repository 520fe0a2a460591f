"""Makes a tiny model in Hugging Face format on the spot, for tests with real engines.

A Llama of 0.85 million random weights, and a byte-level BPE tokenizer trained on this repository's
own documentation, with a chat template that takes tools, and one special token per turn. It says
nothing sensible; it loads in a second, in the embedded engine as in vLLM, and its greedy answers
are the same in both.

    python scripts/make_tiny_model.py /tmp/tiny
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VOCAB_SIZE = 1024
MAX_CONTEXT = 2048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS, TURN, END = range(3)
CHAT_TEMPLATE = """\
{% if tools %}<|im_start|>system
<tools>{% for tool in tools %}

{{ tool | tojson }}{% endfor %}

</tools><|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""With calls of tools in the way of Hermes and Qwen."""


def make_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Fills `folder`, which is made where it is missing, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder)
    _write_weights(folder, seed)
    return folder


def _texts() -> Iterator[str]:
    root = Path(__file__).parents[1]
    for path in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        yield path.read_text(encoding="utf-8")


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[EOS],
        "model_max_length": MAX_CONTEXT,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def _write_weights(folder: Path, seed: int) -> None:
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_CONTEXT,
        bos_token_id=None,
        eos_token_id=[EOS, END],
        pad_token_id=None,
        tie_word_embeddings=False,
        dtype="float32",
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    # A spread of 1/sqrt(fan in) keeps greedy answers varied and ties away.
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            spread = 0.1 if "embed" in name else parameter.shape[1] ** -0.5
            torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(folder)
    model.generation_config.eos_token_id = [EOS, END]
    model.generation_config.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="is made where it is missing")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    args = parser.parse_args()
    make_tiny_model(args.folder, args.seed)
    print(f"wrote {args.folder}")


if __name__ == "__main__":
    main()
