"""Trainings that go on as if they had never been broken off."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tests.support.training.trainings import (
    CORPUS,
    HELD_OUT,
    NUM_BATCHES,
    NUM_EPOCHS,
    TRAIN,
    StoppedError,
    checkpoint_of,
    make_loader,
    make_model,
    outcome_of,
    stop_in_step,
    train_in_pieces,
    weights_of,
)
from tokenloom.errors import ArgumentError, RunError, UsageError
from tokenloom.training import meter
from tokenloom.training.resume import CheckpointSaver, OpenRun

# So an epoch may end, and be written down, after the last checkpoint.
EVERY_FOUR = tl.RunOptions(checkpoint_steps=4)
DROPOUT: dict[str, Any] = {"num_layers": 2, "dropout": 0.5}
HALF = tl.TrainingOptions(precision="bfloat16", schedule="linear")
ADAMW = tl.TrainingOptions(optimizer="adamw", schedule="cosine", warmup_updates=4)


@pytest.fixture(autouse=True)
def without_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time of so small trainings."""

    def refuse(*_: Any, **__: Any) -> None:
        raise UsageError

    monkeypatch.setattr(meter, "plot_perplexity", refuse)


def resume(run: Path) -> None:
    """Resume one of these trainings."""
    tl.train(make_model("gru"), make_loader(), run=run, resume=True, device="cpu")


def newest(run: Path) -> Path:
    """Return the newest checkpoint."""
    return max((run / "checkpoints").glob("step-*.pt"))


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where in nested values each part is."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in parts:
        yield (*place, name)
        if isinstance(part, dict | list):
            yield from places_in(part, (*place, name))


def put(values: Any, *, place: tuple[Any, ...], value: Any) -> None:
    """Put another value into a place of nested values."""
    for name in place[:-1]:
        values = values[name]
    values[place[-1]] = value


