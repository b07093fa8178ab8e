"""A program of its own, whose children download or prepare, and come to harm.

Pytest must neither be killed nor forked, so tests run ``python -m
tests.support.hub.harmed CASE URL FOLDER`` and read the JSON value that it prints.
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.support.hub.misbehaving import CONTENT
from tokenloom._io import atomic
from tokenloom.errors import TokenloomError
from tokenloom.hub import archive as archive_module
from tokenloom.hub import download, transfer
from tokenloom.hub.addresses import Patience
from tokenloom.hub.archive import unpack
from tokenloom.preparation import assemble, chunks, sources, workdir
from tokenloom.preparation import prepare as prepare_module
from tokenloom.preparation.options import PrepareOptions
from tokenloom.store import npy

PATIENCE = Patience(connect_seconds=20, stall_seconds=20, num_attempts=5, pause_seconds=0.01)
ROOMS = {
    room.__name__
    for room in (
        archive_module,
        assemble,
        download,
        transfer,
        atomic,
        sources,
        npy,
        prepare_module,
        chunks,
        workdir,
    )
}


def fetch(url: str, folder: Path) -> Path:
    """Download the content that the tests' server has."""
    return download.download(
        [url],
        folder / "text.txt",
        num_bytes=len(CONTENT),
        digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
        patience=PATIENCE,
    )


def start(function: Callable[[], object]) -> int:
    """Run a function in a child and return the child's id; its exit code is 0 at success."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        function()
        code = 0
    except TokenloomError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.stdout.flush()
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Return a child's exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def trace(moment: int, harm: Callable[[], None]) -> None:
    """Call ``harm`` before the line of this number that our rooms run."""
    count = 0

    def step(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_globals.get("__name__") not in ROOMS:
            return None
        count += event == "line"
        if count == moment:
            count += 1
            harm()
        return step

    sys.settrace(step)


def die() -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


def harm_everywhere(
    work: Callable[[], object], check: Callable[[], object], stride: int
) -> Iterator[tuple[int, object, object]]:
    """Yield for each moment of the work what a kill left, and what the next one made of it."""
    moment = 1
    while True:
        moment += stride

        def harmed(moment: int = moment) -> None:
            trace(moment, die)
            work()

        code = finish(start(harmed))
        left = check()
        again = finish(start(work))
        yield moment, left, (again, check())
        if code == 0:
            return
        assert code == -signal.SIGKILL, code


def names(folder: Path) -> list[str]:
    """Return what is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def kill_downloads(url: str, folder: Path) -> object:
    """Kill a download before each of its lines, and download again."""
    target = folder / "text.txt"

    def check() -> object:
        content = target.read_bytes() if target.exists() else None
        return ("bad" if content not in (None, CONTENT) else "fine"), names(folder)

    moments, bad, unrecovered = 0, [], []
    for moment, left, recovered in harm_everywhere(lambda: fetch(url, folder), check, 3):
        moments += 1
        bad += [moment] * (left[0] != "fine")  # type: ignore[index]  # what check returns
        unrecovered += [(moment, recovered)] * (recovered != (0, ("fine", ["text.txt"])))
        target.unlink(missing_ok=True)
    return {"moments": moments > 20, "bad": bad, "unrecovered": unrecovered}


def kill_unpacking(archive: str, folder: Path) -> object:
    """Kill the unpacking of an archive before each of its lines, and unpack again."""
    target = folder / "texts"
    wanted = [f"{number}.txt" for number in range(5)]

    def check() -> object:
        whole = not target.exists() or names(target) == wanted
        return ("fine" if whole else "bad"), names(folder)

    moments, bad, unrecovered = 0, [], []
    for moment, left, recovered in harm_everywhere(lambda: unpack(archive, target), check, 3):
        moments += 1
        bad += [moment] * (left[0] != "fine")  # type: ignore[index]  # what check returns
        unrecovered += [(moment, recovered)] * (recovered != (0, ("fine", ["texts"])))
        for path in target.iterdir():
            path.unlink()
        target.rmdir()
    return {"moments": moments > 20, "bad": bad, "unrecovered": unrecovered}


def race(url: str, folder: Path) -> object:
    """Let eight processes download at once."""
    codes = [finish(child) for child in [start(lambda: fetch(url, folder)) for _ in range(8)]]
    return codes, names(folder), (folder / "text.txt").read_bytes() == CONTENT


def race_and_die(url: str, folder: Path) -> object:
    """Let eight processes download at once, half of which are killed on the way."""

    def harmed(moment: int) -> None:
        trace(moment, die)
        fetch(url, folder)

    whole = partial(fetch, url, folder)
    children = [start(partial(harmed, 40 * number) if number % 2 else whole) for number in range(8)]
    survivors = [code for code in map(finish, children) if code >= 0]
    good = (folder / "text.txt").read_bytes() == CONTENT
    # The next process removes what those that were killed have left.
    (folder / "text.txt").unlink()
    return survivors, good, finish(start(lambda: fetch(url, folder))), names(folder)


