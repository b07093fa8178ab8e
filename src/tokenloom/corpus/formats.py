"""Token files of other projects: read where they lie, and written for them.

Sources: nanoGPT ``train.py`` and ``data/*/prepare.py``; llm.c
``dev/data/data_common.py``; Megatron-LM ``megatron/core/datasets/indexed_dataset.py``;
OLMo-core ``data/numpy_dataset.py``.
"""

import codecs
import glob
import gzip
import os
import pickle
import re
import struct
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from tokenloom._checks import as_integer, require_type
from tokenloom._io.atomic import as_file_path, as_path, as_stem, replacing
from tokenloom._io.kinds import HEAD_BYTES, recognise_container
from tokenloom._io.plainpickle import read_plain
from tokenloom._io.regular import match_pattern, open_regular, read_bounded
from tokenloom._wording import count, show
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.offsets import DocumentOffsets, as_offsets
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.store.memmap import FileRange, open_range
from tokenloom.store.npy import NPY_MAGIC, read_npy_header
from tokenloom.store.writer import cut
from tokenloom.text.ids import check_range, limit_ids
from tokenloom.text.interface import Tokenizer
from tokenloom.text.tokenizers import CharTokenizer, WordTokenizer, complete, restore_tokenizer
from tokenloom.text.vocab import Vocab

TOKEN_FILES = (".bin", ".idx", ".npy", ".ds")
"""How the names of token files of other projects end."""

_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
# Magic and version -> type of the tokens, which follow a header of 256 int32.
_LLMC = {20240520: (1, "<u2"), 20240801: (7, "<u4")}
# What else llm.c writes: models, their state, tokenizers, questions of an evaluation.
_LLMC_OTHERS = (20240326, 20240327, 20240328, 20240522, 20240803)
_LLMC_HEADER_BYTES = 1024
_LLMC_FIELDS = struct.Struct("<3i")
_MEGATRON_MAGIC = b"MMIDIDX\0\0"
_MEGATRON_HEADER = struct.Struct("<9sQBQQ")
# The codes 6 and 7 are floats, which are no ids.
_MEGATRON_DTYPES = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_META = "meta.pkl"
_META_CONTENT = "nanoGPT's vocab_size, itos and stoi"
# Enough for itos and stoi of 65,536 tokens of about a hundred bytes each.
_MAX_META_BYTES = 1 << 25
# How many ids are read to guess the dtype of bare tokens.
_PROBE_BLOCKS, _PROBE_IDS = 64, 1024
_BOUNDS = re.compile(rb"([0-9]{1,18}),([0-9]{1,18})(?:,[^\n]*)?\r?\n?")
# A token that stands for no text, such as <pad>.
_SPECIAL = re.compile("<[^<>]+>")
_MAX_LINE_BYTES = 1 << 16
# What texts in any encoding of one byte or of UTF-8 consist of.
_NO_CONTROLS = bytes([*b"\t\n\f\r", *range(32, 256)])
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_MAX_BYTES_PER_TOKEN = 1 << 8


