"""The folder in which a preparation keeps what is finished.

It lies beside the store, under a hidden name, and only its user can enter it.
Each part in it is written whole or not at all and proves itself by a hash, so
there is no journal that could contradict it. The hash also covers the settings
that made the part, and its place among the parts: one of another preparation, or
of another place, counts as one that is not whole.

Files that cannot be read or written raise OSError.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tokenloom._io.atomic import remove_leftovers, require_own, take_name, write_text
from tokenloom._io.digest import hash_json
from tokenloom._io.locks import held
from tokenloom._io.regular import open_regular, read_bounded
from tokenloom._wording import count, show
from tokenloom.errors import StoreError, TokenloomError, WorkerError
from tokenloom.text.tokenizers import TOKENIZER_NAMES, ByteTokenizer

# The kind of the parts that hold the ids of a chunk.
IDS = "tokens"

_SETTINGS = "settings.json"
# This file exists if the last run ended with an error; then other settings may begin anew.
_FAILED = "failed"
# The end of the name of a file that is not finished.
PART = ".part"
# Settings name each source: this limit leaves room for millions of sources.
_MAX_SETTINGS_BYTES = 1 << 30
_MAX_HEAD_BYTES = 1 << 16
# How long another machine's file may take to be seen here, in seconds: NFS keeps what it knows
# of a folder for up to a minute.
SHARED_SECONDS = 90.0
# A source that can be read only once is kept as a file of the first name, and its hash as one of
# the second.
_OF_STREAMS = ("source", "kept")
# The same for copies of files at addresses.
REMOTE, FETCHED = "remote", "fetched"
# What workers read once, rather than with each chunk.
TOKENIZER = "tokenizer"
# The number of sources that differ which a message names.
_NUM_SHOWN = 3
_NO_RESULTS = (*_OF_STREAMS, REMOTE, FETCHED, TOKENIZER)


class Part(NamedTuple):
    """The part that was kept of a chunk.

    Attributes
    ----------
    facts : dict
        JSON-able.
    blobs : list of bytes
    """

    facts: dict[str, Any]
    blobs: list[bytes]


@dataclass(frozen=True, slots=True)
class WorkDir:
    """A folder that no other process writes to.

    Attributes
    ----------
    path : Path
    owners : list of str
        Hashes of the settings that parts may have been made with; those of this run
        first.
    """

    path: Path
    owners: list[str] = field(default_factory=lambda: [""], compare=False)

    @property
    def store(self) -> Path:
        """The folder that becomes the store."""
        return self.path / "store"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Begin with some settings, or resume with those that make the same parts.

        Parts that were kept with ``on_error="stop"`` have no bad document, so
        any other value resumes from them. All settings may differ if no
        part was kept, or if the last run ended with an error: then its parts are
        removed.

        Raises
        ------
        StoreError
            Another run, with other settings, was interrupted, and each
            difference is named; or its settings cannot be read.
        """
        now = json.loads(json.dumps(settings))
        before = self._read_settings()
        if before is not None and self._has_parts():
            is_mended = before.get("on_error") == "stop" and "on_error" in now
            same = {**before, "on_error": now["on_error"]} if is_mended else before
            if differences := list(compare(same, now)):
                if not self.has_failed:
                    msg = (
                        f"an interrupted run with other settings is kept in {self.path}: "
                        f"{'; '.join(differences)}; give those settings to resume it, or remove "
                        "that folder to begin anew"
                    )
                    raise StoreError(msg)
                self.remove_parts()
        if before is not None and _streams(before) != _streams(now):
            for kind in _OF_STREAMS:
                self.remove(kind)
        if before != now:
            write_text(self.path / _SETTINGS, json.dumps(now))
        self.owners[:] = [hash_json(now)]
        if now.get("on_error", "stop") != "stop":
            self.owners.append(hash_json({**now, "on_error": "stop"}))

    @property
    def has_failed(self) -> bool:
        """Whether the last run ended with an error, rather than being interrupted."""
        return os.path.lexists(self.path / _FAILED)

    def begin(self) -> bool:
        """Forget how the last run ended, and return whether it kept a part of a chunk."""
        (self.path / _FAILED).unlink(missing_ok=True)
        return self._has_parts()

    @contextlib.contextmanager
    def running(self, settings: Mapping[str, Any]) -> Iterator[Path]:
        """Claim the folder, and remember an error in the block, which other settings may mend.

        Events that only stop a run, such as Ctrl-C, a full disk or the death of a
        worker, are not remembered. Parameters and errors are those of `claim`.

        Yields
        ------
        Path
            The folder that becomes the store, made if it is missing.

        Raises
        ------
        StoreError
            Its place is taken by a link, a mount point, a file, or a folder of another user.
        """
        self.claim(settings)
        _make_folder(self.store)
        try:
            yield self.store
        except WorkerError:
            raise
        # Raised again whatever it is: other settings may then replace what was kept.
        except Exception as error:
            if isinstance(error, TokenloomError) or not isinstance(error, OSError):
                with contextlib.suppress(OSError):
                    write_text(self.path / _FAILED, "")
            raise

    def remove_parts(self) -> None:
        """Remove all parts but the copies of sources, and parts that each run writes anew."""
        for path in self.path.glob("*-*[0-9]"):
            if path.name.rpartition("-")[0] not in _NO_RESULTS:
                path.unlink()

    def _read_settings(self) -> dict[str, Any] | None:
        path = self.path / _SETTINGS
        try:
            content = read_bounded(path, max_bytes=_MAX_SETTINGS_BYTES, follow_links=False)
            settings = json.loads(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = (
                f"the settings of an interrupted run, {path}, {error.strerror or error}: remove "
                "that folder"
            )
            raise StoreError(msg) from error
        except (ValueError, RecursionError):
            settings = None
        if isinstance(settings, dict):
            return settings
        msg = (
            f"the settings of an interrupted run must be JSON, those in {self.path} are damaged: "
            "remove that folder"
        )
        raise StoreError(msg)

    def _has_parts(self) -> bool:
        """Return whether a part of a chunk was kept."""
        names = (path.name for path in self.path.glob("*-*[0-9]"))
        return any(name.rpartition("-")[0] not in _NO_RESULTS for name in names)

    def part(self, kind: str, index: int) -> Path:
        """Return where a part is, or will be."""
        return self.path / f"{kind}-{index:07}"

    def write(self, kind: str, index: int, part: Part) -> None:
        """Keep a part, whole or not at all.

        It is not forced to the disk: after a power cut its hash shows whether it is whole.
        """
        facts = json.dumps(part.facts).encode("ascii")
        owner = self._owners_of(kind)[0]
        digests = _hash(facts, []), _hash(facts, part.blobs)
        of_facts, of_all = (_bind(digest, owner, kind, index) for digest in digests)
        sizes = [len(facts), *map(len, part.blobs)]
        head = {"facts": of_facts, "sha256": of_all, "sizes": sizes}
        target = self.part(kind, index)
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}{PART}")
        try:
            with temporary.open("xb") as file:
                file.write(json.dumps(head).encode("ascii") + b"\n" + facts)
                for blob in part.blobs:
                    file.write(blob)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, kind: str, index: int, *, with_blobs: bool = True) -> Part | None:
        """Return a part that was kept, or None if there is none that is whole and belongs here.

        Without ``with_blobs`` the blobs are not read.
        """
        try:
            with open_regular(self.part(kind, index), follow_links=False) as file:
                head = json.loads(file.readline(_MAX_HEAD_BYTES))
                sizes = head["sizes"] if with_blobs else head["sizes"][:1]
                facts, *blobs = [_read_exactly(file, size) for size in sizes]
                is_whole = not (with_blobs and file.read(1))
            digest, bound = _hash(facts, blobs), head["sha256" if with_blobs else "facts"]
            owners = self._owners_of(kind)
            if is_whole and bound in [_bind(digest, owner, kind, index) for owner in owners]:
                return Part(json.loads(facts), blobs)
        except _DAMAGE:
            pass
        return None

    def wait_for(self, kind: str, index: int, *, with_blobs: bool, patience: float = 0) -> Part:
        """Return a part that a worker has written, as soon as this process sees it.

        Parameters
        ----------
        kind, index : str, int
            Which part.
        with_blobs : bool
            See `read`.
        patience : float
            How long to wait for it, in seconds.

        Raises
        ------
        WorkerError
            It does not appear, or is damaged.
        """
        deadline = time.monotonic() + patience
        while True:
            if (part := self.read(kind, index, with_blobs=with_blobs)) is not None:
                return part
            if time.monotonic() >= deadline:
                msg = (
                    f"a worker has written {self.part(kind, index)}, which this process cannot "
                    f"see whole after {patience:.0f} seconds: all workers must share that folder; "
                    "what is finished is kept, and the same call resumes from there"
                )
                raise WorkerError(msg)
            time.sleep(min(0.1, patience))

    def _owners_of(self, kind: str) -> list[str]:
        # Copies of sources do not depend on the settings, and a tokenizer has its own proof.
        return [""] if kind in _NO_RESULTS else self.owners

    def read_all(self, kind: str, *, with_blobs: bool = True) -> Iterator[Part]:
        """Yield the parts from the first on, up to one that is not whole; see `read`."""
        for index in itertools.count():
            part = self.read(kind, index, with_blobs=with_blobs)
            if part is None:
                return
            yield part

    def remove(self, kind: str, *, start: int = 0) -> None:
        """Remove the parts of a kind, from one on."""
        for path in self.path.glob(f"{kind}-*"):
            if path.name >= self.part(kind, start).name:
                path.unlink()

    def publish(self, target: Path) -> None:
        """Give the store its name, and remove the rest.

        Raises
        ------
        OSError
            Something else has taken that name meanwhile.
        """
        take_name(self.store, target)
        self.discard()

    def discard(self) -> None:
        """Remove the folder; the target of a link in it stays."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def open_work_dir(target: Path) -> Iterator[WorkDir]:
    """Yield the folder beside a store, made if it is missing, and lock it.

    Raises
    ------
    StoreError
        Another process works in it; or its name was taken by something else,
        which stays as it is.
    """
    path = work_path(target)
    remove_leftovers(target)
    _make_folder(path, mode=0o700)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path))
        except BlockingIOError as error:
            msg = f"another process works in {path}: wait for its end, or name another store"
            raise StoreError(msg) from error
        _require_work(path)
        for rest in path.glob(f"*{PART}"):
            rest.unlink()
        yield WorkDir(path)


def remove_rest(target: Path) -> None:
    """Remove the folder beside a finished store, unless another process works in it."""
    if work_path(target).exists():
        with contextlib.suppress(StoreError), open_work_dir(target) as work:
            work.discard()


def work_path(target: Path) -> Path:
    """Return the work folder of a store.

    >>> work_path(Path("my-store")).name
    '.my-store.prepare'
    """
    return target.with_name(f".{target.name}.prepare")


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between the settings of two runs, each in words.

    >>> list(compare({"field": "text", "n": 1}, {"field": "body", "n": 1}))
    ["field was 'text', now 'body'"]
    >>> of_words, of_bytes = {"name": "word", "vocab_size": 9}, {"name": "byte", "vocab_size": 256}
    >>> list(compare({"tokenizer": of_words}, {"tokenizer": of_bytes}))
    ["the tokenizer was 'word' with vocab_size=9, now 'byte'"]
    """
    for name in dict.fromkeys([*before, *now]):
        first, second = before.get(name), now.get(name)
        if first == second:
            continue
        if name == "tokenizer":
            yield _compare_tokenizers(first or {}, second or {})
        elif name == "normalize":
            yield f"normalisation was {'on, now off' if first else 'off, now on'}"
        elif name in ("splits", "sources_of_splits"):
            yield from _compare_splits(first or {}, second or {})
        elif name == "sources":
            yield _shorten([*_compare_sources(first or {}, second or {})])
        else:
            yield f"{name} was {_show_setting(first)}, now {_show_setting(second)}"