def interrupt(url: str, folder: Path) -> object:
    """Let Ctrl-C end a download that goes on."""

    def raise_interrupt() -> NoReturn:
        raise KeyboardInterrupt

    def harmed() -> None:
        trace(150, raise_interrupt)
        try:
            fetch(url, folder)
        except KeyboardInterrupt:
            return

    code = finish(start(harmed))
    return code, (folder / "text.txt").exists(), len(names(folder))


def fill_the_disk(url: str, folder: Path) -> object:
    """Let no file become longer than 100,000 bytes."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        fetch(url, folder)

    return finish(start(limited)), names(folder)


def forbid_to_write(url: str, folder: Path) -> object:
    """Let the folder be read-only, for a user who is not root."""
    folder.chmod(0o555)

    def unprivileged() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(65534)
        fetch(url, folder)

    return finish(start(unprivileged)), names(folder)


def suspend(url: str, folder: Path) -> object:
    """Stop a process in the middle, let another one download, and let the first go on."""

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def harmed() -> None:
        trace(150, stop)
        fetch(url, folder)

    first = start(harmed)
    os.waitpid(first, os.WUNTRACED)
    second = finish(start(lambda: fetch(url, folder)))
    between = names(folder)
    os.kill(first, signal.SIGCONT)
    good = finish(first), second, (folder / "text.txt").read_bytes() == CONTENT
    return good, len(between), names(folder)


def prepare(source: str, target: Path) -> None:
    """Make a store in a few chunks and shards, here."""
    options = PrepareOptions(
        task_bytes=700, shard_tokens=900, splits={"valid": 0.2}, split_by="block"
    )
    texts = iter(["one document", "and another one"])
    prepare_module.prepare([source, texts], target, options=options, num_workers=1, progress=False)


def read_store(folder: Path) -> dict[str, bytes] | None:
    """Return the bytes of every file of a store, if it has its name."""
    if not folder.exists():
        return None
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_preparations(source: str, folder: Path) -> object:
    """Kill a preparation at many moments, each twice, and let it go on."""
    whole, target = folder / "whole", folder / "store"
    prepare(source, whole)
    expected = read_store(whole)
    moment, num_moments, bad = 1, 0, []
    while True:
        codes = []
        for number in (moment, moment // 2 + 1):

            def harmed(number: int = number) -> None:
                trace(number, die)
                prepare(source, target)

            codes.append(finish(start(harmed)))
            if read_store(target) not in (None, expected):
                bad.append([moment, "half a store"])
        again = finish(start(lambda: prepare(source, target)))
        if (again, read_store(target), names(folder)) != (0, expected, ["store", "whole"]):
            bad.append([moment, again, names(folder)])
        shutil.rmtree(target)
        if codes[0] == 0:
            return {"moments": num_moments >= 12, "bad": bad}
        num_moments += 1
        moment += 120


def fill_the_disk_of_a_preparation(source: str, folder: Path) -> object:
    """Let no file become longer than a number of bytes, then lift the limit."""
    whole, target = folder / "whole", folder / "store"
    prepare(source, whole)
    seen = []
    for limit in (600, 800, 900):

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            prepare(source, target)

        seen.append([finish(start(limited)), target.exists()])
    prepare(source, target)
    return seen, read_store(target) == read_store(whole), names(folder)


def race_to_prepare(source: str, folder: Path) -> object:
    """Let one process work in the folder while another one wants to."""
    target = folder / "store"

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def harmed() -> None:
        trace(2_000, stop)
        prepare(source, target)

    first = start(harmed)
    os.waitpid(first, os.WUNTRACED)
    second = finish(start(lambda: prepare(source, target)))
    os.kill(first, signal.SIGCONT)
    return second, finish(first), names(folder)


CASES = {
    case.__name__: case
    for case in (
        fill_the_disk,
        fill_the_disk_of_a_preparation,
        forbid_to_write,
        interrupt,
        kill_downloads,
        kill_preparations,
        kill_unpacking,
        race,
        race_and_die,
        race_to_prepare,
        suspend,
    )
}


def run(case: Callable[[str, Path], object], source: str, folder: Path) -> tuple[str, Any]:
    """Run a case in a process of its own; return what its children printed, and its result."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.hub.harmed", case.__name__, source, str(folder)],
        cwd=Path(__file__).parents[3],
        check=False,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert (0, "") == (result.returncode, result.stderr)
    *said, value = result.stdout.splitlines()
    return "\n".join(said), json.loads(value)


if __name__ == "__main__":
    case, source, folder = sys.argv[1:]
    print(json.dumps(CASES[case](source, Path(folder))))  # noqa: T201  it is a program
