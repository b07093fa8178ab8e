"""A store out of the parts that a preparation kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.preparation.assemble import Tally, assemble, cut_splits
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.workdir import IDS, Part, WorkDir
from tokenloom.store.manifest import Manifest, Source
from tokenloom.store.verify import verify_store
from tokenloom.text.tokenizers import ByteTokenizer

# Ids of three chunks, where documents end in them, characters of the open document.
TASKS: tuple[tuple[list[int], list[int], int], ...] = (
    ([1, 2, 3], [2], 1),
    ([4], [], 1),
    ([5, 6], [1, 2], 0),
)
# What each counted of tokens, were their vocabulary built.
COUNTS: tuple[dict[str, int], ...] = ({"b": 1, "a": 2}, {"a": 1}, {"c": 1})


def make_parts(work: WorkDir) -> Tally:
    """Keep the parts of three chunks over two sources, and count them."""
    tally = Tally()
    for number, (ids, ends, open_characters) in enumerate(TASKS):
        facts = {
            "start": [number // 2, 10 * number, 0, number == 1],
            "num_tokens": len(ids),
            "dtype": "|u1",
            "num_characters": len(ids),
            "num_unknown": None if number == 0 else 1,
            "digests": {str(number // 2): "0" * 64} if number else {},
            "problems": {"invalid JSON": 1} if number else {},
            "documents": [[number // 2, len(ends)]],
            "has_end": bool(ends),
            "open_characters": open_characters,
        }
        counts = json.dumps(COUNTS[number]).encode("ascii")
        part = Part(facts, [bytes(ids), np.array(ends, "<i8").tobytes(), counts])
        work.write(IDS, number, part)
        tally.add(part)
    return tally


def make(work: WorkDir, tally: Tally, **changes: Any) -> Manifest:
    """Assemble a store of small shards."""
    told: list[int] = []
    work.store.mkdir(exist_ok=True)
    manifest = assemble(
        work.store,
        work,
        tally,
        tokenizer=ByteTokenizer(),
        sources=[Source(name="a", num_documents=1), Source(name="b", num_documents=2)],
        options=PrepareOptions(**{"shard_tokens": 4, **changes}),
        facts={},
        report=told.append,
    )
    assert tally.num_tokens == sum(told)
    return manifest


def test_parts_are_counted(tmp_path: Path) -> None:
    """In the order of the chunks."""
    tally = make_parts(WorkDir(tmp_path))
    assert ([0, 3, 4, 6], 6, 3) == (tally.starts, tally.num_tokens, tally.num_documents)
    assert [[0, 0, 0, 0, 0], [0, 10, 0, 1, 1], [1, 20, 0, 0, 2]] == tally.places
    assert ({0: 1, 1: 2}, 6, 2) == (tally.documents, tally.num_characters, tally.num_unknown)
    assert {"invalid JSON": 2} == tally.problems
    # The order of first appearance decides on ties.
    assert [("b", 1), ("a", 3), ("c", 1)] == list(tally.splits[None].counts.items())
    assert {0: "0" * 64, 1: "0" * 64} == tally.digests


@pytest.mark.parametrize("shard_tokens", [1, 2, 3, 4, 6, 100])
def test_shards_take_ids_of_several_chunks(tmp_path: Path, shard_tokens: int) -> None:
    """And chunks give theirs to several shards."""
    work = WorkDir(tmp_path)
    make(work, make_parts(work), shard_tokens=shard_tokens)
    corpus = tl.Corpus.open(work.store)
    assert corpus.documents is not None
    assert ([1, 2, 3, 4, 5, 6], [0, 2, 5, 6]) == (
        corpus.tokens[:].tolist(),
        corpus.documents.tolist(),
    )
    assert [] == verify_store(work.store)


def test_shards_that_are_whole_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are written again."""
    work = WorkDir(tmp_path)
    expected = make(work, make_parts(work))
    shards = [work.store / f"tokens-0000{number}.npy" for number in range(2)]
    shards[1].write_bytes(shards[1].read_bytes()[:-1] + b"\x00")
    written = []
    write = work.write

    def count(_: WorkDir, kind: str, index: int, part: Part) -> None:
        if kind == "shard":
            written.append(index)
        write(kind, index, part)

    tally = make_parts(work)
    monkeypatch.setattr(WorkDir, "write", count)
    assert (expected, [1]) == (make(work, tally), written)


def test_a_part_that_vanished_is_told(tmp_path: Path) -> None:
    """Somebody else did it."""
    work = WorkDir(tmp_path)
    tally = make_parts(work)
    work.part(IDS, 1).unlink()
    with pytest.raises(tl.StoreError, match=r"tokens-0000001 was changed by somebody else"):
        make(work, tally)


@pytest.mark.parametrize(
    ("splits", "stop", "empty"),
    [({"a": 0.99}, 0, "'train'"), ({"a": 0.2, "b": 0.2}, 5, "'a'"), ({"a": 0.2}, 10, "'a'")],
)
def test_a_split_without_tokens_is_told(splits: dict[str, float], stop: int, empty: str) -> None:
    """With what helps."""
    with pytest.raises(tl.StoreError, match=rf"must hold a token, got none in {empty}: choose"):
        cut_splits(PrepareOptions(splits=splits), 10, lambda _: stop)
