"""What a file is, as its first bytes show."""

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from tokenloom.errors import ArgumentError

# This number of bytes is enough to recognise a file.
HEAD_BYTES = 1 << 12

_DECOMPRESS = (
    "decompress it first, or give its name the end {} and it is decompressed as it is read"
)
_UNPACK = "unpack it, and name the folder or the files in it"
_EXPORT = "write the texts in it as JSON Lines (.jsonl), one object per line, and name that file"
_COLUMN_OF = (
    "prepare reads a column of it, which field= or --field names, if the file's name ends with {} "
    "(python -m pip install 'tokenloom[parquet]')"
)
_TEXT_OF = "save its text as a text file, and name that"
_TOKENS = (
    "it holds numbers: tokenloom.open_foreign and the commands that take a corpus open token files "
    "of other projects"
)
_FEATHER = "write its table in version 2, with pyarrow.feather.write_feather or as Parquet"
_NO_TEXT = "name a text file"
_ENCODING = "name it: encoding={!r}"


# The beginning of an object, on a line that is longer than what was read.
_OBJECT = re.compile(r"""\{\s*"(?:[^"\\\n]|\\.)*"\s*:\s*["\d\[{tfn-]""")
_COLUMN_OF_TABLE = (
    "prepare makes a store of a column of it, which field= or --field names; rename it to end in "
    ".txt to read it as it is"
)
_TABLE = (
    "write the texts in it as JSON Lines (.jsonl), or rename it to end in .txt to read it as it is"
)
_RECORDS = "choose documents='jsonl' to read each as a document"
# The beginning of a JSON document of several lines, or of a list.
_DOCUMENT = re.compile(
    r"""\s*(?:\[\s*)?\{\s*"(?:[^"\\\n]|\\.)*"\s*:|\s*\[\s*"(?:[^"\\\n]|\\.)*"\s*,\s*["\d\[{]"""
)
# What heads a column; a part of a sentence rarely looks like that.
_COLUMN = re.compile(r"\w[\w ./%#()-]{0,39}")
_PIPED_COLUMNS = (
    "name a file that ends in .csv or .tsv, and its column with field= or --field; to read it as "
    "it is, name a file that ends in .txt"
)
_PIPED_TABLE = (
    "write the texts in it as JSON Lines, and choose documents='jsonl'; to read it as it is, name "
    "a file that ends in .txt"
)


# The ends of the names of compressed files.
COMPRESSED = GZIP, BZIP2, XZ, ZSTD = ".gz", ".bz2", ".xz", ".zst"


class Kind(NamedTuple):
    """The kind of a file that is not text in UTF-8.

    Attributes
    ----------
    name : str
        With its article, such as "a Parquet file".
    cure : str
        What to do instead of reading it as text.
    encoding : str or None
        Encoding of a text whose first bytes show it.
    """

    name: str
    cure: str
    encoding: str | None = None


