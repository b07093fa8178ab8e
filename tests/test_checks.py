"""Types that arguments must have."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenloom as tl
from tokenloom._checks import as_integer
from tokenloom.errors import ArgumentError
from tokenloom.inspection import read_batch
from tokenloom.plan.division import Division
from tokenloom.plan.plan import Plan
from tokenloom.text import read_tokenizer


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_an_integer_of_any_kind_becomes_a_plain_one(value: Any) -> None:
    """So that it can be written as JSON."""
    assert (3, int) == (as_integer("n", value), type(as_integer("n", value)))


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (2.0, {}, "n must be an integer of at least 0, got 2.0"),
        ("2", {}, "n must be an integer of at least 0, got '2'"),
        (-1, {}, "n must be an integer of at least 0, got -1"),
        (0, {"start": 1}, "n must be an integer of at least 1, got 0"),
        (9, {"stop": 9}, r"n must be an integer in \[0, 9\), got 9"),
        (None, {"start": 2, "stop": 9}, r"n must be an integer in \[2, 9\), got None"),
    ],
)
def test_what_is_none_or_out_of_range_is_refused(
    value: Any, bounds: dict[str, int], message: str
) -> None:
    """The message names the argument, the range and the value."""
    with pytest.raises(ArgumentError, match=message):
        as_integer("n", value, **bounds)


_CORPUS = tl.Corpus.from_text("the time traveller for so it will be " * 9)
_WINDOWS = tl.SequentialWindows(_CORPUS, batch_size=2, seq_len=5)
_LOADER = tl.Loader(_WINDOWS, num_epochs=1)
_MODEL = tl.RNNModel(torch.nn.RNN(_CORPUS.vocab_size, 4), _CORPUS.vocab_size)
_PLAN = Plan(kind="random", num_tokens=10_000, seq_len=5, batch_size=512)
_TEXT: Any = tl.Corpus.from_text


def _stream(**options: Any) -> list[Any]:
    return list(tl.stream(_MODEL, _CORPUS.tokenizer, "the", num_tokens=3, **options))


_WRONG: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (_TEXT, ("abc",), {"normalize": np.zeros(2)}, "normalize must be True or False, got an array"),
    (_TEXT, ("abc",), {"reserved_tokens": 3}, "reserved_tokens must be a sequence of str, got 3"),
    (_TEXT, ("abc",), {"min_freq": "2"}, "min_freq must be an integer of at least 0, got '2'"),
    (_TEXT, ("abc",), {"max_tokens": []}, r"max_tokens must be an integer, got \[\]"),
    (tl.Corpus.from_documents, (3,), {}, "texts must be an iterable of str or Document, got 3"),
    (tl.Corpus.from_documents, ({"a": "b"},), {}, "got {'a': 'b'}: a mapping yields its keys"),
    (tl.Corpus.from_documents, ({"a", "b"},), {}, ": a set has another order in each process"),
    (tl.Vocab, ({"a", "b"},), {}, "tokens must have an order, got .*: a set has another one in"),
    (tl.Vocab, ("ab",), {"reserved_tokens": {"<a>", "<b>"}}, "reserved_tokens must have an order"),
    (tl.Vocab, ({"a": 1, "b": "2"},), {}, "the count of 'b' must be a number, got '2'"),
    (tl.Vocab, ({"a": None},), {}, "the count of 'a' must be a number, got None"),
    (tl.Vocab, ({"a": 2, "b": math.nan},), {}, "the count of 'b' must be finite, got nan"),
    (tl.Corpus.from_tokens, ([1],), {"vocab": 3}, "vocab must be a Vocab or None, got 3"),
    (tl.Corpus.open, ("x",), {"tokenizer": "char"}, "tokenizer must be one that has its ids"),
    (_CORPUS.save, ("x",), {"splits": [1]}, r"splits must be a mapping of names to pairs"),
    (_CORPUS.save, ("x",), {"splits": {"a": 1}}, r"pairs \(start, stop\), got \{'a': 1\}"),
    (_CORPUS.save, ("x",), {"shard_tokens": None}, "shard_tokens must be an integer of at least 1"),
    (_CORPUS.decode, (3,), {}, "ids must be a one-dimensional list, array or tensor of integers"),
    (_CORPUS.decode, ([1.5],), {}, r"of integers, got \[1.5\]"),
    (tl.prepare, ("x", "y"), {"options": {}}, r"options must be PrepareOptions\(...\) or None"),
    (tl.prepare, ("x", "y"), {"executor": 4}, "executor must be a concurrent.futures.Executor"),
    (tl.prepare, ("x", "y"), {"progress": "no"}, "progress must be True, False or None, got 'no'"),
    (tl.corpus.write_nanogpt, ("abc", "x"), {}, "corpus must be a Corpus, got 'abc'"),
    (tl.corpus.write_megatron, (None, "x"), {}, "corpus must be a Corpus, got None"),
    (tl.corpus.write_megatron, (_CORPUS, 3), {}, "got 3"),
    (tl.evaluate, (None, _CORPUS), {}, "model must be an RNNModel, got None"),
    (tl.evaluate, (_MODEL, "abc"), {}, "corpus must be a Corpus, got 'abc'"),
    (tl.generate, (None, _CORPUS.vocab, "a"), {}, "model must be an RNNModel, got None"),
    (
        tl.generate,
        (_MODEL, 3, "a"),
        {},
        "vocab must be 'byte', .* an object with vocab_size",
    ),
    (tl.generate, (_MODEL, _CORPUS.vocab, 3), {}, "prompt must be a str, or a list or tuple of"),
    (tl.generate, (_MODEL, _CORPUS.vocab, "a"), {"temperature": "1"}, "temperature must be a num"),
    (tl.generate, (_MODEL, _CORPUS.vocab, "a"), {"top_k": 1.5}, "top_k must be an integer of at"),
    (tl.generate, (_MODEL, _CORPUS.vocab, "a"), {"seed": None}, "seed must be an integer in"),
    (tl.RNNModel, (torch.nn.RNN(3, 4), None), {}, "vocab_size must be an integer of at least 1"),
    (tl.train, (_MODEL, _LOADER), {"options": {"lr": 1}}, r"options must be TrainingOptions\("),
    (tl.train, (_MODEL, _LOADER), {"run_options": 3}, r"run_options must be RunOptions\(...\)"),
    (tl.train, (_MODEL, _LOADER), {"device": 1.5}, "device must be one that PyTorch can use here"),
    (tl.RandomWindows, (_CORPUS,), {"resets": np.zeros(2)}, "resets must be True, False or None"),
    (tl.RandomWindows, (_CORPUS,), {"tail": np.zeros(2)}, "tail must be 'drop' or 'pad', got an"),
    (tl.Loader, (_WINDOWS,), {"pin_memory": "no"}, "pin_memory must be True or False, got 'no'"),
    (tl.Loader, (_WINDOWS,), {"resident": "no"}, "resident must be True or False, got 'no'"),
    (_stream, (), {"log_probs": "no"}, "log_probs must be True or False, got 'no'"),
    (read_batch, (_WINDOWS,), {"index": 0.5}, "batch must be an integer, got 0.5"),
    (read_batch, (_WINDOWS,), {"index": 0, "rows": ["a"]}, "row must be an integer, got 'a'"),
    (_WINDOWS.plan.starts, (3,), {}, "rows must be a range, got 3"),
    (tl.RunOptions, (), {"checkpoint_seconds": "5"}, "checkpoint_seconds must be a number"),
]


@pytest.mark.parametrize(("call", "arguments", "named", "message"), _WRONG)
def test_an_argument_of_a_wrong_type_is_named(
    call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    """What was expected and what was got, before anything is done."""
    with pytest.raises(ArgumentError, match=message):
        call(*arguments, **named)


def _stored(path: Path) -> tl.Corpus:
    """Return the second part of a store of 1,000 tokens in documents of 10."""
    ids = np.arange(1_000) % 11
    corpus = tl.Corpus.from_tokens(ids, documents=np.arange(0, 1_001, 10))
    corpus.save(path)
    return tl.Corpus.open(path).slice(200, 1_000)


def _describe(*corpora: tl.Corpus | None) -> list[Any]:
    return [(each.origin, each.hash, each.tokens.tolist()) for each in corpora if each is not None]


def _save(path: Path, tokenizer: Any, **options: Any) -> bytes:
    """Return the bytes of a manifest, which holds the values of the tokenizer."""
    corpus = tl.Corpus.from_text("Time, flies! " * 9, tokenizer=tokenizer, **options)
    return (corpus.save(path) / "manifest.json").read_bytes()


def _batch_of(path: Path, number: Any) -> Any:
    windows = tl.RandomWindows(_stored(path), batch_size=1, seq_len=3)
    return read_batch(windows, index=number)


def _generate(**options: Any) -> str:
    return tl.generate(_MODEL, _CORPUS.tokenizer, "the", num_tokens=9, temperature=1.0, **options)


@pytest.mark.parametrize(
    ("use", "plain", "given"),
    [
        (lambda path, n: _describe(_stored(path).slice(n, 250)), 200, np.uint8(200)),
        (lambda path, n: _describe(_stored(path).slice(10, n)), 200, np.uint8(200)),
        (lambda path, n: _describe(_stored(path).first(n)), 200, np.uint8(200)),
        (lambda path, n: _describe(*_stored(path).hold_out(0.5, max_tokens=n)), 200, np.uint8(200)),
        (lambda path, n: _describe(_stored(path).document(n)), 70, np.int8(70)),
        (lambda path, n: tl.trace(_stored(path), n), 200, np.uint8(200)),
        (_batch_of, 127, np.int8(127)),
        (lambda path, flag: _save(path, "char", normalize=flag), False, np.False_),
        (lambda path, flag: _save(path, "word", normalize=flag), True, np.True_),
        (
            lambda path, flag: _save(path, read_tokenizer("bpe", allow_special=flag)),
            True,
            np.True_,
        ),
        (
            lambda path, flag: (
                tl.RandomWindows(_stored(path), batch_size=2, seq_len=5, resets=flag).documents
            ),
            False,
            np.False_,
        ),
        (lambda _, n: _generate(seed=n), 5, np.int64(5)),
        (lambda _, n: _generate(seed=n), 1 << 40, np.uint64(1 << 40)),
        (lambda _, n: _generate(top_k=n), 3, np.uint8(3)),
        (
            lambda _, n: Division(plan=_PLAN, world_size=n, num_workers=n).columns(1),
            4,
            np.uint8(4),
        ),
    ],
)
def test_a_value_of_numpy_means_what_a_plain_one_does(
    tmp_path: Path, use: Callable[[Path, Any], Any], plain: Any, given: Any
) -> None:
    """Sums of narrow integers would wrap around, and JSON holds none of NumPy's values."""
    path = tmp_path / "store"
    expected = use(path, plain)
    shutil.rmtree(path, ignore_errors=True)
    assert expected == use(path, given)