def _compare_tokenizers(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was, given = _name_tokenizer(before), _name_tokenizer(now)
    # Hashes say nothing to people.
    return f"the tokenizer was {was}, now {'another of that kind' if was == given else given}"


def _name_tokenizer(description: Mapping[str, Any]) -> str:
    """Return what a message calls a tokenizer: what was given, or its package and size.

    >>> _name_tokenizer({"name": "tokenizers", "vocab_size": 300, "sha256": "..."})
    'one of the package tokenizers with 300 ids'
    """
    name, size = description.get("name"), description.get("vocab_size")
    ids = "" if size is None else f" with {count(size, 'id')}"
    if name is None:
        return f"one of your own, {description.get('type')}{ids}"
    text = f"one of the package {name}{ids}"
    if name in TOKENIZER_NAMES:
        # Of a tokenizer that counts or learns its ids, the size is what was asked for.
        is_bytes = name == ByteTokenizer.name
        is_given = is_bytes or description.get("vocab") is not None
        size_asked_for = "" if size is None else f" with vocab_size={size}"
        of_vocab = "" if is_bytes else ids.replace("with", "with a vocabulary of")
        text = f"{name!r}{of_vocab if is_given else size_asked_for}"
    text += " without normalisation" * (description.get("normalize") is False)
    return text + " that allows special tokens" * bool(description.get("allow_special"))


def _compare_sources(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        first, second = before.get(name), now.get(name)
        if first is None or second is None:
            yield f"the source {name!r} is {'new' if first is None else 'missing'}"
        elif first != second:
            is_moved = {**first, "number": second.get("number")} == second
            yield f"the source {name!r} {'has another place' if is_moved else 'was changed'}"


def _shorten(items: list[str]) -> str:
    more = f", and {len(items) - _NUM_SHOWN:,} more" if len(items) > _NUM_SHOWN else ""
    return f"{', '.join(items[:_NUM_SHOWN])}{more}"


def _compare_splits(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        first, second = before.get(name), now.get(name)
        if first != second:
            yield f"the split {name!r} was {_show_split(first)}, now {_show_split(second)}"


def _show_split(value: object) -> str:
    """Return the fraction of a split, or of how many sources it was."""
    return f"of {count(value, 'source')}" if isinstance(value, int) else _show_setting(value)


def _show_setting(value: object) -> str:
    if value is None or value == []:
        return "none"
    return ", ".join(map(repr, value)) if isinstance(value, list) else repr(value)


def _make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Make a folder of this user, and refuse anything else, or a mount point, under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
        return
    try:
        require_own(path)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        msg = f"{path}, which is to hold what a preparation keeps, {error.strerror} store"
        raise StoreError(msg) from error
    if not path.is_dir() or path.is_mount():
        msg = (
            f"{path} must be a folder that holds what a preparation keeps, got something else: "
            "remove it, or name another store"
        )
        raise StoreError(msg)


def _require_work(path: Path) -> None:
    """Refuse a folder with files of which none was made by a preparation."""
    names = [entry.name for entry in path.iterdir() if not entry.name.endswith(PART)]
    if names and not os.path.lexists(path / _SETTINGS):
        msg = (
            f"{path} must hold what a preparation keeps, got other files such as {names[0]!r}: "
            "remove that folder, or name another store"
        )
        raise StoreError(msg)


def _streams(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the sources that are kept, since they can be read only once."""
    sources = settings.get("sources")
    described = sources.items() if isinstance(sources, dict) else ()
    return {name: facts for name, facts in described if "num_bytes" not in facts}


# Errors of reading a file that is damaged, or is no part.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    """Return the next ``size`` bytes of a file, which must hold them."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if type(size) is not int or not 0 <= size <= left:
        msg = f"a size must be in [0, {left}], got {show(size)}"
        raise ValueError(msg)
    return file.read(size)


def _bind(digest: str, owner: str, kind: str, index: int) -> str:
    """Return the hash of a part that belongs to some settings and to a place."""
    return hashlib.sha256(f"{owner} {kind} {index} {digest}".encode("ascii")).hexdigest()


def _hash(facts: bytes, blobs: list[bytes]) -> str:
    digest = hashlib.sha256(repr([len(facts), *map(len, blobs)]).encode("ascii"))
    for blob in (facts, *blobs):
        digest.update(blob)
    return digest.hexdigest()
