"""Files are written whole or not at all."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tokenloom as tl
from tokenloom._io.atomic import (
    as_path,
    filling,
    remove_leftovers,
    replacing,
    require_own,
    write_text,
)
from tokenloom.cli.main import main
from tokenloom.errors import ArgumentError


class _StopError(Exception):
    """What the tests raise in the middle of writing."""


def _write_half(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"half of the new fi")
        raise error


def _fail_while_writing(path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        _write_half(path, error)


def _fill_half(path: Path, error: type[BaseException]) -> None:
    with filling(path) as folder:
        (folder / "a").write_bytes(b"1")
        raise error


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask() -> Iterator[int]:
    """Yield the mask that new files follow during the test."""
    mask = 0o027
    before = os.umask(mask)
    yield mask
    os.umask(before)


def test_replacing_makes_a_new_file(tmp_path: Path) -> None:
    """A file that did not exist has the new content after the block."""
    path = tmp_path / "vocab.json"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")

    expected = b"new"
    assert expected == path.read_bytes()


def test_replacing_overwrites_the_old_file(tmp_path: Path) -> None:
    """A file that existed has the new content after the block."""
    path = tmp_path / "vocab.json"
    path.write_bytes(b"old and longer")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")

    expected = b"new"
    assert expected == path.read_bytes()


def test_old_file_stays_while_the_new_one_is_written(tmp_path: Path) -> None:
    """A reader sees the whole old file until the block ends."""
    path = tmp_path / "vocab.json"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        seen = path.read_bytes()

    expected = b"old"
    assert expected == seen


@pytest.mark.parametrize("error", [_StopError, KeyboardInterrupt])
def test_failure_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    """An exception, also Ctrl-C, leaves the old file as it was."""
    path = tmp_path / "vocab.json"
    path.write_bytes(b"old")
    _fail_while_writing(path, error)

    expected = b"old"
    assert expected == path.read_bytes()


@pytest.mark.parametrize("error", [_StopError, KeyboardInterrupt])
def test_failure_leaves_no_temporary_file(tmp_path: Path, error: type[BaseException]) -> None:
    """An exception, also Ctrl-C, removes what was written so far."""
    _fail_while_writing(tmp_path / "vocab.json", error)

    expected: list[str] = []
    assert expected == _names(tmp_path)


def test_success_leaves_no_temporary_file(tmp_path: Path) -> None:
    """After the block the folder holds the file under its own name only."""
    with replacing(tmp_path / "vocab.json") as temporary:
        temporary.write_bytes(b"new")

    expected = ["vocab.json"]
    assert expected == _names(tmp_path)


def test_temporary_file_is_in_the_same_folder(tmp_path: Path) -> None:
    """Renaming never crosses a file system."""
    path = tmp_path / "deep" / "vocab.json"
    with replacing(path) as temporary:
        folder = temporary.parent

    assert path.parent == folder


def test_temporary_file_is_empty(tmp_path: Path) -> None:
    """Nothing of the old file is in the temporary one."""
    path = tmp_path / "vocab.json"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        content = temporary.read_bytes()

    expected = b""
    assert expected == content


def test_replacing_makes_missing_folders(tmp_path: Path) -> None:
    """Folders on the way to the file are made."""
    path = tmp_path / "some" / "where" / "vocab.json"
    with replacing(path):
        pass

    assert path.is_file()


def test_replacing_takes_a_str(tmp_path: Path) -> None:
    """A path may be a str."""
    path = tmp_path / "vocab.json"
    with replacing(os.fspath(path)):
        pass

    assert path.is_file()


def test_replacing_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """Where the folder cannot be made, OSError says so."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OSError, match="file"), replacing(tmp_path / "file" / "vocab.json"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file permission bits")
@pytest.mark.parametrize("old_mode", [None, 0o600])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, old_mode: int | None) -> None:
    """A new and a replaced file are as open as the user's mask lets any file be."""
    path = tmp_path / "vocab.json"
    if old_mode is not None:
        path.touch(mode=old_mode)
    with replacing(path):
        pass

    assert 0o666 & ~umask == path.stat().st_mode & 0o777


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask to speak of")
def test_umask_is_as_before(tmp_path: Path, umask: int) -> None:
    """Reading the mask does not change it."""
    with replacing(tmp_path / "vocab.json"):
        pass
    left = os.umask(umask)

    assert umask == left


