"""The benchmarks run, on a corpus that is too small to time anything."""

import importlib
import importlib.util
import itertools
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.packages import require_package

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
MODULES = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
KEPT = BENCHMARKS / "results" / "loading.json"

# Its modules import each other by name, as scripts beside each other do.
sys.path.insert(0, str(BENCHMARKS))
try:
    generation, jobs, loading, measuring, memory, report, results, systems, targets, texts = map(
        importlib.import_module,
        (
            *("generation", "jobs", "loading", "measuring", "memory"),
            *("report", "results", "systems", "targets", "texts"),
        ),
    )
    subwords, whole_way = map(importlib.import_module, ("subwords", "whole_way"))
finally:
    sys.path.remove(str(BENCHMARKS))

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 20,000 ids."""
    path: Path = loading.write_drawn(tmp_path_factory.mktemp("tokens") / "tokens.npy", 20_000)
    return path


def make_task(tokens: Path, folder: Path, num_workers: int = 0) -> Any:
    """Return a task of 4 x 7."""
    return systems.Task(
        path=tokens, folder=folder, batch_size=4, seq_len=7, num_workers=num_workers
    )


def fill(speeds: dict[str, float], *, num_workers: int = 0, quantity: str = "speed") -> Any:
    """Return results in which systems have these values at 32 x 35."""
    made = results.Results(settings={"workers": [0, 4], "corpus_bytes": 2 << 20})
    for slug, value in speeds.items():
        made.add(quantity, slug, (32, 35), num_workers, value)
    return made


@pytest.mark.parametrize("slug", systems.SYSTEMS)
def test_systems_yield_batches(slug: str, tokens: Path, tmp_path: Path) -> None:
    """Each of our own systems, and each limit, goes on past an epoch with what is asked for."""
    task = make_task(tokens, tmp_path)
    system = systems.SYSTEMS[slug]
    if not system.takes(0):
        task = make_task(tokens, tmp_path, num_workers=1)
    num_batches = 20_000 // (4 * 7) + 2 if system.takes(0) else 3
    for inputs, targets in itertools.islice(system.batches(task), num_batches):
        assert (torch.int64, torch.int64) == (inputs.dtype, targets.dtype)
        assert (4, 7) == tuple(inputs.shape) == tuple(targets.shape)
    if slug != "memcpy":
        ids = set(np.load(tokens).tolist())
        assert set(targets.flatten().tolist()) <= ids


@pytest.mark.parametrize(
    "slug", [slug for slug, system in systems.SYSTEMS.items() if system.takes(2)]
)
def test_systems_run_with_workers(slug: str, tokens: Path, tmp_path: Path) -> None:
    """With workers too, and the check of the first batch accepts it."""
    first, batches = measuring._start(
        systems.SYSTEMS[slug].batches, make_task(tokens, tmp_path, num_workers=2)
    )
    assert first > 0
    assert 3 == len(list(itertools.islice(batches, 3)))


def test_a_wrong_batch_is_no_result(tokens: Path, tmp_path: Path) -> None:
    """What ends with another shape, type or shift cannot be compared."""
    task = make_task(tokens, tmp_path)
    right = torch.arange(32).reshape(4, 8)
    measuring._check(right[:, :-1], right[:, 1:], task)
    with pytest.raises(TypeError, match=r"expected int64 \(4, 7\)"):
        measuring._check(right, right, task)
    with pytest.raises(TypeError, match="expected int64"):
        measuring._check(right[:, :-1].int(), right[:, 1:], task)
    with pytest.raises(ValueError, match="moved on by one"):
        measuring._check(right[:, :-1], right[:, :-1], task)


def test_every_measurement_gives_its_quantities(tokens: Path, tmp_path: Path) -> None:
    """The functions return as many values as the jobs name."""
    bench = jobs.Bench(
        tokens=tokens,
        sparse=tokens,
        small=tokens,
        folder=tmp_path,
        slugs=["random"],
        workers=[0],
    )
    seen = {}
    for job in (*bench.speeds(0.001), *bench.costs()):
        # Few steps and epochs: nothing here is timed.
        arguments = tuple(min(argument, 2) for argument in job.arguments)
        if job.function not in seen and job.slug != "message":
            values = job.function(job.slug, job.task, *arguments)
            seen[job.function] = len(values) if isinstance(values, tuple) else 1
            assert len(job.quantities) == seen[job.function]
    memory = {"measure_memory", "measure_growth"} if measuring.can_measure_memory() else set()
    expected = {"measure_speed", "measure_first", "measure_step", "measure_resume"} | memory
    assert expected == {function.__name__ for function in seen}


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Hide every module that a peer needs."""
    hidden = {system.module for system in measuring.ALL.values()} - {None}
    find = importlib.util.find_spec

    def find_other(name: str, package: str | None = None) -> Any:
        return None if name in hidden else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_other)
    return loading


