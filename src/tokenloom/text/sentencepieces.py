"""Models of the package ``sentencepiece``."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tokenloom._optional import import_optional
from tokenloom.errors import CorpusError
from tokenloom.text.by_value import SubwordTokenizer, cut_batches, hash_content, require_digest
from tokenloom.text.ids import Ids
from tokenloom.text.vocab import Vocab

TOKENIZER_MODEL = "tokenizer.model"


@dataclass(frozen=True, slots=True, repr=False)
class SentencePieceTokenizer(SubwordTokenizer):
    """A model of the package ``sentencepiece``.

    It normalises: decoding does not return runs of spaces, line ends and some
    characters. It adds neither a beginning nor an end.

    Attributes
    ----------
    model : bytes
        The content of a .model file.
    """

    name: ClassVar[str] = "sentencepiece"
    package: ClassVar[str] = "sentencepiece"
    model: bytes

    @classmethod
    def of(cls, model: bytes, *, name: str = "the tokenizer") -> Self:
        """Return the tokenizer of a model's bytes.

        Raises
        ------
        CorpusError
            The package cannot read it.
        UsageError
            The package is not installed.
        """
        package = import_optional("sentencepiece", purpose=f"reading {name}", extra="sentencepiece")
        try:
            processor = package.SentencePieceProcessor(model_proto=model)
            num_ids = processor.vocab_size()
        # Nothing is wrong with the file where memory is missing.
        except MemoryError:
            raise
        # The package has no errors of its own: it raises others from release to release.
        except Exception as error:
            msg = f"{name} must be a model of sentencepiece, which cannot read it: {error}"
            raise CorpusError(msg) from error
        return cls(num_ids, hash_content(model), model)

    def make_encoder(self, module: Any, /) -> Any:
        """Return a SentencePieceProcessor."""
        return module.SentencePieceProcessor(model_proto=self.model)

    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""
        encode = self.encoder.encode
        for batch in cut_batches(texts):
            for ids in encode(batch, out_type=int, num_threads=1):
                yield self._narrow(ids)

    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids."""
        text: str = self.encoder.decode(self._check(ids))
        return text

    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins; nothing with older releases."""
        try:
            found = self.encoder.encode(text, out_type="offset_mapping")
        # Older versions of the package do not know this out_type.
        except (RuntimeError, ValueError):
            return []
        return [start for start, _ in found["offsets"]]

    def find_token(self, token: str, /) -> int | None:
        """Return the id of a piece, as the model spells it."""
        id_ = int(self.encoder.piece_to_id(token))
        # The package returns the id of the unknown piece for any other string.
        return id_ if self.encoder.id_to_piece(id_) == token else None

    def special_tokens(self) -> dict[str, int]:
        """Return the pieces that stand for something else than text, each with its id."""
        encoder = self.encoder
        ids = filter(encoder.is_control, range(self.num_ids))
        return {encoder.id_to_piece(id_): id_ for id_ in ids}

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown piece."""
        return int(self.encoder.unk_id())

    def token_bytes(self) -> list[bytes | None]:
        """Return the bytes of each id, in the text after normalisation."""
        encoder = self.encoder

        def read(id_: int) -> bytes | None:
            piece: str = encoder.id_to_piece(id_)
            if encoder.is_unknown(id_):
                return None
            if encoder.is_control(id_):
                return b""
            if encoder.is_byte(id_):
                return bytes([int(piece[3:5], 16)])
            return piece.replace("\u2581", " ").encode("utf-8")

        return [read(id_) for id_ in range(self.num_ids)]

    def files(self) -> dict[str, bytes]:
        """Return the model."""
        return {TOKENIZER_MODEL: self.model}

    @classmethod
    def restore(
        cls,
        description: Mapping[str, object],
        *,
        load_vocab: Callable[[], Vocab],
        load_file: Callable[[str], bytes],
    ) -> Self | None:
        """Return the tokenizer that `describe` described, or None where a value is missing."""
        del load_vocab
        match description:
            case {"vocab_size": int(num_ids), "sha256": str(digest)} if num_ids > 0:
                model = load_file(TOKENIZER_MODEL)
                require_digest(TOKENIZER_MODEL, hash_content(model), digest)
                return cls(num_ids, digest, model)
        return None


def read_model(content: bytes, name: str, *, allow_special: bool) -> SentencePieceTokenizer:
    """Return the tokenizer of a .model file, which has no special tokens that a text could spell.

    Raises
    ------
    CorpusError
        The file is of another kind.
    """
    del allow_special
    if re.match(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n", content):
        msg = f"{name} is a file of tiktoken: give it a name that ends with .tiktoken"
        raise CorpusError(msg)
    return SentencePieceTokenizer.of(content, name=name)
