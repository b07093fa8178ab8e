"""Tests of files that came from elsewhere."""

import os
import socket
from pathlib import Path

import pytest

from tokenloom._io.regular import open_regular, read_bounded
from tokenloom.errors import ArgumentError


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    """A file of exactly the bound is read."""
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", max_bytes=5) == b"12345"


def test_a_larger_file_is_refused(tmp_path: Path) -> None:
    """One byte above the bound is too much, and the bound is named."""
    (tmp_path / "a").write_bytes(b"123456")
    with pytest.raises(OSError, match="at most 5 bytes, holds more"):
        read_bounded(tmp_path / "a", max_bytes=5)


def test_an_endless_device_is_not_read(tmp_path: Path) -> None:
    """A link to /dev/zero is refused by the kind of what it leads to."""
    (tmp_path / "settings.json").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="is a character device"):
        read_bounded(tmp_path / "settings.json", max_bytes=5)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A pipe that nobody writes to does not hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a named pipe"):
        open_regular(tmp_path / "pipe")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is named as one."""
    with pytest.raises(IsADirectoryError, match="is a folder"):
        open_regular(tmp_path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is named as one."""
    monkeypatch.chdir(tmp_path)  # since the path of a socket is limited to about 100 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(OSError, match="is a socket"):
            open_regular("s")


def test_a_broken_link_is_a_missing_file(tmp_path: Path) -> None:
    """A link that leads nowhere reads like a file that is not there."""
    (tmp_path / "a").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "a")


def test_a_link_is_refused_where_it_must_not_be_followed(tmp_path: Path) -> None:
    """A link to a good file is refused on request."""
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").symlink_to("a")
    assert read_bounded(tmp_path / "b", max_bytes=1) == b"1"
    with pytest.raises(OSError, match="is a symbolic link"):
        open_regular(tmp_path / "b", follow_links=False)


def test_a_name_that_no_system_allows_is_refused() -> None:
    """The message says why."""
    with pytest.raises(ArgumentError, match="must hold no NUL character"):
        open_regular(Path("a\0b"))