@pytest.mark.parametrize(
    ("order", "model", "options"),
    [
        ("sequential", {"layer": "rnn"}, {}),
        ("random", {"layer": "rnn"}, {"held_out": HELD_OUT}),
        ("sequential", {"layer": "gru"}, {"tail": "pad"}),
        ("random", {"layer": "gru", **DROPOUT}, {}),
        ("sequential", {"layer": "lstm", **DROPOUT}, {"held_out": HELD_OUT}),
        ("random", {"layer": "lstm"}, {"tail": "pad"}),
        ("sequential", {"layer": "lstm"}, {"options": ADAMW, "lr": 0.01}),
        ("random", {"layer": "rnn"}, {"options": tl.TrainingOptions(batches_per_update=4)}),
        ("sequential", {"layer": "gru"}, {"options": HALF}),
    ],
)
def test_a_resumed_training_ends_as_one_that_was_not_broken_off(
    order: str, model: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    """The weights are the same bit by bit, and so are metrics and losses."""
    options = {**options, "order": order, "run_options": EVERY_FOUR}
    whole = train_in_pieces(tmp_path / "whole", model, (), **options)
    pieces = train_in_pieces(tmp_path / "pieces", model, (2, 11, 7), **options)
    assert outcome_of(tmp_path / "whole") == outcome_of(tmp_path / "pieces")
    assert [entry.step for entry in whole] == [entry.step for entry in pieces]


@pytest.mark.parametrize("stop", [1, 2, NUM_BATCHES, NUM_BATCHES + 1, 3 * NUM_BATCHES])
def test_it_resumes_from_any_step(stop: int, tmp_path: Path) -> None:
    """Wherever it was broken off, also at an epoch's end and before the first checkpoint."""
    options: dict[str, Any] = {"run_options": tl.RunOptions(checkpoint_steps=1)}
    whole = make_model()
    tl.train(whole, make_loader(), device="cpu")
    train_in_pieces(tmp_path / "pieces", {}, (stop,), **options)
    assert weights_of(whole) == weights_of(tl.Run.open(tmp_path / "pieces").load_model())


def test_a_part_of_each_batch_resumes_with_its_own_rows(tmp_path: Path) -> None:
    """A training of one rank without a group has the hidden state of that rank alone."""
    shard, often = tl.Shard(rank=1, world_size=2), tl.RunOptions(checkpoint_steps=1)
    for name, stops in (("whole", (None,)), ("pieces", (5, 7, None))):
        for stop in stops:
            windows = tl.SequentialWindows(TRAIN, batch_size=4, seq_len=10, shard=shard)
            loader, model = tl.Loader(windows, num_epochs=2), make_model("lstm")
            if stop is not None:
                stop_in_step(model, stop)
            options: dict[str, Any] = {"run": tmp_path / name, "run_options": often}
            with contextlib.suppress(StoppedError):
                tl.train(model, loader, **options, resume=True, device="cpu")
    assert outcome_of(tmp_path / "whole") == outcome_of(tmp_path / "pieces")


def test_ctrl_c_loses_no_step(tmp_path: Path) -> None:
    """The checkpoint that it leaves is of the step in which it came, and resumes exactly.

    What was written down of the epoch that was broken off stands there once.
    """
    whole = tmp_path / "whole"
    tl.train(make_model(**DROPOUT), make_loader(), run=whole, device="cpu")
    model, pressed = make_model(**DROPOUT), []

    def press(*_: Any) -> None:
        pressed.append(1)
        if len(pressed) == 14:
            signal.raise_signal(signal.SIGINT)

    model.register_forward_pre_hook(press)
    options: dict[str, Any] = {"run": tmp_path / "run", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        tl.train(model, make_loader(), **options)
    checkpoint = tl.Run.open(tmp_path / "run").load_checkpoint()
    assert checkpoint is not None
    assert 14 == checkpoint.step
    tl.train(make_model(**DROPOUT), make_loader(), **options, resume=True)
    assert outcome_of(whole) == outcome_of(tmp_path / "run")


@pytest.mark.parametrize("resume", [False, True])
def test_two_trainings_do_not_share_a_run(resume: bool, tmp_path: Path) -> None:
    """The second one is refused while the first one trains, and changes nothing."""
    options: dict[str, Any] = {"run": tmp_path / "run", "device": "cpu"}
    tl.train(make_model(), make_loader(), run=tmp_path / "whole", device="cpu")
    model = make_model()
    stop_in_step(model, 4)
    with pytest.raises(StoppedError):
        tl.train(model, make_loader(), **options)
    model, steps = make_model(), []

    def train_too(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 2:
            with pytest.raises(RunError, match="in use" if resume else "must be new or empty"):
                tl.train(make_model(), make_loader(), **options, resume=resume)

    model.register_forward_pre_hook(train_too)
    tl.train(model, make_loader(), **options, resume=True)
    assert len(steps) > 2
    assert outcome_of(tmp_path / "whole") == outcome_of(tmp_path / "run")


def test_a_finished_run_is_not_trained_on(tmp_path: Path) -> None:
    """Resuming it returns what was measured, and leaves the weights as they were."""
    options: dict[str, Any] = {"run": tmp_path / "run", "device": "cpu"}
    history = tl.train(make_model(), make_loader(), **options)
    before = outcome_of(tmp_path / "run")
    assert history == tl.train(make_model(), make_loader(), **options, resume=True)
    assert before == outcome_of(tmp_path / "run")


def test_the_windows_may_be_moved_on_after_the_loader_was_made(tmp_path: Path) -> None:
    """The loader keeps its own first epoch, and so does the run."""
    options: dict[str, Any] = {"run": tmp_path / "run", "resume": True, "device": "cpu"}
    tl.train(make_model(), make_loader(), **options)
    before = outcome_of(tmp_path / "run")
    loader = make_loader()
    loader.windows.set_epoch(7)
    tl.train(make_model(), loader, **options)
    assert before == outcome_of(tmp_path / "run")
    with pytest.raises(tl.StateMismatchError, match="first_epoch: saved 0, now 7"):
        tl.train(make_model(), tl.Loader(loader.windows, num_epochs=NUM_EPOCHS), **options)


@pytest.mark.parametrize("stop", [1, 4, NUM_EPOCHS * NUM_BATCHES])
def test_a_loader_that_has_trained_before_is_resumed(stop: int, tmp_path: Path) -> None:
    """Its run begins where the iteration before ended, and is not taken for finished."""

    def make_later() -> tl.Loader:
        loader = make_loader()
        loader.load_state_dict({**loader.state_dict(), "epoch": NUM_EPOCHS})
        return loader

    options: dict[str, Any] = {"device": "cpu", "run_options": tl.RunOptions(checkpoint_steps=1)}
    tl.train(make_model(), make_later(), run=tmp_path / "whole", **options)
    model = make_model()
    stop_in_step(model, stop)
    with pytest.raises(StoppedError):
        tl.train(model, make_later(), run=tmp_path / "run", **options)
    history = tl.train(make_model(), make_later(), run=tmp_path / "run", resume=True, **options)
    assert outcome_of(tmp_path / "whole") == outcome_of(tmp_path / "run")
    assert [3, 4, 5] == [entry.epoch for entry in history]


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    """With more epochs it ends as a run that had them from the beginning."""
    longer: dict[str, Any] = {"num_epochs": 5}
    options: dict[str, Any] = {"device": "cpu"}
    tl.train(make_model(), make_loader(**longer), run=tmp_path / "whole", **options)
    tl.train(make_model(), make_loader(), run=tmp_path / "run", **options)
    tl.train(make_model(), make_loader(**longer), run=tmp_path / "run", resume=True, **options)
    assert outcome_of(tmp_path / "whole") == outcome_of(tmp_path / "run")
    assert 5 == tl.Run.open(tmp_path / "run").settings["num_epochs"]


def test_a_run_that_is_not_there_is_begun(tmp_path: Path) -> None:
    """So a program that is started again simply goes on."""
    tl.train(make_model(), make_loader(), run=tmp_path / "run", resume=True, device="cpu")
    assert tl.Run.open(tmp_path / "run").has_checkpoint


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"lr": 0.5}, "lr: saved 1.0, now 0.5"),
        ({"seed": 3}, "seed: saved 0, now 3"),
        ({"options": ADAMW}, "optimizer: saved 'sgd', now 'adamw'"),
        ({"held_out": HELD_OUT}, "num_held_out_tokens: saved 0, now "),
        ({"order": "random"}, "order: saved 'sequential', now 'random'"),
        ({"tail": "pad"}, "tail: saved 'drop', now 'pad'"),
        ({"model": {"layer": "gru"}}, "model.rnn: saved 'RNN', now 'GRU'"),
        ({"model": {"num_layers": 2}}, "model.num_layers: saved 1, now 2"),
        ({"corpus": CORPUS}, "num_tokens: saved 408, now 511"),
        ({"text": "xyz" + CORPUS.decode(TRAIN.tokens)[3:]}, "vocab_hash: saved 'sha256:"),
    ],
)
def test_another_training_is_refused(
    change: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    """The message names each difference with both values, and nothing is changed."""
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "run", device="cpu")
    before = outcome_of(tmp_path / "run")
    corpus = change.pop("corpus", TRAIN)
    if "text" in change:
        corpus = tl.Corpus.from_text(change.pop("text"))
    model = make_model(**change.pop("model", {}))
    if corpus.vocab_size > model.vocab_size:
        model = tl.RNNModel(nn.RNN(corpus.vocab_size, 8), corpus.vocab_size)
    kind = {"random": tl.RandomWindows}.get(change.pop("order", ""), tl.SequentialWindows)
    windows = kind(corpus, batch_size=4, seq_len=10, tail=change.pop("tail", "drop"))
    with pytest.raises(tl.StateMismatchError, match="the run is of another training") as error:
        tl.train(
            model, tl.Loader(windows), run=tmp_path / "run", resume=True, device="cpu", **change
        )
    assert difference in str(error.value)
    assert before == outcome_of(tmp_path / "run")


