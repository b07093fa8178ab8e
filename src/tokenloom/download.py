"""One file over HTTP, verified before it takes its name."""

import os
from collections.abc import Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from tokenloom.errors import ChecksumError, DownloadError
from tokenloom.files import replacing
from tokenloom.hashing import hash_file, parse_digest

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16


def download(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    *,
    num_bytes: int | None,
    digest: str,
    progress: bool | None = None,
) -> Path:
    """Download a file from the first of several addresses that has it.

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
    algorithm, digits = parse_digest(digest)
    if not urls:
        msg = f"cannot download {Path(path).name!r}: no address is known"
        raise DownloadError(msg)
    failures: list[DownloadError | ChecksumError] = []
    for url in urls:
        try:
            with replacing(path) as temporary:
                _transfer(url, temporary, num_bytes=num_bytes, progress=progress)
                _verify(temporary, url, num_bytes=num_bytes, digest=f"{algorithm}:{digits}")
        except (DownloadError, ChecksumError) as failure:
            failures.append(failure)
        except requests.RequestException as error:
            failures.append(DownloadError(f"{url}: {_describe(error)}"))
        except OSError as error:
            msg = (
                f"cannot write {os.fspath(path)!r}: {error.strerror or error}: "
                "make room there, or name another folder in TOKENLOOM_CACHE"
            )
            raise DownloadError(msg) from error
        else:
            return Path(path)
    raise _summarise(failures, path)


def _transfer(url: str, path: Path, *, num_bytes: int | None, progress: bool | None) -> None:
    with (
        requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as reply,
        path.open("wb") as file,
        tqdm(
            total=num_bytes,
            desc=url.rsplit("/", 1)[-1],
            unit="B",
            unit_scale=True,
            # tqdm takes None for "only where stderr is a terminal".
            disable=None if progress is None else not progress,
        ) as bar,
    ):
        reply.raise_for_status()
        for chunk in reply.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
            if num_bytes is not None and file.tell() > num_bytes:
                return


def _verify(path: Path, url: str, *, num_bytes: int | None, digest: str) -> None:
    size = path.stat().st_size
    if num_bytes is not None and size != num_bytes:
        got = f"more than {num_bytes:,}" if size > num_bytes else f"{size:,}"
        msg = f"{url}: expected {num_bytes:,} bytes, got {got}"
        raise ChecksumError(msg)
    got = hash_file(path, digest.partition(":")[0])
    if got != digest:
        msg = f"{url}: expected {digest}, got {got}"
        raise ChecksumError(msg)


def _describe(error: requests.RequestException) -> str:
    match error:
        case requests.HTTPError(response=requests.Response() as reply):
            return f"expected status 200, got {reply.status_code} {reply.reason}"
        case requests.ConnectTimeout():
            return f"no connection within {_CONNECT_SECONDS:.0f} seconds"
        case requests.Timeout():
            return f"no answer within {_READ_SECONDS:.0f} seconds"
        case requests.exceptions.SSLError() | requests.exceptions.ProxyError():
            return f"{type(error).__name__}: {error}"
        case requests.ConnectionError():
            return "no connection"
        case _:
            return f"{type(error).__name__}: {error}"


def _summarise(
    failures: Sequence[DownloadError | ChecksumError], path: str | os.PathLike[str]
) -> DownloadError | ChecksumError:
    kind = type(failures[-1])
    tried = "; ".join(map(str, failures))
    if kind is ChecksumError:
        cure = "the server may have given an error page or another edition: try again"
    else:
        cure = "check the network and try again"
    msg = (
        f"cannot download {Path(path).name!r}: {tried}. What to do: {cure}, "
        f"or put the file at {os.fspath(path)!r} by hand, "
        "or name a mirror in TOKENLOOM_MIRROR"
    )
    return kind(msg)
