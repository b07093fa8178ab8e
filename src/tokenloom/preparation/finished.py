"""What a finished preparation made, and whether another one would make the same."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenloom._io.digest import hash_file
from tokenloom.errors import StoreError
from tokenloom.preparation.sources import ResolvedSource, hash_content, stat
from tokenloom.preparation.workdir import compare
from tokenloom.store.manifest import MANIFEST, Manifest, Source
from tokenloom.store.reader import is_store, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A store that was prepared.

    Attributes
    ----------
    path : Path
    is_new : bool
        Whether this call made it; else it was finished already.
    num_documents, num_tokens, vocab_size : int
    num_characters : int
        Of the documents, before they were normalised.
    num_unknown : int or None
        Tokens that the vocabulary does not have; None without a vocabulary.
    num_dropped : int or None
        Characters that normalising dropped or replaced by spaces, white space
        not counted; None where an older release made the store.
    num_bytes : int
        Of the sources, before decompression.
    num_bytes_read : int
        How many of them this call read, rather than one that was interrupted.
    problems : mapping of str to int
        How many documents were left out or replaced, by their problem. Of a
        document that is cut into several chunks each with a problem counts. And
        how often reserved tokens stand in texts.
    seconds : float
        That this call took.
    """

    path: Path
    is_new: bool
    num_documents: int
    num_tokens: int
    vocab_size: int
    num_characters: int
    num_unknown: int | None
    num_dropped: int | None = None
    num_bytes: int
    num_bytes_read: int
    problems: Mapping[str, int] = field(default_factory=dict)
    seconds: float

    @property
    def characters_per_token(self) -> float:
        """Mean number of characters that a token stands for."""
        return self.num_characters / self.num_tokens

    @property
    def unknown_rate(self) -> float | None:
        """Fraction of the tokens that are the unknown one."""
        return None if self.num_unknown is None else self.num_unknown / self.num_tokens


def summarize(
    path: str | os.PathLike[str],
    manifest: Manifest,
    *,
    is_new: bool,
    num_bytes_read: int,
    seconds: float,
) -> Prepared:
    """Return what a manifest says of a preparation."""
    preparation = manifest.preparation
    assert preparation is not None  # noqa: S101  the caller has seen it
    return Prepared(
        path=Path(path),
        is_new=is_new,
        num_documents=manifest.num_documents or 0,
        num_tokens=manifest.num_tokens,
        vocab_size=manifest.vocab_size,
        num_characters=preparation.num_characters,
        num_unknown=preparation.num_unknown,
        num_dropped=preparation.num_dropped,
        num_bytes=sum(source.num_bytes or 0 for source in manifest.sources),
        num_bytes_read=num_bytes_read,
        problems=preparation.problems,
        seconds=seconds,
    )


def find_finished(
    target: Path, found: list[ResolvedSource], settings: Mapping[str, Any]
) -> Manifest | None:
    """Return the manifest of a finished store, or None where one can be made.

    Raises
    ------
    CorpusError
        A source is gone.
    StoreError
        The store is another one, or there is something else.
    """
    if is_store(target):
        return check_finished(target, found, settings)
    # lexists, since a link that leads nowhere is in the way too.
    if os.path.lexists(target):
        if target.is_symlink() or target.is_mount():
            reason = "is a link or a mount point, which cannot be replaced: name a folder in it"
        elif not target.is_dir() or any(target.iterdir()):
            reason = "is not: name another"
        else:
            return None
        msg = f"a store needs a new or an empty folder, {str(target)!r} {reason}"
        raise StoreError(msg)
    return None


def check_finished(
    target: Path, found: list[ResolvedSource], settings: Mapping[str, Any]
) -> Manifest:
    """Return the manifest of a store that the same sources and settings made.

    Files are read only where they were changed after the store was made.

    Raises
    ------
    CorpusError
        A source is gone.
    StoreError
        The store is another one; each difference is named.
    """
    manifest = open_store(target).manifest
    preparation = manifest.preparation
    if preparation is None:
        differences = ["it was not prepared, but saved"]
    else:
        different = compare(preparation.settings, settings)
        differences = [*different, *_compare_sources(target, manifest, found)]
    if differences:
        msg = (
            f"{target} is a store already, and another one: {'; '.join(differences)}; name "
            "another folder, or remove it"
        )
        raise StoreError(msg)
    return manifest


def _compare_sources(
    target: Path, manifest: Manifest, found: list[ResolvedSource]
) -> Iterator[str]:
    names = [source.name for source in manifest.sources]
    now = [one.name for one in found]
    if names != now:
        yield from compare({"sources": dict(enumerate(names))}, {"sources": dict(enumerate(now))})
        return
    made_ns = (target / MANIFEST).stat().st_mtime_ns
    for source, one in zip(manifest.sources, found, strict=True):
        if not _is_same(source, one, made_ns):
            yield f"{source.name} has other bytes now"


def _is_same(source: Source, found: ResolvedSource, made_ns: int) -> bool:
    if found.path is None:
        return hash_content(found) == source.sha256
    num_bytes, changed_ns = stat(found.path)
    if num_bytes != source.num_bytes:
        return False
    # An older file that took the name keeps its own time, but not that of its entry.
    changed_ns = max(changed_ns, found.path.stat().st_ctime_ns)
    return changed_ns < made_ns or hash_file(found.path) == f"sha256:{source.sha256}"