def test_write_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    """Text is written in UTF-8 and its line ends are not translated."""
    path = tmp_path / "notes.txt"
    write_text(path, "é\n\r\n")

    expected = b"\xc3\xa9\n\r\n"
    assert expected == path.read_bytes()


@pytest.mark.parametrize("exists", [False, True])
def test_a_filled_folder_takes_its_name(tmp_path: Path, *, exists: bool) -> None:
    """A new folder, or an empty one, holds what was written, and nothing else is left."""
    if exists:
        (tmp_path / "store").mkdir()
    with filling(tmp_path / "store") as folder:
        (folder / "a").write_bytes(b"1")

    assert (["store"], ["a"]) == (_names(tmp_path), _names(tmp_path / "store"))


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    """A folder may be filled where there is none above it yet."""
    with filling(tmp_path / "deep" / "store"):
        pass

    assert (tmp_path / "deep" / "store").is_dir()


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [_StopError, KeyboardInterrupt])
def test_failure_leaves_the_folder_as_it_was(
    tmp_path: Path, error: type[BaseException], *, exists: bool
) -> None:
    """An exception, also Ctrl-C, removes what was written so far."""
    if exists:
        (tmp_path / "store").mkdir()
    with pytest.raises(error):
        _fill_half(tmp_path / "store", error)

    assert ["store"] * exists == _names(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
@pytest.mark.parametrize("kind", ["file", "full", "link"])
def test_what_is_there_already_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """A file, a folder with something in it, and a link to nowhere are in the way."""
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "link").symlink_to("nowhere")

    with pytest.raises(FileExistsError, match="new or an empty folder"), filling(tmp_path / kind):
        pytest.fail("it must not begin")
    assert ["file", "full", "link"] == _names(tmp_path)


CORPUS = tl.Corpus.from_text("the time machine")


@pytest.mark.parametrize(
    "call",
    [
        as_path,
        CORPUS.save,
        tl.Vocab([]).save,
        lambda path: tl.Run.create(path, corpus=CORPUS, settings={}),
        lambda path: tl.corpus.write_nanogpt(CORPUS, path),
        lambda path: tl.corpus.write_megatron(CORPUS, path),
        tl.open_foreign,
        lambda path: tl.prepare(iter(["to be"]), path),
    ],
)
def test_a_path_without_sense_is_refused(call: Callable[[str], object], tmp_path: Path) -> None:
    """No system allows a NUL character in a path, and nothing is made on the way to it."""
    with pytest.raises(ArgumentError, match=r"must hold no NUL character, got '.*a\\x00b"):
        call(str(tmp_path / "folder" / "a\0b"))
    assert _names(tmp_path) == []


_HAS_OWNERS = hasattr(os, "geteuid")
_IS_ROOT = _HAS_OWNERS and os.geteuid() == 0


@pytest.mark.parametrize("leads_to", ["folder", "file", "nowhere"])
def test_a_link_is_not_ours(tmp_path: Path, leads_to: str) -> None:
    """A link under the name is refused in words, wherever it leads."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / leads_to)
    with pytest.raises(PermissionError, match=r"must be no link.*name another"):
        require_own(link)


@pytest.mark.parametrize("name", ["folder", "file", "free"])
def test_what_this_user_made_is_ours(tmp_path: Path, name: str) -> None:
    """A folder or a file of this user, or a free name, may be used."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    require_own(tmp_path / name)


