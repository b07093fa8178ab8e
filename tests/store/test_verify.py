"""Whatever happens to a store is found out, by verifying it or by our own errors."""

import contextlib
import copy
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tokenloom as tl
from tests.support.preparation.stores import lie, make_store, read_all, sign
from tokenloom._io.digest import hash_file
from tokenloom.store import verify as verify_module
from tokenloom.store.npy import write_npy
from tokenloom.store.reader import CURE
from tokenloom.store.verify import check_store, verify_store

FILES = (
    "documents.npy",
    "manifest.json",
    "tokens-00000.npy",
    "tokens-00001.npy",
    "tokens-00002.npy",
    "vocab.json",
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**40])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["../tokens-00000.npy", "/etc/passwd", "uint64", "0" * 64, "tokens-00001.npy"]
    ),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that each test leaves as it was."""
    return make_store(tmp_path_factory.mktemp("whole") / "store")


def is_found_out(path: Path) -> bool:
    """Return whether a store does not pass verification; opening it may raise our errors only."""
    with contextlib.suppress(tl.TokenloomError):
        read_all(path)
    try:
        return bool(verify_store(path, progress=False))
    except tl.StoreError:
        return True


def mutations_of(content: bytes) -> Iterator[bytes]:
    """Yield a content in which bits are flipped, or bytes are missing or added, everywhere."""
    draws = random.Random(0)  # noqa: S311  the same mutations in each run
    for at, byte in enumerate(content):
        before, after = content[:at], content[at + 1 :]
        for bit in draws.sample(range(8), 3):
            yield before + bytes([byte ^ 1 << bit]) + after
        yield before
        yield before + after
        yield before + bytes([draws.randrange(256)]) + content[at:]
    yield content + b"\0"
    yield content + b"\n"


@pytest.mark.parametrize(
    "name",
    [
        # The other shards are like the last one.
        pytest.param(name, marks=pytest.mark.slow) if name in FILES[2:4] else name
        for name in FILES
    ],
)
def test_no_mutation_of_a_file_passes(store: Path, name: str) -> None:
    """Flipped bits, lost and added bytes at every place: 11,000 mutations in all files."""
    path = store / name
    content = path.read_bytes()
    passed = []
    num_mutations = 0
    try:
        for mutated in mutations_of(content):
            num_mutations += 1
            path.write_bytes(mutated)
            if not is_found_out(store):
                passed.append(mutated)
    finally:
        path.write_bytes(content)

    assert [] == passed
    assert num_mutations == 6 * len(content) + 2


def test_a_whole_store_passes(store: Path) -> None:
    """Nothing is wrong with what nobody touched."""
    assert [] == verify_store(store)


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    """Ids and offsets of more than 4 MiB are checked, also where pieces of the file meet."""
    ends = np.arange(0, 2_200_001, 4)
    corpus = tl.Corpus.from_tokens(np.arange(2_200_000) % 60_000, documents=ends)
    folder = corpus.save(tmp_path / "store")

    sizes = [(folder / name).stat().st_size for name in ("tokens-00000.npy", "documents.npy")]
    assert min(sizes) > 1 << 22
    assert [] == verify_store(folder)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the values of a JSON value are, the whole one first."""
    yield path
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        yield from paths_of(part, (*path, key))


def is_harmless(path: tuple[Any, ...]) -> bool:
    """Return whether a part of the manifest is all that there is about something."""
    return path[0] in ("facts", "sources", "splits", "tokenizer")


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_lie_of_a_signed_manifest_passes(store: Path, data: st.DataObject) -> None:
    """A manifest that says something else, with a checksum that fits, is found out."""
    path = store / "manifest.json"
    text = path.read_text(encoding="utf-8")
    value = json.loads(text)
    del value["checksum"]
    told = copy.deepcopy(value)
    places = [place for place in paths_of(value) if place and not is_harmless(place)]
    *parents, key = data.draw(st.sampled_from(places))
    parent = told
    for step in parents:
        parent = parent[step]
    match data.draw(st.sampled_from(["replace", "remove", "add", "swap"])):
        case "replace":
            parent[key] = data.draw(json_values)
        case "remove":
            del parent[key]
        case "add" if isinstance(parent, dict):
            parent[data.draw(st.text())] = data.draw(json_values)
        case "add":
            parent.append(parent[key])
        case _ if isinstance(parent, list):
            parent.reverse()
        case _:
            parent[key] = data.draw(st.sampled_from(list(parent.values())))
    assume(json.dumps(told) != json.dumps(value))
    try:
        sign(store, told)
        assert is_found_out(store)
    finally:
        path.write_text(text, encoding="utf-8")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=json_values, name=st.sampled_from(["facts", "sources", "splits", "tokenizer"]))
