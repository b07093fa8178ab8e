"""Which tokenizer made some ids, as far as that is known."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from tokenloom._io.digest import hash_json
from tokenloom._optional import panics_as_errors
from tokenloom._wording import count
from tokenloom.errors import UsageError
from tokenloom.text.by_value import hash_allowing
from tokenloom.text.interface import CompleteTokenizer, Tokenizer, vocab_of
from tokenloom.text.tokenizers import complete

# The text whose ids distinguish tokenizers of other packages.
_PROBE = "".join(map(chr, range(32, 127))) + " The quick brown fox's 12,345\n\té ß Ж 時間 🙂"
_NUM_DECODED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Facts that distinguish a tokenizer from others; None where they are not known.

    Attributes
    ----------
    name : str or None
        Of a built-in tokenizer; None of one that came from elsewhere.
    vocab_size : int or None
    vocab : str or None
        Hash of the vocabulary's tokens.
    probe : str or None
        Hash of the ids of a text; see `probe`.
    decoded : str or None
        Hash of the texts of some ids.
    tokenizer : Tokenizer or None
        The tokenizer from which proofs that were not asked for yet are computed.
    """

    name: str | None = None
    vocab_size: int | None = None
    vocab: str | None = None
    probe: str | None = None
    decoded: str | None = None
    tokenizer: Tokenizer | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Return the identity of a tokenizer."""
        vocab, known = vocab_of(tokenizer), complete(tokenizer)
        if known.hash is not None:
            # The package of the tokenizer is asked for proofs only when they are compared.
            return cls(
                name=known.name, vocab_size=known.vocab_size, vocab=known.hash, tokenizer=known
            )
        return cls(
            name=known.name,
            vocab_size=known.vocab_size,
            vocab=None if vocab is None else vocab.hash,
            probe=probe(tokenizer),
            decoded=_decode_some(tokenizer),
        )

    def _with_proofs(self) -> Self:
        """Return the same identity with its proofs, as far as the tokenizer can encode here."""
        if self.tokenizer is None:
            return self
        try:
            proofs = probe(self.tokenizer), _decode_some(self.tokenizer)
        except UsageError:
            return self
        return dataclasses.replace(self, probe=proofs[0], decoded=proofs[1])

    @classmethod
    def read(
        cls, description: object, *, vocab_size: int | None, vocab: object = None
    ) -> Self | None:
        """Return the identity that a file describes, or None if it describes none.

        Parameters
        ----------
        description : object
            What `describe_identity` returned.
        vocab_size : int or None
        vocab : object
            The hash of the vocabulary, where that is known.
        """
        found = description if isinstance(description, Mapping) else {}
        known: dict[str, Any] = {
            key: value if isinstance(value, str) else None
            for key, value in {
                **{key: found.get(key) for key in ("name", "probe", "decoded")},
                "vocab": found.get("sha256") if vocab is None else vocab,
            }.items()
        }
        if known["vocab"] is not None and found.get("allow_special") is True:
            known["vocab"] = hash_allowing(known["vocab"])
        return cls(vocab_size=vocab_size, **known) if any(known.values()) else None

    def differs(self, other: "Identity | None") -> bool:
        """Return whether the ids of another tokenizer are known to mean something else."""
        if other is None:
            return False
        if (self.name is None) != (other.name is None):
            self, other = self._with_proofs(), other._with_proofs()  # noqa: PLW0642, SLF001
        names = ["vocab_size"]
        if self.name is not None and other.name is not None:
            names += ["name", "vocab"]
        elif self.name is None and other.name is None:
            names += ["vocab", "probe", "decoded"]
        else:
            # Perhaps only one of the two normalises: their ids may agree all the same.
            can_decode = self.decoded is not None and other.decoded is not None
            names += ["decoded" if can_decode else "probe"]
        pairs = ((getattr(self, name), getattr(other, name)) for name in names)
        return any(mine != its for mine, its in pairs if mine is not None and its is not None)

    def __str__(self) -> str:
        proof = self.vocab or self.decoded or self.probe
        parts = [
            f"{self.name!r}" if self.name else "one of another package",
            "" if self.vocab_size is None else count(self.vocab_size, "id"),
            f"{'vocabulary' if self.vocab else 'proof'} {proof[:19]}" if proof else "",
        ]
        return ", ".join(part for part in parts if part)


def describe_identity(tokenizer: CompleteTokenizer) -> dict[str, Any]:
    """Return values that make a tokenizer again, or identify it: JSON-able.

    >>> from tokenloom.text.tokenizers import ByteTokenizer
    >>> describe_identity(ByteTokenizer())
    {'name': 'byte'}
    """
    description = tokenizer.describe()
    if description["name"] is None:
        description |= {"probe": probe(tokenizer), "decoded": _decode_some(tokenizer)}
    return description


def probe(tokenizer: Tokenizer) -> str:
    """Return a hash of the ids of a text, or of its characters if the whole is refused."""
    whole = _encode(tokenizer, _PROBE)
    # A tokenizer that cannot encode the whole probe is identified by the characters that it can
    # encode.
    return hash_json([whole] if whole else [_encode(tokenizer, char) for char in _PROBE])


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        with panics_as_errors():
            return [int(id_) for id_ in np.asarray(tokenizer.encode(text))]
    # Where memory or a package is missing, it is no other tokenizer.
    except (MemoryError, UsageError):
        raise
    # A tokenizer that refuses a text may raise any error.
    except Exception:  # noqa: BLE001
        return []


def _decode_some(tokenizer: Tokenizer) -> str:
    """Return a hash of the texts of some ids, evenly spaced over all."""
    ids = np.unique(np.linspace(0, tokenizer.vocab_size - 1, _NUM_DECODED).astype(np.int64))
    return hash_json([_decode(tokenizer, int(id_)) for id_ in ids])


def _decode(tokenizer: Tokenizer, id_: int) -> str:
    try:
        # ASCII, since JSON cannot hold every string.
        with panics_as_errors():
            return ascii(str(tokenizer.decode([id_])))
    except (MemoryError, UsageError):
        raise
    except Exception:  # noqa: BLE001  an id may stand for nothing
        return ""
