"""Token files of other projects: read where they lie, and written for them.

Sources: nanoGPT ``train.py`` and ``data/*/prepare.py``; llm.c
``dev/data/data_common.py``; Megatron-LM ``megatron/core/datasets/indexed_dataset.py``;
OLMo-core ``data/numpy_dataset.py``.
"""

import csv
import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from tokenloom.arrays import check_range
from tokenloom.corpus import Corpus
from tokenloom.documents import Documents, as_offsets
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.files import as_path, replacing
from tokenloom.maps import FileRange, open_range
from tokenloom.saving import cut
from tokenloom.tokenizers import tokenizer_for
from tokenloom.vocab import Vocab

_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_NPY_MAGIC = b"\x93NUMPY"
# Magic and version -> type of the tokens, which follow a header of 256 int32.
_LLMC = {(20240520, 1): "<u2", (20240801, 7): "<u4"}
_LLMC_HEADER_BYTES = 1024
_MEGATRON_MAGIC = b"MMIDIDX\0\0"
_MEGATRON_HEADER = struct.Struct("<9sQBQQ")
# Of floats, 6 and 7, no ids can be made.
_MEGATRON_DTYPES = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_META = "meta.pkl"
_META_CONTENT = "nanoGPT's vocab_size and itos"


def open_foreign(
    path: str | os.PathLike[str], *, dtype: str | None = None, vocab_size: int | None = None
) -> Corpus:
    """Open a token file of another project as a corpus, without copying it.

    What it is, its content says: Megatron's ``.idx`` beside a ``.bin``, the
    header of llm.c, that of NumPy; anything else is taken as bare tokens, as
    nanoGPT (``.bin``) and OLMo (``.npy``) write them.

    Parameters
    ----------
    path : str or path
        Of Megatron's two files, either one, or what their names share.
    dtype : str, optional
        Type of bare tokens, little-endian; "uint16" by default.
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
        The dtype is no type of integers, or not that of the file's header, or no
        file can have that path.
    CorpusError
        The file cannot be read, or is not what it says.
    """
    if dtype is not None and dtype not in _DTYPES:
        msg = f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}"
        raise ArgumentError(msg)
    try:
        return _open(as_path(path).absolute(), dtype, vocab_size)
    except (OSError, EOFError) as error:
        msg = f"cannot read {os.fspath(path)!r}: {getattr(error, 'strerror', None) or error}"
        raise CorpusError(msg) from error


def write_nanogpt(corpus: Corpus, path: str | os.PathLike[str]) -> Path:
    """Write the tokens for nanoGPT: bare uint16, and its ``meta.pkl`` beside them.

    Where documents end is not kept, since nanoGPT has no place for it.
    ``meta.pkl`` is written where the corpus has a vocabulary.

    Raises
    ------
    ArgumentError
        There are ids above 65,535, which nanoGPT cannot read, or no file can have
        that path.
    OSError
        A file cannot be written.
    """
    target = Path(path)
    _write_tokens(corpus, target, np.dtype("<u2"))
    if corpus.vocab is not None:
        tokens = corpus.vocab.tokens
        meta = {
            "vocab_size": len(tokens),
            "itos": dict(enumerate(tokens)),
            "stoi": {token: id_ for id_, token in enumerate(tokens)},
        }
        with replacing(target.with_name(_META)) as temporary:
            temporary.write_bytes(pickle.dumps(meta, protocol=4))
    return target


def write_megatron(corpus: Corpus, path: str | os.PathLike[str]) -> Path:
    """Write ``.bin`` and ``.idx`` for Megatron, one sequence per document.

    A corpus without documents is one document. Tokens are uint16, or int32
    where an id needs it.

    Parameters
    ----------
    corpus : Corpus
    path : str or path
        What the names of both files share.

    Returns
    -------
    Path of the ``.idx`` file

    Raises
    ------
    ArgumentError
        An id, or the length of a document, does not fit into an int32, or no file
        can have that path.
    OSError
        A file cannot be written.
    """
    base = Path(path)
    offsets = np.array([0, len(corpus)]) if corpus.documents is None else corpus.documents
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