def test_anything_else_in_a_manifest_raises_nothing_but_our_errors(
    store: Path, told: Any, name: str
) -> None:
    """What cannot be compared with a file is checked for its type."""
    path = store / "manifest.json"
    text = path.read_text(encoding="utf-8")
    try:
        lie(store, lambda value: value.update({name: told}))
        is_found_out(store)
    finally:
        path.write_text(text, encoding="utf-8")


def test_swapped_shards_are_named(tmp_path: Path) -> None:
    """Two files of the same size that changed places are both bad."""
    folder = make_store(tmp_path / "store")
    first, second, spare = (folder / f"tokens-0000{index}.npy" for index in (0, 1, 9))
    first.rename(spare)
    second.rename(first)
    spare.rename(second)

    problems = verify_store(folder)

    assert [str(first), str(second)] == [problem.split(" ")[0] for problem in problems]
    assert all("must have the SHA-256" in problem for problem in problems)


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    """The error of an open that verifies names all of them."""
    folder = make_store(tmp_path / "store")
    (folder / "tokens-00001.npy").unlink()
    (folder / "vocab.json").write_bytes(b"{}")

    with pytest.raises(
        tl.StoreError,
        match=r"is damaged: .*tokens-00001.npy must be a file of the store, got: No such file .*"
        r"vocab.json must have 243 bytes, got 2: make the store again",
    ):
        tl.Corpus.open(folder, verify=True)


def rewrite(folder: Path, name: str, values: list[int], dtype: str) -> None:
    """Write other values into a file of a store, and say so in its manifest."""
    written = write_npy(
        folder / name, [np.array(values)], dtype=np.dtype(dtype), length=len(values)
    )

    def change(value: dict[str, Any]) -> None:
        files = [*value["shards"], *value["files"]]
        next(file for file in files if file["name"] == name)["sha256"] = written.digest.hexdigest()

    lie(folder, change)


@pytest.mark.parametrize(
    ("name", "values", "dtype", "message"),
    [
        ("tokens-00001.npy", [1, 2, 9, 1], "<u1", "ids below vocab_size=9, got 9"),
        ("documents.npy", [0, 7, 6, 10], "<i8", "offsets that never fall, from 0 to 10"),
        ("documents.npy", [0, -1, 6, 10], "<i8", "offsets that never fall, from 0 to 10"),
        ("documents.npy", [1, 2, 6, 10], "<i8", "offsets that never fall, from 0 to 10"),
        ("documents.npy", [0, 2, 6, 9], "<i8", "offsets that never fall, from 0 to 10"),
        ("documents.npy", [0, 2, 11, 10], "<i8", "offsets that never fall, from 0 to 10"),
    ],
)
def test_values_that_cannot_be_are_found(
    tmp_path: Path, name: str, values: list[int], dtype: str, message: str
) -> None:
    """Files that are what the manifest says are still checked for what they say."""
    folder = make_store(tmp_path / "store")
    rewrite(folder, name, values, dtype)

    assert [f"{folder / name} must hold {message}: {CURE}"] == verify_store(folder)


def test_a_vocabulary_of_another_size_is_found(tmp_path: Path) -> None:
    """A vocabulary that is whole, but not that of the tokens, is a problem of its file."""
    folder = make_store(tmp_path / "store")
    vocab = tl.Vocab(["a"]).save(folder / "vocab.json")
    entry = {"num_bytes": vocab.stat().st_size, "sha256": hash_file(vocab).removeprefix("sha256:")}
    lie(folder, lambda value: value["files"][1].update(entry))

    problems = verify_store(folder)

    assert len(problems) == 1
    assert "must have vocab_size=9, got 2" in problems[0]


def test_progress_is_shown_on_request(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar counts bytes, and goes to stderr."""
    verify_store(store, progress=True)
    check_store(store, progress=False)
    captured = capsys.readouterr()

    assert captured.out == ""
    assert "verify: 100%" in captured.err
    assert captured.err.count("100%") == 1


def test_a_file_that_cannot_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk in the middle of a file is told like any other."""
    folder = make_store(tmp_path / "store")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verify_module, "_check_of", lambda *_: fail)

    problems = verify_store(folder)

    assert "tokens-00000.npy cannot be read: Input/output error" in problems[0]