@pytest.mark.parametrize("part", ["documents", "held_out_documents"])
def test_other_documents_are_another_training(part: str, tmp_path: Path) -> None:
    """The hidden state begins at zero where they start; without resets they do not matter."""
    many = {"documents": [*range(0, 401, 10)]}
    here, there = (many, {}) if part == "documents" else ({}, many)

    def run(changed: dict[str, Any], held_out: dict[str, Any], **options: Any) -> None:
        corpora = [
            tl.Corpus.from_tokens(
                CORPUS.tokens[:400], vocab=CORPUS.vocab, **{"documents": [0, 200, 400], **change}
            )
            for change in (changed, held_out)
        ]
        windows = tl.SequentialWindows(corpora[0], batch_size=4, seq_len=10, **options)
        folder = tmp_path / f"run-{len(options)}"
        loader = tl.Loader(windows)
        tl.train(make_model(), loader, held_out=corpora[1], run=folder, resume=True, device="cpu")

    run({}, {})
    run({}, {})
    with pytest.raises(tl.StateMismatchError, match=rf"\n  {part}_hash: saved 'sha256:.*\nUse"):
        run(here, there)
    run({}, {}, resets=False)
    run(many, {}, resets=False)


def test_a_schedule_is_not_stretched(tmp_path: Path) -> None:
    """What was laid out over three epochs cannot become five."""
    options: dict[str, Any] = {"run": tmp_path / "run", "device": "cpu", "options": ADAMW}
    tl.train(make_model(), make_loader(), **options)
    with pytest.raises(tl.StateMismatchError, match="begun with num_epochs=3, got num_epochs=5"):
        tl.train(make_model(), make_loader(num_epochs=5), **options, resume=True)


