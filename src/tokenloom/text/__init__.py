"""Text to ids: normalisation, tokenizers, vocabularies, and where a text may be cut."""

from tokenloom.text.documents import Document
from tokenloom.text.interface import Tokenizer
from tokenloom.text.tokenizers import read_tokenizer
from tokenloom.text.vocab import Vocab

__all__ = ["Document", "Tokenizer", "Vocab", "read_tokenizer"]
