"""The folder in which a preparation keeps what is finished."""

import os
from pathlib import Path

import pytest

import tokenloom as tl
from tokenloom.errors import CorpusError, WorkerError
from tokenloom.preparation.workdir import (
    Part,
    WorkDir,
    compare,
    open_work_dir,
    remove_rest,
    work_path,
)

PART = Part({"n": 3}, [b"some", b"", b"bytes\n"])


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    """Return a folder that nobody locks."""
    return WorkDir(tmp_path)


def test_parts_come_back(work: WorkDir) -> None:
    """Up to the first that is missing."""
    for number in (0, 1, 3):
        work.write("ids", number, PART)
    assert PART == work.read("ids", 0)
    assert [PART, PART] == list(work.read_all("ids"))
    assert work.read("ids", 2) is None
    work.remove("ids")
    assert [] == list(work.path.iterdir())


def test_no_damage_passes(work: WorkDir) -> None:
    """Each byte counts, and so does their number."""
    work.write("ids", 0, PART)
    path = work.part("ids", 0)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert work.read("ids", 0) in (None, PART)
        path.write_bytes(whole[:place])
        assert work.read("ids", 0) is None
    path.write_bytes(whole + b"x")
    assert work.read("ids", 0) is None


def test_other_settings_are_refused(work: WorkDir) -> None:
    """Each difference is named."""
    settings, other = (
        {"a": number, "b": (2,), "sources": {"c": {"number": 0, "num_bytes": number}}}
        for number in (1, 3)
    )
    work.claim(settings)
    work.write("ids", 0, PART)
    work.claim(settings)
    expected = "a was 1, now 3; the source 'c' was changed; give those settings"
    with pytest.raises(tl.StoreError, match=expected):
        work.claim(other)


def test_settings_are_free_before_the_first_part(work: WorkDir) -> None:
    """What streams held stays while they are the same."""
    stream, other = ({"sources": {"-": {"number": number}}} for number in (0, 1))
    work.claim({"a": 1, **stream})
    work.write("kept", 0, PART)
    (work.path / "source-0000000").touch()
    work.claim({"a": 2, **stream})
    assert PART == work.read("kept", 0)
    work.claim({"a": 2, **other})
    assert ["settings.json"] == [path.name for path in work.path.iterdir()]
    work.write("ids", 0, PART)
    with pytest.raises(tl.StoreError, match="a was 2, now 3"):
        work.claim({"a": 3, **other})


def test_bad_documents_may_be_skipped_later(work: WorkDir) -> None:
    """Not the other way round, since parts may lack some."""
    work.claim({"on_error": "stop"})
    work.write("ids", 0, PART)
    work.claim({"on_error": "skip"})
    work.claim({"on_error": "skip"})
    with pytest.raises(tl.StoreError, match="on_error was 'skip', now 'replace'"):
        work.claim({"on_error": "replace"})
    with pytest.raises(tl.StoreError, match="on_error was 'skip', now 'stop'"):
        work.claim({"on_error": "stop"})


@pytest.mark.parametrize("content", [b"{", b"[]", bytes(50), b"\xff", b"null"])
def test_damaged_settings(work: WorkDir, content: bytes) -> None:
    """The folder to remove is named."""
    (work.path / "settings.json").write_bytes(content)
    with pytest.raises(tl.StoreError, match=rf"those in {work.path} are damaged: remove that"):
        work.claim({"a": 1})


def test_parts_of_other_places_and_settings_do_not_belong(tmp_path: Path) -> None:
    """Each was whole, and is in another place now, or among the parts of another run."""
    first, second = WorkDir(tmp_path / "first"), WorkDir(tmp_path / "second")
    for work, value in ((first, 1), (second, 2)):
        work.path.mkdir()
        work.claim({"a": value})
        work.write("ids", 0, PART)
        work.write("ids", 1, PART)
    assert [PART, PART] == list(second.read_all("ids"))
    second.part("ids", 1).write_bytes(first.part("ids", 1).read_bytes())
    assert [PART] == list(second.read_all("ids"))
    assert [Part(PART.facts, [])] == list(second.read_all("ids", with_blobs=False))
    second.part("ids", 0).write_bytes(first.part("ids", 0).read_bytes())
    assert [] == list(second.read_all("ids"))
    assert [] == list(second.read_all("ids", with_blobs=False))
    first.part("ids", 0).rename(first.part("ids", 2))
    assert first.read("ids", 2) is None
    first.part("ids", 1).rename(first.part("other", 1))
    assert first.read("other", 1) is None


def test_facts_that_were_damaged_are_not_read(work: WorkDir) -> None:
    """They are proved by themselves, since the blobs are not looked at."""
    work.write("ids", 0, PART)
    path = work.part("ids", 0)
    whole = path.read_bytes()
    for place in range(len(whole) - len(b"".join(PART.blobs))):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert list(work.read_all("ids", with_blobs=False)) in ([], [Part(PART.facts, [])])


def _end_by(work: WorkDir, error: type[BaseException], a: int) -> None:
    with work.running({"a": a}):
        work.write("ids", 0, PART)
        raise error


