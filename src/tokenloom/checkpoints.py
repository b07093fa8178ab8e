"""The checkpoints of a run: the last few, and the best."""

import dataclasses
import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenloom.checkpoint import Checkpoint, pack, unpack
from tokenloom.errors import RunError
from tokenloom.files import remove_partial, replacing, synchronize_folder
from tokenloom.regular import open_regular
from tokenloom.wording import count

Mark = Literal["step", "best"]
# Of what a checkpoint says of itself: as which it was written.
_MARK = "mark"

_NAME = re.compile(r"(step|best)-(\d+)-([0-9a-f]{16})\.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    mark: str
    step: int
    digest: str


def write_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep: int, is_best: bool = False
) -> Path:
    """Write a checkpoint, whole or not at all, and remove those that are too many.

    Its name tells the step and the first 16 digits of the SHA-256 of its
    bytes, so that damage is seen when it is read.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    checkpoint : Checkpoint
    keep : int
        How many of the last ones stay, at least 1.
    is_best : bool
        Whether it becomes the one that is marked as the best, which stays too.

    Raises
    ------
    OSError
        The folder cannot be made or written to.
    """
    owner = {**(checkpoint.owner or {}), _MARK: "best" if is_best else "step"}
    content = pack(dataclasses.replace(checkpoint, owner=owner))
    digest = _digest(content)
    path = folder / f"step-{checkpoint.step:09d}-{digest}.pt"
    _write(path, content)
    if is_best:
        best = folder / f"best-{checkpoint.step:09d}-{digest}.pt"
        if not best.exists():
            try:
                os.link(path, best)
            # Not every file system has a second name for a file.
            except OSError:
                _write(best, content)
            synchronize_folder(folder)
        _remove(file for file in _list(folder, "best") if file.path != best)
    _remove(file for file in _list(folder, "step") if _is_other(file, path))
    _remove(_list(folder, "step")[keep:])
    return path


def read_checkpoint(folder: Path, mark: Mark = "step") -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None where there is none at all.

    A damaged one is named in a warning, and the one before it is read.

    Raises
    ------
    RunError
        There are checkpoints, and none is whole.
    """
    files = _list(folder, mark)
    if mark == "step":
        # Where all of the last ones are damaged, the best may be whole.
        files = sorted([*files, *_list(folder, "best")], key=lambda file: file.step, reverse=True)
    for file in files:
        try:
            return _read(file)
        except OSError as error:
            warnings.warn(f"{error}; going back to the one before it", stacklevel=2)
    if files:
        msg = f"none of the {len(files)} checkpoints in {str(folder)!r} is whole: train anew"
        raise RunError(msg)
    return None


def remove_later(folder: Path, *, step: int) -> None:
    """Remove checkpoints of later steps, and what a killed process left half-written."""
    _remove(file for mark in ("step", "best") for file in _list(folder, mark) if file.step > step)
    if folder.is_dir():
        remove_partial(folder)


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a checkpoint, whole or not."""
    return bool(_list(folder, "step"))


def _read(file: _File) -> Checkpoint:
    with open_regular(file.path) as opened:
        # Read only once it is known to be ours, since a hole in a file costs no space.
        digest = hashlib.file_digest(opened, "sha256").hexdigest()[:16]  # type: ignore[arg-type]  # it reads into buffers
        if digest != file.digest:
            size = count(os.fstat(opened.fileno()).st_size, "byte")
            msg = (
                f"the checkpoint {str(file.path)!r} is damaged: its {size} are not those that "
                "were written"
            )
            raise RunError(msg)
        opened.seek(0)
        checkpoint = unpack(opened.read(), name=file.path)
    if checkpoint.step != file.step:
        msg = (
            f"the checkpoint {str(file.path)!r} is of step {checkpoint.step}, and its name says "
            f"step {file.step}: it was renamed"
        )
        raise RunError(msg)
    if file.mark == "best" and (checkpoint.owner or {}).get(_MARK) == "step":
        msg = f"the checkpoint {str(file.path)!r} was not the best one: it was renamed"
        raise RunError(msg)
    return checkpoint


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _list(folder: Path, mark: str) -> list[_File]:
    """Return the files of a mark, the latest step first."""
    matches = [
        (path, match)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name)) and match[1] == mark
    ]
    files = [
        _File(path=path, mark=match[1], step=int(match[2]), digest=match[3])
        for path, match in matches
    ]
    return sorted(files, key=lambda file: (file.step, file.path.name), reverse=True)


def _is_other(file: _File, path: Path) -> bool:
    """Return whether a file is an older one of the step that ``path`` is of."""
    return file.path != path and file.path.name.startswith(path.name.rpartition("-")[0])


def _remove(files: Iterable[_File]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)
