"""A text to ids, also where it has no token."""

from collections.abc import Callable
from typing import Any

from tokenloom.text.encode import encode_documents
from tokenloom.text.ids import Ids
from tokenloom.text.interface import Tokenizer
from tokenloom.text.vocab import Vocab


def tokenize(
    text: str,
    *,
    tokenizer: Any,
    normalize: bool = True,
    make_vocab: Callable[[dict[str, int]], Vocab] = Vocab,
) -> tuple[Ids, Tokenizer]:
    """Return the ids of a text, and what made them."""
    ids, _, made, _ = encode_documents(
        [text], tokenizer=tokenizer, normalize=normalize, make_vocab=make_vocab
    )
    return ids, made