def _open(path: Path, dtype: str | None, vocab_size: int | None) -> Corpus:
    index = _find_index(path)
    if index is not None:
        return _open_megatron(index, dtype, vocab_size)
    with path.open("rb") as file:
        head = file.read(_LLMC_HEADER_BYTES)
    num_bytes = path.stat().st_size
    if head.startswith(_NPY_MAGIC):
        return _open_npy(path, dtype, vocab_size)
    magic, version, num_tokens = struct.unpack_from("<3i", head) if len(head) >= 12 else (0, 0, 0)
    header_dtype = _LLMC.get((magic, version))
    if header_dtype is not None:
        item_bytes = np.dtype(header_dtype).itemsize
        if num_bytes == _LLMC_HEADER_BYTES + num_tokens * item_bytes:
            _check_dtype(path, dtype, header_dtype)
            part = FileRange(str(path), header_dtype, _LLMC_HEADER_BYTES, num_tokens, vocab_size)
            return _make(part)
    item_dtype = np.dtype(dtype or "uint16").newbyteorder("<")
    num_tokens, rest = divmod(num_bytes, item_dtype.itemsize)
    if rest:
        expected = f"whole tokens of {item_dtype.name}, or another dtype must be named"
        _refuse(path, expected, f"{num_bytes} bytes")
    vocab = _read_meta(path.with_name(_META))
    if vocab is not None and vocab_size not in (None, len(vocab)):
        msg = f"vocab_size must be {len(vocab)}, as in {path.with_name(_META)}, got {vocab_size}"
        raise ArgumentError(msg)
    num_ids = vocab_size if vocab is None else len(vocab)
    part = FileRange(str(path), item_dtype.str, 0, num_tokens, num_ids)
    return _make(part, vocab=vocab, offsets=_read_sidecar(path, num_tokens))


def _make(
    part: FileRange,
    *,
    vocab: Vocab | None = None,
    offsets: npt.NDArray[np.int64] | None = None,
) -> Corpus:
    if not part.length:
        _refuse(Path(part.filename), "at least one token", "none")
    dtype, vocab_size = np.dtype(part.dtype), part.num_ids
    if dtype.kind == "i" and vocab_size is None:
        # So negative ids are found where they are read.
        part = part._replace(num_ids=1 << 8 * dtype.itemsize - 1)
    return Corpus(
        open_range(part),
        tokenizer=None if vocab is None else tokenizer_for(vocab),
        vocab_size=vocab_size,
        name=part.filename,
        documents=None if offsets is None else Documents(offsets),
    )


def _open_npy(path: Path, dtype: str | None, vocab_size: int | None) -> Corpus:
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        _refuse(path, "an array that NumPy can map", error)
    if not isinstance(array, np.memmap) or array.ndim != 1 or array.dtype.kind not in "iu":
        _refuse(path, "one-dimensional integers", f"{array.dtype} of shape {array.shape}")
    _check_dtype(path, dtype, array.dtype.str)
    return _make(FileRange(str(path), array.dtype.str, array.offset, len(array), vocab_size))


def _find_index(path: Path) -> Path | None:
    """Return Megatron's index of a path, where there is one."""
    base = path.name.removesuffix(".bin").removesuffix(".idx")
    index = path.with_name(base + ".idx")
    if path.name in (base, base + ".bin", base + ".idx") and index.is_file():
        return index
    return None