def open_foreign(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    dtype: str | None = None,
    vocab_size: int | None = None,
) -> Corpus:
    """Open token files of another project as a corpus, without copying them.

    The content decides the format: Megatron's ``.idx`` beside a ``.bin``, the
    header of llm.c, that of NumPy; anything else is taken as bare tokens, as
    nanoGPT (``.bin``), OLMo (``.npy``) and datatrove (``.ds``) write them. A file
    that begins like one of them and contradicts itself is refused, and so is a
    file that holds no tokens at all.

    Parameters
    ----------
    path : str or path, or list of them
        Of Megatron's two files, either one, or what their names share. A
        pattern such as ``"shards/train_*.bin"``, where no file has that name, is
        all files that match, in the order of their names. Several files, all of
        one format, are one corpus: see `Corpus.concatenate`.
    dtype : str, optional
        Type of bare tokens, little-endian. By default "uint16", or "uint32" for
        a vocabulary of more than 65,536 ids; a sample of the file is looked at,
        and where it does not fit, the dtype must be named.
    vocab_size : int, optional
        Ids are in [0, vocab_size), which is checked where they are read. By
        default what nanoGPT's ``meta.pkl`` beside the file says, else unknown.

    Returns
    -------
    Corpus
        With documents where the format keeps them: Megatron's, and OLMo's
        where a ``.csv.gz`` beside the file has them without gaps.

    Raises
    ------
    ArgumentError
        The dtype is no type of integers, or not that of the file's header; no
        file can have that path, or matches the pattern; or one of several is
        named twice, or is of another format or another tokenizer.
    CorpusError
        A file cannot be read, or contradicts itself.
    """
    if vocab_size is not None:
        vocab_size = as_integer("vocab_size", vocab_size, start=1)
    if dtype is not None and str(dtype) not in _DTYPES:
        msg = f"dtype must be one of {', '.join(_DTYPES)}, got {show(dtype)}"
        raise ArgumentError(msg)
    paths = _list_paths(path)
    found: dict[str, _Opened] = {}
    for each in paths:
        opened = _open_named(each, None if dtype is None else str(dtype), vocab_size)
        if len(paths) > 1:
            opened = opened._replace(corpus=opened.corpus.closed())
        if opened.corpus.name not in found:
            found[opened.corpus.name] = opened
        elif not isinstance(path, str | os.PathLike):
            # A pattern may match both files of Megatron's.
            msg = (
                f"path must name each file once, got {opened.corpus.name!r} twice: "
                "to read one twice, join corpora with Corpus.concatenate"
            )
            raise ArgumentError(msg)
    first, *others = found.values()
    for other in others:
        if other.form != first.form:
            msg = (
                f"all files must be of one format, got {first.form} in {first.corpus.name!r} and "
                f"{other.form} in {other.corpus.name!r}: open them one by one, and join the "
                "corpora with Corpus.concatenate"
            )
            raise ArgumentError(msg)
    if not others:
        return first.corpus
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    return Corpus.concatenate([opened.corpus for opened in found.values()], name=name)


def _list_paths(path: object) -> list[Path]:
    """Return the files that were named, one by one or by a pattern."""
    if isinstance(path, str | os.PathLike):
        given = as_path(path)
        if _exists(given) or not glob.has_magic(str(given)):
            return [given.absolute()]
        matches = map(Path, match_pattern(str(given)))
        paths = sorted((each for each in matches if each.is_file()), key=lambda each: each.parts)
        if not paths:
            msg = f"path must be that of a file, or a pattern of files, got {show(str(given))}, "
            msg += "which matches none"
            raise ArgumentError(msg)
        return [each.absolute() for each in paths]
    wanted = "path must be that of a file, or a list of paths, each a str or a path"
    if not isinstance(path, Sequence) or isinstance(path, bytes) or not path:
        msg = f"{wanted}, got {path!r:.200}"
        raise ArgumentError(msg)
    for each in path:
        if not isinstance(each, str | os.PathLike):
            msg = f"{wanted}, got {each!r:.200} in it"
            raise ArgumentError(msg)
    return [each for one in path for each in _list_paths(one)]


def _exists(path: Path) -> bool:
    return os.path.lexists(path) or _find_index(path) is not None


def recognise_tokens(path: str | os.PathLike[str]) -> str | None:
    """Return which format of token files a path seems to be of, or None for any other file.

    The end of its name and its first bytes decide: a file that reads as text is none,
    whatever its name is. "Megatron", "NumPy", "llm.c" and "nanoGPT" (with its
    ``meta.pkl`` beside it) are certain; "bare tokens" may be any bytes.
    """
    given = Path(path)
    # os.path returns False for a name that no file can have; Path raises.
    is_file = os.path.isfile(given)  # noqa: PTH113
    if given.suffix not in TOKEN_FILES or not is_file:
        # What the names of Megatron's two files share is no file itself.
        has_both = not os.path.lexists(given) and all(
            os.path.isfile(f"{given}{end}")  # noqa: PTH113
            for end in (".bin", ".idx")
        )
        return "Megatron" if has_both else None
    try:
        with open_regular(given) as file:
            head = file.read(HEAD_BYTES)
            num_bytes = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    return _recognise_head(_TokenFile(given, head, num_bytes))


