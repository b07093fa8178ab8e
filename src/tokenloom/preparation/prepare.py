"""Texts of any size to a store."""

import contextlib
import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenloom._checks import (
    MAX_WORKERS,
    Check,
    as_flag_or_none,
    as_integer,
    check_all,
    require_type,
)
from tokenloom._io.atomic import as_path
from tokenloom._io.digest import hash_file
from tokenloom._io.interrupts import Stopped
from tokenloom._io.remote import RemoteFile
from tokenloom._progress import open_bar
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError, CorpusError, StoreError
from tokenloom.preparation.assemble import SplitTally, Tally, assemble
from tokenloom.preparation.chunks import Chunk, cut_chunks, prove_parts
from tokenloom.preparation.cluster import SharedFolder, share
from tokenloom.preparation.datasets import DatasetRows
from tokenloom.preparation.encode import BuildVocab, find_segments, send_once, write_part
from tokenloom.preparation.executor import (
    choose_processes,
    count_cores,
    open_pool,
    run_in_order,
)
from tokenloom.preparation.forms import Cursor, SourceFile, hash_bytes, open_bytes
from tokenloom.preparation.options import Method, PrepareOptions, choose_method, use_learned
from tokenloom.preparation.sources import (
    ResolvedSource,
    Sources,
    describe,
    hash_content,
    open_sources,
    resolve_sources,
    stat,
)
from tokenloom.preparation.workdir import (
    IDS,
    SHARED_SECONDS,
    Part,
    WorkDir,
    compare,
    open_work_dir,
    remove_rest,
)
from tokenloom.store.manifest import MANIFEST, Manifest, Source
from tokenloom.store.reader import is_store, open_store
from tokenloom.store.writer import require_free
from tokenloom.text.boundaries import DOCUMENTS
from tokenloom.text.interface import CompleteTokenizer, LearnedTokenizer
from tokenloom.text.normalize import report_lost, why_empty
from tokenloom.text.tokenizers import CountedTokenizer, restore_tokenizer
from tokenloom.text.vocab import Vocab

if TYPE_CHECKING:
    from tqdm import tqdm

_LOGGER = logging.getLogger(__name__)
_USUAL = PrepareOptions()
# A document of at least this number of tasks could keep more than one worker busy.
_NUM_TASKS_OF_LARGE = 4
# The kind of the part that holds what a tokenizer has learnt.
LEARNED = "learned"


