"""No door answers a value that cannot work with an error that is none of tokenloom's."""

import math
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import tokenloom as tl
from tokenloom._figures import check_picture, save_figure
from tokenloom._wording import show
from tokenloom.hub.archive import unpack

CORPUS = tl.Corpus.from_text("the time machine by h g wells " * 8)
SIZE = CORPUS.vocab_size
WINDOWS = tl.RandomWindows(CORPUS, batch_size=2, seq_len=8)
VOCAB = cast("tl.Vocab", CORPUS.vocab)


def _model() -> tl.RNNModel:
    return tl.RNNModel(torch.nn.RNN(SIZE, 4), SIZE)


def _train(**options: Any) -> object:
    return tl.train(_model(), tl.Loader(WINDOWS), progress=False, **options)


def _loader(**options: Any) -> object:
    loader = tl.Loader(WINDOWS, **{"num_epochs": 1, **options})
    return [next(iter(loader)), loader.remaining, loader.state_dict()]


def _windows(kind: Any, **options: Any) -> object:
    return next(iter(kind(CORPUS, **{"batch_size": 2, "seq_len": 8, **options})))


def _options_of_run(**options: Any) -> object:
    return asdict(tl.RunOptions(**options))


def _worker_options(**options: Any) -> object:
    return _loader(worker_options=tl.WorkerOptions(**options))


def _read_only(**options: Any) -> object:
    return _loader(num_workers=1, worker_options=tl.WorkerOptions(**options))


def _write_ids(folder: Path) -> Path:
    path = folder / "ids.bin"
    np.arange(100, dtype="<u2").tofile(path)
    return path


def _prepare(folder: Path, **options: Any) -> object:
    workers = options.pop("num_workers", 1)
    return tl.prepare(
        iter(["one", "two"]),
        folder / "store",
        options=tl.PrepareOptions(**options),
        num_workers=workers,
        progress=False,
    )


class _Figure:
    """A picture, of which nothing but its name is looked at."""

    def savefig(self, path: Path, **_: object) -> None:
        path.write_bytes(b"picture")


Door = Callable[[Any, Path], object]