def _recognise_head(found: "_TokenFile") -> str | None:
    path, head = found.path, found.head
    if head.startswith(_MEGATRON_MAGIC) or _find_index(path) is not None:
        return "Megatron"
    if head.startswith(NPY_MAGIC):
        return "NumPy"
    if path.suffix == ".idx" or recognise_container(head) or _is_text(head):
        return None
    if _is_llmc(found):
        return "llm.c"
    has_meta = os.path.lexists(path.with_name(_META))
    return "nanoGPT" if has_meta and path.suffix == ".bin" else "bare tokens"


def _is_text(head: bytes) -> bool:
    """Return whether bytes begin a text; ids of two bytes and more have zeros among them."""
    return not head or head.startswith(_MARKS) or not head.translate(None, _NO_CONTROLS)


class _Opened(NamedTuple):
    corpus: Corpus
    form: str


def _open_named(path: Path, dtype: str | None, vocab_size: int | None) -> _Opened:
    try:
        return _open(path, dtype, vocab_size)
    except (OSError, EOFError) as error:
        # The file that failed may be another one than the one that was named.
        name = getattr(error, "filename", None) or os.fspath(path)
        msg = f"cannot read {str(name)!r}: {getattr(error, 'strerror', None) or error}"
        raise CorpusError(msg) from error


def write_nanogpt(corpus: Corpus, path: str | os.PathLike[str]) -> Path:
    """Write the tokens for nanoGPT: bare uint16, and its ``meta.pkl`` beside them.

    Where documents end is not kept, since nanoGPT has no place for it. For a
    tokenizer of tokenloom ``meta.pkl`` has its tokens and which tokenizer it is,
    so that `tokenloom.open_foreign` reads the same text; nanoGPT itself joins
    tokens by nothing, so it prints words without spaces, and bytes as the first
    256 characters. No ``meta.pkl`` means GPT-2's tokens to nanoGPT.

    Raises
    ------
    ArgumentError
        There are ids above 65,535, which nanoGPT cannot read; a ``meta.pkl`` in
        the folder describes other files; or no file can have that path.
    CorpusError
        The corpus has a loss mask, for which nanoGPT has no place.
    OSError
        A file cannot be written.
    """
    require_type("corpus", corpus, Corpus, "a Corpus")
    target = as_file_path(path)
    _refuse_mask(corpus, "nanoGPT")
    meta = _make_meta(corpus.tokenizer)
    _check_meta_beside(target, meta)
    _write_tokens(corpus, target, np.dtype("<u2"))
    if meta is not None:
        with replacing(target.with_name(_META)) as temporary:
            temporary.write_bytes(meta)
    return target


def _make_meta(tokenizer: Tokenizer | None) -> bytes | None:
    """Return the bytes of nanoGPT's meta.pkl, or None for tokenizers from elsewhere."""
    known = None if tokenizer is None else complete(tokenizer)
    tokens = None if known is None else known.list_tokens()
    if known is None or tokens is None:
        return None
    meta = {
        "vocab_size": len(tokens),
        "itos": dict(enumerate(tokens)),
        "stoi": {token: id_ for id_, token in enumerate(tokens)},
        # nanoGPT ignores this key.
        "tokenizer": known.describe(),
    }
    return pickle.dumps(meta, protocol=4)


def _check_meta_beside(target: Path, meta: bytes | None) -> None:
    """Refuse to let one meta.pkl describe files of two tokenizers."""
    beside = target.with_name(_META)
    if not os.path.lexists(beside):
        return
    others = sorted(path.name for path in target.parent.glob("*.bin") if path.name != target.name)
    if meta is None or (others and read_bounded(beside, max_bytes=_MAX_META_BYTES) != meta):
        who = f"of {', '.join(others[:3])}" if others else "of another corpus"
        msg = (
            f"{beside} must say what {target.name} holds, but it is the vocabulary {who}: "
            "write to another folder, or remove it"
        )
        raise ArgumentError(msg)


