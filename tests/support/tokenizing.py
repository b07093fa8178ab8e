"""A text to ids, also where it has no token."""

from typing import Any

from tokenloom.text.encode import encode_documents
from tokenloom.text.ids import Ids
from tokenloom.text.interface import Tokenizer


def tokenize(text: str, *, tokenizer: Any, normalize: bool = True) -> tuple[Ids, Tokenizer]:
    """Return the ids of a text, and what made them."""
    ids, _, made, _ = encode_documents([text], tokenizer=tokenizer, normalize=normalize)
    return ids, made
