"""Every door to a prepared store, after each of its files was damaged: our errors only."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.support.preparation.stores import lie
from tokenloom._io.digest import hash_file
from tokenloom.cli.main import make_parser
from tokenloom.inspection.batches import read_batch
from tokenloom.store.npy import HEADER_BYTES
from tokenloom.store.verify import verify_store

FILES = (
    "documents.npy",
    "manifest.json",
    "places.npy",
    "tokens-00000.npy",
    "tokens-00001.npy",
    "vocab.json",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared store of two sources, some documents and many chunks."""
    folder = tmp_path_factory.mktemp("whole")
    lines = "To be, or not to be:\nthat is the question.\n\n"
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(lines * 4, encoding="utf-8")
    options = tl.PrepareOptions(
        documents="paragraph", task_bytes=50, shard_tokens=200, end_of_document="\x03"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        sources = [folder / "a.txt", folder / "b.txt"]
        tl.prepare(sources, folder / "store", options=options, num_workers=1)
    assert sorted(FILES) == sorted(path.name for path in (folder / "store").iterdir())
    return folder / "store"


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """Return a copy that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def _show(path: Path) -> None:
    corpus = tl.Corpus.open(path)
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=9)
    read_batch(windows, index=len(windows) - 1, rows=range(4))


def _info(path: Path) -> None:
    for words in (["--json"], ["--top", "3"]):
        arguments = make_parser().parse_args(["info", str(path), *words])
        arguments.run_command(arguments)


def _trace(path: Path) -> None:
    corpus = tl.Corpus.open(path)
    for token in (0, 150, 200, 299):
        tl.trace(corpus, token)


def _prepare(path: Path) -> None:
    sources = list(path.parent.glob("*.txt")) or [path.parent]
    tl.prepare(sources, path, num_workers=1)


DOORS: dict[str, Callable[[Path], object]] = {
    "show": _show,
    "info": _info,
    "trace": _trace,
    "open": lambda path: tl.Corpus.open(path, verify=True),
    "prepare": _prepare,
}


def _use(path: Path) -> list[str]:
    """Go through every door, and return what verification found."""
    for use in DOORS.values():
        with contextlib.suppress(tl.TokenloomError):
            use(path)
    try:
        return verify_store(path, progress=False)
    except tl.StoreError as error:
        return [str(error)]


def test_the_whole_store_passes_all_doors(whole: Path) -> None:
    """What the other tests suppress is no error of theirs."""
    for name, use in DOORS.items():
        if name != "prepare":
            use(whole)
    assert [] == verify_store(whole, progress=False)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits(store: Path, name: str) -> None:
    """One of them anywhere in a file."""
    path, dice = store / name, np.random.default_rng(FILES.index(name))
    content = path.read_bytes()
    for _ in range(12):
        bit = int(dice.integers(8 * len(content)))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert _use(store), f"bit {bit}"


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_cut_emptied_or_lengthened(store: Path, name: str) -> None:
    """So that their size is another one."""
    path = store / name
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:-1], content + b"\0"):
        path.write_bytes(damaged)
        assert _use(store)


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_swapped(store: Path, name: str) -> None:
    """Each with every other one, or with none."""
    content = (store / name).read_bytes()
    for other in FILES:
        if other > name:
            swapped = (store / other).read_bytes()
            (store / name).write_bytes(swapped)
            (store / other).write_bytes(content)
            assert _use(store)
            (store / other).write_bytes(swapped)
    (store / name).unlink()
    assert _use(store)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device"])
def test_what_is_no_file(store: Path, name: str, kind: str) -> None:
    """It is not waited for, nor read."""
    path = store / name
    path.rename(store.parent / "elsewhere")
    match kind:
        case "pipe":
            if not hasattr(os, "mkfifo"):
                pytest.skip("this system has no pipes in folders")
            os.mkfifo(path)
        case "link":
            path.symlink_to(store.parent / "elsewhere")
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    assert _use(store)


def _rewrite(store: Path, name: str, change: Callable[[Any], None]) -> None:
    """Change the numbers of a file, and sign it anew."""
    content = (store / name).read_bytes()
    values = np.frombuffer(content[HEADER_BYTES:], "<i8").copy()
    change(values)
    (store / name).write_bytes(content[:HEADER_BYTES] + values.tobytes())
    sha256 = hash_file(store / name).removeprefix("sha256:")

    def enter(value: dict[str, Any]) -> None:
        (entry,) = (file for file in value["files"] if file["name"] == name)
        entry["sha256"] = sha256

    lie(store, enter)


PLACES = [(field, number) for field in range(6) for number in (-1, 2**40, -(2**63), 2**63 - 1)]


@pytest.mark.parametrize(("field", "number"), PLACES)
@pytest.mark.parametrize("row", [0, 1, -1])
def test_places_that_cannot_be(store: Path, field: int, number: int, row: int) -> None:
    """Their hash is right all the same; sums and sizes of a document have no bound but 0."""

    def change(values: Any) -> None:
        values.reshape(-1, 6)[row, field] = number

    _rewrite(store, "places.npy", change)
    problems = _use(store)
    is_possible = number > 0 and (field == 5 or (field == 2 and row == -1))
    assert is_possible == (not problems)


FACTS: list[tuple[str, Any]] = [
    ("num_characters", "many"),
    ("num_characters", 10**400),
    ("num_unknown", -1),
    ("problems", [3]),
    ("problems", {"bad": "3"}),
    ("preparation", []),
    ("preparation", "word"),
    ("preparation.field", 3),
    ("preparation.on_error", ["stop"]),
    ("preparation.task_bytes", 0),
    ("preparation.task_bytes", 2**62),
    ("preparation.task_bytes", "4"),
    ("preparation.end_id", "3"),
    ("preparation.forms", ["file"]),
    ("preparation.forms", ["file", 3]),
    ("preparation.forms", "file"),
    ("preparation.forms", None),
]


@pytest.mark.parametrize(("name", "value"), FACTS)
def test_facts_that_cannot_be(store: Path, name: str, value: Any) -> None:
    """The manifest is signed all the same."""

    def change(manifest: dict[str, Any]) -> None:
        *folders, last = name.split(".")
        facts = manifest["facts"]
        for folder in folders:
            facts = facts[folder]
        facts[last] = value

    lie(store, change)
    assert _use(store)


def test_documents_of_sources_that_are_others(store: Path) -> None:
    """Their sum is not the number of documents."""
    lie(store, lambda value: value["sources"][0].update(num_documents=2))
    assert _use(store)
