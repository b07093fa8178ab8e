"""The folder in which a preparation keeps what is finished."""

from pathlib import Path

import pytest

import tokenloom as tl
from tokenloom.workfolder import Part, WorkFolder, compare, open_work_folder, remove_rest, work_path

PART = Part({"n": 3}, [b"some", b"", b"bytes\n"])


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    """Return a folder that nobody locks."""
    return WorkFolder(tmp_path)


def test_parts_come_back(work: WorkFolder) -> None:
    """Up to the first that is missing."""
    for number in (0, 1, 3):
        work.write("ids", number, PART)
    assert PART == work.read("ids", 0)
    assert [PART, PART] == list(work.read_all("ids"))
    assert work.read("ids", 2) is None
    work.remove("ids")
    assert [] == list(work.path.iterdir())


def test_no_damage_passes(work: WorkFolder) -> None:
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


def test_other_settings_are_refused(work: WorkFolder) -> None:
    """Each difference is named."""
    work.claim({"a": 1, "b": (2,), "c": {"d": 1}})
    work.write("ids", 0, PART)
    work.claim({"a": 1, "b": (2,), "c": {"d": 1}})
    with pytest.raises(
        tl.StoreError, match=r"a was 1, now 3; c: d was 1, now 2; run it with its own settings"
    ):
        work.claim({"a": 3, "b": (2,), "c": {"d": 2}})


def test_settings_are_free_before_the_first_part(work: WorkFolder) -> None:
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


def test_bad_documents_may_be_skipped_later(work: WorkFolder) -> None:
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
def test_damaged_settings(work: WorkFolder, content: bytes) -> None:
    """The folder to remove is named."""
    (work.path / "settings.json").write_bytes(content)
    with pytest.raises(tl.StoreError, match=rf"those in {work.path} are damaged: remove that"):
        work.claim({"a": 1})


def test_many_differences_are_not_all_named() -> None:
    """Of thousands of files some will do."""
    (difference,) = compare({"s": dict.fromkeys(range(9), 1)}, {"s": dict.fromkeys(range(9), 2)})
    assert difference.endswith(", and 6 more")


def test_the_folder_is_locked(tmp_path: Path) -> None:
    """As long as the block runs, also for this process."""
    target = tmp_path / "store"
    with open_work_folder(target) as work:
        assert work_path(target) == work.path
        with (
            pytest.raises(tl.StoreError, match="another process works in"),
            open_work_folder(target),
        ):
            pass
    with open_work_folder(target):
        pass


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """It has no name that anybody reads."""
    target = tmp_path / "store"
    work_path(target).mkdir()
    (work_path(target) / "tokens-0000000.abcd.part").touch()
    with open_work_folder(target) as work:
        assert [] == list(work.path.iterdir())


def test_the_rest_of_a_finished_run_is_removed(tmp_path: Path) -> None:
    """It was killed between its last two steps; a run that goes on is left alone."""
    target = tmp_path / "store"
    remove_rest(target)
    with open_work_folder(target) as work:
        work.write("ids", 0, PART)
        remove_rest(target)
        assert PART == work.read("ids", 0)
    remove_rest(target)
    assert [] == list(tmp_path.iterdir())


def test_publishing_leaves_the_store_alone(tmp_path: Path) -> None:
    """An empty folder gives way to it."""
    target = tmp_path / "store"
    target.mkdir()
    with open_work_folder(target) as work:
        work.store.mkdir()
        (work.store / "file").touch()
        work.publish(target)
    assert ["store"] == [path.name for path in tmp_path.iterdir()]
    assert ["file"] == [path.name for path in target.iterdir()]
