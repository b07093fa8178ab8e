"""The tokenizer: words, spaces and marks, with capitals."""

import re
from collections import Counter

_PIECE = re.compile(r"\w+|\s|[^\w\s]")


class PieceTokenizer:
    """A token for each word, space and mark that a text has at least twice.

    Parameters
    ----------
    text : str
        Which the pieces are taken from; others get the id 0.
    """

    def __init__(self, text: str) -> None:
        counts = Counter(_PIECE.findall(text))
        self._pieces = ["?", *sorted(piece for piece, count in counts.items() if count >= 2)]
        self._ids = {piece: id_ for id_, piece in enumerate(self._pieces)}

    @property
    def vocab_size(self) -> int:
        """Number of different ids."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return [self._ids.get(piece, 0) for piece in _PIECE.findall(text)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        return "".join(self._pieces[id_] for id_ in ids)
