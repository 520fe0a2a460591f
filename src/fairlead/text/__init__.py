"""Text in, tokens out, and back: tokenizers, chat templates, incremental detokenisation."""

from fairlead.text.assembler import Assembler
from fairlead.text.folder import NANO, model_folder
from fairlead.text.passage import PASSAGE, passage_tokens
from fairlead.text.tokenizer import Tokenizer

__all__ = ["NANO", "PASSAGE", "Assembler", "Tokenizer", "model_folder", "passage_tokens"]
