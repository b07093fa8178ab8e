"""Which corpora have a name: ours, registered ones, and those of other packages."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenloom.errors import ArgumentError
from tokenloom.hub import Archive, BuiltIn, Entry, RemoteFile, catalogue, register
from tokenloom.hub.catalogue import CATALOGUE, find_entry, list_entries

pytestmark = pytest.mark.usefixtures("register_entry")

DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be registered but what a test registers."""
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
SPLIT = _entry("bad/name")
CLASHING = _entry("clashing", source=_file(filename="timemachine.txt"))
ONE, OTHER = (
    _entry(name, source=_file(digest=f"sha256:{digit * 64}"))
    for name, digit in {"one": "1", "other": "2"}.items()
)


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
    """The later entry replaces the earlier one, so that a cell may be run again."""
    register(_entry(source=BuiltIn(read=lambda: b"old")))
    entry = _entry(source=BuiltIn(read=lambda: b"new"))
    register(entry)

    assert entry is find_entry("mine")


@pytest.mark.parametrize("name", CATALOGUE)
def test_register_a_name_that_is_taken(name: str) -> None:
    """An entry of our own is not hidden."""
    with pytest.raises(ArgumentError, match=f"^a corpus named '{name}' exists already: choose an"):
        register(_entry(name))


def test_register_what_is_no_entry() -> None:
    """A name alone is no entry."""
    with pytest.raises(ArgumentError, match=r"^entry must be an Entry, got str$"):
        register("mine")  # type: ignore[arg-type]  # what a user may write


@pytest.mark.parametrize("filename", ["timemachine.txt", "TimeMachine.txt"])
def test_register_a_filename_that_is_taken(filename: str) -> None:
    """Two texts would replace each other for ever, also where capitals make no difference."""
    with pytest.raises(
        ArgumentError, match=f"file of 'mine' must have .* got '{filename}', under .*'time_machine'"
    ):
        register(_entry(source=_file(filename=filename)))


def test_register_a_file_under_two_names() -> None:
    """Entries may share a file."""
    register(_entry("mine", source=_file()))
    register(_entry("yours", source=_file(digest=DIGEST.upper().replace("SHA", "sha"))))

    assert find_entry("yours")


def test_register_another_edition() -> None:
    """An entry that replaces another one may have another file of the same name."""
    register(_entry(source=_file()))
    register(_entry(source=_file(digest="sha256:" + "1" * 64)))

    assert find_entry("mine")


def test_register_a_split() -> None:
    """An entry is registered as a whole."""
    with pytest.raises(ArgumentError, match=r"^the name of an entry must have no '/', .*'my/text'"):
        register(_entry("my/text"))


@pytest.mark.parametrize("name", ["", "my text", "../mine", "/mine", ".mine", "a/b/c", "-x"])
def test_name_that_is_none(name: str) -> None:
    """A name can be typed in a shell, and leads to no folder."""
    with pytest.raises(ArgumentError, match=r"^name must be letters, digits"):
        _entry(name)


@pytest.mark.parametrize(
    "filename", ["", "../a", "/a", "a/b", ".a", "a\\b", "a b", "-a", "a" * 201]
)
def test_filename_that_is_none(filename: str) -> None:
    """A file goes into the cache, and nowhere else."""
    with pytest.raises(ArgumentError, match=r"^filename must be a plain name of a file"):
        _file(filename=filename)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://example.org/a",
        "a.txt",
        "http://",
        "https:///a",
        "http://[::1",
        "http://example.org:port/a",
        "http://example.org:0/a",
    ],
)
def test_address_that_is_none(url: str) -> None:
    """Only the web is asked."""
    with pytest.raises(
        ArgumentError, match=r"^an address must begin with https:// or http:// and a host, got"
    ):
        _file(urls=(url,))


def test_file_without_an_address() -> None:
    """A file must come from somewhere."""
    with pytest.raises(ArgumentError, match="must hold at least one address, got none"):
        _file(urls=())


def test_address_in_capitals() -> None:
    """They make no difference in a scheme."""
    assert _file(urls=("HTTPS://example.org/a",)).urls


@pytest.mark.parametrize("num_bytes", [-5, 0, "9"])
def test_size_that_is_none(num_bytes: object) -> None:
    """A size is a number of bytes."""
    with pytest.raises(
        ArgumentError, match=r"^num_bytes of 'a.txt' must be an integer of at least 1, got "
    ):
        _file(num_bytes=num_bytes)