@pytest.mark.parametrize(("saved", "now"), [(NUM_EPOCHS, 2), (None, 5)])
def test_a_run_is_not_made_shorter(saved: int | None, now: int, tmp_path: Path) -> None:
    """What was trained beyond would not be taken back; None is without end."""
    options: dict[str, Any] = {"run": tmp_path / "run", "device": "cpu"}
    model = make_model()
    stop_in_step(model, 2 * NUM_BATCHES + 3)
    with pytest.raises(StoppedError):
        tl.train(model, make_loader(num_epochs=saved), **options)
    begun = "without an end" if saved is None else f"with num_epochs={saved}"
    with pytest.raises(tl.StateMismatchError, match=f"begun {begun}, got num_epochs={now}"):
        tl.train(make_model(), make_loader(num_epochs=now), **options, resume=True)


def test_resume_needs_a_run() -> None:
    """Without a folder there is nothing to go on with."""
    with pytest.raises(ArgumentError, match="resume=True needs run"):
        tl.train(make_model(), make_loader(), resume=True, device="cpu")


def test_a_run_of_an_older_release_is_refused(tmp_path: Path) -> None:
    """Its checkpoint holds the model alone; it can still be generated from."""
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "run", device="cpu")
    (path,) = (tmp_path / "run" / "checkpoints").glob("step-*[1-9]-*.pt")
    values = torch.load(path, weights_only=True)
    del values["training"]
    torch.save({**values, "version": 1}, tmp_path / "run" / "checkpoint.pt")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(RunError, match="cannot be resumed: an older release made it"):
        tl.train(make_model(), make_loader(), run=tmp_path / "run", resume=True, device="cpu")
    assert weights_of(tl.Run.open(tmp_path / "run").load_model()) == {
        name: value.tolist() for name, value in values["weights"].items()
    }


