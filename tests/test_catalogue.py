"""Which corpora have a name: ours, registered ones, and those of other packages."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenloom import Archive, ArgumentError, BuiltIn, Entry, RemoteFile, catalogue, register
from tokenloom.catalogue import CATALOGUE, find_entry, list_entries

DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be registered but what a test registers."""
    monkeypatch.setattr(catalogue, "_registered", {})
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())


def _read_text() -> bytes:
    return b"text"


def _entry(name: str = "mine", **changes: Any) -> Entry:
    fields = {"description": "a text", "licence": "ours", "source": BuiltIn(read=_read_text)}
    return Entry(name=name, **{**fields, **changes})


def _file(**changes: Any) -> RemoteFile:
    fields = {"filename": "a.txt", "urls": ("https://example.org/a",), "digest": DIGEST}
    return RemoteFile(**{**fields, **changes})


def _point(name: str, value: str) -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint(name, value, catalogue.ENTRY_POINT_GROUP)


def _install(monkeypatch: pytest.MonkeyPatch, *points: importlib.metadata.EntryPoint) -> None:
    """Let other packages have entry points."""

    def entry_points(*, group: str, name: str | None = None) -> Any:
        assert group == "tokenloom.corpora"
        return [point for point in points if name in (None, point.name)]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


BROUGHT = _entry("brought")


