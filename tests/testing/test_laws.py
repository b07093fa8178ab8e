"""The checks of the laws: each fails where its law is broken."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError, LawError
from tokenloom.loading import batch as batch_module
from tokenloom.loading import blocks, sources
from tokenloom.plan import Order, PlanSettings, mixture
from tokenloom.plan import state as state_module
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan, digest_plan
from tokenloom.plan.state import Position, restore_position
from tokenloom.store import memmap
from tokenloom.testing import laws

CORPUS = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))


def make_windows(rank: int = 0, world_size: int = 1, **options: Any) -> tl.RandomWindows:
    """Return windows of 19 batches."""
    shard = tl.Shard(rank=rank, world_size=world_size)
    return tl.RandomWindows(CORPUS, batch_size=4, seq_len=5, shard=shard, **options)


def make_loader(**options: Any) -> tl.Loader:
    """Return a loader of 19 batches per epoch."""
    return tl.Loader(make_windows(), **options)


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_the_laws_hold(tail: Any) -> None:
    """Nothing is raised where nothing is wrong."""
    windows = make_windows(tail=tail)
    laws.check_batches(windows, range(len(windows)))
    laws.check_length(windows)
    laws.check_cost(windows.plan)
    laws.check_state(tl.Loader(windows))


def test_where_documents_start_is_part_of_what_a_batch_says() -> None:
    """Two streams of the same tokens differ if one of them cuts a document elsewhere."""
    windows = np.ones((2, 6), np.uint8)
    fingerprints = {
        laws.digest(tl.Batch(windows, epoch=0, index=0, resets=np.array(resets, np.int64)))
        for resets in ([], [2], [3])
    }
    assert len(fingerprints) == 3


def break_starts(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let plans give other starts."""
    starts = Plan.starts

    def broken(plan: Plan, rows: range, columns: range | None = None) -> IntArray:
        changed: IntArray = change(starts(plan, rows, columns))
        return changed

    monkeypatch.setattr(Plan, "starts", broken)


def test_law_1_is_broken_where_a_token_is_an_input_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two windows that overlap are found."""
    break_starts(monkeypatch, lambda starts: np.minimum(starts, 200))
    with pytest.raises(LawError, match=r"law 1 is broken: .* are inputs twice"):
        laws.check_batches(make_windows(), range(19))


def test_law_1_is_broken_where_a_window_leaves_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target past the end is found."""
    break_starts(monkeypatch, lambda starts: starts + 395 - starts.max())
    with pytest.raises(LawError, match=r"law 1 is broken: .* reads \[395, 400\] of 400"):
        laws.check_batches(make_windows(), range(19))


