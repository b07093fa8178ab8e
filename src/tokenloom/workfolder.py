"""The folder in which a preparation keeps what is finished.

It lies beside the store, under a hidden name. Each part in it is written whole
or not at all and proves itself by a hash, so there is no journal that could
contradict it.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokenloom.errors import StoreError
from tokenloom.files import write_text
from tokenloom.partials import lock

_SETTINGS = "settings.json"
_PART = ".part"
# What can be read once is kept under one of these names, and its hash under the other.
_OF_STREAMS = ("source", "kept")


class Part(NamedTuple):
    """What was kept of a task.

    Attributes
    ----------
    facts : dict
        JSON-able.
    blobs : list of bytes
    """

    facts: dict[str, Any]
    blobs: list[bytes]


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A folder that no other process writes to.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @property
    def store(self) -> Path:
        """The folder that becomes the store."""
        return self.path / "store"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Begin with some settings, or go on with what makes the same parts.

        Parts that were kept with ``on_error="stop"`` have no bad document, so
        any other value goes on from them. Where no part was kept, all settings
        may be others.

        Raises
        ------
        OSError
            The folder cannot be written to.
        StoreError
            Another run, with other settings, left the folder, and each
            difference is named; or its settings cannot be read.
        """
        now = json.loads(json.dumps(settings))
        before = self._read_settings()
        if before is not None and self._has_parts():
            is_mended = before.get("on_error") == "stop" and "on_error" in now
            same = {**before, "on_error": now["on_error"]} if is_mended else before
            if differences := list(compare(same, now)):
                msg = (
                    f"an interrupted run of other settings is kept in {self.path}: "
                    f"{'; '.join(differences)}; run it with its own settings, or remove that "
                    "folder"
                )
                raise StoreError(msg)
        elif before is not None and _streams(before) != _streams(now):
            for kind in _OF_STREAMS:
                self.remove(kind)
        if before != now:
            write_text(self.path / _SETTINGS, json.dumps(now))

    def _read_settings(self) -> dict[str, Any] | None:
        try:
            settings = json.loads((self.path / _SETTINGS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            settings = None
        if isinstance(settings, dict):
            return settings
        msg = (
            f"the settings of an interrupted run must be JSON, those in {self.path} are damaged: "
            "remove that folder"
        )
        raise StoreError(msg)

    def _has_parts(self) -> bool:
        names = (path.name for path in self.path.glob("*-*[0-9]"))
        return any(name.rpartition("-")[0] not in _OF_STREAMS for name in names)

    def part(self, kind: str, index: int) -> Path:
        """Return where a part is, or will be."""
        return self.path / f"{kind}-{index:07}"

    def write(self, kind: str, index: int, part: Part) -> None:
        """Keep a part, whole or not at all.

        It is not forced to the disk: after a power cut its hash tells.

        Raises
        ------
        OSError
            It cannot be written.
        """
        facts = json.dumps(part.facts).encode("ascii")
        head = {"sha256": _hash(facts, part.blobs), "sizes": [len(facts), *map(len, part.blobs)]}
        target = self.part(kind, index)
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}{_PART}")
        try:
            with temporary.open("xb") as file:
                file.write(json.dumps(head).encode("ascii") + b"\n" + facts)
                for blob in part.blobs:
                    file.write(blob)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, kind: str, index: int) -> Part | None:
        """Return a part that was kept, or None where there is none that is whole."""
        try:
            with self.part(kind, index).open("rb") as file:
                head = json.loads(file.readline())
                facts, *blobs = (file.read(size) for size in head["sizes"])
                is_whole = not file.read(1) and _hash(facts, blobs) == head["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Part(json.loads(facts), blobs) if is_whole else None

    def read_all(self, kind: str) -> Iterator[Part]:
        """Yield the parts from the first on, up to one that is not whole."""
        index = 0
        while (part := self.read(kind, index)) is not None:
            yield part
            index += 1

    def remove(self, kind: str) -> None:
        """Remove all parts of a kind."""
        for path in self.path.glob(f"{kind}-*"):
            path.unlink()

    def publish(self, target: Path) -> None:
        """Give the store its name, and remove the rest.

        Raises
        ------
        OSError
            There is something of that name meanwhile.
        """
        if target.exists():
            # Windows renames to new names only.
            target.rmdir()
        self.store.rename(target)
        self.discard()

    def discard(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def open_work_folder(target: Path) -> Iterator[WorkFolder]:
    """Yield the folder beside a store, made if it is missing, and lock it.

    Raises
    ------
    OSError
        It cannot be made or read.
    StoreError
        Another process works in it.
    """
    path = work_path(target)
    path.mkdir(parents=True, exist_ok=True)
    descriptor = None
    # Where the system has no such locks, nobody looks.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
    try:
        if descriptor is not None:
            _lock(descriptor, path)
        for rest in path.glob(f"*{_PART}"):
            rest.unlink()
        yield WorkFolder(path)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_rest(target: Path) -> None:
    """Remove the folder beside a finished store, unless another process works in it."""
    if work_path(target).exists():
        with contextlib.suppress(StoreError), open_work_folder(target) as work:
            work.discard()


def work_path(target: Path) -> Path:
    """Return the folder that goes with a store.

    >>> work_path(Path("my-store")).name
    '.my-store.prepare'
    """
    return target.with_name(f".{target.name}.prepare")


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between the settings of two runs.

    >>> list(compare({"field": "text", "n": 1}, {"field": "body", "n": 1}))
    ["field was 'text', now 'body'"]
    """
    for name in dict.fromkeys([*before, *now]):
        first, second = before.get(name), now.get(name)
        if first == second:
            continue
        if isinstance(first, dict) and isinstance(second, dict):
            changed = list(compare(first, second))
            more = f", and {len(changed) - 3:,} more" if len(changed) > 3 else ""
            yield f"{name}: {', '.join(changed[:3])}{more}"
        else:
            yield f"{name} was {first!r}, now {second!r}"


def _streams(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of the sources that are kept, since they can be read once."""
    sources = settings.get("sources")
    described = sources.items() if isinstance(sources, dict) else ()
    return {name: facts for name, facts in described if "num_bytes" not in facts}


def _lock(descriptor: int, path: Path) -> None:
    msg = f"another process works in {path}: wait for its end, or name another store"
    try:
        lock(descriptor)
    except BlockingIOError as error:
        raise StoreError(msg) from error
    except OSError:
        # There are no such locks here.
        return
    # Whoever held it may have removed it meanwhile.
    if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.lstat()):
        raise StoreError(msg)


def _hash(facts: bytes, blobs: list[bytes]) -> str:
    digest = hashlib.sha256(repr([len(facts), *map(len, blobs)]).encode("ascii"))
    for blob in (facts, *blobs):
        digest.update(blob)
    return digest.hexdigest()
