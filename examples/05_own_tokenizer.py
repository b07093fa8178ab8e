"""Plug in a tokenizer: any object with vocab_size, encode and decode."""

import tokenloom as tl

TEXT = "the time traveller for so it will be convenient to speak of him " * 4


class SyllableTokenizer:
    """One token per run of consonants with the vowels, or the space, behind it."""

    def __init__(self, text: str) -> None:
        pieces = dict.fromkeys(self._split(text))
        self._pieces = ["?", *pieces]
        self._ids = {piece: id_ for id_, piece in enumerate(self._pieces)}

    @property
    def vocab_size(self) -> int:
        """Number of different ids; id 0 is what was never seen."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return [self._ids.get(piece, 0) for piece in self._split(text)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        return "".join(self._pieces[id_] for id_ in ids)

    @staticmethod
    def _split(text: str) -> list[str]:
        pieces, piece = [], ""
        for character in text:
            if piece and piece[-1] in "aeiou " and character not in "aeiou ":
                pieces.append(piece)
                piece = ""
            piece += character
        return [*pieces, piece] if piece else pieces


def main() -> None:
    """Make a corpus with it, and look at a batch token by token."""
    tokenizer = SyllableTokenizer(TEXT)
    corpus = tl.Corpus.from_text(TEXT, tokenizer=tokenizer, name="syllables")
    print(corpus)
    windows = tl.SequentialWindows(corpus, batch_size=2, seq_len=6)
    for row in next(iter(windows)).inputs:
        print("-".join(tokenizer.decode([id_]) for id_ in row.tolist()))


if __name__ == "__main__":
    main()