@pytest.mark.parametrize("splits", [(), ("",), ("a", "a/b"), ("..",)])
def test_splits_that_are_none(splits: tuple[str, ...]) -> None:
    """A split can be named after the name and a slash."""
    with pytest.raises(ArgumentError, match=r"^splits of 'a.zip' must be at least one name"):
        Archive(file=_file(filename="a.zip"), read=lambda *_: (), splits=splits)


def test_archive_that_cannot_be_unpacked() -> None:
    """The error comes before anything is downloaded."""
    with pytest.raises(ArgumentError, match=r"^the name of an archive must end in one of"):
        Archive(file=_file(filename="a.rar"), read=lambda *_: ())


def test_source_that_is_none() -> None:
    """A corpus must come from somewhere."""
    with pytest.raises(ArgumentError, match=r"^source of 'mine' must be .*, got NoneType$"):
        _entry(source=None)


@pytest.mark.parametrize("digest", ["", None])
def test_file_without_a_hash(digest: object) -> None:
    """Nothing is downloaded that cannot be verified."""
    with pytest.raises(ArgumentError, match=r"^a digest must be"):
        _file(digest=digest)


def test_entry_point_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another package brings has a name, and is listed among the others."""
    _install(monkeypatch, _point("brought", "tests.hub.test_catalogue:BROUGHT"))

    assert BROUGHT == find_entry("brought")
    assert sorted([*CATALOGUE, "brought"]) == [entry.name for entry in list_entries()]


def test_entry_point_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package cannot put something else under the name of one of our corpora."""
    _install(monkeypatch, _point("time_machine", "tests.hub.test_catalogue:BROUGHT"))

    assert CATALOGUE["time_machine"] is find_entry("time_machine")
    assert list(CATALOGUE) == [entry.name for entry in list_entries()]


BROKEN = {
    "no_such_module:ENTRY": "ModuleNotFoundError: No module named 'no_such_module'",
    "tests.hub.test_catalogue:NOTHING": "AttributeError: ",
    "tests.hub.test_catalogue:DIGEST": "must be an Entry of that name, .* got str",
    "tests.hub.test_catalogue:BROUGHT": "must be an Entry of that name, .* got 'brought'",
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bad/name", "SPLIT", "must be an Entry of that name, which has no '/', got 'bad/name'"),
        ("clashing", "CLASHING", "the file of 'clashing' must have a name of its own"),
    ],
)
def test_entry_point_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """What could not be found, or would replace the file of another one, is not listed."""
    _install(monkeypatch, _point(name, f"tests.hub.test_catalogue:{value}"))

    with pytest.warns(UserWarning, match=message):
        assert list(CATALOGUE) == [entry.name for entry in list_entries()]


def test_entry_point_that_is_refused_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for it is told why."""
    _install(monkeypatch, _point("clashing", "tests.hub.test_catalogue:CLASHING"))

    with pytest.raises(ArgumentError, match="the file of 'clashing' must have a name of its own"):
        find_entry("clashing")


def test_entry_points_with_one_filename(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two packages whose files would replace each other the first is listed."""
    points = [_point(name.lower(), f"tests.hub.test_catalogue:{name}") for name in ("ONE", "OTHER")]
    _install(monkeypatch, *points)

    with pytest.warns(UserWarning, match="the file of 'other' must have a name of its own"):
        names = [entry.name for entry in list_entries()]

    assert sorted([*CATALOGUE, "one"]) == names


def test_entry_point_that_ends_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module of others that calls sys.exit is as broken as one that raises."""
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    _install(monkeypatch, _point("leaving", "leaving:ENTRY"))

    with pytest.warns(UserWarning, match="cannot be loaded: SystemExit: 3: mend or remove"):
        assert list(CATALOGUE) == [entry.name for entry in list_entries()]


def test_entry_point_of_an_installed_package(tmp_path: Path) -> None:
    """A real distribution's entry point is found by the command line."""
    info = tmp_path / "texts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: texts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tokenloom.corpora]\nhaiku = texts:HAIKU\n")
    (tmp_path / "texts.py").write_text(
        "import tokenloom as tl\n"
        "HAIKU = tl.hub.Entry(name='haiku', description='three lines', licence='CC0-1.0',\n"
        "                 source=tl.hub.BuiltIn(read=lambda: b'old pond'))\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from tokenloom.cli.main import main\n"
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