def test_peers_that_are_not_installed_are_left_out(without_peers: ModuleType) -> None:
    """They get a note, and the others are timed."""
    found = results.Results()
    chosen = without_peers.choose_systems(None, found)
    assert list(systems.SYSTEMS) == chosen
    assert {"hf", "hf-iterable", "mosaicml", "litdata", "grain"} == set(found.notes)
    assert found.notes["grain"] == "not installed (module grain)"
    assert "Grain: not installed (module grain)." in report.render(
        results.Results(settings={"workers": [0]}, notes=found.notes)
    )


def test_the_command_measures_and_reports(
    without_peers: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run in processes of its own ends with tables, samples and a plot, and leaves nothing."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    store = tmp_path / "store"
    store.mkdir()
    without_peers.write_drawn(store / "tokens-00000.npy", 30_000)
    arguments = [
        *("--store", str(store), "--systems", "random", "gather-64", "grain"),
        *("--only", "speeds", "--workers", "0", "--repetitions", "1", "--seconds", "0.001"),
        *("--json", str(tmp_path / "run.json"), "--plot", str(tmp_path / "plots")),
    ]
    without_peers.main(arguments)
    printed = capsys.readouterr().out
    assert "tokenloom, random, bare" in printed
    assert "Grain: not installed" in printed
    kept = results.Results.read(tmp_path / "run.json")
    assert 30_000 == kept.settings["num_tokens"]
    assert kept.speed("random", (8, 1024), 0) > 0
    assert (tmp_path / "plots" / "speed.svg").stat().st_size > 0
    assert ["plots", "run.json", "store"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_system_that_fails_is_noted(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the run goes on."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = results.Results()
    task = make_task(tokens, tmp_path)
    broken, sound = (
        jobs.Job(
            quantities=("first",), slug="random", task=task, function=function, process="random"
        )
        for function in (measuring.measure_speed, measuring.measure_first)
    )
    with loading.Processes() as processes:
        loading.run([broken, sound], found, processes)
    assert "failed (4 x 7, 0 workers, measure_speed): TypeError" in found.notes["random"]
    assert ["first | random | 4 x 7 | 0"] == list(found.samples)


def test_no_store_is_said_so(tmp_path: Path) -> None:
    """A path without ids ends with a message, not with a traceback."""
    with pytest.raises(SystemExit, match=r"neither a \.npy file"):
        loading.find_tokens(tmp_path)


def test_the_best_peer_is_found_in_the_run() -> None:
    """It is the fastest of what a user could pick, in random order: no limit, not ours."""
    speeds = {"random": 90.0, "gather": 99.0, "map-style": 5.0, "hf": 3.0}
    found = fill({**speeds, "textbook-sequential": 70.0})
    assert "map-style" == found.best_peer((32, 35), 0)
    assert found.best_peer((32, 35), 4) is None


@pytest.mark.parametrize(("speed", "reached"), [(89.0, True), (74.0, False)])
def test_rows_say_what_was_asked_and_reached(speed: float, reached: bool) -> None:
    """A row divides medians of the run, and names the limit in the same measure."""
    found = fill({"random": speed, "map-style": 5.0, "gather-64": 200.0})
    (row,) = targets.rows(found)
    assert (15, speed / 5.0, reached) == (row.asked, row.reached, row.is_reached)
    assert (40.0, "limit: a gather per 64 batches") == (row.limit, row.limit_name)


@pytest.mark.parametrize(("cost", "reached"), [(29e-6, True), (31e-6, False)])
def test_less_is_better_where_it_costs(cost: float, reached: bool) -> None:
    """What a step costs must be at most what is asked."""
    found = fill({"random-loader": cost}, num_workers=4, quantity="step")
    (row,) = targets.rows(found)
    assert reached == row.is_reached
    assert row.at_most


def test_ratios_are_of_values_that_were_measured_together() -> None:
    """A repetition in which the machine was slow changes no ratio."""
    found = fill({})
    for slowness in (1, 4, 2):
        found.add("speed", "random", (32, 35), 0, 90 / slowness)
        found.add("speed", "hf", (32, 35), 0, 3 / slowness)
    found.add("speed", "random", (32, 35), 0, 1.0)
    assert 30.0 == found.faster("random", "hf", (32, 35), 0)
    assert found.faster("random", "grain", (32, 35), 0) is None


def test_samples_outlive_a_file(tmp_path: Path) -> None:
    """What was written is read again, with its medians."""
    found = fill({"random": 3.0})
    found.add("speed", "random", (32, 35), 0, 5.0)
    found.write(tmp_path / "run.json")
    again = results.Results.read(tmp_path / "run.json")
    assert found == again
    assert 4.0 == again.speed("random", (32, 35), 0)


def test_the_page_shows_the_results_that_are_kept() -> None:
    """Each table of the pages about speed is made from the samples beside the benchmarks."""
    page = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8")
        for name in ("explanation/speed.md", "contributing/figures.md")
    )
    tables = report.render(results.Results.read(KEPT))
    missing = [line for line in tables.splitlines() if line and line not in page]
    assert [] == missing
    shown = [line for line in re.findall(r"^\|.*\|$", page, re.MULTILINE) if line not in tables]
    assert [] == shown


def test_texts_are_timed_next_to_the_textbook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of tokens have a row; two ways that differ are refused."""
    path = tmp_path / "text.txt"
    path.write_text("The Time Machine, by H. G. Wells\n" * 50, encoding="utf-8")
    monkeypatch.setattr(texts.importlib.util, "find_spec", lambda _: None)
    texts.main([str(path), "--megabytes", "0.002", "--repetitions", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"^char .*x +25x$", printed, re.MULTILINE)
    assert re.search(r"^word .*x +7x$", printed, re.MULTILINE)

    monkeypatch.setattr(texts, "theirs", lambda *_: ([1], 2))
    with pytest.raises(ValueError, match="differ"):
        texts.check("time", "char")


def test_generation_is_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways write the same text with each kind of layer, and a table comes of it."""
    options = ["--characters", "9", "--repetitions", "1"]
    monkeypatch.setattr(sys, "argv", ["generation.py", *options])
    generation.main()
    rows = capsys.readouterr().out.splitlines()[1:]
    assert ["rnn", "gru", "lstm"] == [row.split()[0] for row in rows]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells its peak")
def test_memory_is_measured_above_the_parameters() -> None:
    """A process that fills 64 MB held so much more, also where it let go of them."""

    def fill() -> None:
        # Memory of its own: an array may get what this process held before.
        with mmap.mmap(-1, 64 << 20) as block:
            np.frombuffer(block, np.uint8).fill(1)

    megabytes, _ = memory._measure(fill, 1)
    assert 60 < megabytes < 100


@pytest.mark.parametrize("way", ["train_textbook", "train_tokenloom"])
def test_a_step_over_words_is_measured(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both loops train, and say how much they held and how long a step took."""
    monkeypatch.setattr(memory, "_measure", lambda train, num_steps: (train(), num_steps))
    _, num_steps = getattr(memory, way)(50)
    assert memory.NUM_STEPS == num_steps


def test_preparations_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory of two sizes, speed of one and two workers."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    preparing = importlib.import_module("preparing")
    (tmp_path / "text.txt").write_text("To be, or not to be\n", encoding="utf-8")
    small = ["--megabytes", "1", "2", "--speed-megabytes", "1", "--repetitions", "1"]
    options = ["--tokenizers", "word", "--folder", str(tmp_path)]
    preparing.main([str(tmp_path / "text.txt"), *small, *options])
    shown = capsys.readouterr().out
    assert "| word: peak memory of 2 MB | 1 MB | 1.2 x |" in shown
    assert "| 1 worker | 1.5 x |" in shown
    assert ["text.txt"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.slow
def test_subwords_are_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ways make the same ids, and each has its ratio."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    subwords.main(["--megabytes", "0.05", "--repetitions", "1", "--ids", "400"])
    printed = capsys.readouterr().out
    assert all(f"{ours} : {other}" in printed for other, ours in subwords.ASKED)


_SMALL_WAY = ["--megabytes", "0.05", "--repetitions", "1", "--ids", "400", "--processes", "1"]


def test_whole_way_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    """A way keeps the ids of the encoder, and has its share of time."""
    whole_way.main([*_SMALL_WAY, "--ways", "tokenloom", "tokenloom, alone"])
    assert re.search(r"\| tokenloom \| [\d.]+ \| [\d.]+ \| \d+ % \|", capsys.readouterr().out)


@pytest.mark.slow
def test_whole_way_has_a_ratio_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    """The ways by other packages keep the same ids."""
    require_package("datasets")
    whole_way.main(_SMALL_WAY)
    printed = capsys.readouterr().out
    for name in ("datasets", "datasets, threads", "nanoGPT"):
        assert f"| text to a verified store | {name} | 1.5 x |" in printed


def test_whole_way_refuses_other_ids() -> None:
    """A way that keeps other ids is not compared."""
    runs = {"encoder": whole_way.Run(1, 7, 70), "nanoGPT": whole_way.Run(1, 7, 71)}
    with pytest.raises(ValueError, match=r"must be the same for all ways, got .*71"):
        whole_way.check(runs)


@pytest.mark.slow
def test_packing_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure of the table comes out, of a few documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        patch.setattr(
            sys, "argv", ["packing.py", "--documents", "500", "--read", "500", "--repetitions", "1"]
        )
        importlib.import_module("packing").main()
    lines = capsys.readouterr().out.splitlines()
    begins = ["fill 0.9", "  packed: ", "  a gather with known starts: "]
    assert begins == [line[: len(begin)] for line, begin in zip(lines, begins, strict=False)]
    assert "plan of 500 documents: " == lines[-1][:23]


@pytest.mark.usefixtures("without_peers")
def test_mixtures_are_compared_with_those_of_peers(
    tokens: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ours is measured over its parts, and what is not installed is named with its package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    mixture_peers = importlib.import_module("mixture_peers")
    assert ["tokenloom"] == mixture_peers.choose_ways(["grain", "mosaicml"])
    paths = mixture_peers.split(tokens, 3, tmp_path)
    task = mixture_peers.make_task("tokenloom", paths, (4, 7), 2)
    assert [6, 3, 2] == [round(11 * weight) for weight in task.weights]
    speed = mixture_peers.measure("tokenloom", task, 0.001)
    mixture_peers.report(3, (4, 7), {"tokenloom": [speed], "grain": [speed / 25]})
    printed = capsys.readouterr().out
    assert "MosaicML streaming is left out: install mosaicml-streaming to compare it" in printed
    assert re.search(r"^ +3 +4 x 7 +grain +[\d.]+ +25\.0$", printed, re.MULTILINE)
