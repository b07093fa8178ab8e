"""One file over HTTP, verified before it takes its name."""

import errno
import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from tqdm import tqdm

from tokenloom._io.atomic import as_path, replacing, require_own
from tokenloom._io.digest import hash_file, parse_digest
from tokenloom.errors import ChecksumError, DownloadError
from tokenloom.hub.replies import TransferError, hide_password
from tokenloom.hub.transfer import Exchange, Patience, Reply

_LOGGER = logging.getLogger("tokenloom.download")
# For whoever does not say otherwise; read at each call.
PATIENCE = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cures:
    """What a message tells to do, for the one who asked for the file.

    Attributes
    ----------
    source : str
        If no address has it.
    folder : str
        If it cannot be written, or read, where it shall be.
    """

    source: str = "name a mirror in TOKENLOOM_MIRROR"
    folder: str = "name another folder in TOKENLOOM_CACHE"


_CURES = Cures()
# A server that never ends must end where nobody knows the size.
_MAX_UNKNOWN_BYTES = 1 << 34


def download(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    *,
    num_bytes: int | None,
    digest: str,
    progress: bool | None = None,
    patience: Patience | None = None,
    cures: Cures = _CURES,
) -> Path:
    """Download a file from the first of several addresses that has it.

    The addresses are asked in turn, and again after a pause where they failed
    in a way that passes. What arrived before a connection broke is kept for
    the next attempt, which asks for the rest only. Between two calls nothing
    is kept.

    Parameters
    ----------
    urls : sequence of str
        Tried in this order.
    path : path
        Takes the file, whole and verified or not at all.
    num_bytes : int, optional
        Size that the file must have, None where only its hash is known.
    digest : str
        Hash that the file must have: ``"sha256:"`` and 64 hexadecimal digits,
        or ``"sha1:"`` and 40, or ``"md5:"`` and 32.
    progress : bool, optional
        Whether to show a bar on stderr; by default where that is a terminal.
    patience : Patience, optional
        How long to wait and how often to try, by default `PATIENCE`.
    cures : Cures
        For messages.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ArgumentError
        The digest has none of these forms.
    ChecksumError
        The last address gave other bytes than expected.
    DownloadError
        The last address gave no file, or the file cannot be written.
    """
    target = as_path(path)
    digest = ":".join(parse_digest(digest))
    if not urls:
        msg = f"cannot download {target.name!r}: no address is known"
        raise DownloadError(msg)
    try:
        _require_replaceable(target)
        with (
            replacing(target) as partial,
            partial.open("rb+") as file,
            tqdm(
                total=num_bytes,
                desc=target.name,
                unit="B",
                unit_scale=True,
                # tqdm takes None for "only where stderr is a terminal".
                disable=None if progress is None else not progress,
            ) as bar,
        ):
            arrival = _Arrival(file, partial, bar, num_bytes=num_bytes, digest=digest)
            if failures := _ask_in_turn(urls, arrival, patience or PATIENCE):
                raise _summarise(list(failures.items()), path, cures)
    except (ChecksumError, DownloadError):
        raise
    except OSError as error:
        msg = (
            f"cannot write {os.fspath(path)!r}: {error.strerror or error}: "
            f"make room there, or {cures.folder}"
        )
        raise DownloadError(msg) from error
    return target


def _require_replaceable(target: Path) -> None:
    """Let a name pass that is free, or that a file of this user has."""
    require_own(target)
    if target.exists() and not target.is_file():
        raise OSError(errno.EEXIST, "what is there is no file", os.fspath(target))


def fetch_file(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    *,
    num_bytes: int | None,
    digest: str,
    progress: bool | None = None,
    cures: Cures = _CURES,
) -> Path:
    """Return the path of a file, downloaded if it is not there with the right hash.

    With ``TOKENLOOM_OFFLINE`` set nothing is downloaded.

    Parameters
    ----------
    urls, path, num_bytes, digest, progress, cures
        See `download`.

    Raises
    ------
    ArgumentError, ChecksumError, DownloadError
        See `download`; or the file cannot be read, or must not be downloaded.
    """
    target = Path(path)
    algorithm, digits = parse_digest(digest)
    try:
        # os.path says no, where Path would raise, to a name that no file can have.
        if os.path.isfile(target) and hash_file(target, algorithm) == f"{algorithm}:{digits}":  # noqa: PTH113
            return target
    except OSError as error:
        msg = (
            f"cannot read {str(target)!r}: {error.strerror or error}: let it be read, "
            f"or {cures.folder}"
        )
        raise DownloadError(msg) from error
    if os.environ.get("TOKENLOOM_OFFLINE", "0") not in ("", "0"):
        msg = (
            f"{target.name!r} is not in {str(target.parent)!r}, or not whole, and downloads are "
            f"forbidden by TOKENLOOM_OFFLINE or --offline: put the file at {target}, or allow them"
        )
        raise DownloadError(msg)
    return download(
        urls, target, num_bytes=num_bytes, digest=digest, progress=progress, cures=cures
    )