def test_catalogue_is_sorted() -> None:
    """Names are listed in their order."""
    assert sorted(CATALOGUE) == list(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entry_has_its_name(name: str) -> None:
    """An entry is found under its own name."""
    assert name == CATALOGUE[name].name


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entry_is_verified(name: str) -> None:
    """What is downloaded has a size and a hash, and comes over a secure connection first."""
    file = CATALOGUE[name].file

    assert file is None or (file.num_bytes and file.urls[0].startswith("https://"))


def test_imdb_is_the_published_archive() -> None:
    """Its address, size and hash are those of its authors' page."""
    file = CATALOGUE["imdb"].file
    assert file

    expected = (
        ("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
        84_125_825,
        "md5:7c2ac02c03563afcf9b574c7e56c153a",
    )
    assert expected == (file.urls, file.num_bytes, file.digest)


def test_tiny_shakespeare_is_the_published_text() -> None:
    """Its address, size and hash are those of char-rnn."""
    file = CATALOGUE["tiny_shakespeare"].file
    assert file

    host = "https://raw.githubusercontent.com"
    expected = (
        (f"{host}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
        1_115_394,
        "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )
    assert expected == (file.urls, file.num_bytes, file.digest)


def test_find_entry_that_is_none() -> None:
    """A name that nobody has is no error here."""
    assert find_entry("war_and_peace") is None


def test_find_split() -> None:
    """A split is an entry that has no other split, and the same file."""
    whole, split = CATALOGUE["imdb"], find_entry("imdb/unsup")
    assert split
    assert isinstance(split.source, Archive)

    assert ("imdb/unsup", ("unsup",), whole.file) == (split.name, split.source.splits, split.file)


@pytest.mark.parametrize("name", ["imdb/valid", "imdb/", "time_machine/train", "nothing/train"])
def test_find_split_that_is_none(name: str) -> None:
    """A split that there is not is no entry."""
    assert find_entry(name) is None


def test_registered_entry_is_found() -> None:
    """What was registered has a name, and is listed among the others."""
    entry = _entry()
    register(entry)

    assert entry is find_entry("mine")
    assert sorted([*CATALOGUE, "mine"]) == [entry.name for entry in list_entries()]


def test_register_twice() -> None:
    """The same entry again does nothing, so that a module may be run again."""
    register(_entry())
    register(_entry())

    assert _entry() == find_entry("mine")


@pytest.mark.parametrize("name", ["mine", "time_machine"])
def test_register_a_name_that_is_taken(name: str) -> None:
    """Another entry is not hidden."""
    register(_entry())
    with pytest.raises(ArgumentError, match=f"^a corpus named '{name}' exists already: choose an"):
        register(_entry(name, licence="another"))


def test_register_a_split() -> None:
    """An entry is registered as a whole."""
    with pytest.raises(ArgumentError, match=r"^the name of an entry must have no '/', .*'my/text'"):
        register(_entry("my/text"))


@pytest.mark.parametrize("name", ["", "my text", "../mine", "/mine", ".mine", "a/b/c", "-x"])
def test_name_that_is_none(name: str) -> None:
    """A name can be typed in a shell, and leads to no folder."""
    with pytest.raises(ArgumentError, match=r"^name must be letters, digits"):
        _entry(name)


@pytest.mark.parametrize("filename", ["", "../a", "/a", "a/b", ".a", "a\\b", "a b", "-a"])
def test_filename_that_is_none(filename: str) -> None:
    """A file goes into the cache, and nowhere else."""
    with pytest.raises(ArgumentError, match=r"^filename must be a plain name of a file"):
        _file(filename=filename)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/a", "a.txt"])
def test_address_that_is_none(url: str) -> None:
    """Only the web is asked."""
    with pytest.raises(
        ArgumentError, match=r"^an address must begin with https:// or http://, got"
    ):
        _file(urls=(url,))


def test_file_without_an_address() -> None:
    """A file must come from somewhere."""
    with pytest.raises(ArgumentError, match="must hold at least one address, got none"):
        _file(urls=())


def test_file_without_a_hash() -> None:
    """Nothing is downloaded that cannot be verified."""
    with pytest.raises(ArgumentError, match=r"^a digest must be"):
        _file(digest="")


def test_entry_point_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another package brings has a name, and is listed among the others."""
    _install(monkeypatch, _point("brought", "tests.test_catalogue:BROUGHT"))

    assert BROUGHT == find_entry("brought")
    assert sorted([*CATALOGUE, "brought"]) == [entry.name for entry in list_entries()]


def test_entry_point_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package cannot put something else under the name of one of our corpora."""
    _install(monkeypatch, _point("time_machine", "tests.test_catalogue:BROUGHT"))

    assert CATALOGUE["time_machine"] is find_entry("time_machine")
    assert list(CATALOGUE) == [entry.name for entry in list_entries()]


BROKEN = {
    "no_such_module:ENTRY": "ModuleNotFoundError: No module named 'no_such_module'",
    "tests.test_catalogue:NOTHING": "AttributeError: ",
    "tests.test_catalogue:DIGEST": "must be an Entry of that name, got str",
    "tests.test_catalogue:BROUGHT": "must be an Entry of that name, got 'brought'",
}


@pytest.mark.parametrize(("value", "message"), BROKEN.items())
def test_entry_point_that_is_broken(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    """Who asks for it is told which package to mend, and others are only warned."""
    _install(monkeypatch, _point("broken", value))

    with pytest.raises(
        ArgumentError, match=f"^the entry point 'broken' = '{value}' of .*{message}"
    ):
        find_entry("broken")
    with pytest.warns(UserWarning, match=r"^the entry point 'broken'"):
        assert list(CATALOGUE) == [entry.name for entry in list_entries()]


def test_entry_point_of_an_installed_package(tmp_path: Path) -> None:
    """A real distribution's entry point is found by the command line."""
    info = tmp_path / "texts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: texts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tokenloom.corpora]\nhaiku = texts:HAIKU\n")
    (tmp_path / "texts.py").write_text(
        "import tokenloom as tl\n"
        "HAIKU = tl.Entry(name='haiku', description='three lines', licence='CC0-1.0',\n"
        "                 source=tl.BuiltIn(read=lambda: b'old pond'))\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from tokenloom.cli import main\n"
        "import tokenloom as tl\n"
        "print(tl.load('haiku'))\n"
        "sys.exit(main(['datasets']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert (0, "") == (result.returncode, result.stderr)
    assert "Corpus('haiku', 8 tokens, vocab_size=7)" in result.stdout
    assert "haiku             -           built in" in result.stdout