# What Spark, Dask and Databricks put beside tables, the last two with a number of the job.
_MARKERS = re.compile(r"_SUCCESS|_metadata|_common_metadata|_started_\d+|_committed_\d+")
_HEADS_OF_MARKERS = (b"", b"PAR1", b'{"ad')
# Folders beside tables by which one knows that not each file there holds rows of the table.
_UNFIT = {
    "_temporary": (
        "Spark or Hadoop has left rows in '_temporary' that its job has not committed: let the job "
        "end, or run it again, and remove that folder"
    ),
    "_delta_log": (
        "a Delta table also keeps files with rows that it no longer has: name those of its present "
        "version, which DeltaTable(...).file_uris() of the package deltalake lists"
    ),
}
# At which offset there are which bytes.
_SIGNS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (0, b"version https://git-lfs.github.com/", "a pointer of Git LFS", "run 'git lfs pull' first"),
    (0, b"MMIDIDX\0\0", "an index of Megatron", _TOKENS),
    (0, b"TNTIDX\0\0", "an index of fairseq", _TOKENS),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of an older Microsoft Office", _TEXT_OF),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", _NO_TEXT),
    (0, b"FEA1\0\0\0\0", "a Feather file of version 1", _FEATHER),
    (0, b"ARROW1\0\0", "an Arrow file", _COLUMN_OF.format(".arrow")),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"!<arch>\n", "an ar archive", _UNPACK),
    (0, b"\x93NUMPY", "an array of NumPy", _TOKENS),
    (0, b"\xfd7zXZ\0", "compressed by xz", _DECOMPRESS.format(".xz")),
    (0, b"Obj\x01", "an Avro file", _EXPORT),
    (0, b"PK\x03\x04", "a zip archive, as office documents and e-books are too", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", _NO_TEXT),
    (0, b"PK\x07\x08", "a zip archive in several parts", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", _DECOMPRESS.format(".zst")),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", "decompress it first"),
    (0, b"%PDF-", "a PDF file", _TEXT_OF),
    (0, b"{\\rtf", "a document in RTF", _TEXT_OF),
    (0, b"\x7fELF", "a program for Linux (ELF)", _NO_TEXT),
    (0, b"\xfe\xed\xfa\xce", "a program for macOS", _NO_TEXT),
    (0, b"\xfe\xed\xfa\xcf", "a program for macOS", _NO_TEXT),
    (0, b"\xcf\xfa\xed\xfe", "a program for macOS", _NO_TEXT),
    (0, b"\xca\xfe\xba\xbe", "a program for Java or macOS", _NO_TEXT),
    (0, b"\0asm", "a WebAssembly program", _NO_TEXT),
    (0, b"GIF87a", "a GIF picture", _NO_TEXT),
    (0, b"GIF89a", "a GIF picture", _NO_TEXT),
    (0, b"\xff\xd8\xff", "a JPEG picture", _NO_TEXT),
    (0, b"OggS\0", "an Ogg recording", _NO_TEXT),
    (0, b"fLaC\0", "a FLAC recording", _NO_TEXT),
    (257, b"ustar", "a tar archive", _UNPACK),
)
# Kinds that a fixed prefix cannot show.
_PATTERNS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    # A text may begin with the letters of either mark.
    (re.compile(rb"PAR[1E](?![ -~]{3}|\s)"), "a Parquet file", _COLUMN_OF.format(".parquet")),
    (re.compile(rb"ORC[\0-\xff]{0,12}?[\0-\x08\x0e-\x1a]"), "an ORC file", _EXPORT),
    (re.compile(rb"GGUF[\1-\x1f]\0\0\0"), "a model in GGUF", _NO_TEXT),
    (re.compile(rb"\x1f\x8b\x08[\0-\x1f]"), "compressed by gzip", _DECOMPRESS.format(".gz")),
    (
        re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
        "compressed by bzip2",
        _DECOMPRESS.format(".bz2"),
    ),
    (re.compile(rb"\x1f\x9d[\x09-\x10\x89-\x90]"), "compressed by compress", "decompress it first"),
    # What lzma alone writes: properties, a size of the dictionary, a size or none.
    (
        re.compile(rb"\x5d\0\0[\0-\xff]{2}(?:\xff{8}|[\0-\xff]{5}\0{3})"),
        "compressed by lzma",
        "decompress it first",
    ),
    (re.compile(rb"[\x50-\x5f]\x2a\x4d\x18"), "compressed by zstd", _DECOMPRESS.format(".zst")),
    (re.compile(rb"\x80[\2-\5](?:\x95|[\]}(cX])"), "a pickle of Python", _EXPORT),
    (re.compile(rb"RIFF[\0-\xff]{4}(?:WAVE|AVI |WEBP)"), "a recording or a picture", _NO_TEXT),
    (re.compile(rb"[\0-\xff]{4}ftyp[ -~]{4}"), "a video", _NO_TEXT),
    (re.compile(rb"ID3[\2-\4]\0"), "an MP3 recording", _NO_TEXT),
    (re.compile(rb"MZ[\0-\xff]{58}[\0-\xff]{2}\0\0"), "a program for Windows", _NO_TEXT),
    (
        re.compile(rb"[\0-\xff]{3}[\0-\xff][\0-\xff]\0{3}\{\""),
        "a model in safetensors",
        _NO_TEXT,
    ),
)
# UTF-32 first: it begins with the mark of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def recognise(head: bytes, *, name: str = "") -> Kind | None:
    r"""Return the kind of a file whose first bytes show that it is not text in UTF-8.

    Parameters
    ----------
    head : bytes
        First bytes of the file, after decompression if its name asks for that; at
        most `HEAD_BYTES` are used.
    name : str
        Of the file: small ids of two or four bytes look like letters in UTF-16.

    >>> recognise(b"PAR1\x15\x04").name, recognise(b"to be, or not to be")
    ('a Parquet file', None)
    """
    if kind := recognise_container(head):
        return kind
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding is None:
        encoding = _guess_wide(head)
        if encoding is not None and name.endswith((".bin", ".ds")):
            return Kind("a file of token ids", _TOKENS)
    if encoding is None:
        return None
    return Kind(f"text in {encoding.upper()}", _ENCODING.format(encoding), encoding)