def write_megatron(corpus: Corpus, path: str | os.PathLike[str]) -> Path:
    """Write ``.bin`` and ``.idx`` for Megatron, one sequence per document.

    A corpus without documents is one document. Tokens are uint16, or int32
    where an id needs it.

    Parameters
    ----------
    corpus : Corpus
    path : str or path
        The path of both files without their suffixes.

    Returns
    -------
    Path of the ``.idx`` file

    Raises
    ------
    ArgumentError
        An id, or the length of a document, does not fit into an int32, or no file
        can have that path.
    CorpusError
        The corpus has a loss mask, for which Megatron has no place.
    OSError
        A file cannot be written.
    """
    require_type("corpus", corpus, Corpus, "a Corpus")
    base = as_stem(path)
    _refuse_mask(corpus, "Megatron")
    offsets = np.array([0, len(corpus)], np.int64) if corpus.documents is None else corpus.documents
    lengths = np.diff(offsets)
    if int(lengths.max()) >= 1 << 31:
        msg = f"documents must be shorter than 2**31 tokens, got {int(lengths.max()):,}"
        raise ArgumentError(msg)
    largest = max(check_range(piece, None) for piece in cut(corpus.tokens))
    code = 8 if largest < 1 << 16 else 4
    dtype = np.dtype(_MEGATRON_DTYPES[code])
    _write_tokens(corpus, base.with_name(base.name + ".bin"), dtype)
    index = base.with_name(base.name + ".idx")
    header = _MEGATRON_HEADER.pack(_MEGATRON_MAGIC, 1, code, len(lengths), len(offsets))
    with replacing(index) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.write(lengths.astype("<i4").tobytes())
        file.write((offsets[:-1] * dtype.itemsize).astype("<i8").tobytes())
        file.write(np.arange(len(offsets), dtype="<i8").tobytes())
    return index


def _refuse_mask(corpus: Corpus, whose: str) -> None:
    """Refuse to write what another project would then learn."""
    if corpus.loss_mask is not None:
        msg = (
            f"{corpus.name} must have no loss mask, for which the files of {whose} have no place: "
            "keep it with Corpus.save, or write Corpus.from_tokens(corpus.tokens, ...) without it"
        )
        raise CorpusError(msg)


def _write_tokens(corpus: Corpus, path: Path, dtype: np.dtype[Any]) -> None:
    limit = int(np.iinfo(dtype).max) + 1
    with replacing(path) as temporary, temporary.open("wb") as file:
        for piece in cut(corpus.tokens):
            try:
                check_range(piece, limit)
            except CorpusError as error:
                msg = f"{path.name} holds {dtype.name}: {error}"
                raise ArgumentError(msg) from error
            file.write(np.ascontiguousarray(piece, dtype).data)


def _open(path: Path, dtype: str | None, vocab_size: int | None) -> _Opened:
    index = _find_index(path)
    if index is not None:
        return _Opened(_open_megatron(index, dtype, vocab_size), "Megatron")
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES)
        num_bytes = os.fstat(file.fileno()).st_size
    found = _TokenFile(path, head, num_bytes)
    if _begins_like(head, NPY_MAGIC) or b"'descr'" in head[:32]:
        return _Opened(_open_npy(found, dtype, vocab_size), "NumPy")
    if _is_llmc(found):
        return _Opened(_open_llmc(found, dtype, vocab_size), "llm.c")
    _refuse_others(found, dtype)
    return _Opened(_open_bare(found, dtype, vocab_size), "bare tokens")


class _TokenFile(NamedTuple):
    path: Path
    head: bytes
    num_bytes: int


def _begins_like(head: bytes, magic: bytes) -> bool:
    """Return whether a file begins with a magic of which one byte may be damaged."""
    same = sum(got == expected for got, expected in zip(head, magic, strict=False))
    return same >= len(magic) - 1


