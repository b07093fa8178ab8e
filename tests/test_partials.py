"""Files and folders on their way to a name, and whose they are."""

import os
import sys
import time
from pathlib import Path

import pytest

from tokenloom import files
from tokenloom.partials import PartialFile, partial_folder

ORPHAN = ".text.txt.0123456789abcdef.download"
ORPHAN_FOLDER = ".texts.0123456789abcdef.unpack"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")


class _StopError(Exception):
    """What the tests raise in the middle of writing."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return where the file shall be, in a folder that does not exist yet."""
    return tmp_path / "cache" / "text.txt"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _orphan(target: Path, content: bytes, name: str = ORPHAN) -> Path:
    target.parent.mkdir(exist_ok=True)
    path = target.with_name(name)
    path.write_bytes(content)
    return path


def _age(path: Path, days: float) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def _write_and_fail(target: Path, error: BaseException) -> None:
    with PartialFile(target) as partial:
        partial.append(b"half")
        raise error


def test_published_file_has_its_name(target: Path) -> None:
    """What was appended is there, and nothing else."""
    with PartialFile(target) as partial:
        partial.append(b"some ")
        partial.append(b"text")
        partial.publish()

    assert (["text.txt"], b"some text") == (_names(target.parent), target.read_bytes())


def test_file_takes_its_name_in_one_step(target: Path) -> None:
    """The file itself is renamed, so that no reader sees half of a copy."""
    with PartialFile(target) as partial:
        partial.append(b"text")
        before = partial.path.stat()
        partial.publish()

    assert os.path.samestat(before, target.stat())


def test_file_has_no_name_before(target: Path) -> None:
    """Until it is published the target does not exist."""
    with PartialFile(target) as partial:
        partial.append(b"text")
        before = target.exists()
        partial.publish()

    assert not before


def test_bytes_are_seen_at_once(target: Path) -> None:
    """A process that is killed leaves all that was appended."""
    with PartialFile(target) as partial:
        partial.append(b"text")
        seen = partial.path.read_bytes()

    assert (b"text", 4) == (seen, len(seen))


def test_restarted_file_is_empty(target: Path) -> None:
    """What was appended before is forgotten."""
    with PartialFile(target) as partial:
        partial.append(b"wrong and longer")
        partial.restart()
        partial.append(b"text")
        assert partial.size == 4
        partial.publish()

    assert target.read_bytes() == b"text"


@posix
@pytest.mark.parametrize("error", [_StopError(), KeyboardInterrupt()])
def test_unfinished_file_is_kept_and_adopted(target: Path, error: BaseException) -> None:
    """An exception leaves the bytes for the next one who wants the same file."""
    with pytest.raises(type(error)):
        _write_and_fail(target, error)
    with PartialFile(target) as partial:
        assert partial.path.read_bytes() == b"half"
        partial.append(b" and half")
        partial.publish()

    assert (["text.txt"], b"half and half") == (_names(target.parent), target.read_bytes())


def test_file_that_the_disk_refused_is_removed(target: Path) -> None:
    """What fills a disk does not stay."""
    with pytest.raises(OSError, match="full"):
        _write_and_fail(target, OSError("full"))

    assert [] == _names(target.parent)


def test_empty_file_is_removed(target: Path) -> None:
    """There is nothing to go on from."""
    with PartialFile(target):
        pass

    assert [] == _names(target.parent)


def test_old_file_stays(target: Path) -> None:
    """What has the name is replaced by what is published, and by nothing else."""
    _orphan(target, b"old", target.name)
    with pytest.raises(_StopError):
        _write_and_fail(target, _StopError())

    assert target.read_bytes() == b"old"


@posix
def test_longest_orphan_is_adopted(target: Path) -> None:
    """The other orphans of the same file are removed."""
    for number, content in enumerate((b"ab", b"abcd", b"abc")):
        _orphan(target, content, f".text.txt.{number:016x}.download")
    with PartialFile(target) as partial:
        held = partial.path.read_bytes(), len(_names(target.parent))

    assert (b"abcd", 1) == held


@posix
def test_living_file_is_not_adopted(target: Path) -> None:
    """Who writes a file keeps it, however many others want it."""
    with PartialFile(target) as first, PartialFile(target) as second, PartialFile(target) as third:
        first.append(b"first")
        second.append(b"second")
        with PartialFile(target) as fourth:
            size = fourth.size
        paths = {first.path, second.path, third.path}
        second.publish()

    assert (3, 0) == (len(paths), size)
    assert target.read_bytes() == b"second"
    assert first.path.read_bytes() == b"first"


@posix
def test_link_to_another_file_is_not_adopted(target: Path, tmp_path: Path) -> None:
    """Who puts a link in the way makes nobody write elsewhere."""
    (tmp_path / "elsewhere").write_bytes(b"mine")
    target.parent.mkdir()
    target.with_name(ORPHAN).symlink_to(tmp_path / "elsewhere")
    with PartialFile(target) as partial:
        partial.append(b"text")
        partial.publish()

    assert (b"mine", b"text") == ((tmp_path / "elsewhere").read_bytes(), target.read_bytes())


@posix
@pytest.mark.parametrize("name", ["text", "text.txt.txt", "ext.txt", "t*t.txt"])
def test_file_of_another_target_is_not_adopted(target: Path, name: str) -> None:
    """Whose a partial is, is told by all of its name."""
    orphan = _orphan(target, b"text")
    with PartialFile(target.with_name(name)) as partial:
        size = partial.size

    assert (0, b"text") == (size, orphan.read_bytes())