def recognise_container(head: bytes) -> Kind | None:
    """Return the kind of a file in a binary format, or None.

    >>> recognise_container(bytes(257) + b"ustar").name
    'a tar archive'
    """
    for offset, sign, name, cure in _SIGNS:
        if head.startswith(sign, offset):
            return Kind(name, cure)
    for pattern, name, cure in _PATTERNS:
        if pattern.match(head):
            return Kind(name, cure)
    return Kind("a tar archive", _UNPACK) if _is_old_tar(head) else None


def is_marker(name: str, read: Callable[[], bytes | None]) -> bool:
    """Return whether a file is one that Spark and others put beside tables, without rows.

    Parameters
    ----------
    name : str
        Of the file, without its folder.
    read : callable
        Returns its first four bytes, or None; called only for the names of such files.

    >>> is_marker("_SUCCESS", bytes), is_marker("_SUCCESS", lambda: b"To b")
    (True, False)
    """
    return bool(_MARKERS.fullmatch(name)) and read() in _HEADS_OF_MARKERS


def refuse_unfit(name: str, files: Iterable[Sequence[str]], named: Sequence[str]) -> None:
    """Refuse a folder whose files are not the rows of its table.

    Parameters
    ----------
    name : str
        That of the source, as messages show it.
    files : iterable of sequences of str
        The path of each file, in parts.
    named : sequence of str
        What was asked for, in parts; a folder that is named by itself is read.

    Raises
    ------
    ArgumentError
        Some of the files are in a folder beside the rows.
    """
    parts = set().union(*files).difference(named)
    for folder, cure in _UNFIT.items():
        if folder in parts:
            msg = f"the source {name} must hold the texts and nothing else: {cure}"
            raise ArgumentError(msg)


def holds_records(text: str, *, fewest: int = 2) -> bool:
    r"""Return whether a text, of which this is the beginning, has a JSON object on each line.

    Parameters
    ----------
    text : str
    fewest : int
        The fewest lines with an object, 1 or 2. A single line may also be a JSON
        document.

    >>> holds_records('{"a": 1}\n{"a": 2}\n'), holds_records('{\n  "a": 1\n}')
    (True, False)
    """
    *lines, rest = text.lstrip("\ufeff \t\r\n").split("\n")
    objects = [line for line in lines[:2] if line.strip()]
    if not objects:
        return bool(_OBJECT.match(rest))
    num_objects = len(objects) + bool(len(objects) == 1 and _OBJECT.match(rest))
    return all(map(_is_object, objects)) and num_objects >= fewest