def _refuse_others(found: _TokenFile, dtype: str | None) -> None:
    """Refuse what is no token file: any bytes at all could be taken as bare tokens."""
    path, head = found.path, found.head
    if _begins_like(head, _MEGATRON_MAGIC):
        _refuse(path, "the tokens", "an index of Megatron: name it .idx, beside its .bin")
    if kind := recognise_container(head):
        _refuse(path, "tokens of another project", f"{kind.name}: {kind.cure}")
    printable = bytes(range(32, 127)) + b"\t\n\f\r"
    if dtype is None and len(head) >= 64 and not head.translate(None, printable):
        cure = "'tokenloom prepare' and tokenloom.load read text; bytes as ids: dtype=\"uint8\""
        _refuse(path, "tokens of another project", f"a text: {cure}")


def _is_llmc(found: _TokenFile) -> bool:
    """Return whether a file begins as llm.c writes it, also where its magic is damaged."""
    magic = int.from_bytes(found.head[:4], "little")
    if magic in _LLMC or magic in _LLMC_OTHERS:
        return True
    if len(found.head) < _LLMC_HEADER_BYTES or any(found.head[12:_LLMC_HEADER_BYTES]):
        return False
    _, version, num_tokens = _LLMC_FIELDS.unpack_from(found.head)
    rest = found.num_bytes - _LLMC_HEADER_BYTES
    return version in (1, 7) and num_tokens > 0 and rest in (2 * num_tokens, 4 * num_tokens)


def _open_llmc(found: _TokenFile, dtype: str | None, vocab_size: int | None) -> Corpus:
    path, num_bytes = found.path, found.num_bytes
    if num_bytes < _LLMC_HEADER_BYTES:
        _refuse(path, f"llm.c's header of {_LLMC_HEADER_BYTES:,} bytes", count(num_bytes, "byte"))
    magic, version, num_tokens = _LLMC_FIELDS.unpack_from(found.head)
    expected_version, item = _LLMC.get(magic, (None, ""))
    if version != expected_version:
        known = " or ".join(f"{known} in version {of}" for known, (of, _) in _LLMC.items())
        _refuse(path, f"llm.c's {known}", f"{magic} in version {version}")
    item_bytes = np.dtype(item).itemsize
    if num_bytes != _LLMC_HEADER_BYTES + num_tokens * item_bytes:
        rest = (num_bytes - _LLMC_HEADER_BYTES) / item_bytes
        _refuse(path, f"{count(num_tokens, 'token')}, as llm.c's header says", f"{rest:,.10g}")
    _check_dtype(path, dtype, item)
    return _make(FileRange(str(path), item, _LLMC_HEADER_BYTES, num_tokens, vocab_size))


def _open_bare(found: _TokenFile, dtype: str | None, vocab_size: int | None) -> Corpus:
    path, num_bytes = found.path, found.num_bytes
    tokenizer = _read_meta(path.with_name(_META))
    if tokenizer is not None:
        if vocab_size not in (None, tokenizer.vocab_size):
            msg = (
                f"vocab_size must be {tokenizer.vocab_size}, as in {path.with_name(_META)}, "
                f"got {vocab_size}"
            )
            raise ArgumentError(msg)
        vocab_size = tokenizer.vocab_size
    guess = "uint16" if vocab_size is None or vocab_size <= 1 << 16 else "uint32"
    item = np.dtype(dtype or guess).newbyteorder("<")
    num_tokens, rest = divmod(num_bytes, item.itemsize)
    if rest:
        expected = f"whole tokens of {item.name}, or another dtype must be named"
        _refuse(path, expected, count(num_bytes, "byte"))
    part = FileRange(str(path), item.str, 0, num_tokens, vocab_size)
    if dtype is None and num_tokens:
        _check_guess(part)
    offsets = _read_sidecar(path, num_tokens)
    return _make(part, tokenizer=tokenizer, offsets=offsets)