def _open_megatron(index: Path, dtype: str | None, vocab_size: int | None) -> Corpus:
    with index.open("rb") as file:
        head = file.read(_MEGATRON_HEADER.size)
    if len(head) < _MEGATRON_HEADER.size or not head.startswith(_MEGATRON_MAGIC):
        _refuse(index, f"Megatron's header, which begins with {_MEGATRON_MAGIC!r}", head[:9])
    _, version, code, num_sequences, num_boundaries = _MEGATRON_HEADER.unpack(head)
    if version != 1 or code not in _MEGATRON_DTYPES:
        expected = f"version 1 and a type of {sorted(_MEGATRON_DTYPES)}"
        _refuse(index, expected, f"version {version} and type {code}")
    num_bytes = _MEGATRON_HEADER.size + 12 * num_sequences + 8 * num_boundaries
    # One more byte per sequence, its mode, where there are images too.
    if (size := index.stat().st_size) not in (num_bytes, num_bytes + num_sequences):
        _refuse(index, f"{num_bytes} bytes", f"{size} bytes")
    at, content = _MEGATRON_HEADER.size, index.read_bytes()
    lengths = np.frombuffer(content, "<i4", num_sequences, at)
    pointers = np.frombuffer(content, "<i8", num_sequences, at + 4 * num_sequences)
    boundaries = np.frombuffer(content, "<i8", num_boundaries, at + 12 * num_sequences)
    stops = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    item = np.dtype(_MEGATRON_DTYPES[code])
    if (lengths < 0).any() or not np.array_equal(pointers, stops[:-1] * item.itemsize):
        _refuse(index, "sequences that lie one behind the other", "others")
    try:
        as_offsets(boundaries, num_tokens=num_sequences)
    except CorpusError as error:
        _refuse(index, "document_indices from 0 to the number of sequences", error)
    data = index.with_suffix(".bin")
    num_tokens, size = int(stops[-1]), data.stat().st_size
    if size != num_tokens * item.itemsize:
        _refuse(data, f"{num_tokens} tokens of {item.name}, as its .idx says", f"{size} bytes")
    _check_dtype(data, dtype, item.str)
    part = FileRange(str(data), item.str, 0, num_tokens, vocab_size)
    return _make(part, offsets=stops[boundaries])


def _read_sidecar(path: Path, num_tokens: int) -> npt.NDArray[np.int64] | None:
    """Return the offsets of OLMo's documents, where they follow each other without gaps."""
    sidecar = path.with_suffix(".csv.gz")
    if path.suffix != ".npy" or not sidecar.is_file():
        return None
    try:
        with gzip.open(sidecar, "rt", encoding="utf-8", newline="") as file:
            bounds = [(int(row[0]), int(row[1])) for row in csv.reader(file) if row]
        offsets = np.array([0, *(stop for _, stop in bounds)], np.int64)
    except (csv.Error, IndexError, OverflowError, ValueError) as error:
        _refuse(sidecar, "two numbers of tokens, start and end, in each line", error)
    has_gaps = [start for start, _ in bounds] != offsets[:-1].tolist()
    return None if has_gaps or not bounds else as_offsets(offsets, num_tokens=num_tokens)


class _DataOnly(pickle.Unpickler):
    """Reads dicts, strings and numbers; whatever would run code is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        msg = f"it names {module}.{name}, and may hold dicts, strings and integers only"
        raise pickle.UnpicklingError(msg)


def _read_meta(path: Path) -> Vocab | None:
    """Return the characters that nanoGPT's file lists, where there is one."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            meta = _DataOnly(file).load()
        characters = [meta["itos"][id_] for id_ in range(meta["vocab_size"])]
        # So each id keeps its character, whatever id 0 stands for.
        return Vocab(unknown_token=characters[0], reserved_tokens=characters[1:])
    except (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError) as error:
        _refuse(path, _META_CONTENT, f"{type(error).__name__}: {error}")
    except (pickle.UnpicklingError, RecursionError, TypeError, ValueError) as error:
        _refuse(path, _META_CONTENT, f"{type(error).__name__}: {error}")


def _check_dtype(path: Path, given: str | None, actual: str) -> None:
    name = np.dtype(actual).name
    if given not in (None, name):
        msg = f"dtype must be {name}, which {path} says itself, or be left out, got {given!r}"
        raise ArgumentError(msg)


def _refuse(path: Path, expected: str, got: object) -> NoReturn:
    msg = f"{path} must have {expected}, got {got}"
    raise CorpusError(msg)