@pytest.mark.parametrize(("columns", "law"), [(slice(0, 1), "law 1"), (slice(-1, None), "law 2")])
def test_laws_1_and_2_are_broken_where_tokens_are_others(
    columns: slice, law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong input, and a wrong target, are found."""
    gather_windows = memmap.gather_windows

    def broken(*arguments: Any, **options: Any) -> Any:
        ids = gather_windows(*arguments, **options)
        ids[..., columns] += 1
        return ids

    monkeypatch.setattr(blocks, "gather_windows", broken)
    with pytest.raises(LawError, match=f"{law} is broken"):
        laws.check_batches(make_windows(), range(19))


def test_law_4_is_broken_where_ranks_read_the_same() -> None:
    """Ranks that all read the first rows are no whole batch."""
    with pytest.raises(LawError, match="law 4 is broken: 2 ranks side by side differs"):
        laws.check_ranks(lambda _, world_size: make_windows(0, world_size), 2)


def test_law_4_is_broken_where_any_world_size_is_taken() -> None:
    """A part that is not there must be refused."""
    with pytest.raises(LawError, match="5 processes were accepted"):
        laws.check_world_sizes(lambda *_: make_windows())


@pytest.mark.parametrize("name", ["num_batches", "num_inputs", "num_dropped"])
def test_laws_6_and_7_are_broken_where_a_count_is_wrong(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each number that a plan promises is counted."""
    right = getattr(make_windows().plan, name)
    windows = make_windows()
    batches = list(windows)
    monkeypatch.setattr(Plan, name, property(lambda _: right + 1))
    monkeypatch.setattr(tl.RandomWindows, "__iter__", lambda _: iter(batches))
    with pytest.raises(LawError, match=f"{right + 1}, counted {right}"):
        laws.check_length(windows)


@pytest.mark.parametrize("tail", ["drop", pytest.param("pad", marks=pytest.mark.slow)])
def test_law_8_holds(tail: Any) -> None:
    """In fresh processes the order is the same, with either tail."""
    laws.check_seeds(make_windows(tail=tail).plan)


def test_law_8_is_quick() -> None:
    """What other processes compute of a mixture or of packed documents needs no PyTorch."""
    corpus = tl.Corpus.from_documents(["to be or not"] * 99)
    mixture_ = tl.Mixture({"a": (corpus, 0.5), "b": (corpus, 0.5)})
    for order, text in (("random", mixture_), ("packed", corpus), ("random", corpus)):
        windows = tl.Windows(order, text, batch_size=4, seq_len=5, shard=tl.Shard())
        program = f"{laws._PLAN_PROGRAM}\nassert 'torch' not in sys.modules"
        pickled = laws._pickle_for_others(windows.plan)
        there = subprocess.run(
            [sys.executable, "-c", program], input=pickled, check=True, capture_output=True
        )
        assert digest_plan(windows.plan) == there.stdout.decode().strip()


def test_law_8_is_broken_where_the_arithmetic_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that orders otherwise is found by a hash that is pinned."""
    break_starts(monkeypatch, lambda starts: starts + 1)
    with pytest.raises(LawError, match="law 8 is broken: this platform orders random plans"):
        laws.check_seeds(make_windows().plan)


@pytest.mark.parametrize("name", ["seed", "epoch"])
def test_law_8_is_broken_where_seed_or_epoch_is_ignored(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them must change the order."""
    starts = Plan.starts

    def ignoring(plan: Plan, rows: range, columns: range | None = None) -> IntArray:
        changes: dict[str, Any] = {name: 0}
        return starts(dataclasses.replace(plan, **changes), rows, columns)

    monkeypatch.setattr(Plan, "starts", ignoring)
    with pytest.raises(LawError, match=f"another {name} gives the same order"):
        laws.check_seeds(make_windows().plan)


class StraightOrder(Order):
    """The windows as they stand in the corpus, in each epoch of each seed."""

    kind = "straight"
    carries_state = False

    def starts(self, settings: PlanSettings, rows: IntArray, columns: IntArray) -> IntArray:
        """Return where windows start; see `Order.starts`."""
        return (rows * settings.batch_size + columns) * settings.seq_len


def test_an_own_order_that_ignores_its_seed_is_told_how_to_use_it() -> None:
    """The message has the cure, and the way out where that is meant."""
    windows = tl.Windows(StraightOrder(), CORPUS, batch_size=4, seq_len=5, shard=tl.Shard())
    cure = r"has that of .*; let its starts\(\) depend on settings.seed .*draw_words\(.* or leave"
    with pytest.raises(LawError, match=cure):
        laws.check_seeds(windows.plan)


def test_law_8_is_broken_where_processes_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that prints something else, or fails, is quoted."""
    (tmp_path / "tokenloom.py").write_text("raise SystemExit('no plan here')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LawError, match="another plan, or none: no plan here"):
        laws.check_seeds(make_windows().plan)


def test_law_9_is_broken_where_a_mismatch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state of any other plan must be refused."""
    monkeypatch.setattr(state_module, "_check_proof", lambda *_: None)
    with pytest.raises(LawError, match="a state with another kind was taken"):
        laws.check_state(make_loader())


def test_law_9_is_broken_where_a_refusal_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message must name the field that differs."""

    def refuse(*_: Any) -> None:
        msg = "no"
        raise tl.StateMismatchError(msg)

    monkeypatch.setattr(state_module, "_check_proof", refuse)
    with pytest.raises(LawError, match="another kind was refused without naming it: no"):
        laws.check_state(make_loader())


def test_law_9_is_broken_where_a_refused_state_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a state is checked before any of it is taken."""

    def hasty(state: Any, **options: Any) -> Any:
        loader._next_batch = 5
        return restore_position(state, **options)

    loader = make_loader()
    monkeypatch.setattr("tokenloom.loading.loader.restore_position", hasty)
    with pytest.raises(LawError, match="a refused state changed the loader"):
        laws.check_state(loader)


def test_law_7_is_broken_where_padding_is_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to learn the target must be -100, and the mask False."""
    monkeypatch.setattr(batch_module, "IGNORED_TARGET", 0)
    windows = make_windows(tail="pad")
    with pytest.raises(LawError, match=r"law 7 is broken: .* or the padding does not leave"):
        laws.check_batches(windows, range(len(windows)))


def test_law_10_is_broken_where_memory_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that holds an array as long as the corpus is found."""

    def grow(starts: IntArray) -> IntArray:
        # A hundredth of what it would be, to spare the machine.
        np.zeros(min(int(starts.max()) // 100, 1 << 22), np.uint8)
        return starts

    break_starts(monkeypatch, grow)
    with pytest.raises(LawError, match=r"law 10 is broken: a row of 10\^12 tokens' plan took"):
        laws.check_cost(make_windows().plan)


def late_remaining(loader: tl.Loader) -> int:
    """Return what would remain if the loader did not stand one batch too late."""
    return 19 - loader._next_batch + (loader._next_batch == 8)


def test_law_5_is_broken_where_a_batch_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that goes on one batch too late is found."""

    def late(state: Any, **options: Any) -> Position:
        position = restore_position(state, **options)
        return position._replace(next_batch=position.next_batch + (position.next_batch == 7))

    monkeypatch.setattr("tokenloom.loading.loader.restore_position", late)
    # It would be refused before the batches are compared.
    monkeypatch.setattr(tl.Loader, "remaining", property(late_remaining))
    with pytest.raises(LawError, match=r"law 5 is broken: .* resumed after 7 batches differs"):
        laws.assert_resumes_everywhere(lambda: [make_loader()])


def test_law_5_is_broken_where_the_next_epoch_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch after the resumed one is compared too."""

    def make_restored() -> list[tl.Loader]:
        # From now on epoch 1 has the order of another seed.
        monkeypatch.setattr(
            Plan,
            "at",
            lambda plan, epoch, **_: dataclasses.replace(plan, epoch=epoch, seed=int(epoch == 1)),
        )
        return [make_loader()]

    with pytest.raises(
        LawError, match=r"law 5 .* the epoch after, .* after 0 batches differs at batch 0"
    ):
        laws.assert_resumes_everywhere(lambda: [make_loader()], make_restored)


def test_law_5_is_broken_where_ranks_stand_apart() -> None:
    """All ranks of a stream must be at the same batch."""

    def make() -> list[tl.Loader]:
        ahead = tl.Loader(make_windows(1, 2))
        ahead.load_state_dict({**ahead.state_dict(), "next_batch": 1})
        return [tl.Loader(make_windows(0, 2)), ahead]

    with pytest.raises(LawError, match="the ranks' states differ"):
        laws.assert_resumes_everywhere(make)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("remaining", 7, r"law 5 .* after 0 batches: remaining is 7, not 19"),
        ("__len__", lambda _: 18, r"law 6 is broken: len\(\) is 18, got 19 batches"),
    ],
)
def test_what_a_loader_says_of_its_length_is_checked(
    name: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """len() and remaining are promises too."""
    wrong = value if callable(value) else property(lambda _: value)
    monkeypatch.setattr(tl.Loader, name, wrong)
    with pytest.raises(LawError, match=message):
        laws.assert_resumes_everywhere(lambda: [make_loader()])


def test_an_iteration_that_does_not_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed iteration must end where the saved one did."""
    end = tl.Loader._end_of_iteration

    def late(loader: tl.Loader) -> int:
        return end(loader) + (loader._next_batch > 0)

    monkeypatch.setattr(tl.Loader, "_end_of_iteration", late)
    monkeypatch.setattr(tl.Loader, "remaining", property(lambda loader: 19 - loader._next_batch))
    with pytest.raises(LawError, match=r"law 5 .* after 1 batch gave more batches"):
        laws.assert_resumes_everywhere(lambda: [make_loader()])


def test_a_stream_that_gives_nothing_is_found() -> None:
    """And does not keep the check waiting for ever."""

    class Empty(tl.Loader):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(LawError, match=r"law 6 is broken: len\(\) is 19, got 0 batches"):
        laws.assert_resumes_everywhere(lambda: [Empty(make_windows())])


def test_ranks_of_different_lengths_are_found() -> None:
    """Every rank must give the same number of batches."""
    ranks = iter([[1], [1, 2]])
    windows = [list(make_windows(rank, 2))[: len(next(ranks))] for rank in range(2)]

    def make(rank: int, world_size: int) -> Any:
        return windows[rank] if world_size == 2 else list(make_windows())[:1]

    with pytest.raises(LawError, match="2 ranks give different numbers of batches"):
        laws.check_ranks(make, 2)


@pytest.mark.parametrize(("got", "much"), [(18, "fewer"), (20, "more")])
def test_a_stream_of_another_length_is_found(got: int, much: str) -> None:
    """Batches that are missing, and ones too many, have messages of their own."""
    expected = [laws.Fingerprint(0, row, "") for row in range(20)]
    with pytest.raises(LawError, match=f"law 3 is broken: it gave {much} batches"):
        laws.check_stream(expected[:19], expected[:got], law="law 3", what="it")


def test_what_a_batch_says_depends_on_all_of_it() -> None:
    """Another epoch, row, id or length gives another digest."""
    ids = np.arange(12, dtype=np.uint8).reshape(2, 6)
    lengths = np.array([5, 5])
    batches = [
        tl.Batch(ids, epoch=0, index=0, lengths=lengths),
        tl.Batch(ids, epoch=1, index=0, lengths=lengths),
        tl.Batch(ids, epoch=0, index=1, lengths=lengths),
        tl.Batch(ids[::-1], epoch=0, index=0, lengths=lengths),
        tl.Batch(ids, epoch=0, index=0, lengths=lengths - 1),
    ]
    assert len({laws.digest(batch) for batch in batches}) == 5


def make_mixed_windows() -> tl.RandomWindows:
    """Return windows of two parts."""
    parts = [tl.Corpus.from_tokens(np.arange(first, first + 400)) for first in (0, 400)]
    mixed = tl.Mixture({"web": (parts[0], 0.7), "code": (parts[1], 0.3)})
    return tl.RandomWindows(mixed, batch_size=4, seq_len=5, shard=tl.Shard())


def test_shares_of_a_mixture_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accounting that is not what the batches read is found, and shares that are not exact."""
    windows = make_mixed_windows()
    for epoch in range(3):
        windows.set_epoch(epoch)
        laws.check_shares(windows)
        laws.check_batches(windows, range(5))
    monkeypatch.setattr(mixture, "share_out", lambda num_windows, _: [num_windows, 0])
    with pytest.raises(LawError, match=r"law 7 is broken: web has .* windows of an epoch, not"):
        laws.check_shares(windows)
    monkeypatch.undo()
    monkeypatch.setattr(mixture.MixtureOrder, "sources_of", lambda _, starts: np.zeros_like(starts))
    with pytest.raises(LawError, match=r"law 7 is broken: .* windows of web, counted"):
        laws.check_shares(make_mixed_windows())


def test_sources_of_a_mixture_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that says another part than the plan is found."""
    monkeypatch.setattr(sources.BlockSources, "of", lambda *_: np.zeros(4, np.int64))
    with pytest.raises(LawError, match=r"law 1 is broken: .* the sources are not the parts"):
        laws.check_batches(make_mixed_windows(), range(5))


def test_shares_are_those_of_a_mixture() -> None:
    """Other windows are refused."""
    with pytest.raises(ArgumentError, match="windows must be those of a mixture"):
        laws.check_shares(tl.RandomWindows(CORPUS, batch_size=2, seq_len=5, shard=tl.Shard()))