@posix
@pytest.mark.parametrize("name", [ORPHAN.replace("text", "other"), ORPHAN_FOLDER])
@pytest.mark.parametrize(("days", "stays"), [(6, True), (8, False)])
def test_orphans_do_not_pile_up(target: Path, name: str, days: float, *, stays: bool) -> None:
    """What nobody came back for in a week is removed, whatever it was for."""
    orphan = target.with_name(name)
    if name == ORPHAN_FOLDER:
        (orphan / "deep").mkdir(parents=True)
    else:
        _orphan(target, b"text", name)
    _age(orphan, days)
    with PartialFile(target):
        pass

    assert stays == orphan.exists()


@posix
def test_old_file_of_a_living_process_stays(target: Path) -> None:
    """A process that sleeps for a week keeps its file."""
    with PartialFile(target.with_name("other.txt")) as other:
        other.append(b"text")
        _age(other.path, 8)
        with PartialFile(target):
            pass
        assert other.path.exists()


@pytest.mark.parametrize(
    "name", ["text.txt", ".text.txt.part", ".text.txt.0123456789abcdef.part", "0123.download"]
)
def test_other_files_stay(target: Path, name: str) -> None:
    """What is no partial is nobody's business here, however old it is."""
    other = _orphan(target, b"text", name)
    _age(other, 1000)
    with PartialFile(target):
        pass

    assert other.read_bytes() == b"text"


def test_orphan_that_another_process_takes_first(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between seeing an orphan and locking it, it may be gone: then a new file is made."""
    orphan = _orphan(target, b"text")
    lock = files.lock

    def lock_late(descriptor: int) -> None:
        if orphan.exists():
            orphan.rename(target)
        lock(descriptor)

    monkeypatch.setattr(files, "lock", lock_late)
    with PartialFile(target) as partial:
        partial.append(b"other")
        partial.restart()

    assert target.read_bytes() == b"text"


@posix
def test_new_file_that_another_process_takes_first(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and locking it, it may be taken for an orphan: then make another."""
    lock = files.lock
    taken: list[Path] = []

    def lock_late(descriptor: int) -> None:
        if not taken:
            (path,) = target.parent.iterdir()
            taken.append(path)
            path.unlink()
        lock(descriptor)

    monkeypatch.setattr(files, "lock", lock_late)
    with PartialFile(target) as partial:
        partial.append(b"text")
        partial.publish()

    assert target.read_bytes() == b"text"
    assert taken


def test_system_without_locks(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can tell who lives, nothing is adopted, and only what is old is removed."""

    def refuse(_: int) -> None:
        raise OSError

    monkeypatch.setattr(files, "lock", refuse)
    orphan = _orphan(target, b"text")
    with PartialFile(target) as partial:
        assert partial.size == 0
        partial.append(b"good")
        partial.publish()
    assert sorted([ORPHAN, "text.txt"]) == _names(target.parent)

    _age(orphan, 8)
    with PartialFile(target):
        pass
    assert ["text.txt"] == _names(target.parent)


def test_folder_takes_its_name(tmp_path: Path) -> None:
    """After the block it is there with all that was written, and nothing else."""
    with partial_folder(tmp_path / "cache" / "texts") as folder:
        (folder / "a.txt").write_bytes(b"a")
        before = _names(tmp_path / "cache")

    assert "texts" not in before
    assert ["texts"] == _names(tmp_path / "cache")
    assert ["a.txt"] == _names(tmp_path / "cache" / "texts")


def _fill_and_fail(target: Path) -> None:
    with partial_folder(target) as folder:
        (folder / "a.txt").write_bytes(b"a")
        raise _StopError


def test_failed_folder_is_removed(tmp_path: Path) -> None:
    """If the block raises nothing is left."""
    with pytest.raises(_StopError):
        _fill_and_fail(tmp_path / "texts")

    assert [] == _names(tmp_path)


def test_faster_folder_stays(tmp_path: Path) -> None:
    """If another process was faster its folder is not touched."""
    with partial_folder(tmp_path / "texts") as folder:
        (folder / "a.txt").write_bytes(b"slow")
        (tmp_path / "texts").mkdir()
        (tmp_path / "texts" / "a.txt").write_bytes(b"fast")

    assert (["texts"], b"fast") == (_names(tmp_path), (tmp_path / "texts" / "a.txt").read_bytes())


@posix
def test_folder_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    """Who unpacks the same archive clears up first."""
    (tmp_path / ORPHAN_FOLDER / "deep").mkdir(parents=True)
    with partial_folder(tmp_path / "texts"):
        assert not (tmp_path / ORPHAN_FOLDER).exists()


@posix
def test_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    """Two processes unpack side by side."""
    with partial_folder(tmp_path / "texts") as first, partial_folder(tmp_path / "texts") as second:
        (first / "a.txt").write_bytes(b"a")
        (second / "a.txt").write_bytes(b"a")

    assert ["texts"] == _names(tmp_path)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    """What is no folder is not replaced."""
    (tmp_path / "texts").write_bytes(b"text")
    with pytest.raises(OSError, match="texts"), partial_folder(tmp_path / "texts"):
        pass

    assert ["texts"] == _names(tmp_path)
