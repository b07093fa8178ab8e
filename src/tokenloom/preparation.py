"""Texts of any size to a store."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from tokenloom.arrays import narrow_dtype
from tokenloom.assembly import IDS, Tally, assemble
from tokenloom.encoding import (
    Numbering,
    Result,
    StoredTokenizer,
    count_task,
    encode_task,
    restore,
)
from tokenloom.errors import StoreError
from tokenloom.executing import count_cores, open_pool, run_in_order
from tokenloom.finished import Prepared, find_finished, summarize
from tokenloom.gathering import SourceName, Texts, describe, gather, open_sources
from tokenloom.hashing import hash_file
from tokenloom.integers import as_integer
from tokenloom.manifest import Manifest, Source
from tokenloom.numbering import Kind, add_counts
from tokenloom.prepare_options import Method, PrepareOptions, choose_method, find_end_id, reserve
from tokenloom.stretches import Reading
from tokenloom.tasks import Place, SourceFile, Task, cut_tasks
from tokenloom.tokenizers import Tokenizer
from tokenloom.vocab import Vocab
from tokenloom.workfolder import Part, WorkFolder, open_work_folder, remove_rest

_COUNTS, _COUNTED = "counts", "counted"


def prepare(
    sources: SourceName | Texts | list[Any] | tuple[Any, ...],
    path: str | os.PathLike[str],
    *,
    tokenizer: object = "char",
    options: PrepareOptions | None = None,
    executor: Executor | None = None,
    num_workers: int | None = None,
    progress: bool | None = None,
) -> Prepared:
    """Write a store of texts, however large they are.

    The same sources and options give the same bytes, for any number of workers
    and any executor. Whatever stops it, the same call goes on where it stopped
    and ends with the same bytes. What is finished lies beside the store until
    it is whole, in a hidden folder.

    Parameters
    ----------
    sources : one source, or a list or tuple of them
        A source is a str or a path: a text file, also compressed (.gz, .bz2,
        .xz, .zst), JSON Lines, a folder, a pattern such as ``texts/**/*.txt``,
        "-" for stdin, or a name from ``tokenloom datasets``. Any other iterable
        yields documents as str.
    path : str or path
        A new or empty folder.
    tokenizer : "char", "word", "byte", a Vocab or a Tokenizer
        The vocabulary of the first two is counted in a pass of its own.
    options : PrepareOptions, optional
    executor : concurrent.futures.Executor, optional
        Does the work. By default processes that end with the call, or none
        where there is little to do. Those of another machine must see the
        folder of the store.
    num_workers : int, optional
        How many processes; by default one for each core. With an executor of
        yours, twice so many tasks are sent out at a time.
    progress : bool, optional
        Whether to show a bar; by default where stderr is a terminal.

    Returns
    -------
    Prepared
        What is in the store.

    Raises
    ------
    ArgumentError
        A source or an option cannot work.
    ArchiveError, ChecksumError, DownloadError
        A named text could not be fetched.
    CorpusError
        Something cannot be read, with its source and offset; a source was
        changed meanwhile; or there is no token in any of them.
    StoreError
        There is something else of that name, an interrupted run had other
        settings, or a file cannot be written, such as on a full disk.
    UsageError
        A package that decompresses a source is not installed.
    WorkerError
        A worker died.
    """
    began_at = time.perf_counter()
    options = PrepareOptions() if options is None else options
    method = choose_method(tokenizer, options)
    cores = (
        count_cores() if num_workers is None else as_integer("num_workers", num_workers, start=1)
    )
    target = Path(path).absolute()
    found = gather(sources, documents=options.documents)
    settings = {"tokenizer": method.describe(), **options.describe()}
    if manifest := find_finished(target, found, settings):
        remove_rest(target)
        return _summarize(path, manifest, began_at)
    with _telling(target), open_work_folder(target) as work:
        # Another process may have made it before this one had the folder.
        if manifest := find_finished(target, found, settings):
            work.discard()
            return _summarize(path, manifest, began_at)
        # Splits are cut at the end, so others may be asked for.
        parts_depend_on = {k: v for k, v in settings.items() if not k.startswith("split")}
        work.claim({**parts_depend_on, "sources": describe(found)})
        run = _Run(work, open_sources(found, work), method, options, progress=progress)
        num_processes = min(cores, -(-run.num_bytes // options.task_bytes))
        with open_pool(executor, num_processes, sends=method.tokenizer) as doing:
            manifest = run.finish(doing, num_ahead=2 * cores + 1, settings=settings)
        work.publish(target)
    return _summarize(path, manifest, began_at, run)


class _Learned(NamedTuple):
    """What tokenises, how it is sent to workers, and what is known of the sources."""

    tokenizer: Tokenizer
    sent: Tokenizer | StoredTokenizer
    digests: dict[int, str]


@dataclass
class _Run:
    """The passes over the sources, each of which goes on where it was stopped."""

    work: WorkFolder
    sources: list[SourceFile]
    method: Method
    options: PrepareOptions
    progress: bool | None = field(kw_only=True)
    num_bytes_kept: int = field(default=0, init=False)

    @property
    def num_bytes(self) -> int:
        """Bytes of all sources, before decompression."""
        return sum(source.num_bytes for source in self.sources)

    @property
    def num_passes(self) -> int:
        """How often each source is read."""
        return 1 if self.method.tokenizer else 2

    @property
    def num_bytes_read(self) -> int:
        """Bytes of all sources, without those that an interrupted run read, per pass."""
        return self.num_bytes - self.num_bytes_kept // self.num_passes

    def finish(
        self, executor: Executor | None, *, num_ahead: int, settings: dict[str, Any]
    ) -> Manifest:
        """Do what is left to do."""
        with tqdm(
            total=self.num_bytes * self.num_passes,
            unit="B",
            unit_scale=True,
            disable=None if self.progress is None else not self.progress,
        ) as bar:
            each_pass = functools.partial(self._pass, bar, executor, num_ahead)
            learned = self._learn(each_pass)
            tally = Tally()
            size = learned.tokenizer.vocab_size
            end = find_end_id(self.options.end_of_document, learned.tokenizer)
            numbering = Numbering(learned.sent, narrow_dtype(size).name, end)
            do = functools.partial(encode_task, reading=self._reading(), numbering=numbering)
            digests = dict(learned.digests)
            for part in each_pass(IDS, do, hashes=self.num_passes == 1):
                tally.add(part)
                _add_digests(digests, part)
            bar.set_description("write")
            return self._assemble(tally, learned.tokenizer, digests, settings)

    def _reading(self) -> Reading:
        return Reading(self.options.field, self.options.on_error, self.method.reads_bytes)

    def _learn(self, each_pass: Callable[..., Iterator[Part]]) -> _Learned:
        """Return the tokenizer, for which a vocabulary may have to be counted."""
        if self.method.tokenizer is not None:
            return _Learned(self.method.tokenizer, self.method.tokenizer, {})
        kind = self.method.kind or "char"
        counted = self.work.read(_COUNTED, 0)
        path = self.work.path / "vocab.json"
        if counted is None or not path.is_file() or hash_file(path) != counted.facts["vocab"]:
            counted = self._count(kind, path, each_pass)
        else:
            self.num_bytes_kept += self.num_bytes
        sent = StoredTokenizer(kind, self.options.normalize, str(path), counted.facts["vocab"])
        digests = {int(number): digest for number, digest in counted.facts["digests"].items()}
        return _Learned(restore(sent), sent, digests)

    def _count(self, kind: Kind, path: Path, each_pass: Callable[..., Iterator[Part]]) -> Part:
        counts: dict[str, int] = {}
        digests: dict[int, str] = {}
        do = functools.partial(
            count_task, reading=self._reading(), kind=kind, normalize=self.options.normalize
        )
        for part in each_pass(_COUNTS, do, hashes=True):
            add_counts(counts, json.loads(part.blobs[0]))
            _add_digests(digests, part)
        reserved = reserve(self.options)
        Vocab(counts, min_freq=self.options.min_freq, reserved_tokens=reserved).save(path)
        counted = Part({"vocab": hash_file(path), "digests": digests}, [])
        self.work.write(_COUNTED, 0, counted)
        self.work.remove(_COUNTS)
        return Part({**counted.facts, "digests": {str(k): v for k, v in digests.items()}}, [])

    def _pass(
        self,
        bar: "tqdm[Any]",
        executor: Executor | None,
        num_ahead: int,
        kind: str,
        do: Callable[[Task], Result],
        *,
        hashes: bool,
    ) -> Iterator[Part]:
        """Yield the parts of a pass in order: those that are kept, then new ones."""
        bar.set_description("count" if kind == _COUNTS else "encode")
        before = self.num_bytes if kind == IDS and self.method.tokenizer is None else 0
        index, start, position = 0, Place(), 0
        for part in self.work.read_all(kind):
            index, start, position = index + 1, Place(*part.facts["stop"]), part.facts["position"]
            bar.update(before + position - bar.n)
            yield part
        self.num_bytes_kept += position
        tasks = cut_tasks(
            self.sources,
            rule=self.method.rule,
            task_bytes=self.options.task_bytes,
            start=start,
            first=index,
            hashes=hashes,
        )
        results = run_in_order(do, tasks, executor=executor, num_ahead=num_ahead)
        with contextlib.closing(results):  # type: ignore[type-var]  # it is a generator
            for task, result in results:
                facts = {
                    **result.facts,
                    "start": task.slices[0].place,
                    "stop": task.stop,
                    "position": task.position,
                    "digests": task.digests,
                }
                part = Part(facts, result.blobs)
                self.work.write(kind, task.number, part)
                bar.update(before + task.position - bar.n)
                yield part

    def _assemble(
        self,
        tally: Tally,
        tokenizer: Tokenizer,
        digests: dict[int, str],
        settings: dict[str, Any],
    ) -> Manifest:
        sources = [
            Source(
                name=source.name,
                num_documents=tally.documents.get(number, 0),
                num_bytes=source.num_bytes,
                sha256=digests[number],
            )
            for number, source in enumerate(self.sources)
        ]
        end_id = find_end_id(self.options.end_of_document, tokenizer)
        forms = [source.form for source in self.sources]
        facts = {
            "num_characters": tally.num_characters,
            "num_unknown": tally.num_unknown,
            "problems": tally.problems,
            "preparation": {**settings, "forms": forms, "end_id": end_id},
        }
        return assemble(
            self.work,
            tally,
            tokenizer=tokenizer,
            dtype=narrow_dtype(tokenizer.vocab_size).name,
            sources=sources,
            options=self.options,
            facts=facts,
        )


def _add_digests(digests: dict[int, str], part: Part) -> None:
    digests.update({int(number): digest for number, digest in part.facts["digests"].items()})


def _summarize(
    path: str | os.PathLike[str], manifest: Manifest, began_at: float, run: "_Run | None" = None
) -> Prepared:
    return summarize(
        path,
        manifest,
        is_new=run is not None,
        num_bytes_read=0 if run is None else run.num_bytes_read,
        seconds=time.perf_counter() - began_at,
    )


@contextlib.contextmanager
def _telling(target: Path) -> Iterator[None]:
    """Say of what stops a run that it can go on."""
    kept = "what is finished is kept, and the same call goes on from there"
    try:
        yield
    except StoreError:
        raise
    except KeyboardInterrupt as interrupt:
        msg = f"({kept})"
        raise KeyboardInterrupt(msg) from interrupt
    except OSError as error:
        if error.strerror is None:
            raise
        msg = f"cannot write the store {str(target)!r}: {error.strerror}; {kept}"
        raise StoreError(msg) from error
