"""Settings of the tests, and what several of the commands' tests begin with."""

import importlib.abc
import importlib.util
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tokenloom.cli.main import main
from tokenloom.hub import Entry, catalogue, download, register
from tokenloom.hub.addresses import Patience


class _SkipWithoutTorch(importlib.abc.MetaPathFinder):
    """Skips what imports PyTorch, where `nox -s torch_free` has none."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Skip the test, or the whole file, that imports it."""
        if fullname.partition(".")[0] == "torch":
            pytest.skip("needs PyTorch", allow_module_level=True)


if importlib.util.find_spec("torch") is None:
    sys.meta_path.append(_SkipWithoutTorch())
else:
    import torch

    # The tensors here are small: more threads would only wait for each other.
    torch.set_num_threads(1)

    # The server from which workers are forked imports PyTorch once.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tokenloom.loading.dataset"])

# A server here answers at once, if at all; what users call has no parameter for it.
download.PATIENCE = Patience(pause_seconds=0.01, max_pause_seconds=1.0)

# A shell that runs the tests in the background has them ignore Ctrl-C, and nohup the end of the
# terminal; so would all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Machines are shared and noisy: no example has a deadline.
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Undo what a test that plays a worker does: such a process ignores Ctrl-C."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def register_entry(monkeypatch: pytest.MonkeyPatch) -> Callable[[Entry], None]:
    """Return what gives a text a name for one test; `register` does for the life of a process."""
    monkeypatch.setattr(catalogue, "_registered", {})
    return register


@pytest.fixture
def book(tmp_path: Path) -> str:
    """Return the path of a small text file."""
    from tests.support.training.trainings import BOOK  # noqa: PLC0415  it needs torch

    path = tmp_path / "book.txt"
    path.write_text(BOOK, encoding="utf-8")
    return str(path)


@pytest.fixture
def run(book: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return the folder of a small run."""
    from tests.support.training.trainings import SMALL  # noqa: PLC0415  it needs torch

    folder = tmp_path / "run"
    assert main(["train", book, *SMALL, "--run", str(folder)]) == 0
    capsys.readouterr()
    return folder