# Each takes an integer.
INTEGERS: dict[str, Door] = {
    "RNNModel.vocab_size": lambda n, _: tl.RNNModel(torch.nn.RNN(8, 4), n),
    "RNNModel.begin_state": lambda n, _: _model().begin_state(batch_size=n),
    "Loader.num_workers": lambda n, _: _loader(num_workers=n),
    "Loader.num_epochs": lambda n, _: _loader(num_epochs=n),
    "WorkerOptions.prefetch_factor": lambda n, _: _read_only(prefetch_factor=n),
    "WorkerOptions.block_size": lambda n, _: _worker_options(block_size=n),
    "RandomWindows.batch_size": lambda n, _: _windows(tl.RandomWindows, batch_size=n),
    "RandomWindows.seq_len": lambda n, _: _windows(tl.RandomWindows, seq_len=n),
    "RandomWindows.seed": lambda n, _: _windows(tl.RandomWindows, seed=n),
    "SequentialWindows.batch_size": lambda n, _: _windows(
        tl.SequentialWindows, batch_size=n, tail="pad"
    ),
    "SequentialWindows.seq_len": lambda n, _: _windows(tl.SequentialWindows, seq_len=n, tail="pad"),
    "RandomWindows.set_epoch": lambda n, _: tl.RandomWindows(
        CORPUS, batch_size=2, seq_len=8
    ).set_epoch(n),
    "Plan.num_tokens": lambda n, _: (
        tl.Plan(kind="random", num_tokens=n, seq_len=2, batch_size=2).num_batches
    ),
    "Plan.seq_len": lambda n, _: tl.Plan(
        kind="random", num_tokens=99, seq_len=n, batch_size=2, tail="pad"
    ).starts(range(1)),
    "Plan.batch_size": lambda n, _: tl.Plan(
        kind="random", num_tokens=99, seq_len=2, batch_size=n
    ).starts(range(1)),
    "Plan.epoch": lambda n, _: tl.Plan(
        kind="random", num_tokens=99, seq_len=2, batch_size=2, epoch=n
    ).starts(range(1)),
    "Plan.at": lambda n, _: WINDOWS.plan.at(n).starts(range(1)),
    "Shard.rank": lambda n, _: tl.Shard(rank=n, world_size=3),
    "Shard.world_size": lambda n, _: tl.Shard(world_size=n),
    "Shard.columns": lambda n, _: tl.Shard(world_size=1).columns(n),
    "evaluate.batch_size": lambda n, _: tl.evaluate(_model(), CORPUS, batch_size=n, progress=False),
    "evaluate.seq_len": lambda n, _: tl.evaluate(_model(), CORPUS, seq_len=n, progress=False),
    "evaluate.num_workers": lambda n, _: tl.evaluate(
        _model(), CORPUS, num_workers=n, progress=False
    ),
    "generate.num_tokens": lambda n, _: next(tl.stream(_model(), VOCAB, "the", num_tokens=n), None),
    "generate.top_k": lambda n, _: tl.generate(_model(), VOCAB, "the", num_tokens=2, top_k=n),
    "generate.seed": lambda n, _: tl.generate(_model(), VOCAB, "the", num_tokens=2, seed=n),
    "train.seed": lambda n, _: _train(seed=n),
    "TrainingOptions.warmup_updates": lambda n, _: _train(
        options=tl.TrainingOptions(warmup_updates=n)
    ),
    "TrainingOptions.batches_per_update": lambda n, _: _train(
        options=tl.TrainingOptions(batches_per_update=n)
    ),
    "RunOptions.keep": lambda n, folder: _train(
        run_options=tl.RunOptions(keep=n), run=folder / "r"
    ),
    "RunOptions.checkpoint_steps": lambda n, _: _options_of_run(checkpoint_steps=n),
    "RunOptions.sample_epochs": lambda n, _: _options_of_run(sample_epochs=n),
    "open_foreign.vocab_size": lambda n, folder: tl.open_foreign(
        _write_ids(folder), dtype="uint16", vocab_size=n
    ),
    "from_text.max_tokens": lambda n, _: tl.Corpus.from_text("some text", max_tokens=n),
    "from_text.min_freq": lambda n, _: tl.Corpus.from_text("some text", min_freq=n),
    "from_documents.max_tokens": lambda n, _: tl.Corpus.from_documents(["a", "b"], max_tokens=n),
    "from_tokens.vocab_size": lambda n, _: tl.Corpus.from_tokens([0, 0], vocab_size=n),
    "load.max_tokens": lambda n, _: tl.load("python_docs", max_tokens=n),
    "trace": lambda n, _: tl.trace(CORPUS, n),
    "Corpus.document": lambda n, _: tl.Corpus.from_documents(["one", "two"]).document(n),
    "Corpus.slice": lambda n, _: CORPUS.slice(n, n),
    "Corpus.decode": lambda n, _: CORPUS.decode([n]),
    "Corpus.save": lambda n, folder: CORPUS.first(9).save(folder / "store", shard_tokens=n),
    "Corpus.save.splits": lambda n, folder: CORPUS.save(folder / "store", splits={"train": (0, n)}),
    "Vocab.min_freq": lambda n, _: tl.Vocab("ab", min_freq=n),
    "Vocab.to_tokens": lambda n, _: VOCAB.to_tokens([n]),
    "prepare.num_workers": lambda n, folder: _prepare(folder, num_workers=n),
    "prepare.min_freq": lambda n, folder: _prepare(folder, min_freq=n),
    "prepare.task_bytes": lambda n, folder: _prepare(folder, task_bytes=n),
    "prepare.shard_tokens": lambda n, folder: _prepare(folder, shard_tokens=n),
    "prepare.end_of_document": lambda n, folder: tl.prepare(
        iter(["text"]),
        folder / "store",
        tokenizer="byte",
        options=tl.PrepareOptions(end_of_document=n),
        progress=False,
    ),
    "RemoteFile.num_bytes": lambda n, _: tl.hub.RemoteFile(
        filename="a.txt", urls=("https://localhost/a",), digest="sha256:" + "0" * 64, num_bytes=n
    ),
}
HUGE = (10**5000, -(10**5000), 10**30, 2**64, 2**63, 2**63 - 1, 2**62, -(10**30), -(2**63))
NO_INTEGERS = (True, np.True_, 32.0, np.float64(8.0), "8", "", b"8", float("nan"), [8], object())

# A number of any kind.
NUMBERS: dict[str, Door] = {
    "train.lr": lambda x, _: _train(lr=x),
    "train.max_grad_norm": lambda x, _: _train(max_grad_norm=x),
    "RunOptions.checkpoint_seconds": lambda x, folder: _train(
        run_options=tl.RunOptions(checkpoint_seconds=x), run=folder / "run"
    ),
    "generate.temperature": lambda x, _: tl.generate(
        _model(), VOCAB, "the", num_tokens=2, temperature=x
    ),
    "generate.top_p": lambda x, _: tl.generate(
        _model(), VOCAB, "the", num_tokens=2, temperature=1.0, top_p=x
    ),
    "Corpus.split": lambda x, _: CORPUS.split(x),
    "Corpus.hold_out": lambda x, _: CORPUS.hold_out(x),
    "PrepareOptions.splits": lambda x, folder: _prepare(folder, splits={"valid": x}),
}
BAD_NUMBERS = (10**5000, -(10**5000), 10**400, math.nan, math.inf, -math.inf, "1", b"1", [1], 1j)
GOOD_NUMBERS = (np.float32(0.5), np.float64(0.5), Fraction(1, 2))

