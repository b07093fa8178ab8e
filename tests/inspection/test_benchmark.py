"""How fast a stream is read: what is measured, not how long it took."""

import time
from typing import Any

import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.inspection import benchmark
from tokenloom.inspection.benchmark import (
    Measurement,
    Sample,
    Setting,
    choose_settings,
    recommend,
    summarize,
    take_samples,
)
from tokenloom.plan.division import default_block_size

CORPUS = tl.Corpus.from_tokens([1, 2, 3] * 400)
WINDOWS = tl.RandomWindows(CORPUS, batch_size=1, seq_len=5, shard=tl.Shard())


def measured(wait: float, **options: Any) -> Measurement:
    """Return a measurement of a setting that waits for some seconds."""
    return Measurement(
        setting=Setting(**{"reader": "Loader", "num_workers": 0, **options}),
        tokens_per_second=1.0,
        first_batch_seconds=1.0,
        wait_seconds=wait,
        num_samples=1,
    )


def test_settings_are_workers_times_blocks() -> None:
    """And a plain DataLoader; pinned ones only where there is a GPU."""
    plain = choose_settings(WINDOWS, num_workers=[0, 2, 0], has_gpu=False)
    shown = [(s.reader, s.num_workers, s.block_size, s.pin_memory) for s in plain]
    expected = [
        *(("Loader", number, size, False) for number in (0, 2) for size in (None, 1, 8)),
        *(("DataLoader", number, None, False) for number in (0, 2)),
    ]
    assert expected == shown
    pinned = choose_settings(WINDOWS, num_workers=[0, 2], has_gpu=True)[len(plain) :]
    assert [(s.reader, s.num_workers, s.pin_memory) for s in pinned] == [
        (reader, number, True) for reader in ("Loader", "DataLoader") for number in (0, 2)
    ]


def test_blocks_are_smaller_than_the_default() -> None:
    """Where a block is one batch anyway, nothing is tried twice."""
    windows = tl.RandomWindows(CORPUS, batch_size=100, seq_len=10, shard=tl.Shard())
    assert default_block_size(windows.plan, windows.columns) == 1
    assert [None] == [s.block_size for s in choose_settings(windows, num_workers=[0])][:-1]


def test_padding_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch counts for the inputs in it, not for its places."""
    corpus = tl.Corpus.from_tokens([1, 2, 3] * 7)
    windows = tl.SequentialWindows(corpus, batch_size=4, seq_len=15, tail="pad", shard=tl.Shard())
    assert 1 == len(windows)
    monkeypatch.setattr(benchmark, "_drain", lambda *_: (3, 2.0))
    setting = Setting(reader="Loader", num_workers=0)
    sample = next(take_samples(windows, [setting], seconds=0.01))
    assert 3 * 20 / 2.0 == sample.tokens_per_second


def test_every_setting_is_measured_in_turn() -> None:
    """At least once, however short the time, and the windows stay as they were."""
    WINDOWS.set_epoch(3)
    settings = choose_settings(WINDOWS, num_workers=[0, 1], has_gpu=False)
    samples = list(take_samples(WINDOWS, settings, seconds=1e-6))
    assert settings == [sample.setting for sample in samples]
    assert all(min(sample[1:]) > 0 for sample in samples)
    assert WINDOWS.epoch == 3


def test_time_that_is_left_is_used_for_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five at most, each over all settings; after the deadline none is begun."""
    now = [0.0]

    def take(_: Any, setting: Setting, __: float) -> Sample:
        now[0] += 1.0
        return Sample(setting, 1.0, 1.0, 1.0)

    monkeypatch.setattr(benchmark, "_take_sample", take)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    settings = choose_settings(WINDOWS, num_workers=[0], has_gpu=False)
    for seconds, num_samples in ((100.0, 5 * len(settings)), (5.5, 6), (0.5, len(settings))):
        samples = list(take_samples(WINDOWS, settings, seconds=seconds))
        assert (settings * 5)[:num_samples] == [sample.setting for sample in samples]


def test_medians_are_taken() -> None:
    """A slow moment changes nothing."""
    one, other = measured(0.0).setting, measured(0.0, num_workers=1).setting
    samples = [
        sample
        for value in (1.0, 50.0, 2.0)
        for sample in (Sample(one, value, value + 1, value + 2), Sample(other, 9.0, 9.0, 9.0))
    ]
    first, second = summarize(samples)
    assert [one, other] == [first.setting, second.setting]
    assert (2.0, 3.0, 4.0, 3) == (
        first.tokens_per_second,
        first.first_batch_seconds,
        first.wait_seconds,
        first.num_samples,
    )


def test_the_simplest_of_the_good_is_recommended() -> None:
    """A worker must save a hundredth of the step to be worth it; so with all that is special."""
    assert recommend([measured(5e-5), slow := measured(2e-5, num_workers=1)]) is slow
    assert recommend([none := measured(2.9e-5), measured(2e-5, num_workers=1)]) is none
    options: list[dict[str, Any]] = [{"reader": "DataLoader"}, {"block_size": 8}]
    for option in [*options, {"pin_memory": True}]:
        assert recommend([measured(1e-6, **option), plain := measured(2e-6)]) is plain


def test_a_setting_is_written_as_python() -> None:
    """Ready to be copied."""
    setting = Setting(reader="Loader", num_workers=2, block_size=8, pin_memory=True)
    options = "num_workers=2, pin_memory=True, worker_options=WorkerOptions(block_size=8)"
    assert f"Loader(windows, {options})" == str(setting)
    plain = Setting(reader="DataLoader", num_workers=0)
    assert str(plain) == "DataLoader(windows, batch_size=None)"


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_no_time_is_refused(seconds: float) -> None:
    """The message names the range."""
    with pytest.raises(ArgumentError, match=r"seconds must be in \(0, inf\), got"):
        list(take_samples(WINDOWS, [Setting(reader="Loader", num_workers=0)], seconds=seconds))


@pytest.mark.parametrize("num_workers", [[], [1, -2]])
def test_no_workers_to_try_are_refused(num_workers: list[int]) -> None:
    """An empty table says nothing."""
    with pytest.raises(ArgumentError, match="numbers of workers must be at least 0, got"):
        choose_settings(WINDOWS, num_workers=num_workers)