def test_folders_before_the_name_may_be_links(tmp_path: Path) -> None:
    """A path through a link means the place where it leads."""
    (tmp_path / "folder" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    require_own(tmp_path / "link" / "run")


@pytest.mark.skipif(not _IS_ROOT, reason="only root can give a file to another user")
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_belongs_to_another_user_is_not_ours(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A folder or a file of another user is refused, and the user is named."""
    path = tmp_path / "planted"
    make(path)
    os.chown(path, 4321, -1)
    with pytest.raises(PermissionError, match="must belong to this user, belongs to user 4321"):
        require_own(path)


@pytest.mark.skipif(not _HAS_OWNERS, reason="this system has other owners")
def test_one_owner_of_all_files_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every new file gets the same foreign owner, as on some mounts, that one is ours."""
    (tmp_path / "folder").mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    require_own(tmp_path / "folder")


_LEFT = f".store.{'0' * 16}.part"


def _leave(folder: Path, name: str = _LEFT) -> Path:
    """Leave what a killed process leaves, and return it."""
    left = folder / name
    (left / "store").mkdir(parents=True)
    (left / "store" / "tokens-00000.npy").write_bytes(b"1")
    return left


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """Files and folders on their way to the same name; those of other names stay."""
    _leave(tmp_path)
    other = _leave(tmp_path, f".other.{'0' * 16}.part")
    (tmp_path / f".vocab.json.{'0' * 16}.part").touch()
    with filling(tmp_path / "store"):
        pass
    write_text(tmp_path / "vocab.json", "new")
    assert [other.name, "store", "vocab.json"] == _names(tmp_path)


def test_what_another_writer_holds_stays(tmp_path: Path) -> None:
    """The second of two ends first, and takes nothing from the other."""
    with filling(tmp_path / "store") as first:
        with replacing(tmp_path / "vocab.json") as slow:
            with replacing(tmp_path / "vocab.json") as quick:
                quick.write_bytes(b"quick")
            slow.write_bytes(b"slow")
        remove_leftovers(tmp_path / "store")
        (first / "a").touch()
    assert b"slow" == (tmp_path / "vocab.json").read_bytes()
    assert ["store", "vocab.json"] == _names(tmp_path)
    assert ["a"] == _names(tmp_path / "store")


def test_links_among_leftovers_lead_nowhere(tmp_path: Path) -> None:
    """They stay, and so does what they lead to."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis").touch()
    (tmp_path / _LEFT).symlink_to(tmp_path / "docs")
    remove_leftovers(tmp_path / "store")
    assert ["thesis"] == _names(tmp_path / "docs")
    assert (tmp_path / _LEFT).is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_among_leftovers_are_not_waited_for(tmp_path: Path) -> None:
    """One that lies under the name of a temporary file is removed like it."""
    os.mkfifo(tmp_path / _LEFT)
    remove_leftovers(tmp_path / "store")
    assert [] == _names(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks anyway")
@pytest.mark.parametrize(("age", "stays"), [(3600, True), (30 * 24 * 3600, False)])
def test_without_locks_leftovers_are_removed_by_their_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, stays: bool
) -> None:
    """Somebody may still write what is young."""

    def refuse(_: int, how: int) -> None:
        raise OSError(how)

    monkeypatch.setattr("fcntl.flock", refuse)
    left = _leave(tmp_path)
    os.utime(left, (time.time() - age, time.time() - age))
    remove_leftovers(tmp_path / "store")
    assert stays == left.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_nobody_else_enters_a_folder_that_is_filled(tmp_path: Path, umask: int) -> None:
    """Under its name it has the usual mode."""
    with filling(tmp_path / "store") as folder:
        (outer,) = tmp_path.iterdir()
        assert outer in folder.parents
        assert 0o700 == outer.stat().st_mode & 0o777
    assert 0o777 & ~umask == (tmp_path / "store").stat().st_mode & 0o777


def test_a_link_is_not_filled(tmp_path: Path) -> None:
    """Also where it leads to an empty folder."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "docs")
    with pytest.raises(FileExistsError, match="new or an empty"), filling(tmp_path / "store"):
        pass
    assert ["docs", "store"] == _names(tmp_path)


def test_addresses_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No local folder is made of one, and the message keeps its secrets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("to be")
    message = r"must name a file or a folder on this machine, got the address 's3://bucket/x'"
    with pytest.raises(ArgumentError, match=message):
        tl.prepare("a.txt", "s3://key:hush@bucket/x")
    assert main(["prepare", "a.txt", "-o", "s3://bucket/x"])
    assert [tmp_path / "a.txt"] == list(tmp_path.iterdir())