def test_the_best_checkpoint_is_marked(tmp_path: Path) -> None:
    """It is the one with the lowest held-out perplexity, and stays however many follow."""
    # So steep that the perplexity rises again.
    loader = make_loader(num_epochs=12)
    options: dict[str, Any] = {"lr": 4.0, "held_out": HELD_OUT, "device": "cpu"}
    history = tl.train(make_model("gru"), loader, run=tmp_path / "run", **options)
    best = min(history, key=lambda entry: entry.held_out_perplexity or math.inf)
    run = tl.Run.open(tmp_path / "run")
    model = run.load_model(best=True)
    assert best.held_out_perplexity == tl.evaluate(model, HELD_OUT).perplexity
    (path,) = (tmp_path / "run" / "checkpoints").glob("best-*.pt")
    assert f"best-{best.step:09d}-" in path.name


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    """A warning names it, and the training ends as if it had been whole."""
    whole = make_model()
    tl.train(whole, make_loader(), device="cpu")
    model = make_model()
    stop_in_step(model, 11)
    options: dict[str, Any] = {"run": tmp_path / "run", "run_options": EVERY_FOUR}
    with pytest.raises(StoppedError):
        tl.train(model, make_loader(), device="cpu", **options)
    (newest,) = (tmp_path / "run" / "checkpoints").glob("step-000000008-*.pt")
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed = make_model()
    with pytest.warns(UserWarning, match=newest.name):
        tl.train(resumed, make_loader(), device="cpu", resume=True, **options)
    assert weights_of(whole) == weights_of(resumed)


def test_the_hidden_state_is_saved_by_global_row(tmp_path: Path) -> None:
    """All rows of the whole batch lie in one tensor, where the plan carries state."""
    for order, expected in (("sequential", [[2, 4, 8], [2, 4, 8]]), ("random", None)):
        tl.train(
            make_model("lstm", num_layers=2),
            make_loader(order),
            run=tmp_path / order,
            device="cpu",
        )
        checkpoint = tl.Run.open(tmp_path / order).load_checkpoint()
        assert checkpoint is not None
        assert checkpoint.training is not None
        hidden = checkpoint.training["hidden"]
        assert expected == (None if hidden is None else [list(part.shape) for part in hidden])


def test_settings_hold_the_whole_recipe(tmp_path: Path) -> None:
    """Optimiser, schedule and precision stand beside the learning rate."""
    options: dict[str, Any] = {"options": ADAMW, "run": tmp_path / "run", "device": "cpu"}
    tl.train(make_model(), make_loader(num_epochs=1), **options)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert ADAMW.describe() == {name: settings[name] for name in ADAMW.describe()}
    assert dataclasses.asdict(tl.RunOptions()) == settings["run_options"]


@pytest.mark.parametrize(("world_size", "expected"), [(1, [3, 5, 7, 9]), (2, [17, 33, 49])])
def test_the_clock_is_asked_wherever_updates_end(world_size: int, expected: list[int]) -> None:
    """With several ranks after 16 steps, also where no update ends in a multiple of them."""
    asked: list[int] = []
    meter = SimpleNamespace(step=0, is_best=False)
    ranks: Any = SimpleNamespace(world_size=world_size, share=lambda _: asked.append(meter.step))
    state: Any = SimpleNamespace(meter=meter)
    options = tl.RunOptions(checkpoint_seconds=1e9)
    saver = CheckpointSaver(state, OpenRun(), options=options, ranks=ranks)
    for step in range(3, 60, 2):
        meter.step = step
        saver.save_if_due()
    assert expected == asked[: len(expected)]


def begin_two_runs(folder: Path, stop: int = 14) -> tuple[Path, Path]:
    """Break off two trainings of other first weights, which agree in all settings."""
    for seed in (0, 1):
        model = make_model("gru")
        torch.manual_seed(seed)
        nn.init.normal_(model.linear.weight)
        stop_in_step(model, stop)
        with pytest.raises(StoppedError):
            tl.train(
                *(model, make_loader()),
                run=folder / f"{seed}",
                run_options=EVERY_FOUR,
                device="cpu",
            )
    return folder / "0", folder / "1"


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    """It says which run it is of, and stays where it is."""
    mine, other = begin_two_runs(tmp_path)
    for path in (mine / "checkpoints").iterdir():
        path.unlink()
    for path in (other / "checkpoints").iterdir():
        shutil.copy(path, mine / "checkpoints")
    before = sorted((mine / "checkpoints").iterdir())
    with pytest.raises(RunError, match=r"belongs to another run: its id is '[0-9a-f]{32}'"):
        resume(mine)
    with pytest.raises(RunError, match="belongs to another run"):
        tl.Run.open(mine).load_model()
    assert before == sorted((mine / "checkpoints").iterdir())


