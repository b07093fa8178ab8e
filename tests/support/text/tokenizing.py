"""A text to ids, also where it has no token."""

from typing import Any

from tokenloom.text.encode import encode_documents
from tokenloom.text.ids import Ids
from tokenloom.text.interface import Tokenizer
from tokenloom.text.tokenizers import is_counted


def tokenize(text: str, *, tokenizer: Any, normalize: bool = True) -> tuple[Ids, Tokenizer]:
    """Return the ids of a text, and what made them; what normalises nothing is not asked to."""
    ids, _, made, _, _ = encode_documents(
        [text], tokenizer=tokenizer, normalize=normalize or not is_counted(tokenizer)
    )
    return ids, made