def _ask_in_turn(
    urls: Sequence[str], arrival: "_Arrival", patience: Patience
) -> dict[str, TransferError]:
    """Return what went wrong at each address, and nothing once the file is whole."""
    failures: dict[str, TransferError] = {}
    to_ask = list(dict.fromkeys(urls))
    for pause in pauses(patience):
        asked_for = (failures[url].retry_seconds or 0 for url in to_ask if url in failures)
        time.sleep(max(pause, *asked_for, 0))
        for url in to_ask:
            try:
                arrival.go_on_from(url, patience)
            except TransferError as failure:
                _LOGGER.info("%s", hide_password(f"{url}: {failure}"))
                failures[url] = failure
            else:
                return {}
        to_ask = [url for url in to_ask if _may_pass(failures[url], patience)]
        if not to_ask:
            break
    return failures


def _may_pass(failure: TransferError, patience: Patience) -> bool:
    seconds = failure.retry_seconds
    return seconds is not None and seconds <= patience.max_pause_seconds


def pauses(patience: Patience) -> Iterator[float]:
    """Yield how many seconds to wait before each attempt.

    >>> [round(pause) for pause in pauses(Patience(num_attempts=2, pause_seconds=0.1))]
    [0, 0]
    """
    yield 0.0
    for doublings in range(patience.num_attempts - 1):
        longest = min(patience.pause_seconds * 2**doublings, patience.max_pause_seconds)
        # Not from the global generator: a download changes nobody's random numbers.
        yield random.SystemRandom().uniform(longest / 2, longest)


class _Arrival:
    """What arrived of a file, and what it shall be."""

    def __init__(
        self,
        file: BinaryIO,
        path: Path,
        bar: "tqdm[NoReturn]",
        *,
        num_bytes: int | None,
        digest: str,
    ) -> None:
        self._file = file
        self._path = path
        self._bar = bar
        self._num_bytes = num_bytes
        self._digest = digest
        # What each address called its edition when it last sent bytes.
        self._validators: dict[str, str] = {}

    @property
    def _size(self) -> int:
        return self._file.tell()

    def go_on_from(self, url: str, patience: Patience) -> None:
        """Fetch what is missing from an address.

        Raises
        ------
        TransferError
            The file is not whole thereafter.
        """
        exchange = Exchange(patience)
        try:
            self._receive(url, exchange)
        except TransferError as failure:
            if failure.spoils:
                self._restart()
            raise
        finally:
            exchange.close()

    def _receive(self, url: str, exchange: Exchange) -> None:
        start = self._size
        reply = exchange.open(url, start=start, validator=self._validators.get(url, ""))
        if reply.stop is not None and not self._fits(reply.stop):
            # Its bytes do not come, so what arrived before is as good as it was,
            # but for a part, which that would be asked for again.
            spoils = reply.start > 0
            raise _other_file(reply, self._wanted_size, f"{reply.stop:,} bytes", spoils=spoils)
        if reply.start == 0:
            self._restart()
            self._validators[url] = reply.validator
        try:
            for chunk in reply.chunks:
                self._file.write(chunk)
                self._show()
                if self._size > self._most:
                    raise _other_file(reply, self._wanted_size, f"more than {self._most:,} bytes")
        except TransferError:
            # Nothing is missing where what went wrong came after the last byte.
            if self._size != self._num_bytes or self._hash() != self._digest:
                raise
        self._check(reply)

    def _check(self, reply: Reply) -> None:
        """Refuse what arrived if it is not the whole file."""
        size, expected = self._size, self._num_bytes or reply.stop or 0
        if size < expected and reply.has_end and reply.stop is None:
            raise _other_file(reply, self._wanted_size, f"{size:,} bytes")
        if size < expected:
            msg = f"the connection ended after {size:,} of {expected:,} bytes"
            raise TransferError(msg, retry_seconds=0)
        if (digest := self._hash()) != self._digest:
            raise _other_file(reply, self._digest, digest)

    def _fits(self, size: int) -> bool:
        return size <= self._most and self._num_bytes in (None, size)

    @property
    def _most(self) -> int:
        return _MAX_UNKNOWN_BYTES if self._num_bytes is None else self._num_bytes

    @property
    def _wanted_size(self) -> str:
        return f"{'at most ' if self._num_bytes is None else ''}{self._most:,} bytes"

    def _hash(self) -> str:
        self._file.flush()
        return hash_file(self._path, self._digest.partition(":")[0])

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._show()

    def _show(self) -> None:
        self._bar.update(self._size - self._bar.n)


def _other_file(reply: Reply, expected: str, got: str, *, spoils: bool = True) -> TransferError:
    """Return that another file came, from this address or, in part, from before."""
    kind = f" ({reply.kind})" if reply.kind else ""
    return TransferError(
        f"expected {expected}, got {got}{kind}",
        # Bytes from before may be to blame: the next attempt does without them.
        retry_seconds=0 if reply.start else None,
        is_content=True,
        spoils=spoils,
    )


def _summarise(
    failures: Sequence[tuple[str, TransferError]], path: str | os.PathLike[str], cures: Cures
) -> DownloadError | ChecksumError:
    tried = hide_password("; ".join(f"{url}: {failure}" for url, failure in failures))
    if failures[-1][1].is_content:
        kind: type[DownloadError | ChecksumError] = ChecksumError
        cure = "the server may have given an error page or another edition: try again"
    else:
        kind, cure = DownloadError, "check the network and try again"
    msg = (
        f"cannot download {Path(path).name!r}: {tried}. What to do: {cure}, "
        f"or put the file at {os.fspath(path)!r} by hand, "
        f"or {cures.source}"
    )
    return kind(msg)
