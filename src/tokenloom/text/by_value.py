"""What tokenizers of other packages have in common: a state that is kept by value.

None of these packages is imported before a text is encoded or decoded, and each
process builds an encoder once, of a state that is plain text or bytes.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenloom._checks import require_characters, require_type
from tokenloom._io.interrupts import start_call, wait_for_call
from tokenloom._optional import import_optional, panics_as_errors
from tokenloom._wording import count
from tokenloom.errors import CorpusError, UsageError
from tokenloom.text.documents import TextSegment
from tokenloom.text.ids import Ids, Offsets, as_ids, narrow_dtype
from tokenloom.text.interface import CompleteTokenizer, Places, join_ids

# Packages allocate memory for each id; the largest known vocabulary has less than a tenth of this.
MAX_IDS = 1 << 24
# Characters that are encoded in one call; more would only take memory.
_BATCH_CHARACTERS = 1 << 18
# A text of this length is encoded in a thread, since it takes about a second.
_MANY_CHARACTERS = 1 << 22
_NUM_ENCODERS = 4
# The encoders that this process has built, by the values that they were built from.
_encoders: dict[object, Any] = {}


@dataclass(frozen=True, slots=True, repr=False)
class SubwordTokenizer(CompleteTokenizer):
    """A tokenizer of another package, whose state is kept by value.

    Attributes
    ----------
    package : str
        The package that encodes and decodes; the extra that installs it has the same name.
    num_ids : int
        One more than the largest id.
    digest : str
        ``"sha256:..."`` of its state. Equal digests mean equal ids, but for
        special tokens that a text spells where only one of two tokenizers
        allows them.
    """

    package: ClassVar[str]
    num_ids: int
    digest: str

    @abstractmethod
    def make_encoder(self, module: Any, /) -> Any:
        """Return the encoder, made with the module of the package."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""

    @abstractmethod
    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""

    @abstractmethod
    def token_bytes(self) -> list[bytes | None] | None:
        """Return the bytes of text that each id stands for, None where they are not known.

        None where they are known of no id. A special token stands for no text.
        """

    @abstractmethod
    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins, an empty list if unknown."""

    @property
    def encoder(self) -> Any:
        """The encoder: an object of the package.

        Raises
        ------
        UsageError
            The package is not installed.
        """
        key = type(self), self.digest, getattr(self, "allow_special", False)
        encoder = _encoders.get(key)
        if encoder is None:
            what = "encoding or decoding text with this tokenizer"
            module = import_optional(self.package, purpose=what, extra=self.package)
            with panics_as_errors():
                encoder = _encoders[key] = self.make_encoder(module)
            for old in list(_encoders)[:-_NUM_ENCODERS]:
                _encoders.pop(old, None)
        return encoder

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self.num_ids

    @property
    def hash(self) -> str:
        """``"sha256:..."`` of the tokenizer's state, and of whether special tokens are allowed."""
        allows_special = getattr(self, "allow_special", False)
        return hash_allowing(self.digest) if allows_special else self.digest

    def encode(self, text: str, /) -> Ids:
        """Return the ids of a text, without any that the package would add.

        Raises
        ------
        ArgumentError
            It is no str.
        CorpusError
            It holds half of a surrogate pair, or the package panics.
        UsageError
            The package is not installed.
        """
        require_characters(require_type("text", text, str, "a str"), name="text")
        with panics_as_errors():
            return next(self.encode_texts([text]))

    def _encode_all(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        return join_ids(list(self.encode_texts(texts)))

    def encode_segments(self, segments: Sequence[TextSegment]) -> tuple[Ids, Offsets]:
        """Return the ids of many segments, and how many come before the end of each.

        Raises
        ------
        CorpusError
            The tokenizer refuses one of them.
        UsageError
            The package is not installed.
        """
        texts = [str(segment.text) for segment in segments]
        try:
            with panics_as_errors():
                if max(map(len, texts), default=0) < _MANY_CHARACTERS:
                    return self._encode_all(texts)
                return wait_for_call(start_call(lambda: self._encode_all(texts)))
        except (MemoryError, UsageError):
            raise
        # Each package has errors of its own. One by one, the text that it refuses gets a name.
        except Exception:  # noqa: BLE001
            return CompleteTokenizer.encode_segments(self, segments)

    def find_characters(self, segment: TextSegment, /) -> Places | None:
        """Return where the tokens of a segment begin, as far as the package reports it."""
        with panics_as_errors():
            return np.array(self.find_starts(str(segment.text)), np.int64)

    def token_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many characters each id stands for, where its bytes are known."""
        return self._measure_tokens(lambda token: sum(byte & 0xC0 != 0x80 for byte in token))

    def token_byte_lengths(self) -> npt.NDArray[np.int64] | None:
        """Return how many bytes each id stands for, where they are known."""
        return self._measure_tokens(len)

    def _measure_tokens(self, measure: Callable[[bytes], int]) -> npt.NDArray[np.int64] | None:
        with panics_as_errors():
            tokens = self.token_bytes()
        if tokens is None:
            return None
        return np.array([-1 if token is None else measure(token) for token in tokens], np.int64)

    def describe(self) -> dict[str, Any]:
        """Return the values that make the tokenizer again with its file: JSON-able."""
        return {"name": self.name, "vocab_size": self.num_ids, "sha256": self.digest}

    def _narrow(self, ids: npt.ArrayLike) -> Ids:
        return np.asarray(ids, narrow_dtype(self.num_ids))

    def _check(self, ids: list[int]) -> list[int]:
        numbers: list[int] = as_ids(ids, num_ids=self.num_ids).tolist()
        return numbers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({count(self.num_ids, 'id')}, {self.digest[:15]}...)"


def cut_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists, of which each holds a bounded number of characters, or one text.

    >>> list(cut_batches(["ab", "c" * (1 << 18), "d"])) == [["ab"], ["c" * (1 << 18)], ["d"]]
    True
    """
    batch: list[str] = []
    left = _BATCH_CHARACTERS
    for text in texts:
        if batch and len(text) > left:
            yield batch
            batch, left = [], _BATCH_CHARACTERS
        batch.append(text)
        left -= len(text)
    if batch:
        yield batch


def hash_content(content: bytes) -> str:
    """Return ``"sha256:..."`` of bytes.

    >>> hash_content(b"abc")[:14]
    'sha256:ba7816b'
    """
    return "sha256:" + hashlib.sha256(content).hexdigest()


def hash_allowing(digest: str) -> str:
    """Return the hash of a tokenizer with a digest, where special tokens are allowed in texts."""
    return hash_content(f"{digest} allow_special".encode())


def require_few_ids(name: str, num_ids: int) -> None:
    """Refuse an id that is too large for any memory.

    Raises
    ------
    CorpusError
        There is one.
    """
    if num_ids > MAX_IDS:
        msg = f"{name} must have ids below {MAX_IDS:,}, got {num_ids - 1:,}: mend the file"
        raise CorpusError(msg)


def require_digest(name: str, found: str, expected: str) -> None:
    """Refuse a file that is not that of the tokenizer.

    Raises
    ------
    CorpusError
        Its hash is another one.
    """
    if found != expected:
        msg = (
            f"{name} must be that of the tokenizer with the hash {expected}, got one with {found}: "
            "put the right file back"
        )
        raise CorpusError(msg)
