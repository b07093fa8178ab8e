"""Encodings of the package ``tiktoken``: objects, files and names."""

import base64
import contextlib
import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Self

from tokenloom._io.digest import hash_json
from tokenloom._io.remote import is_offline
from tokenloom._optional import import_optional, panics_as_errors
from tokenloom._wording import join_choices, show, suggest
from tokenloom.errors import ArgumentError, CorpusError, DownloadError
from tokenloom.text.by_value import (
    SubwordTokenizer,
    hash_content,
    require_digest,
    require_few_ids,
)
from tokenloom.text.ids import Ids, narrow_dtype
from tokenloom.text.vocab import Vocab

TOKENIZER_RANKS = "tokenizer.tiktoken"
# The prefix of the name of an encoding of tiktoken.
ENCODING = "tiktoken:"
# How the encodings of OpenAI split a text, and their special tokens, by how the names of
# their files begin: the files hold neither.
GPT2_PATTERN = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
)
_CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"""
    r"""| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
_O200K_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K_PATTERN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{_O200K_END}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_O200K_END}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENCODINGS: dict[str, tuple[str, dict[str, int]]] = {
    "r50k": (GPT2_PATTERN, {"<|endoftext|>": 50_256}),
    "p50k": (GPT2_PATTERN, {"<|endoftext|>": 50_256}),
    "cl100k": (
        _CL100K_PATTERN,
        {
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    ),
    "o200k": (_O200K_PATTERN, {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}),
}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class TiktokenTokenizer(SubwordTokenizer):
    """An encoding of the package ``tiktoken``.

    Attributes
    ----------
    ranks : bytes
        The content of a .tiktoken file: a line for each token, its bytes in
        base64 and its id.
    pattern : str
        The regular expression that splits a text first.
    special : tuple of (str, int)
        Tokens that stand for something else than text, each with its id.
    allow_special : bool
        Whether special tokens that are written out in a text become their ids,
        rather than those of their bytes.
    """

    name: ClassVar[str] = "tiktoken"
    package: ClassVar[str] = "tiktoken"
    ranks: bytes
    pattern: str
    special: tuple[tuple[str, int], ...]
    allow_special: bool = False

    @classmethod
    def of(
        cls,
        id_of: Mapping[bytes, int],
        pattern: str,
        special: Mapping[str, int],
        *,
        allow_special: bool = False,
        name: str = "the tokenizer",
    ) -> Self:
        """Return the tokenizer of the ids of tokens, a pattern and special tokens.

        Raises
        ------
        CorpusError
            A byte has no id.
        """
        missing = [byte for byte in range(256) if bytes([byte]) not in id_of]
        if missing:
            msg = (
                f"{name} must have an id for each of the 256 bytes, since it must encode every "
                f"text, got none for {len(missing)} of them, such as 0x{missing[0]:02x}"
            )
            raise CorpusError(msg)
        num_ids = max([*id_of.values(), *special.values()]) + 1
        require_few_ids(name, num_ids)
        ranks = b"".join(
            b"%b %d\n" % (base64.b64encode(token), id_)
            for token, id_ in sorted(id_of.items(), key=operator.itemgetter(1))
        )
        pairs = tuple(sorted(special.items(), key=operator.itemgetter(1)))
        digest = _digest_encoding(ranks, pattern, pairs)
        return cls(num_ids, digest, ranks, pattern, pairs, allow_special)

    @classmethod
    def of_encoding(cls, encoding: Any, *, allow_special: bool = False) -> Self:
        """Return the tokenizer of an object of the package."""
        # The package has no public access to them.
        parts = encoding._mergeable_ranks, encoding._pat_str, encoding._special_tokens  # noqa: SLF001
        return cls.of(*parts, allow_special=allow_special)

    def make_encoder(self, module: Any, /) -> Any:
        """Return an Encoding."""
        return module.Encoding(
            name=self.digest,
            pat_str=self.pattern,
            mergeable_ranks=_parse_ranks(self.ranks),
            special_tokens=dict(self.special),
        )

    def encode_texts(self, texts: Sequence[str], /) -> Iterator[Ids]:
        """Yield the ids of each text."""
        # Unlike encode_ordinary it refuses half of a surrogate pair, rather than replacing it.
        encode, dtype = self.encoder.encode_to_numpy, narrow_dtype(self.num_ids)
        allowed = {token for token, _ in self.special} if self.allow_special else set()
        for text in texts:
            ids = encode(text, allowed_special=allowed, disallowed_special=())
            yield ids.astype(dtype, copy=False)

    @panics_as_errors()
    def decode(self, ids: list[int], /) -> str:
        """Return the text of ids; bytes that are no UTF-8 and ids without a token become U+FFFD."""
        numbers, decode = self._check(ids), self.encoder.decode_bytes
        try:
            content: bytes = decode(numbers)
        except KeyError:
            known = self.token_bytes()
            content = b"".join(
                "\ufffd".encode() if known[id_] is None else decode([id_]) for id_ in numbers
            )
        return content.decode("utf-8", "replace")

    @panics_as_errors()
    def find_starts(self, text: str, /) -> list[int]:
        """Return with which character of a text each token begins, or which it continues."""
        _, starts = self.encoder.decode_with_offsets(self.encode(text).tolist())
        return list(starts)

    @panics_as_errors()
    def find_token(self, token: str, /) -> int | None:
        """Return the id of a special token, or of a text that is one token."""
        if token in (special := dict(self.special)):
            return special[token]
        ids = self.encode(token)
        return int(ids[0]) if len(ids) == 1 else None

    def special_tokens(self) -> dict[str, int]:
        """Return the tokens that stand for something else than text, each with its id."""
        return dict(self.special)

    def token_bytes(self) -> list[bytes | None]:
        """Return the bytes of each id."""
        tokens: list[bytes | None] = [None] * self.num_ids
        for token, id_ in _parse_ranks(self.ranks).items():
            tokens[id_] = token
        for _, id_ in self.special:
            tokens[id_] = b""
        return tokens

    def files(self) -> dict[str, bytes]:
        """Return the file of ranks."""
        return {TOKENIZER_RANKS: self.ranks}

    def describe(self) -> dict[str, Any]:
        """Return the values that make the tokenizer again with its file: JSON-able."""
        return {
            **SubwordTokenizer.describe(self),
            "pattern": self.pattern,
            "special_tokens": dict(self.special),
            "allow_special": self.allow_special,
        }

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
            case {
                "vocab_size": int(num_ids),
                "sha256": str(digest),
                "pattern": str(pattern),
                "special_tokens": dict(special),
                "allow_special": bool(allow_special),
            } if num_ids > 0 and all(type(id_) is int for id_ in special.values()):
                ranks = load_file(TOKENIZER_RANKS)
                pairs = tuple(sorted(special.items(), key=operator.itemgetter(1)))
                require_digest(TOKENIZER_RANKS, _digest_encoding(ranks, pattern, pairs), digest)
                return cls(num_ids, digest, ranks, pattern, pairs, allow_special)
        return None


def load_encoding(name: str, *, allow_special: bool = False) -> TiktokenTokenizer:
    """Return an encoding that tiktoken has under a name, such as "o200k_base".

    At its first use tiktoken downloads it, to the folder that the environment
    names as TIKTOKEN_CACHE_DIR.

    Raises
    ------
    ArgumentError
        There is none of that name.
    DownloadError
        It cannot be downloaded.
    UsageError
        The package is not installed.
    """
    package = import_optional("tiktoken", purpose=f"the encoding {name!r}", extra="tiktoken")
    known = package.list_encoding_names()
    if name not in known:
        msg = (
            f"tokenizer must be 'tiktoken:' and one of {join_choices(known)}, got {show(name)}"
            f"{suggest(name, known)}"
        )
        raise ArgumentError(msg)
    try:
        with _without_downloads() if is_offline() else contextlib.nullcontext():
            return TiktokenTokenizer.of_encoding(
                package.get_encoding(name), allow_special=allow_special
            )
    except (OSError, ValueError) as error:
        why = error if isinstance(error, _OfflineError) else type(error).__name__
        msg = (
            f"tiktoken cannot download the encoding {name!r} ({why}): set "
            f"TIKTOKEN_CACHE_DIR to a folder that has it, or pass the path of {name}.tiktoken"
        )
        raise DownloadError(msg) from error


class _OfflineError(OSError):
    """The error that tiktoken gets instead of a download."""


@contextlib.contextmanager
def _without_downloads() -> Iterator[None]:
    """Let tiktoken, which has no switch for it, use only what it has kept."""
    load = import_optional("tiktoken.load", purpose="a named encoding", extra="tiktoken")
    read_file = load.read_file

    def refuse(_: str) -> bytes:
        msg = "downloads are forbidden by TOKENLOOM_OFFLINE or --offline"
        raise _OfflineError(msg)

    load.read_file = refuse
    try:
        yield
    finally:
        load.read_file = read_file


def read_ranks(content: bytes, name: str, *, allow_special: bool) -> TiktokenTokenizer:
    """Return the tokenizer of a .tiktoken file, which does not hold its pattern.

    Raises
    ------
    CorpusError
        The file is of another kind.
    """
    stem = PurePath(name).stem
    try:
        id_of = _parse_ranks(content)
    except ValueError as error:
        msg = (
            f"{name} must have a token in base64 and its id on each line, as the files of tiktoken "
            f"have it: {error}"
        )
        raise CorpusError(msg) from error
    known = next((prefix for prefix in _ENCODINGS if stem.startswith(prefix)), None)
    pattern, special = _ENCODINGS[known or "cl100k"]
    if known is None:
        special = {}
        _logger.warning(
            "%s does not hold the pattern that splits a text, and its name begins with none of "
            "%s: the pattern of cl100k is used, and there are no special tokens",
            name,
            ", ".join(_ENCODINGS),
        )
    taken = set(id_of.values())
    special = {token: id_ for token, id_ in special.items() if id_ not in taken}
    return TiktokenTokenizer.of(id_of, pattern, special, allow_special=allow_special, name=name)


def _parse_ranks(content: bytes) -> dict[bytes, int]:
    r"""Return the id of each token of a .tiktoken file.

    Raises
    ------
    ValueError
        A line has another form, or there is none.

    >>> _parse_ranks(b"YQ== 0\nYg== 1\n")
    {b'a': 0, b'b': 1}
    """
    lines = [line.split() for line in content.splitlines() if line.strip()]
    id_of = {base64.b64decode(token, validate=True): int(id_) for token, id_ in lines}
    if not id_of or min(id_of.values()) < 0 or len(set(id_of.values())) < len(lines):
        msg = "each token must have an id of its own, from 0 on"
        raise ValueError(msg)
    return id_of


def _digest_encoding(ranks: bytes, pattern: str, special: Sequence[tuple[str, int]]) -> str:
    return hash_json([hash_content(ranks), pattern, [list(pair) for pair in special]])
