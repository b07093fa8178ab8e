"""A store out of the parts that a preparation kept."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenloom._io.digest import hash_file, hash_json
from tokenloom.corpus.offsets import DocumentOffsets
from tokenloom.errors import StoreError
from tokenloom.preparation.encode import read_counts, read_ids
from tokenloom.preparation.options import REST, PrepareOptions
from tokenloom.preparation.workdir import IDS, Part, WorkDir
from tokenloom.store.manifest import (
    DOCUMENTS,
    MANIFEST,
    OFFSETS,
    Manifest,
    ShardFile,
    Source,
    StoreFile,
    shard_name,
    write_manifest,
)
from tokenloom.store.writer import (
    write_documents,
    write_mask,
    write_places,
    write_shard,
    write_tokenizer,
)
from tokenloom.text.ids import Ids, Offsets, narrow_dtype
from tokenloom.text.interface import Tokenizer
from tokenloom.text.normalize import Lost
from tokenloom.text.tokenizers import CountedTokenizer
from tokenloom.text.vocab import Vocab


@dataclass(slots=True)
class SplitTally:
    """What is known of the chunks of a split.

    Attributes
    ----------
    num_tokens : int
    num_unknown : int or None
        Tokens that the vocabulary does not have.
    counts : Counter
        How often each token appears, in order of first appearance, where a
        vocabulary is built.
    """

    num_tokens: int = 0
    num_unknown: int | None = None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """What is known of all chunks, in their order.

    Attributes
    ----------
    starts : list of int
        How many tokens come before each chunk; and one more, for all of them.
    places : list of list of int
        For each chunk the source, the offset and the state in which it begins,
        whether a document continues there, and how many characters of that
        document come before: bytes, where bytes are tokens.
    num_tokens : int
        Of all chunks.
    documents : Counter
        How many documents each source has.
    num_characters : int
        Of all documents.
    num_unknown : int or None
        Tokens that the vocabulary does not have.
    num_unknown_types : int or None
        How many different tokens these are, where the vocabulary was counted.
    num_learnt : int
        Tokens that are none of prompts, where there are prompts.
    lost : Lost
        What normalising dropped.
    split_of : sequence of str
        The split of each source, where splits are named by their sources.
    splits : dict of str or None to SplitTally
        What is known of each split, or of all chunks under None.
    digests : dict of int to str
        SHA-256 of each source.
    problems : Counter
        How many documents were left out or replaced, by their problem.
    hash : str
        Hash of the facts and the bytes of all chunks.
    """

    starts: list[int] = field(default_factory=lambda: [0])
    places: list[list[int]] = field(default_factory=list)
    num_tokens: int = 0
    documents: Counter[int] = field(default_factory=Counter)
    num_characters: int = 0
    num_unknown: int | None = None
    num_unknown_types: int | None = None
    num_learnt: int = 0
    lost: Lost = field(default_factory=Lost)
    split_of: Sequence[str] = ()
    splits: dict[str | None, SplitTally] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    hash: str = ""
    _open_characters: int = 0

    @property
    def num_documents(self) -> int:
        """Documents of all sources."""
        return sum(self.documents.values())

    def add(self, part: Part) -> None:
        """Add the next chunk."""
        facts = part.facts
        self.hash = hash_json([self.hash, facts])
        source, offset, state, is_inside, *_ = facts["start"]
        self.places.append([source, offset, state, int(is_inside), self._open_characters])
        self.num_tokens += facts["num_tokens"]
        self.starts.append(self.num_tokens)
        for number, num_documents in facts["documents"]:
            self.documents[number] += num_documents
        self.num_characters += facts["num_characters"]
        split = self.splits.setdefault(
            self.split_of[source] if self.split_of else None, SplitTally()
        )
        split.num_tokens += facts["num_tokens"]
        if facts["num_unknown"] is not None:
            self.num_unknown = (self.num_unknown or 0) + facts["num_unknown"]
            split.num_unknown = (split.num_unknown or 0) + facts["num_unknown"]
        self.num_learnt += facts.get("num_learnt", 0)
        # A part of an older release has no such counts.
        self.lost = Lost(*map(sum, zip(self.lost, facts.get("lost", Lost()), strict=True)))
        split.counts.update(read_counts(part.blobs))
        self.digests.update({int(k): digest for k, digest in facts["digests"].items()})
        self.problems.update(facts["problems"])
        before = 0 if facts["has_end"] else self._open_characters
        self._open_characters = before + facts["open_characters"]


def assemble(  # noqa: PLR0913  each is a part of a store
    folder: Path,
    work: WorkDir,
    tally: Tally,
    *,
    tokenizer: Tokenizer,
    sources: Sequence[Source],
    options: PrepareOptions,
    facts: Mapping[str, Any],
    report: Callable[[int], object],
) -> Manifest:
    """Write the store into a folder from the parts in the work folder; return its manifest.

    Shards that an interrupted run finished are not written again. ``report`` is
    called with the number of tokens after each piece that was written.

    Raises
    ------
    OSError
        A file cannot be written.
    StoreError
        A split would hold no token.
    """
    vocab_size, num_tokens = tokenizer.vocab_size, tally.num_tokens
    vocab = tokenizer.vocab if isinstance(tokenizer, CountedTokenizer) else None
    dtype = narrow_dtype(vocab_size)
    parts = _Parts(work, tally, vocab, vocab_size, dtype, options.end_of_document)
    names, shards = [], []
    for index, start in enumerate(range(0, num_tokens, options.shard_tokens)):
        tokens = range(start, min(start + options.shard_tokens, num_tokens))
        names.append(shard_name(index))
        shard = parts.find_shard(index, folder / names[-1])
        if shard is None:
            shard = parts.write_shard(folder, index, tokens, report)
        else:
            report(shard.num_tokens)
        shards.append(shard)
    description, files = write_tokenizer(folder, tokenizer)
    places = [[start, *place] for start, place in zip(tally.starts, tally.places, strict=False)]
    files += (
        write_documents(folder, parts.ends(), num_documents=tally.num_documents),
        write_places(folder, places),
    )
    if options.prompt_field is not None:
        files += tuple(parts.write_masks(folder, shards))
    manifest = Manifest(
        dtype=dtype.name,
        vocab_size=vocab_size,
        shards=tuple(shards),
        files=files,
        tokenizer=description,
        splits=_split(folder, tally, options),
        sources=tuple(sources),
        facts=facts,
    )
    write_manifest(folder, manifest)
    names += [MANIFEST, *(file.name for file in files)]
    # Remove temporary files of a run that was killed before it renamed them.
    for rest in [path for path in folder.iterdir() if path.name not in names]:
        rest.unlink()
    return manifest


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts that were kept of chunks and shards."""

    work: WorkDir
    tally: Tally
    vocab: Vocab | None
    vocab_size: int
    dtype: np.dtype[Any]
    end_of_document: str | int | None

    def find_shard(self, index: int, path: Path) -> ShardFile | None:
        """Return the entry of a shard if an interrupted run finished it, else None."""
        if path.is_file() and not path.is_symlink() and (kept := self.work.read("shard", index)):
            facts, sha256 = kept.facts, kept.facts["sha256"]
            if facts.get("parts") == self.tally.hash and hash_file(path) == f"sha256:{sha256}":
                return ShardFile(facts["num_tokens"], sha256)
        return None

    def write_shard(
        self, folder: Path, index: int, tokens: range, report: Callable[[int], object]
    ) -> ShardFile:
        """Write a range of tokens, remember that it is finished, and return its entry."""

        def pieces() -> Iterator[Ids]:
            for ids in self.cut(tokens, self._read_ids):
                yield ids
                report(len(ids))

        shard = write_shard(
            folder,
            index,
            pieces(),
            num_tokens=len(tokens),
            dtype=self.dtype.name,
            vocab_size=self.vocab_size,
        )
        self.work.write("shard", index, Part({**asdict(shard), "parts": self.tally.hash}, []))
        return shard

    def write_masks(self, folder: Path, shards: Sequence[ShardFile]) -> Iterator[StoreFile]:
        """Write which tokens of each shard are learnt."""
        start = 0
        for index, shard in enumerate(shards):
            tokens = range(start, start + shard.num_tokens)
            pieces = self.cut(tokens, lambda part: np.frombuffer(part.blobs[3], np.uint8))
            yield write_mask(folder, index, pieces, num_tokens=shard.num_tokens)
            start = tokens.stop

    def cut(self, tokens: range, read: Callable[[Part], Ids]) -> Iterator[Ids]:
        """Yield what is read of the parts for a range of tokens, chunk by chunk."""
        starts = self.tally.starts
        # If chunks begin at [0, 50, 90], the tokens [60, 95) lie in chunks 1 and 2.
        first = int(np.searchsorted(starts, tokens.start, side="right")) - 1
        for index in range(first, len(starts) - 1):
            start, stop = starts[index : index + 2]
            if start >= tokens.stop:
                return
            values = read(self._read(index))
            yield values[max(tokens.start - start, 0) : min(tokens.stop, stop) - start]

    def _read_ids(self, part: Part) -> Ids:
        return read_ids(part.facts, part.blobs, self.vocab, self.end_of_document)

    def ends(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield 0 and where each document ends, in tokens, chunk by chunk."""
        for index, start in enumerate(self.tally.starts[:-1]):
            ends = np.frombuffer(self._read(index).blobs[1], OFFSETS) + start
            yield ends if index else np.insert(ends, 0, 0)

    def _read(self, index: int) -> Part:
        part = self.work.read(IDS, index)
        if part is None:
            msg = f"{self.work.part(IDS, index)} was changed by somebody else: run the same again"
            raise StoreError(msg)
        return part


def _split(folder: Path, tally: Tally, options: PrepareOptions) -> dict[str, tuple[int, int]]:
    if not options.splits and not tally.split_of:
        return {}
    offsets = np.load(folder / DOCUMENTS, mmap_mode="r")
    if tally.split_of:
        return _split_by_sources(offsets, tally)
    boundary = DocumentOffsets(offsets).boundary if options.split_by == "document" else int
    return cut_splits(options, tally.num_tokens, boundary)


def _split_by_sources(offsets: Offsets, tally: Tally) -> dict[str, tuple[int, int]]:
    """Return the range of tokens of each split that was named by its sources."""
    splits, start, num_documents = {}, 0, 0
    for name, numbers in itertools.groupby(range(len(tally.split_of)), tally.split_of.__getitem__):
        num_documents += sum(tally.documents.get(number, 0) for number in numbers)
        splits[name] = start, int(offsets[num_documents])
        start = splits[name][1]
    _refuse_empty(splits, "name other sources for it")
    return splits


def _refuse_empty(splits: Mapping[str, tuple[int, int]], cure: str) -> None:
    empty = [name for name, (start, stop) in splits.items() if start >= stop]
    if empty:
        msg = f"each split must hold a token, got none in {', '.join(map(repr, empty))}: {cure}"
        raise StoreError(msg)


def cut_splits(
    options: PrepareOptions, num_tokens: int, boundary: Any
) -> dict[str, tuple[int, int]]:
    """Return the range of tokens of each split.

    Parameters
    ----------
    options : PrepareOptions
    num_tokens : int
    boundary : callable
        Returns the token nearest to another one at which a split may begin.

    Raises
    ------
    StoreError
        A split would hold no token.

    >>> cut_splits(PrepareOptions(splits={"valid": 0.2, "test": 0.1}), 50, int)
    {'train': (0, 35), 'valid': (35, 45), 'test': (45, 50)}
    """
    names = [REST, *options.splits]
    left = 1 - sum(options.splits.values())
    stops = [boundary(int(num_tokens * stop + 1e-6)) for stop in _sums(left, options)]
    bounds = list(zip([0, *stops], [*stops, num_tokens], strict=True))
    splits = dict(zip(names, bounds, strict=True))
    cure = "choose other fractions, or split_by='block'; nothing has to be tokenised again"
    _refuse_empty(splits, cure)
    return splits


def _sums(left: float, options: PrepareOptions) -> Iterable[float]:
    for fraction in options.splits.values():
        yield left
        left += fraction