def test_a_failed_run_leaves_its_settings_free(work: WorkDir) -> None:
    """An interrupted one does not, though the one before it failed."""
    with pytest.raises(CorpusError):
        _end_by(work, CorpusError, 1)
    work.claim({"a": 1})
    assert PART == work.read("ids", 0)
    work.claim({"a": 2})
    assert work.read("ids", 0) is None
    for error in (KeyboardInterrupt, WorkerError, OSError):
        work.begin()
        with pytest.raises(error):
            _end_by(work, error, 2)
        with pytest.raises(tl.StoreError, match="a was 2, now 3"):
            work.claim({"a": 3})


@pytest.mark.parametrize("plant", ["link", "file", "foreign folder", "other files", "store"])
def test_what_was_planted_is_left_alone(tmp_path: Path, plant: str) -> None:
    """A name of ours that was taken by something else is refused, and nothing is changed."""
    docs, path = tmp_path / "docs", work_path(tmp_path / "store")
    docs.mkdir()
    (docs / "thesis").write_text("years")
    match plant:
        case "link":
            path.symlink_to(docs)
        case "file":
            path.write_text("years")
        case "foreign folder":
            if not hasattr(os, "geteuid") or os.geteuid():
                pytest.skip("only root can give a folder to another user")
            path.mkdir()
            os.chown(path, 4321, -1)
        case "other files":
            path.mkdir()
            (path / "thesis").write_text("years")
        case "store":
            path.mkdir()
            (path / "store").symlink_to(docs)
    before = sorted(path.rglob("*"))
    with (
        pytest.raises(tl.StoreError, match=r"\.store\.prepare.*remove.*name another store"),
        open_work_dir(tmp_path / "store"),
    ):
        pass
    remove_rest(tmp_path / "store")
    assert before == sorted(path.rglob("*"))
    assert "years" == (docs / "thesis").read_text()


@pytest.mark.parametrize("plant", ["link", "file", "foreign folder"])
def test_a_store_is_made_in_a_folder_of_ours(work: WorkDir, plant: str) -> None:
    """The folder that becomes the store is refused like the one that it is in."""
    match plant:
        case "link":
            work.store.symlink_to(work.path)
        case "file":
            work.store.touch()
        case "foreign folder":
            if not hasattr(os, "geteuid") or os.geteuid():
                pytest.skip("only root can give a folder to another user")
            work.store.mkdir()
            os.chown(work.store, 4321, -1)
    refused = pytest.raises(tl.StoreError, match=r"store.*remove it, or name another store")
    with refused, work.running({}):
        pytest.fail("it began")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_nobody_else_enters_the_folder(tmp_path: Path) -> None:
    """The store in it has the usual mode, which it keeps under its name."""
    with open_work_dir(tmp_path / "store") as work:
        assert 0o700 == work.path.stat().st_mode & 0o777
        (tmp_path / "usual").mkdir()
        with work.running({}) as store:
            assert (tmp_path / "usual").stat().st_mode == store.stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_and_links_are_no_parts(work: WorkDir, tmp_path: Path) -> None:
    """A pipe is not waited for, and what a link leads to is not trusted."""
    work.write("ids", 0, PART)
    work.part("ids", 0).rename(tmp_path / "elsewhere")
    work.part("ids", 0).symlink_to(tmp_path / "elsewhere")
    assert work.read("ids", 0) is None
    work.part("ids", 0).unlink()
    os.mkfifo(work.part("ids", 0))
    assert [] == list(work.read_all("ids"))
    assert [] == list(work.read_all("ids", with_blobs=False))
    os.mkfifo(work.path / "settings.json")
    with pytest.raises(tl.StoreError, match="must be a regular file, is a named pipe"):
        work.claim({"a": 1})


def test_many_differences_are_not_all_named() -> None:
    """Of thousands of files some will do."""
    files = [{f"{number}.txt": {"number": number} for number in range(size)} for size in (9, 1)]
    (difference,) = compare({"sources": files[0]}, {"sources": files[1]})
    assert difference.startswith("the source '1.txt' is missing, the source '2.txt' is missing, ")
    assert difference.endswith(", and 5 more")


def test_the_folder_is_locked(tmp_path: Path) -> None:
    """As long as the block runs, also for this process."""
    target = tmp_path / "store"
    with open_work_dir(target) as work:
        assert work_path(target) == work.path
        with (
            pytest.raises(tl.StoreError, match="another process works in"),
            open_work_dir(target),
        ):
            pass
    with open_work_dir(target):
        pass


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """It has no name that anybody reads."""
    target = tmp_path / "store"
    work_path(target).mkdir()
    (work_path(target) / "tokens-0000000.abcd.part").touch()
    with open_work_dir(target) as work:
        assert [] == list(work.path.iterdir())


def test_the_rest_of_a_finished_run_is_removed(tmp_path: Path) -> None:
    """It was killed between its last two steps; a run that goes on is left alone."""
    target = tmp_path / "store"
    remove_rest(target)
    with open_work_dir(target) as work:
        work.claim({"a": 1})
        work.write("ids", 0, PART)
        remove_rest(target)
        assert PART == work.read("ids", 0)
    remove_rest(target)
    assert [] == list(tmp_path.iterdir())


def test_publishing_leaves_the_store_alone(tmp_path: Path) -> None:
    """An empty folder gives way to it."""
    target = tmp_path / "store"
    target.mkdir()
    with open_work_dir(target) as work:
        work.store.mkdir()
        (work.store / "file").touch()
        work.publish(target)
    assert ["store"] == [path.name for path in tmp_path.iterdir()]
    assert ["file"] == [path.name for path in target.iterdir()]