def bare_suffix(name: str) -> str:
    """Return the end of a file's name before that of its compression.

    >>> bare_suffix("texts/a.jsonl.gz"), bare_suffix("b.TXT")
    ('.jsonl', '.txt')
    """
    # Quicker than a Path, and called for each source.
    stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122
    return os.path.splitext(stem)[1] if suffix in COMPRESSED else suffix  # noqa: PTH122


def recognise_structure(text: str, *, name: str, is_one: bool = False) -> Kind | None:
    r"""Return the kind of a text whose name shows that it is structured data, or None.

    Parameters
    ----------
    text : str
        Its beginning.
    name : str
        Of its file, which may be compressed.
    is_one : bool
        Whether all of it is to be one document, so that a JSON object on each
        line shows that too, whatever the name is.

    >>> recognise_structure("a,b\n", name="a.csv").name
    'a table (.csv)'
    """
    suffix = bare_suffix(name)
    if suffix in (".csv", ".tsv"):
        return Kind(f"a table ({suffix})", _COLUMN_OF_TABLE)
    if suffix == ".json" and text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        return Kind("one JSON document, not an object on each line", _TABLE)
    if is_one and holds_records(text):
        return Kind("JSON Lines, with a JSON object on each line", _RECORDS)
    return None


def recognise_piped(text: str) -> Kind | None:
    r"""Return the kind of a text whose beginning shows that it is structured data, or None.

    A table has a line with the names of its columns, then lines with as many
    fields, and no space after the delimiter.

    >>> recognise_piped("id,text\n1,to be\n2,or not\n").name, recognise_piped("To be,\nor not\n")
    ('a table (CSV)', None)
    """
    if _DOCUMENT.match(text.lstrip("\ufeff")) or _is_json(text):
        return Kind("one JSON document, not an object on each line", _PIPED_TABLE)
    for delimiter, name in ((",", "CSV"), (";", "CSV"), ("\t", "TSV")):
        if _is_table(text, delimiter):
            return Kind(f"a table ({name})", _PIPED_COLUMNS)
    return None


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip("\ufeff")), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_table(text: str, delimiter: str) -> bool:
    # Nothing is quoted between tabs.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    lines = io.StringIO(text.lstrip("\ufeff").rstrip("\r\n"), newline="")
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True))
    except csv.Error:
        # The sample may end within quotes; a text before its third row is no table either.
        rows.append([])
    # The last row may be cut.
    header, *others = rows[:-1] or [[]]
    return (
        len(header) > 1
        and len(others) > 0
        and len(set(header)) == len(header)
        and all(map(_COLUMN.fullmatch, header))
        and all(len(row) == len(header) for row in others)
        and not any(field.startswith(" ") for row in others for field in row)
    )


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_old_tar(head: bytes) -> bool:
    """Return whether the checksum of a tar header without a magic number is right."""
    block = head[:512]
    field = re.fullmatch(rb" *([0-7]{1,7})[ \0]*", block[148:156])
    if len(block) < 512 or field is None:
        return False
    return int(field[1], 8) == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def _guess_wide(head: bytes) -> str | None:
    r"""Return the encoding of a text in UTF-16 or UTF-32 without a byte order mark, or None.

    If its letters are Latin, most of its bytes are zero, at regular positions:

    >>> _guess_wide("to be, or not".encode("utf-16-le")), _guess_wide(b"a\0b")
    ('utf-16-le', None)
    """
    if len(head) < 16 or b"\0" not in head:
        return None
    zeros = [head[place::4].count(0) / len(head[place::4]) for place in range(4)]
    is_zero = [share > 0.7 for share in zeros]
    is_letter = [share < 0.1 for share in zeros]
    for encoding, pattern in (
        ("utf-32-le", (False, True, True, True)),
        ("utf-32-be", (True, True, True, False)),
        ("utf-16-le", (False, True, False, True)),
        ("utf-16-be", (True, False, True, False)),
    ):
        if all((is_zero if zero else is_letter)[place] for place, zero in enumerate(pattern)):
            return encoding
    return None