def test_settings_of_another_run_are_refused(tmp_path: Path) -> None:
    """They hold the id of that run."""
    mine, other = begin_two_runs(tmp_path)
    shutil.copy(other / "settings.json", mine)
    with pytest.raises(RunError, match="belongs to another run"):
        resume(mine)


def test_a_vocabulary_of_another_run_is_refused(tmp_path: Path) -> None:
    """Its ids would be other characters."""
    mine, _ = begin_two_runs(tmp_path)
    tl.Vocab(["z", "y", "x"]).save(mine / "vocab.json")
    with pytest.raises(RunError, match="is not that of the run"):
        tl.Run.open(mine).load_tokenizer()


def test_a_checkpoint_that_was_renamed_is_passed_over(tmp_path: Path) -> None:
    """An older one under the name of a later step is no later one."""
    mine, _ = begin_two_runs(tmp_path)
    newest, older = sorted((mine / "checkpoints").glob("step-*"), reverse=True)[:2]
    later = older.with_name(older.name.replace(older.name[5:14], "000000099"))
    older.rename(later)
    with pytest.warns(UserWarning, match="its name says step 99: it was renamed"):
        found = tl.Run.open(mine).load_checkpoint()
    assert found is not None
    assert int(newest.name[5:14]) == found.step


@pytest.mark.parametrize("name", ["metrics.jsonl", "losses.jsonl"])
@pytest.mark.parametrize("harm", ["last lost", "all lost", "doubled", "another run's"])
def test_records_that_are_not_those_of_the_checkpoint_are_refused(
    name: str, harm: str, tmp_path: Path
) -> None:
    """A history that is shorter, longer or another one is named, and nothing is changed."""
    mine, other = begin_two_runs(tmp_path, stop=24)
    path = mine / name
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 2
    if harm == "last lost":
        path.write_text(lines[0], encoding="utf-8")
    elif harm == "all lost":
        path.unlink()
    elif harm == "doubled":
        path.write_text("".join([*lines, lines[-1]]), encoding="utf-8")
    else:
        shutil.copy(other / name, path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(RunError, match=rf"{name} (must hold all lines|does not follow)|line 3"):
        resume(mine)
    assert before == (path.read_bytes() if path.exists() else None)


def test_records_are_on_the_disk_before_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may leave records without their checkpoint, never the other way round."""
    events: list[str] = []
    synchronize, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        synchronize(descriptor)
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def note_replace(self: Path, target: Any) -> Path:
        events.append(f"named {Path(target).suffix}")
        return replace(self, target)

    run = tl.Run.create(tmp_path / "run", corpus=CORPUS, settings={})
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    run.record(tl.training.EpochMetrics(epoch=0, step=9, perplexity=2.0, tokens_per_second=1.0))
    run.record(tl.training.StepLosses(step=1, epoch=0, batch=0, losses=[1.0]))
    run.save(checkpoint_of(make_model(), epoch=0, step=9))
    order = [events.index(name) for name in ("metrics.jsonl", "losses.jsonl", "run", "named .pt")]
    assert sorted(order) == order
    assert events[-1] == "checkpoints"


def begin(run: Path, *, lr: float = 1.0, stop: int = 21) -> None:
    """Train until a step in the third epoch fails."""
    model = make_model()
    stop_in_step(model, stop)
    options: dict[str, Any] = {"run_options": EVERY_FOUR, "device": "cpu", "lr": lr}
    with pytest.raises(StoppedError):
        tl.train(model, make_loader(), run=run, **options)


def finish(run: Path) -> list[tl.training.EpochMetrics]:
    """Resume what `begin` began."""
    options: dict[str, Any] = {"run_options": EVERY_FOUR, "device": "cpu", "resume": True}
    return tl.train(make_model(), make_loader(), run=run, **options)


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the values of a checkpoint, and make its digest anew."""
    values = torch.load(path, weights_only=True)
    change(values)
    buffer = io.BytesIO()
    torch.save(values, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    path.unlink()
    path.with_name(f"{path.name.rpartition('-')[0]}-{digest}.pt").write_bytes(buffer.getvalue())


def test_settings_that_were_changed_are_refused(tmp_path: Path) -> None:
    """A checkpoint knows the settings that it was saved with; each difference is named."""
    begin(tmp_path / "run")
    rewrite(newest(tmp_path / "run"), lambda values: values["training"]["settings"].update(lr=0.5))
    with pytest.raises(
        tl.StateMismatchError, match=r"not those of its checkpoint\.\n  lr: then 0.5, now 1.0"
    ):
        finish(tmp_path / "run")


def test_a_checkpoint_that_was_renamed_the_best_is_passed_over(tmp_path: Path) -> None:
    """It says itself as which it was saved."""
    begin(tmp_path / "run")
    path = newest(tmp_path / "run")
    path.rename(path.with_name(path.name.replace("step", "best")))
    with pytest.warns(UserWarning, match="was not the best one"):
        finish(tmp_path / "run")


def test_a_run_of_an_older_main_resumes(tmp_path: Path) -> None:
    """What has no binding is taken as it is; missing history is told."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    begin(run)
    tl.train(make_model(), make_loader(), run=whole, device="cpu", run_options=EVERY_FOUR)
    settings = json.loads((run / "settings.json").read_text())
    del settings["run_id"]
    (run / "settings.json").write_text(json.dumps(settings))

    def unbind(values: Any) -> None:
        del values["owner"], values["training"]["settings"]

    for path in (run / "checkpoints").iterdir():
        rewrite(path, unbind)
    finish(run)
    assert outcome_of(whole) == outcome_of(run)


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"not a pickle", b"PK\5\6" + bytes(18)])
def test_a_tiny_bad_checkpoint_costs_only_itself(content: bytes, tmp_path: Path) -> None:
    """Also where its name has the digest of its bytes."""
    run = tmp_path / "run"
    begin(run)
    digest = hashlib.sha256(content).hexdigest()[:16]
    (run / "checkpoints" / f"step-000000099-{digest}.pt").write_bytes(content)
    with pytest.warns(UserWarning, match="step-000000099-.*; going back to the one before it"):
        assert NUM_EPOCHS == len(finish(run))


WRONG: list[Any] = [None, "x", -1, [], {"x": 1}, torch.zeros(3), math.nan]


def test_values_of_another_type_never_reach_a_step(tmp_path: Path) -> None:
    """Whatever part of a checkpoint is another value: an error of ours, or the one before it."""
    begin(tmp_path / "run")
    values = torch.load(newest(tmp_path / "run"), weights_only=True)
    places = list(places_in(values))
    for number, place in enumerate(places[:: len(places) // 20]):
        for wrong in WRONG:
            run = tmp_path / f"run-{number}"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(tmp_path / "run", run)
            rewrite(newest(run), functools.partial(put, place=place, value=wrong))
            with warnings.catch_warnings(), contextlib.suppress(tl.TokenloomError):
                warnings.simplefilter("ignore")
                finish(run)


class WiderModel(tl.RNNModel):
    """A model of someone else's, derived from ours."""

    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int) -> None:
        super().__init__(rnn_layer, vocab_size)
        self.scale = nn.Parameter(torch.ones(vocab_size))

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return scaled logits."""
        logits, state = super().forward(*args, **options)
        return logits * self.scale, state


def test_a_model_with_more_weights_is_resumed(tmp_path: Path) -> None:
    """Its checkpoints are whole, though they hold more than ours."""
    size = CORPUS.vocab_size
    for num_epochs in (1, 2):
        model = WiderModel(nn.RNN(size, 8), size)
        loader = make_loader(num_epochs=num_epochs)
        history = tl.train(model, loader, run=tmp_path, resume=True, device="cpu")
        assert num_epochs == len(history)