def _read_sample(part: FileRange) -> npt.NDArray[Any]:
    """Return some tokens of a file that has any."""
    ids = open_range(part._replace(num_ids=None))
    last = max(part.length - _PROBE_IDS, 0)
    # Multiples of four, so that the parts of wider ids stay where they are.
    starts = np.unique(np.linspace(0, last, _PROBE_BLOCKS).astype(np.int64) // 4 * 4)
    return np.concatenate([np.asarray(ids[start : start + _PROBE_IDS]) for start in starts])


def _check_ids(part: FileRange) -> None:
    """Refuse a number of ids that a sample of the tokens does not fit."""
    if part.num_ids is None or limit_ids(np.dtype(part.dtype), part.num_ids) is None:
        return
    probe = _read_sample(part)
    wrong = probe[(probe < 0) | (probe >= part.num_ids)]
    if len(wrong):
        expected = f"ids in [0, vocab_size={part.num_ids:,}), or its dtype is another"
        got = f"{int(wrong[0]):,} as {np.dtype(part.dtype).name} in a sample"
        _refuse(Path(part.filename), expected, got)


def _check_guess(part: FileRange) -> None:
    """Refuse a type that was guessed, and that a sample of the tokens does not fit."""
    probe = _read_sample(part)
    if probe.itemsize == 4:
        if len(probe) > 1 and not probe[1::2].any() and probe.any():
            expected = "tokens of uint32, or its dtype must be named"
            got = 'every second one 0, as in wider ids: dtype="int64"? Else dtype="uint32"'
            _refuse(Path(part.filename), expected, got)
        return
    low, high = probe[0::2], probe[1::2]
    # If the file really holds 4-byte ids below 2**20, their upper halves are below 16.
    if len(high) >= _PROBE_BLOCKS // 2 and int(high.max()) < 16 <= int(low.max()):
        got = 'every second one below 16, as in wider ids: dtype="uint32" or "int32"?'
        if part.length % 4 == 0 and not low[1::2].any() and not high[1::2].any():
            got = 'three of four of them 0 or small, as in ids of 8 bytes: dtype="int64"?'
        expected = "tokens of uint16, or its dtype must be named"
        _refuse(Path(part.filename), expected, f'{got} Else dtype="uint16"')


def _make(
    part: FileRange,
    *,
    tokenizer: Tokenizer | None = None,
    offsets: npt.NDArray[np.int64] | None = None,
) -> Corpus:
    if not part.length:
        _refuse(Path(part.filename), "at least one token", "none")
    _check_ids(part)
    dtype, vocab_size = np.dtype(part.dtype), part.num_ids
    part = part._replace(num_ids=limit_ids(dtype, vocab_size))
    return Corpus(
        open_range(part),
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        name=part.filename,
        documents=None if offsets is None else DocumentOffsets(offsets),
    )


def _open_npy(found: _TokenFile, dtype: str | None, vocab_size: int | None) -> Corpus:
    path = found.path
    with open_regular(path) as file:
        try:
            header = read_npy_header(file)
        except ValueError as error:
            _refuse(path, "an array that NumPy can map", error)
    kind, item_bytes = header.dtype[1:2], header.dtype[2:]
    if header.dtype[:1] == ">":
        cure = "Corpus.from_tokens(numpy.load(...)) converts them"
        _refuse(path, "little-endian integers", f"{header.dtype}: {cure}")
    is_known = header.dtype[:1] == ("|" if item_bytes == "1" else "<")
    if (
        not is_known
        or kind not in "iu"
        or item_bytes not in tuple("1248")
        or len(header.shape) != 1
    ):
        _refuse(path, "one-dimensional integers", f"{header.dtype} of shape {header.shape}")
    (length,) = header.shape
    if found.num_bytes != header.offset + length * int(item_bytes):
        rest = (found.num_bytes - header.offset) / int(item_bytes)
        _refuse(path, f"{count(length, 'value')}, as its header says", f"{rest:,.10g}")
    _check_dtype(path, dtype, header.dtype)
    part = FileRange(str(path), header.dtype, header.offset, length, vocab_size)
    return _make(part, offsets=_read_sidecar(path, length))


def _find_index(path: Path) -> Path | None:
    """Return Megatron's index of a path, where there is one, whatever it is."""
    if not path.name:
        return None
    base = path.name.removesuffix(".bin").removesuffix(".idx")
    index = path.with_name(base + ".idx")
    is_named = path.name in (base, base + ".bin", base + ".idx")
    return index if is_named and os.path.lexists(index) else None


def _open_megatron(index: Path, dtype: str | None, vocab_size: int | None) -> Corpus:
    with open_regular(index) as file:
        head = file.read(_MEGATRON_HEADER.size)
        index_bytes = os.fstat(file.fileno()).st_size
    if len(head) < _MEGATRON_HEADER.size or not head.startswith(_MEGATRON_MAGIC):
        _refuse(index, f"Megatron's header, which begins with {_MEGATRON_MAGIC!r}", head[:9])
    _, version, code, num_sequences, num_boundaries = _MEGATRON_HEADER.unpack(head)
    if version != 1 or code not in _MEGATRON_DTYPES:
        expected = f"version 1 and a type of {sorted(_MEGATRON_DTYPES)}"
        _refuse(index, expected, f"version {version} and type {code}")
    num_bytes = _MEGATRON_HEADER.size + 12 * num_sequences + 8 * num_boundaries
    # Files with images have one more byte per sequence, its mode.
    if index_bytes not in (num_bytes, num_bytes + num_sequences):
        _refuse(index, count(num_bytes, "byte"), count(index_bytes, "byte"))
    at, content = _MEGATRON_HEADER.size, read_bounded(index, max_bytes=index_bytes)
    if len(content) != index_bytes:
        _refuse(index, count(index_bytes, "byte"), count(len(content), "byte"))
    lengths = np.frombuffer(content, "<i4", num_sequences, at)
    pointers = np.frombuffer(content, "<i8", num_sequences, at + 4 * num_sequences)
    boundaries = np.frombuffer(content, "<i8", num_boundaries, at + 12 * num_sequences)
    stops = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    item = np.dtype(_MEGATRON_DTYPES[code])
    if (lengths < 0).any() or not np.array_equal(pointers, stops[:-1] * item.itemsize):
        _refuse(index, "sequences that lie one after the other", "others")
    try:
        as_offsets(boundaries, num_tokens=num_sequences)
    except CorpusError as error:
        _refuse(index, "document_indices from 0 to the number of sequences", error)
    data = index.with_suffix(".bin")
    with open_regular(data) as file:
        num_tokens, size = int(stops[-1]), os.fstat(file.fileno()).st_size
    if size != num_tokens * item.itemsize:
        _refuse(
            data,
            f"{count(num_tokens, 'token')} of {item.name}, as its .idx says",
            count(size, "byte"),
        )
    _check_dtype(data, dtype, item.str)
    part = FileRange(str(data), item.str, 0, num_tokens, vocab_size)
    return _make(part, offsets=stops[boundaries])


def _read_sidecar(path: Path, num_tokens: int) -> npt.NDArray[np.int64] | None:
    """Return the offsets of OLMo's documents, where they follow each other without gaps."""
    sidecar = path.with_suffix(".csv.gz")
    if path.suffix != ".npy" or not os.path.lexists(sidecar):
        return None
    stops, has_gaps = array("q", [0]), False
    # A genuine file has no longer lines, and no more documents than tokens.
    left = _MAX_BYTES_PER_TOKEN * num_tokens + _MAX_LINE_BYTES
    try:
        with open_regular(sidecar) as raw, gzip.GzipFile(fileobj=raw, mode="rb") as file:
            while line := file.readline(min(left, _MAX_LINE_BYTES) + 1):
                left -= len(line)
                match = _BOUNDS.fullmatch(line)
                if match is None or left < 0 or len(stops) > num_tokens:
                    _refuse(sidecar, _expected_bounds(num_tokens), f"{line[:80]!r}")
                start, stop = int(match[1]), int(match[2])
                has_gaps |= start != stops[-1]
                stops.append(stop)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        _refuse(sidecar, _expected_bounds(num_tokens), f"damaged bytes: {error}")
    if has_gaps or len(stops) == 1:
        return None
    return _as_offsets(np.frombuffer(stops, np.int64), num_tokens, sidecar)


def _expected_bounds(num_tokens: int) -> str:
    most = count(num_tokens, "document")
    return f"start and end of at most {most}, two numbers of tokens in each line"


def _as_offsets(
    offsets: npt.NDArray[np.int64], num_tokens: int, path: Path
) -> npt.NDArray[np.int64]:
    try:
        return as_offsets(offsets, num_tokens=num_tokens)
    except CorpusError as error:
        msg = f"{path}: {error}"
        raise CorpusError(msg) from error


def _read_meta(path: Path) -> Tokenizer | None:
    """Return the tokenizer of nanoGPT's file, where there is one."""
    if not os.path.lexists(path):
        return None
    content = read_bounded(path, max_bytes=_MAX_META_BYTES)
    try:
        return _parse_meta(read_plain(content))
    except ValueError as error:
        _refuse(path, _META_CONTENT, error)


def _parse_meta(meta: object) -> Tokenizer:
    """Return the tokenizer that a meta.pkl describes.

    Raises
    ------
    ValueError
        A value is missing, of another type, or contradicts another one.
    """
    if not isinstance(meta, dict):
        msg = f"it must be a dict, got {type(meta).__name__}"
        raise ValueError(msg)  # noqa: TRY004  as any other value
    size, itos, stoi = (meta.get(name) for name in ("vocab_size", "itos", "stoi"))
    if type(size) is not int or size < 1:
        msg = f"vocab_size must be an integer of at least 1, got {size!r:.100}"
        raise ValueError(msg)
    if (
        not isinstance(itos, dict)
        or len(itos) != size
        or not all(isinstance(itos.get(id_), str) for id_ in range(size))
    ):
        msg = f"itos must have a str for each id in [0, {size})"
        raise ValueError(msg)
    tokens = [itos[id_] for id_ in range(size)]
    if len(set(tokens)) < size or (stoi or None) not in (
        None,
        {token: i for i, token in enumerate(tokens)},
    ):
        msg = "stoi must have the tokens of itos with their ids, each token once"
        raise ValueError(msg)
    return _make_tokenizer(tokens, meta.get("tokenizer"))


def _make_tokenizer(tokens: list[str], description: object) -> Tokenizer:
    # Each id keeps its token, whatever id 0 stands for; special tokens, such as <pad> among
    # characters, come first.
    num_special = 1
    while num_special < len(tokens) and _SPECIAL.fullmatch(tokens[num_special]):
        num_special += 1
    vocab = Vocab(
        dict.fromkeys(tokens[num_special:], 0),
        unknown_token=tokens[0],
        reserved_tokens=tokens[1:num_special],
    )
    is_word = any(len(token) > 1 and not _SPECIAL.fullmatch(token) for token in tokens)
    if description is None:
        return (WordTokenizer if is_word else CharTokenizer)(vocab, normalize=False)
    tokenizer = restore_tokenizer(description, load_vocab=lambda: vocab)
    if tokenizer is None or tokenizer.list_tokens() != tuple(tokens):
        msg = f"its tokenizer must be one of tokenloom's, got {description!r:.100}"
        raise ValueError(msg)
    return tokenizer


def _check_dtype(path: Path, given: str | None, actual: str) -> None:
    name = np.dtype(actual).name
    if given not in (None, name):
        msg = f"dtype must be {name}, which {path} says itself, or be left out, got {show(given)}"
        raise ArgumentError(msg)


def _refuse(path: Path, expected: str, got: object) -> NoReturn:
    msg = f"{path} must have {expected}, got {got}"
    raise CorpusError(msg)
