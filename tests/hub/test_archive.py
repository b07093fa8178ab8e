"""Archives are unpacked whole or not at all, and never outside their folder."""

import gzip
import io
import itertools
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hub import harmed
from tokenloom.errors import ArchiveError, ArgumentError
from tokenloom.hub.archive import Limits, unpack

TEXTS = {f"{number}.txt": b"%d" % number * 1000 for number in range(5)}
Build = Callable[[Path], object]


def _tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # a mode by name
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _special(kind: bytes, *, linkname: str = "", name: str = "odd") -> Build:
    """Return what makes a tar with a good file and a member of another kind."""

    def build(path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            good = tarfile.TarInfo("good.txt")
            good.size = 4
            tar.addfile(good, io.BytesIO(b"good"))
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.devmajor, info.devminor = kind, linkname, 1, 3
            tar.addfile(info)

    return build


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x" * len(name))
            # Its constructor would mend a name.
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


def _special_zip(mode: int, *, flags: int = 0) -> Build:
    """Return what makes a zip with a good file and a member of another kind."""

    def build(path: Path) -> None:
        _zip(path, {"good.txt": b"good", "odd": b"../../outside"})
        content = bytearray(path.read_bytes())
        entry = content.rindex(b"PK\x01\x02")
        content[entry + 38 : entry + 42] = struct.pack("<L", mode << 16)
        content[entry + 8] |= flags
        path.write_bytes(content)

    return build


def _gz(path: Path, content: bytes) -> None:
    with gzip.open(path, "wb") as file:
        file.write(content)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return where members shall go; the archive lies elsewhere."""
    return tmp_path / "unpacked" / "texts"


def _refused(archive: Path, target: Path, message: str, *, limits: Limits | None = None) -> None:
    """Check that an archive is refused and that nothing is left of it, inside or outside."""
    root = target.parents[1]
    before = set(_names(root))
    with pytest.raises(ArchiveError, match=message) as caught:
        unpack(archive, target, limits=limits)

    assert archive.name in str(caught.value)
    assert set(_names(root)) - before <= {"unpacked"}


@pytest.mark.parametrize("name", ["texts.tar", "texts.tar.gz", "texts.TGZ", "texts.zip"])
def test_members_arrive(tmp_path: Path, target: Path, name: str) -> None:
    """Every member is there with its bytes, in folders of its own, and nothing else."""
    members = {**TEXTS, "deep/er/a.txt": b"", "./b.txt": b"b"}
    archive = tmp_path / name
    if name.endswith("zip"):
        _zip(archive, members)
    else:
        _tar(archive, members, "w" if name.endswith("tar") else "w:gz")
    unpack(archive, target)

    assert members == {name: (target / name).read_bytes() for name in members}
    assert ["texts"] == [path.name for path in target.parent.iterdir()]


def test_gz_is_one_file(tmp_path: Path, target: Path) -> None:
    """A file that is only compressed is unpacked under its name without the end."""
    _gz(tmp_path / "book.txt.gz", b"text" * 100_000)
    unpack(tmp_path / "book.txt.gz", target)

    assert {"book.txt": b"text" * 100_000} == {p.name: p.read_bytes() for p in target.iterdir()}


def test_unpack_returns_the_folder(tmp_path: Path, target: Path) -> None:
    """The caller gets its path."""
    _tar(tmp_path / "a.tar", TEXTS, "w")

    assert target == unpack(str(tmp_path / "a.tar"), str(target))


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress(
    tmp_path: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    progress: bool | None,
    shown: bool,
) -> None:
    """The members are counted on stderr if that is wanted."""
    _tar(tmp_path / "a.tar", TEXTS, "w")
    unpack(tmp_path / "a.tar", target, progress=progress)

    out, err = capsys.readouterr()
    assert ("", shown) == (out, "a.tar: 5 members" in err)


def test_a_folder_that_is_there_is_whole(tmp_path: Path, target: Path) -> None:
    """What was unpacked is not unpacked again, since only whole folders have the name."""
    target.mkdir(parents=True)

    assert target == unpack(tmp_path / "missing.zip", target)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_permissions_are_not_taken_over(tmp_path: Path, target: Path) -> None:
    """A member is as private and as executable as any new file, whatever the archive says."""
    info = tarfile.TarInfo("run")
    info.mode = 0o6777
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(info)
    unpack(tmp_path / "a.tar", target)
    (tmp_path / "new").touch()

    assert (tmp_path / "new").stat().st_mode == (target / "run").stat().st_mode


ELSEWHERE = ["../outside", "a/../../outside", "..", "/../outside"]


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere(tmp_path: Path, target: Path, name: str, end: str) -> None:
    """Nothing is written outside the folder, on this system or another one."""
    archive = tmp_path / f"bad{end}"
    (_zip if end == ".zip" else _tar)(archive, {"good.txt": b"good", name: b"bad"})

    _refused(archive, target, r"expected members below the folder, got the name ")


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
def test_absolute_name(tmp_path: Path, target: Path, end: str) -> None:
    """An absolute name is below the folder too, as tar and zip programs have it."""
    archive = tmp_path / f"texts{end}"
    (_zip if end == ".zip" else _tar)(archive, {f"{tmp_path}/outside": b"text"})
    unpack(archive, target)

    assert (target / str(tmp_path)[1:] / "outside").read_bytes() == b"text"
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
@pytest.mark.parametrize("name", [".", "a\0b"])
def test_names_that_no_file_can_have(tmp_path: Path, target: Path, name: str, end: str) -> None:
    """A file in the place of the folder itself, and a name that ends early, are refused."""
    archive = tmp_path / f"bad{end}"
    if end == ".zip":
        _zip(archive, {name: b"bad"})
    else:
        with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("placeholder")
            info.pax_headers = {"path": name}
            tar.addfile(info)

    _refused(archive, target, "expected members|it is damaged")


def test_python_without_the_filter(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of Python that cannot keep members in their folder unpacks nothing."""
    _tar(tmp_path / "texts.tar.gz", TEXTS)
    monkeypatch.delattr(tarfile, "data_filter")

    _refused(tmp_path / "texts.tar.gz", target, r"install Python 3\.11\.4 or newer")


SPECIAL: dict[str, Build] = {
    "link.tar.gz": _special(tarfile.SYMTYPE, linkname="/etc/hostname"),
    "link-inside.tar.gz": _special(tarfile.SYMTYPE, linkname="good.txt"),
    "hard-link.tar.gz": _special(tarfile.LNKTYPE, linkname="good.txt"),
    "hard-link-outside.tar.gz": _special(tarfile.LNKTYPE, linkname="../../outside"),
    "character.tar.gz": _special(tarfile.CHRTYPE),
    "block.tar.gz": _special(tarfile.BLKTYPE),
    "pipe.tar.gz": _special(tarfile.FIFOTYPE),
    "link.zip": _special_zip(stat.S_IFLNK | 0o777),
    "device.zip": _special_zip(stat.S_IFCHR | 0o666),
    "pipe.zip": _special_zip(stat.S_IFIFO | 0o666),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_members_that_are_no_files(tmp_path: Path, target: Path, name: str) -> None:
    """Links, devices and pipes are refused, wherever they lead."""
    SPECIAL[name](tmp_path / name)

    _refused(tmp_path / name, target, "expected files and folders only, got 'odd', which is nei")


def test_link_and_a_file_through_it(tmp_path: Path, target: Path) -> None:
    """A link to elsewhere is refused before a later member could be written through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        link = tarfile.TarInfo("door")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("door/bad.txt"))

    _refused(tmp_path / "bad.tar", target, "got 'door', which is neither")
    assert [] == list(outside.iterdir())


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
def test_too_many_members(tmp_path: Path, target: Path, end: str) -> None:
    """An archive may hold as many members as its limit, and not one more."""
    archive = tmp_path / f"many{end}"
    (_zip if end == ".zip" else _tar)(archive, TEXTS)
    _refused(archive, target, "expected at most 4 members, got more", limits=Limits(num_members=4))

    assert list(TEXTS) == _names(unpack(archive, target, limits=Limits(num_members=5)))


@pytest.mark.parametrize("end", [".tar.gz", ".zip", ".txt.gz"])
def test_bomb(tmp_path: Path, target: Path, end: str) -> None:
    """A few bytes that become very many are refused at the limit."""
    archive = tmp_path / f"bomb{end}"
    zeros = bytes(10_000_000)
    if end == ".txt.gz":
        _gz(archive, zeros)
    else:
        (_zip if end == ".zip" else _tar)(archive, {"zeros": zeros})
    assert archive.stat().st_size < 20_000
    limits = Limits(num_bytes=len(zeros) - 1)
    _refused(archive, target, "expected at most 9,999,999 bytes of files, got more", limits=limits)

    unpack(archive, target, limits=Limits(num_bytes=len(zeros)))


def test_bomb_of_several_files(tmp_path: Path, target: Path) -> None:
    """The limit is that of all files together."""
    _tar(tmp_path / "bomb.tar.gz", TEXTS)

    _refused(tmp_path / "bomb.tar.gz", target, "at most 4,999 ", limits=Limits(num_bytes=4_999))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_bomb_in_a_header(tmp_path: Path, target: Path, kind: bytes) -> None:
    """A name of two gigabytes is not taken into memory."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 2 << 30
    _gz(tmp_path / "bomb.tar.gz", info.tobuf() + bytes(1 << 20))

    _refused(
        tmp_path / "bomb.tar.gz", target, "expected headers of at most 1,048,576 bytes, got more"
    )


def _header(name: str, kind: bytes, size: int = 0) -> bytearray:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return bytearray(info.tobuf(tarfile.GNU_FORMAT))


def _pax(records: dict[str, str]) -> bytes:
    """Return a header with more about the member after it."""
    body = b""
    for name, value in records.items():
        line = f" {name}={value}\n".encode()
        size = len(line) + 1
        while len(str(size)) + len(line) != size:
            size += 1
        body += str(size).encode() + line
    return bytes(_header("more", tarfile.XHDTYPE, len(body))) + body + bytes(-len(body) % 512)


def _sum_up(header: bytearray) -> bytes:
    """Return a header with the checksum that its bytes have."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _sparse(*, is_extended: bool) -> bytes:
    header = _header("holes", tarfile.GNUTYPE_SPARSE)
    header[482] = is_extended
    return _sum_up(header)


_SPARSE_PAX = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes"}
# Each is more than a header's limit, in pieces that are less.
MANY_HEADERS: dict[str, bytes] = {
    "a map of holes": _pax({**_SPARSE_PAX, "GNU.sparse.realsize": "5"})
    + _header("holes", tarfile.REGTYPE, 10**9)
    + b"999999999\n"
    + b"0\n" * 2_000_000,
    "an old map of holes": _sparse(is_extended=True)
    + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * 5_000,
    "headers in a row": _pax({f"{number:x}": "" for number in range(10_000)}) * 40
    + _header("a.txt", tarfile.REGTYPE),
    "names in a row": bytes(
        _header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 1 << 19) + bytes(1 << 19)
    )
    * 4,
}


@pytest.mark.parametrize("before", [b"", bytes(_header("good.txt", tarfile.REGTYPE))])
@pytest.mark.parametrize("name", MANY_HEADERS)
def test_bomb_of_many_headers(tmp_path: Path, target: Path, name: str, before: bytes) -> None:
    """What one member has before its content is limited as a whole, also after a good one."""
    archive = tmp_path / "bomb.tar.gz"
    _gz(archive, before + MANY_HEADERS[name] + bytes(1 << 20))

    _refused(archive, target, "expected headers of at most 1,048,576 bytes, got more")


def test_many_members_have_room_for_their_headers(tmp_path: Path, target: Path) -> None:
    """The limit is that of each member: the long names of many do not add up."""
    names = [f"{number:0200}.txt" for number in range(1500)]
    _tar(tmp_path / "a.tar.gz", dict.fromkeys(names, b"text"))

    assert names == _names(unpack(tmp_path / "a.tar.gz", target))


def test_content_is_no_header(tmp_path: Path, target: Path) -> None:
    """A member may be larger than headers are."""
    content = bytes(3 << 20)
    _tar(tmp_path / "a.tar.gz", {"a.txt": content, "b.txt": content})

    assert ["a.txt", "b.txt"] == _names(unpack(tmp_path / "a.tar.gz", target))


def test_sparse_header_that_ends_early(tmp_path: Path, target: Path) -> None:
    """A map of holes that is announced and does not come is damage."""
    (tmp_path / "a.tar").write_bytes(_sparse(is_extended=True))

    _refused(tmp_path / "a.tar", target, "it is damaged: ")


def test_sparse_file(tmp_path: Path, target: Path) -> None:
    """A file with holes, which may be of any size, is refused."""
    info = tarfile.TarInfo("holes")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 40 >> 12)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 8 * 32)
    _gz(tmp_path / "sparse.tar.gz", bytes(header) + bytes(10240))

    _refused(tmp_path / "sparse.tar.gz", target, "got 'holes', which is neither")


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a")])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_members_in_each_others_way(
    tmp_path: Path, target: Path, end: str, names: tuple[str, str]
) -> None:
    """No member replaces another one."""
    archive = tmp_path / f"twice{end}"
    if end == ".zip":
        with zipfile.ZipFile(archive, "w") as made:
            for name in names:
                made.writestr(name, name)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))

    _refused(archive, target, "expected members with different names, got ")


def test_required_members(tmp_path: Path, target: Path) -> None:
    """An archive that lacks what its reader needs is refused, and named what."""
    _tar(tmp_path / "a.tar", TEXTS, "w")
    with pytest.raises(ArchiveError, match=r"'a.tar': expected a member 'train/pos', got none"):
        unpack(tmp_path / "a.tar", target, required=["0.txt", "train/pos"])

    assert [] == list(target.parent.iterdir())


@pytest.mark.parametrize("name", ["texts.tar", "texts.tar.gz", "texts.zip", "0.txt.gz"])
def test_archive_that_ends_early(tmp_path: Path, target: Path, name: str) -> None:
    """Wherever an archive is cut off, it is refused, also between two members."""
    whole = tmp_path / f"whole-{name}"
    if name == "0.txt.gz":
        _gz(whole, b"".join(TEXTS.values()))
    elif name.endswith("zip"):
        _zip(whole, TEXTS)
    else:
        _tar(whole, TEXTS, "w" if name.endswith("tar") else "w:gz")
    content = whole.read_bytes()
    # The end of a tar is padded with more zeros than it needs.
    needed = len(content.rstrip(b"\0")) + 1 if name == "texts.tar" else len(content)
    stops = {*range(0, needed, max(1, needed // 20)), needed - 1}
    stops |= set(range(0, needed, 512)) if name == "texts.tar" else set()
    for stop in stops:
        (tmp_path / name).write_bytes(content[:stop])
        _refused(tmp_path / name, target, "it is damaged: ")


@pytest.mark.parametrize("name", ["texts.tar", "texts.tar.gz", "texts.zip", "0.txt.gz"])
@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>", bytes(100), b"PK\3\4PK"])
def test_archive_that_is_none(tmp_path: Path, target: Path, name: str, content: bytes) -> None:
    """Something else under the name of an archive is refused."""
    (tmp_path / name).write_bytes(content)

    _refused(tmp_path / name, target, "it is damaged: ")


def test_wrong_bit_in_a_gz(tmp_path: Path, target: Path) -> None:
    """A checksum at the end is looked at, though tar does not need to read so far."""
    archive = tmp_path / "texts.tar.gz"
    _tar(archive, TEXTS)
    content = bytearray(archive.read_bytes())
    content[-5] ^= 1
    archive.write_bytes(content)

    _refused(archive, target, "it is damaged: CRC check failed")


def test_wrong_bit_in_a_zip(tmp_path: Path, target: Path) -> None:
    """A member whose checksum is another is refused."""
    archive = tmp_path / "texts.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a.txt", b"text")
    archive.write_bytes(archive.read_bytes().replace(b"text", b"tixt"))

    _refused(archive, target, "it is damaged: Bad CRC-32 for file 'a.txt'")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_wrong_bits_in_a_compression(tmp_path: Path, target: Path, compression: int) -> None:
    """Whatever the compression calls it, the archive is to blame and not the disk."""
    archive = tmp_path / "texts.zip"
    with zipfile.ZipFile(archive, "w", compression) as made:
        made.writestr("a.txt", bytes(range(256)) * 4)
    content = bytearray(archive.read_bytes())
    content[60:200] = b"\xff" * 140
    archive.write_bytes(content)

    _refused(archive, target, "it is damaged: ")


def test_wild_offset_in_a_zip(tmp_path: Path, target: Path) -> None:
    """A member that would lie before the archive's beginning is damage, not a full disk."""
    archive = tmp_path / "texts.zip"
    _zip(archive, {"a.txt": b"text"})
    content = bytearray(archive.read_bytes())
    end = content.rindex(b"PK\5\6")
    # By its header the directory begins later than it does, so the archive began earlier.
    (start,) = struct.unpack("<L", content[end + 16 : end + 20])
    content[end + 16 : end + 20] = struct.pack("<L", start + 20)
    archive.write_bytes(content)

    _refused(archive, target, "it is damaged: ")


def test_size_that_lies_in_a_zip(tmp_path: Path, target: Path) -> None:
    """A member that announces fewer bytes than it has is refused."""
    archive = tmp_path / "texts.zip"
    _zip(archive, {"a.txt": bytes(1_000_000)})
    lie, truth = struct.pack("<L", 10), struct.pack("<L", 1_000_000)
    archive.write_bytes(archive.read_bytes().replace(truth, lie))

    _refused(archive, target, "it is damaged: ")


def test_encrypted_zip(tmp_path: Path, target: Path) -> None:
    """A member that needs a password is refused."""
    _special_zip(stat.S_IFREG, flags=1)(tmp_path / "secret.zip")

    _refused(tmp_path / "secret.zip", target, "it is damaged: .*encrypted|.*damaged: .*differ")


def test_random_damage(tmp_path: Path, target: Path) -> None:
    """Whatever byte is wrong, it ends with a typed error or with what the archive says."""
    archive = tmp_path / "a.tar.gz"
    for build, name in ((_tar, "a.tar.gz"), (_zip, "a.zip")):
        archive = tmp_path / name
        build(archive, {"a.txt": zlib.compress(bytes(range(256)))})
        content = archive.read_bytes()
        for place, bit in itertools.product(range(0, len(content), 3), (1, 128)):
            archive.write_bytes(
                content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
            )
            folder = target.with_name(f"{place}-{bit}-{name}")
            try:
                unpack(archive, folder)
            except ArchiveError:
                assert not folder.exists()


@pytest.mark.parametrize("name", ["book.txt", "archive.rar", "tar", "zip"])
def test_kinds_that_are_not_known(tmp_path: Path, target: Path, name: str) -> None:
    """Another kind of archive is refused with the kinds there are."""
    with pytest.raises(ArgumentError, match=rf"must end in one of \.tar\.gz, .*, got '{name}'"):
        unpack(tmp_path / name, target)


def test_archive_that_is_missing(tmp_path: Path, target: Path) -> None:
    """An archive that is not there is named."""
    with pytest.raises(
        ArchiveError, match=r"cannot unpack 'a.zip': it cannot be read: No such file"
    ):
        unpack(tmp_path / "a.zip", target)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder that cannot be written raises ArchiveError with what to do."""
    _tar(tmp_path / "a.tar", TEXTS, "w")
    (tmp_path / "file").touch()

    with pytest.raises(ArchiveError, match="make room there, or name another folder"):
        unpack(tmp_path / "a.tar", tmp_path / "file" / "texts")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are harmed by POSIX signals")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Before whatever line it is killed, no half folder has the name, and the next one clears."""
    archive, folder = tmp_path / "texts.tar.gz", tmp_path / "cache"
    folder.mkdir()
    _tar(archive, TEXTS)
    _, result = harmed.run(harmed.kill_unpacking, str(archive), folder)

    assert {"moments": True, "bad": [], "unrecovered": []} == result


@pytest.mark.parametrize("end", [".tar.gz", ".tar", ".zip"])
@pytest.mark.parametrize("depth", [101, 2_000, 20_000])
def test_folders_without_end_in_each_other(
    tmp_path: Path, target: Path, depth: int, end: str
) -> None:
    """What would be too deep to be made, read or removed is refused by its name."""
    archive = tmp_path / f"texts{end}"
    members = {"good.txt": b"good", "a/" * depth + "b.txt": b"bad"}
    _zip(archive, members) if end == ".zip" else _tar(archive, members, f"w:{end[5:]}")

    _refused(archive, target, r"expected at most 100 folders in each other, got [0-9,]+: 'a/a/")


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
def test_name_that_is_too_long(tmp_path: Path, target: Path, end: str) -> None:
    """A name that no file can have is an ArchiveError."""
    archive = tmp_path / f"texts{end}"
    members = {"good.txt": b"good", "a" * 3_000: b"bad"}
    _zip(archive, members) if end == ".zip" else _tar(archive, members)

    _refused(archive, target, "File name too long|damaged")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bomb_in_one_piece(tmp_path: Path, target: Path, compression: int) -> None:
    """What zipfile unpacks at once is little: it reads little of such a member at a time."""
    archive = tmp_path / "texts.zip"
    with zipfile.ZipFile(archive, "w", compression) as made:
        made.writestr("bomb.txt", bytes(1 << 26))
    _refused(archive, target, "expected at most 1,000 bytes", limits=Limits(num_bytes=1_000))


def test_link_in_the_place_of_the_folder(tmp_path: Path, target: Path) -> None:
    """What a link leads to is neither written to nor emptied."""
    archive, elsewhere = tmp_path / "texts.tar.gz", tmp_path / "elsewhere"
    _tar(archive, TEXTS)
    target.parent.mkdir()
    target.symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match="must be a new or an empty folder"):
        unpack(archive, target)

    assert not elsewhere.exists()
    assert target.is_symlink()


def test_planted_links_beside_the_folder(tmp_path: Path, target: Path) -> None:
    """A link that is named like what a killed process left is left alone, and what it leads to."""
    archive, precious = tmp_path / "texts.tar.gz", tmp_path / "precious"
    _tar(archive, TEXTS)
    precious.mkdir()
    (precious / "file").write_bytes(b"mine")
    target.parent.mkdir()
    for end in ("part", "unpack", "download"):
        target.with_name(f".texts.0123456789abcdef.{end}").symlink_to(precious)
    unpack(archive, target)

    assert sorted(TEXTS) == _names(target)
    assert (precious / "file").read_bytes() == b"mine"