class PreparedSplit(NamedTuple):
    """A split that was named by its sources.

    Attributes
    ----------
    num_tokens : int
    num_unknown : int or None
        Tokens that the vocabulary, which is that of the first split, does not
        have; None without a vocabulary.
    """

    num_tokens: int
    num_unknown: int | None

    @property
    def unknown_rate(self) -> float | None:
        """Fraction of the tokens that are the unknown one."""
        return None if self.num_unknown is None else self.num_unknown / self.num_tokens


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
    num_unknown_types : int or None
        How many different tokens these are; None without a ``vocab_size``.
    num_learnt : int or None
        Tokens that are none of prompts; None without a ``prompt_field``.
    num_dropped : int or None
        Characters that normalising dropped or replaced by spaces, white space
        not counted; None where an older release made the store.
    num_bytes : int
        Of the sources, before decompression.
    num_bytes_read : int
        How many of them this call read, rather than one that was interrupted.
    splits : mapping
        By its name, a `tokenloom.preparation.PreparedSplit` for each split that
        was named by its sources.
    problems : mapping of str to int
        How many documents were left out or replaced, by their problem; of a
        document that is cut into several chunks each chunk with a problem counts.
        And how often reserved tokens stand in texts.
    seconds : float
        Duration of this call.
    """

    path: Path
    is_new: bool
    num_documents: int
    num_tokens: int
    vocab_size: int
    num_characters: int
    num_unknown: int | None
    num_unknown_types: int | None = None
    num_learnt: int | None = None
    num_dropped: int | None = None
    num_bytes: int
    num_bytes_read: int
    problems: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, PreparedSplit] = field(default_factory=dict)
    seconds: float

    @property
    def characters_per_token(self) -> float:
        """Mean number of characters that a token stands for."""
        return self.num_characters / self.num_tokens

    @property
    def unknown_rate(self) -> float | None:
        """Fraction of the tokens that are the unknown one."""
        return None if self.num_unknown is None else self.num_unknown / self.num_tokens


def prepare(  # noqa: PLR0913  each is a setting of its own
    sources: Sources,
    path: str | os.PathLike[str],
    *,
    tokenizer: object = "char",
    vocab_size: int | None = None,
    options: PrepareOptions | None = None,
    executor: Executor | None = None,
    num_workers: int | None = None,
    progress: bool | None = None,
) -> Prepared:
    """Write a store of texts, however large they are.

    The same sources and options give the same bytes, for any number of workers
    and any executor. Whatever stops it, the same call resumes where it stopped
    and ends with the same bytes. Until the store is whole, finished parts lie in a
    hidden folder beside it.

    Parameters
    ----------
    sources : one source, a list or tuple of them, or a mapping of splits to such
        A mapping such as ``{"train": ["a.txt", "b.txt"], "valid": "c.txt"}`` names
        the splits of the store. "train" comes first, then the others in their
        order; the vocabulary is counted over the first one only, and how many
        tokens of each split it does not have is reported.
        A source is a str or a path: a text file, JSON Lines, CSV or TSV, each
        also compressed (.gz, .bz2, .xz, .zst), a Parquet or Arrow file, a folder,
        a pattern such as ``texts/**/*.txt``, an address that fsspec knows, such
        as ``s3://texts/a.jsonl``, "-" for stdin, or a name from ``tokenloom
        datasets``. Or it is a data set of Hugging Face ``datasets``. Any other
        iterable yields documents as str.
    path : str or path
        A new or empty folder.
    tokenizer : str, path, Vocab, Tokenizer, or an object of another package
        See `Corpus.from_text`. The vocabulary of "char" and "word" is that of
        the sources, and "bpe" learns of them; then they are read twice.
    vocab_size : int, optional
        The most ids that there may be, of a tokenizer that learns them; "char"
        and "word" keep the most frequent tokens of all sources. See
        `tokenloom.Corpus.from_text`.
    options : PrepareOptions, optional
    executor : concurrent.futures.Executor, optional
        Does the work. By default processes that end with the call, or none
        where there is little to do. Workers on other machines must see the
        folder of the store, under the same name, and have the same release.
    num_workers : int, optional
        How many processes. 0 and 1 do the work in this process, and so does
        the default where processes would not be faster: see
        `tokenloom.preparation.executor.choose_processes`. An executor of yours
        is sent twice as many chunks at a time, by default for each core.
    progress : bool, optional
        Whether to show a bar; by default where stderr is a terminal.

    Returns
    -------
    Prepared
        What is in the store.

    Raises
    ------
    ArgumentError
        A source, the path or an option cannot work.
    ArchiveError, ChecksumError, DownloadError
        A named text could not be fetched.
    CorpusError
        Something cannot be read, with its source and offset; a source was
        changed meanwhile; or there is no token in any of them.
    StoreError
        Something else has that name, an interrupted run had other settings, or a
        file cannot be written, such as on a full disk.
    UsageError
        A package that reads or decompresses a source is not installed.
    WorkerError
        A worker died, does not see the folder of the store, or has another
        release of tokenloom.
    """
    began_at = time.perf_counter()
    given = {"options": options, "executor": executor, "num_workers": num_workers}
    checked = check_all({**given, "progress": progress}, _CHECKS)
    options = _USUAL if options is None else options
    method = choose_method(tokenizer, options, vocab_size=vocab_size)
    # Messages name it as it was given; workers may have another current folder.
    named = as_path(path)
    target = named.absolute()
    found = _resolve(sources, options)
    method = _name_splits(method, found, options)
    if is_store(target):
        manifest = check_finished(named, found, method.settings)
        remove_rest(target)
        return _summarize(path, manifest, began_at)
    require_free(named)
    # Splits are cut at the end, so they may change at a resume.
    settings = {k: v for k, v in method.settings.items() if not k.startswith("split")}
    settings["sources"] = describe(found, field=options.field, prompt_field=options.prompt_field)
    with _saying_what_is_kept(named), open_work_dir(target) as work:
        # Another process may have finished the store before this one locked the folder.
        if is_store(target):
            manifest = check_finished(named, found, method.settings)
            work.discard()
            return _summarize(path, manifest, began_at)
        with work.running(settings) as folder:
            shared = None if executor is None else share(work.path, executor)
            sources_here = open_sources(found, work, undecodable=method.undecodable)
            split_of = [one.split for one in found if one.split is not None]
            run = _Run(
                work, sources_here, method, options, shared, progress=progress, split_of=split_of
            )
            manifest = run.finish(folder, executor, checked["num_workers"])
        work.publish(target)
    return _summarize(path, manifest, began_at, run)


def _as_number_or_none(name: str, value: Any) -> int | None:
    return None if value is None else as_integer(name, value, stop=MAX_WORKERS)


_CHECKS: dict[str, Check] = {
    "options": partial(
        require_type, types=PrepareOptions | None, expected="PrepareOptions(...) or None"
    ),
    "executor": partial(
        require_type, types=Executor | None, expected="a concurrent.futures.Executor or None"
    ),
    "num_workers": _as_number_or_none,
    "progress": as_flag_or_none,
}


# Forms whose bytes are text as they stand: reading them needs no parsing.
_PLAIN = ("file", "paragraph", "line")


@dataclass
class _Run:
    """The pass over the sources, which resumes where it was stopped."""

    work: WorkDir
    sources: list[SourceFile]
    method: Method
    options: PrepareOptions
    shared: SharedFolder | None
    progress: bool | None = field(kw_only=True)
    # The split of each source, where splits are named by their sources.
    split_of: Sequence[str] = field(kw_only=True)
    # Whether the last run kept a finished chunk.
    is_resumed: bool = field(default=False, init=False)
    num_bytes_kept: int = field(default=0, init=False)
    # The hash of each source when a tokenizer was learnt of it.
    learned_of: dict[int, str] = field(default_factory=dict, init=False)

    @property
    def num_bytes(self) -> int:
        """Bytes of all sources, before decompression."""
        return sum(source.num_bytes for source in self.sources)

    @property
    def learning_sources(self) -> Sequence[SourceFile]:
        """The sources that a tokenizer learns from: the first split, if splits have sources."""
        return (
            self.sources[: self.split_of.count(self.split_of[0])] if self.split_of else self.sources
        )

    @property
    def num_bytes_read(self) -> int:
        """Bytes of all sources, without those that an interrupted run read."""
        return self.num_bytes - self.num_bytes_kept

    def finish(self, folder: Path, executor: Executor | None, num_workers: int | None) -> Manifest:
        """Do what is left to do, and write the store into a folder."""
        self.is_resumed = self.work.begin()
        # With 0 workers this process does the work.
        cores = count_cores() if num_workers is None else max(num_workers, 1)
        num_processes = -(-self.num_bytes // self.options.task_bytes)
        if num_workers is None:
            num_processes = choose_processes(
                self.method.tokenizer,
                num_cores=cores,
                num_bytes=self.num_bytes,
                is_plain=all(source.form in _PLAIN for source in self.sources),
                num_tasks=num_processes,
            )
        num_processes = min(cores, num_processes)
        if num_processes > 1:
            self._advise()
        with open_pool(executor, num_processes, sends=self.method.tokenizer) as doing:
            tally, tokenizer = self._encode(doing, num_ahead=2 * cores + 1)
            self._report(tally)
            self._compare(tally.digests)
            return self._assemble(folder, tally, tokenizer)

    def _advise(self) -> None:
        """Report documents that no two workers can divide."""
        if self.method.cutting.boundary != DOCUMENTS:
            return
        least = _NUM_TASKS_OF_LARGE * self.options.task_bytes
        large = [one for one in self.sources if one.form == "file" and one.num_bytes >= least]
        if large:
            others = f" and {count(len(large) - 1, 'other source')}" if len(large) > 1 else ""
            _LOGGER.warning(
                "%s%s: a file is one document, of %.1f MB here, which this tokenizer encodes as a "
                "whole, in one worker and in memory: to divide it among workers choose "
                "documents='paragraph' or documents='line', if these are documents of their own",
                large[0].name,
                others,
                large[0].num_bytes / 1e6,
            )

    def _encode(
        self, executor: Executor | None, *, num_ahead: int
    ) -> tuple[Tally, CompleteTokenizer]:
        """Return the tally of all chunks, and the tokenizer with what it has learnt."""
        if isinstance(self.method.tokenizer, LearnedTokenizer):
            self.method = self._learn(self.method.tokenizer, in_threads=executor is not None)
        tally = Tally(split_of=self.split_of)
        with self._bar("encode", self.num_bytes, "B") as bar:
            for part in self._parts(bar, executor, num_ahead):
                tally.add(part)
        tokenizer = self.method.tokenizer
        if isinstance(self.method.how, BuildVocab):
            tokenizer = self._build(self.method.how, tally)
        return tally, tokenizer

    def _learn(self, learner: LearnedTokenizer, *, in_threads: bool) -> Method:
        """Return how tokens are made by a tokenizer that is learnt now, or was learnt before."""
        kept = self.work.read(LEARNED, 0)
        if kept is None:
            self.work.remove(IDS)
            digests: dict[int, str] = {}
            num_bytes = sum(source.num_bytes for source in self.learning_sources)
            with self._bar("learn", num_bytes, "B") as bar:
                made = learner.learn(self._texts(bar, digests), in_threads=in_threads)
            files = made.files()
            facts = {"names": list(files), "tokenizer": made.describe(), "digests": digests}
            kept = Part(json.loads(json.dumps(facts)), list(files.values()))
            self.work.write(LEARNED, 0, kept)
        self.learned_of = {int(number): sha256 for number, sha256 in kept.facts["digests"].items()}
        contents = dict(zip(kept.facts["names"], kept.blobs, strict=True))
        tokenizer = restore_tokenizer(
            kept.facts["tokenizer"], load_vocab=Vocab, load_file=contents.__getitem__
        )
        if tokenizer is None:
            msg = (
                f"the interrupted run has learnt a tokenizer that this release does not know: "
                f"resume it with the release that began it, or remove {self.work.path}"
            )
            raise StoreError(msg)
        return use_learned(self.method, tokenizer, self.options)

    def _texts(self, bar: "tqdm[Any]", digests: dict[int, str]) -> Iterator[str]:
        """Yield the texts to learn from, and fill in the hashes of their sources."""
        problems: Counter[str] = Counter()
        for chunk in cut_chunks(self.learning_sources, self.method.cutting, hashes=True):
            for piece in chunk.slices:
                for segment in find_segments(piece, self.method.reading, problems):
                    yield str(segment.text)
            digests.update(chunk.digests)
            bar.update(chunk.position - bar.n)

    def _compare(self, digests: Mapping[int, str]) -> None:
        """Refuse sources that were changed after a tokenizer was learnt of them."""
        for number, sha256 in self.learned_of.items():
            if digests[number] != sha256:
                for kind in (LEARNED, IDS):
                    self.work.remove(kind)
                msg = (
                    f"{self.sources[number].name} must stay as it was when the tokenizer was "
                    "learnt, it was changed meanwhile: run the same again"
                )
                raise CorpusError(msg)

    def _report(self, tally: Tally) -> None:
        """Log what normalising dropped; raise where it left nothing."""
        is_learned = isinstance(self.method.how, BuildVocab)
        if not tally.num_tokens:
            where = count(tally.num_documents, "document")
            why = why_empty(tally.lost, is_learned=is_learned)
            if not tally.num_documents:
                why = "there is no document in them"
            msg = f"the sources must hold at least one token, got none in {where}: {why}"
            raise CorpusError(msg)
        first, *others = [source.name for source in self.sources]
        name = f"{first} and {count(len(others), 'other source')}" if others else first
        report_lost(tally.lost, name=name, is_learned=is_learned)

    def _bar(self, what: str, total: int, unit: str) -> "tqdm[Any]":
        return open_bar(desc=what, total=total, unit=unit, unit_scale=True, progress=self.progress)

    def _build(self, how: BuildVocab, tally: Tally) -> CountedTokenizer:
        """Return the tokenizer with the vocabulary whose tokens were counted."""
        _, *reserved = how.reserved
        first = self.split_of[0] if self.split_of else None
        vocab = Vocab(
            tally.splits.get(first, SplitTally()).counts,
            min_freq=self.options.min_freq,
            reserved_tokens=reserved,
            vocab_size=self.method.vocab_size,
        )
        known = frozenset(vocab.tokens[1:])
        unknown: set[str] = set()
        for split in tally.splits.values():
            missing = split.counts.keys() - known
            split.num_unknown = sum(split.counts[token] for token in missing)
            unknown |= missing
        tally.num_unknown = sum(split.num_unknown or 0 for split in tally.splits.values())
        tally.num_unknown_types = len(unknown)
        return how.tokenizer.with_vocab(vocab)

    def _parts(self, bar: "tqdm[Any]", executor: Executor | None, num_ahead: int) -> Iterator[Part]:
        """Yield the parts in order: those that are kept, then new ones."""
        index, start, position = 0, Cursor(), 0
        if self.is_resumed:
            for part in itertools.islice(self.work.read_all(IDS), self._prove()):
                index, start = index + 1, Cursor(*part.facts["stop"])
                position = part.facts["position"]
                bar.update(position - bar.n)
                yield part
            self.work.remove(IDS, start=index)
        self.num_bytes_kept = position
        if index:
            # The message has its own line.
            bar.clear()
            kept = (
                f"{count(index, 'chunk')}, {position / 1e6:,.1f} MB of {self.num_bytes / 1e6:,.1f}"
            )
            _LOGGER.info("resumes an interrupted preparation, keeps %s", kept)
        # Tokens are counted chunk by chunk, so a chunk lies in one split.
        pairs = enumerate(itertools.pairwise(self.split_of), 1)
        breaks = {number for number, (before, after) in pairs if before != after}
        method = self.method
        chunks = cut_chunks(
            self.sources, method.cutting, start=start, first=index, hashes=True, breaks=breaks
        )
        write = partial(
            write_part,
            work=self.work,
            shared=self.shared,
            reading=method.reading,
            how=method.how if executor is None else send_once(method.how, self.work),
        )
        results = run_in_order(
            write, chunks, executor=executor, num_ahead=num_ahead, is_done=self._has_part
        )
        with contextlib.closing(results):
            yield from self._keep(results, bar)

    def _has_part(self, chunk: Chunk) -> bool:
        return self.work.read(IDS, chunk.number, with_blobs=False) is not None

    def _prove(self) -> int:
        """Return how many parts of an interrupted run still agree with the sources."""
        with self._bar("compare", self.num_bytes, "B") as bar:
            kept = (part.facts for part in self.work.read_all(IDS, with_blobs=False))
            return prove_parts(self.sources, kept, report=bar.update)

    def _keep(
        self, results: Iterator[tuple[Chunk, Part | None]], bar: "tqdm[Any]"
    ) -> Iterator[Part]:
        """Yield the parts that workers have written."""
        # The blobs hold the counts, which are needed only to build a vocabulary.
        with_blobs = isinstance(self.method.how, BuildVocab)
        # A file that another machine has written may take a while to appear.
        patience = 0 if self.shared is None else SHARED_SECONDS
        for chunk, made in results:
            part = made or self.work.wait_for(
                IDS, chunk.number, with_blobs=with_blobs, patience=patience
            )
            bar.update(chunk.position - bar.n)
            yield part

    def _assemble(self, folder: Path, tally: Tally, tokenizer: CompleteTokenizer) -> Manifest:
        sources = [
            Source(
                name=source.name,
                num_documents=tally.documents[number],
                num_bytes=source.num_bytes,
                sha256=tally.digests[number],
            )
            for number, source in enumerate(self.sources)
        ]
        forms, end_id = [source.form for source in self.sources], self.method.end_id
        facts: dict[str, Any] = {
            "num_characters": tally.num_characters,
            "num_unknown": tally.num_unknown,
            "num_dropped": tally.lost.num_lost,
            "problems": tally.problems,
            "preparation": {**self.method.settings, "forms": forms, "end_id": end_id},
        }
        if self.options.prompt_field is not None:
            facts["num_learnt"] = tally.num_learnt
        # Only with a vocab_size, so that the bytes of other stores stay as older releases wrote
        # them.
        if self.method.vocab_size is not None:
            facts["num_unknown_types"] = tally.num_unknown_types
        if self.split_of:
            facts["num_unknown_of_splits"] = {
                name: split.num_unknown for name, split in tally.splits.items()
            }
        with self._bar("write", tally.num_tokens, " tokens") as bar:
            return assemble(
                folder,
                self.work,
                tally,
                tokenizer=tokenizer,
                sources=sources,
                options=self.options,
                facts=facts,
                report=bar.update,
            )


def _summarize(
    path: str | os.PathLike[str], manifest: Manifest, began_at: float, run: "_Run | None" = None
) -> Prepared:
    """Return the result of a preparation, from its manifest."""
    preparation = manifest.require_preparation()
    return Prepared(
        path=Path(path),
        is_new=run is not None,
        num_documents=manifest.num_documents or 0,
        num_tokens=manifest.num_tokens,
        vocab_size=manifest.vocab_size,
        num_characters=preparation.num_characters,
        num_unknown=preparation.num_unknown,
        num_unknown_types=preparation.num_unknown_types,
        num_learnt=preparation.num_learnt,
        num_dropped=preparation.num_dropped,
        num_bytes=sum(source.num_bytes or 0 for source in manifest.sources),
        num_bytes_read=0 if run is None else run.num_bytes_read,
        problems=preparation.problems,
        splits=_summarize_splits(manifest),
        seconds=time.perf_counter() - began_at,
    )


def _summarize_splits(manifest: Manifest) -> dict[str, PreparedSplit]:
    num_unknown = manifest.facts.get("num_unknown_of_splits")
    if not isinstance(num_unknown, Mapping):
        return {}
    return {
        name: PreparedSplit(stop - start, num_unknown.get(name))
        for name, (start, stop) in manifest.splits.items()
    }


def _resolve(sources: Sources, options: PrepareOptions) -> list[ResolvedSource]:
    return resolve_sources(
        sources,
        documents=options.documents,
        encoding=options.encoding,
        field=options.field,
        prompt_field=options.prompt_field,
    )


def _name_splits(method: Method, found: list[ResolvedSource], options: PrepareOptions) -> Method:
    """Return a method whose settings say which sources belong to which split.

    Raises
    ------
    ArgumentError
        Splits are asked for by fractions as well.
    """
    splits = Counter(one.split for one in found if one.split is not None)
    if not splits:
        return method
    for name, is_asked in {
        "splits": len(options.splits) > 0,
        "split_by": options.split_by != "document",
    }.items():
        if is_asked:
            msg = (
                f"{name} must be left out where the sources are a mapping of splits, which are "
                f"{', '.join(map(repr, splits))}, got {show(getattr(options, name))}"
            )
            raise ArgumentError(msg)
    # Not under "splits", which may change between an interrupted run and the next: chunks and
    # the vocabulary depend on it.
    return method._replace(settings={**method.settings, "sources_of_splits": dict(splits)})


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
        differences = ["it was saved from a corpus"]
    else:
        different = compare(preparation.settings, settings)
        differences = [*different, *_compare_sources(target, manifest, found)]
    if differences:
        msg = (
            f"{target} is a store already, and not of these sources and settings: "
            f"{'; '.join(differences)}; name another folder, or remove the store"
        )
        raise StoreError(msg)
    return manifest


def _compare_sources(
    target: Path, manifest: Manifest, found: list[ResolvedSource]
) -> Iterator[str]:
    names = [source.name for source in manifest.sources]
    now = [one.name for one in found]
    if names != now:
        yield _compare_names(names, now)
        return
    made_ns = (target / MANIFEST).stat().st_mtime_ns
    for source, one in zip(manifest.sources, found, strict=True):
        if not _is_same(source, one, made_ns):
            yield f"{source.name} has other bytes now"


def _compare_names(names: Sequence[str], now: Sequence[str]) -> str:
    """Return where two lists of sources differ first.

    >>> _compare_names(["a.txt", "b.txt"], ["a.txt"])
    "source 2 was 'b.txt', now none (of 2, now 1)"
    """
    pairs = enumerate(itertools.zip_longest(names, now), start=1)
    number, (was, given) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    shown = ["none" if name is None else repr(name) for name in (was, given)]
    sizes = f" (of {len(names):,}, now {len(now):,})" * (len(names) != len(now))
    return f"source {number:,} was {shown[0]}, now {shown[1]}{sizes}"


def _is_same(source: Source, found: ResolvedSource, made_ns: int) -> bool:
    origin = found.origin
    if isinstance(origin, DatasetRows):
        return origin.hash() == source.sha256
    if not isinstance(origin, Path | RemoteFile):
        return hash_content(origin()) == source.sha256
    num_bytes, changed_ns = stat(origin)
    if num_bytes != source.num_bytes:
        return False
    if isinstance(origin, RemoteFile):
        if origin.is_older(made_ns):
            return True
        with open_bytes(origin) as file:
            return hash_bytes(file) == source.sha256
    # A file that was renamed to this name keeps its time of modification; st_ctime shows the
    # renaming.
    changed_ns = max(changed_ns, origin.stat().st_ctime_ns)
    return changed_ns < made_ns or hash_file(origin) == f"sha256:{source.sha256}"


@contextlib.contextmanager
def _saying_what_is_kept(target: Path) -> Iterator[None]:
    """Add to the error that stops a run that the run can be resumed."""
    kept = "what is finished is kept, and the same call resumes from there"
    try:
        yield
    except StoreError:
        raise
    except KeyboardInterrupt as interrupt:
        msg = f"({kept})"
        raise KeyboardInterrupt(msg) from interrupt
    except Stopped as stop:
        raise Stopped(stop.number, f"({kept})") from stop
    except OSError as error:
        if error.strerror is None:
            raise
        msg = f"cannot write the store {str(target)!r}: {error.strerror}; {kept}"
        raise StoreError(msg) from error