PATHS: dict[str, Door] = {
    "write_nanogpt": lambda path, _: tl.corpus.write_nanogpt(CORPUS, path),
    "write_megatron": lambda path, _: tl.corpus.write_megatron(CORPUS, path),
    "open_foreign": lambda path, _: tl.open_foreign(path),
    "Vocab.save": lambda path, _: VOCAB.save(path),
    "Vocab.load": lambda path, _: tl.Vocab.load(path),
    "Corpus.save": lambda path, _: CORPUS.save(path),
    "Corpus.open": lambda path, _: tl.Corpus.open(path),
    "prepare": lambda path, _: tl.prepare(iter(["text"]), path, progress=False),
    "prepare.sources": lambda path, folder: tl.prepare([path], folder / "new", progress=False),
    "prepare.source": lambda path, folder: tl.prepare(path, folder / "new", progress=False),
    "load": lambda path, _: tl.load(path),
    "read_documents": lambda path, _: list(tl.read_documents(path)),
    "train.run": lambda path, _: _train(run=path),
    "train.resume": lambda path, _: _train(run=path, resume=True),
    "Run.open": lambda path, _: tl.Run.open(path),
    "Run.create": lambda path, _: tl.Run.create(path, corpus=CORPUS, settings={}),
    "unpack": lambda path, folder: unpack(path, folder / "new"),
    "save_figure": lambda path, _: save_figure(cast("Any", _Figure()), path),
    "check_picture": lambda path, _: check_picture(path),
}
# They take several, such as a list of ids.
TAKE_SEVERAL = {"generate.seed", "Vocab.to_tokens"}
# What is written by them raises an OSError where the system refuses a good path.
MAY_FAIL = {"save_figure", "Vocab.save", "Vocab.load", "write_nanogpt", "write_megatron"}
BAD_PATHS: dict[str, Any] = {
    "empty": "",
    "nul": "a\0b",
    "here": ".",
    "above": "..",
    "root": "/",
    "slash": "new/",
    "surrogate": "new-\ud800",
    "folder": "folder",
    "folder with a slash": "folder/",
    "below a file": "file/new",
    "long": "x" * 5000,
    "bytes": b"new",
    "none": None,
    "number": 3,
    "list": [],
}


def _answer(door: Door, value: Any, folder: Path) -> Exception | None:
    try:
        door(value, folder)
    except Exception as error:  # noqa: BLE001  whatever it is is looked at
        return error
    return None


@pytest.mark.parametrize("name", INTEGERS)
def test_a_huge_integer_works_or_gets_an_error_of_tokenloom(name: str, tmp_path: Path) -> None:
    """Neither memory, nor the size of a machine's integers, is found out by an untyped error."""
    for index, value in enumerate(HUGE):
        (folder := tmp_path / str(index)).mkdir()
        error = _answer(INTEGERS[name], value, folder)
        assert error is None or (isinstance(error, tl.TokenloomError) and str(error)), (
            show(value),
            repr(error),
        )


@pytest.mark.parametrize("name", INTEGERS)
def test_what_is_no_integer_is_refused(name: str, tmp_path: Path) -> None:
    """A flag, a float and a str are not taken for numbers."""
    for index, value in enumerate(NO_INTEGERS):
        if name in TAKE_SEVERAL and isinstance(value, list | bytes):
            continue
        (folder := tmp_path / str(index)).mkdir()
        error = _answer(INTEGERS[name], value, folder)
        assert isinstance(error, tl.TokenloomError), (value, repr(error))
        assert str(error)


@pytest.mark.parametrize("name", INTEGERS)
def test_an_integer_of_numpy_is_as_good_as_one_of_python(name: str, tmp_path: Path) -> None:
    """What one gives the other gives."""
    values: list[Any] = [np.int64(1), np.uint8(2), np.array(1)]
    for index, value in enumerate(values):
        answers = []
        for number in (value, value.item()):
            (folder := tmp_path / f"{index}-{type(number).__name__}").mkdir()
            answers.append(_answer(INTEGERS[name], number, folder))
        assert type(answers[0]) is type(answers[1]), answers


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_works_or_gets_an_error_of_tokenloom(name: str, tmp_path: Path) -> None:
    """None is too large, and what is none is refused."""
    for index, value in enumerate((*BAD_NUMBERS, *GOOD_NUMBERS)):
        (folder := tmp_path / str(index)).mkdir()
        error = _answer(NUMBERS[name], value, folder)
        is_good = any(value is good for good in GOOD_NUMBERS)
        assert (error is None and is_good) or (
            (error is None and isinstance(value, int | float) and not is_good)
            or (isinstance(error, tl.TokenloomError) and str(error) and not is_good)
        ), (show(value), repr(error))


@pytest.mark.parametrize("kind", BAD_PATHS)
@pytest.mark.parametrize("name", PATHS)
def test_a_bad_path_works_or_gets_an_error_of_tokenloom(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever no file, or no folder, can be named."""
    (home := tmp_path / "home").mkdir()
    monkeypatch.chdir(home)
    (home / "folder").mkdir()
    (home / "file").write_text("x")
    if kind == "root" and name.startswith("prepare.source"):
        pytest.skip("that is a good path, and has many files")
    value = BAD_PATHS[kind]
    error = _answer(PATHS[name], value, tmp_path)
    allowed = (tl.TokenloomError, OSError) if name in MAY_FAIL else tl.TokenloomError
    assert error is None or (isinstance(error, allowed) and str(error)), repr(error)
