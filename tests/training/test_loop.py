"""The training loop."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tests.support.training.trainings import stop_in_step
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.model.loss import token_losses
from tokenloom.model.rnn import State, detach

CORPUS = tl.Corpus.from_text("the time traveller for so it will be convenient to speak of him " * 8)
VOCAB_SIZE = CORPUS.vocab_size
FILES = {
    "settings.json",
    "vocab.json",
    "metrics.jsonl",
    "losses.jsonl",
    "checkpoints",
    "perplexity.png",
    "perplexity.svg",
}


def make_model(layer: Any = nn.RNN, **options: Any) -> tl.RNNModel:
    """Return a small model, always with the same weights."""
    torch.manual_seed(0)
    return tl.RNNModel(layer(VOCAB_SIZE, 16, **options), VOCAB_SIZE)


def make_loader(kind: Any = tl.SequentialWindows, **options: Any) -> tl.Loader:
    """Return a loader of some batches per epoch."""
    return tl.Loader(kind(CORPUS, batch_size=4, seq_len=10), **options)


def train_plainly(model: tl.RNNModel, loader: tl.Loader) -> list[float]:
    """Train as the textbook does and return the perplexity of each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses: dict[int, list[float]] = {}
    state: State | None = None
    for batch in loader:
        inputs, targets = batch
        continues = loader.plan.carries_state and batch.index > 0 and state is not None
        state = detach(state) if continues and state is not None else None
        logits, state = model(inputs, state)
        loss = functional.cross_entropy(logits, targets.T.reshape(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.setdefault(batch.epoch, []).append(loss.item())
    return [math.exp(float(np.mean(values))) for values in losses.values()]


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("kind", [tl.RandomWindows, tl.SequentialWindows])
def test_it_is_the_textbooks_loop(layer: Any, kind: Any) -> None:
    """Weights and perplexities are those of a plain loop that carries the state itself."""
    plain, model = make_model(layer), make_model(layer)
    expected = train_plainly(plain, make_loader(kind, num_epochs=3))
    history = tl.train(model, make_loader(kind, num_epochs=3), lr=0.5, device="cpu")
    assert expected == pytest.approx([entry.perplexity for entry in history], rel=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name])


def test_the_state_is_carried_only_where_the_plan_says_so() -> None:
    """A sequential epoch begins afresh once, a random batch always."""
    seen: dict[Any, list[bool]] = {tl.RandomWindows: [], tl.SequentialWindows: []}
    for kind, begins in seen.items():
        model = make_model()
        model.register_forward_pre_hook(
            lambda _, arguments, begins=begins: begins.append(arguments[1] is None)
        )
        tl.train(model, make_loader(kind, num_epochs=2), device="cpu")
    num_batches = make_loader().plan.num_batches
    assert [True, *[False] * (num_batches - 1)] * 2 == seen[tl.SequentialWindows]
    assert [True] * num_batches * 2 == seen[tl.RandomWindows]


def test_it_learns() -> None:
    """The perplexity of a text that repeats itself falls far below the vocabulary."""
    history = tl.train(make_model(nn.GRU), make_loader(num_epochs=60), device="cpu")
    assert history[0].perplexity > 10
    assert history[-1].perplexity < 2


def test_workers_do_not_change_the_weights() -> None:
    """Two workers train bitwise the model of none."""
    models = [make_model(), make_model()]
    for model, num_workers in zip(models, (0, 2), strict=True):
        tl.train(model, make_loader(num_epochs=2, num_workers=num_workers), device="cpu")
    assert torch.equal(models[0].linear.weight, models[1].linear.weight)


def test_the_seed_rules_the_dropout() -> None:
    """The same seed drops the same units."""
    weights = []
    for seed in (1, 1, 2):
        model = make_model(num_layers=2, dropout=0.5)
        tl.train(model, make_loader(), seed=seed, device="cpu")
        weights.append(model.linear.weight)
    equal = [torch.equal(weights[0], other) for other in weights[1:]]
    assert [True, False] == equal


def test_gradients_are_clipped() -> None:
    """With a tiny norm a step is tiny: at most lr times the norm."""
    before, model = make_model(), make_model()
    tl.train(model, make_loader(), lr=1.0, max_grad_norm=1e-4, device="cpu")
    num_steps = make_loader().plan.num_batches
    moved = [
        (old - new).detach().pow(2).sum()
        for old, new in zip(before.parameters(), model.parameters(), strict=True)
    ]
    assert 0 < float(torch.stack(moved).sum().sqrt()) < 1.01e-4 * num_steps


def test_a_run_has_all_its_files(tmp_path: Path) -> None:
    """Settings, vocabulary, metrics, checkpoint and plot lie in the folder."""
    train, held_out = CORPUS.split(0.8)
    loader = tl.Loader(tl.SequentialWindows(train, batch_size=4, seq_len=10), num_epochs=2)
    history = tl.train(make_model(), loader, held_out=held_out, run=tmp_path / "run", device="cpu")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert tl.Run.open(tmp_path / "run").metrics() == history


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    """PNG and SVG begin as such files do."""
    tl.train(make_model(), make_loader(), run=tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "perplexity.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "run" / "perplexity.svg").read_text()[:2000]


def test_the_settings_tell_the_recipe(tmp_path: Path) -> None:
    """A run says how to make it again."""
    tl.train(make_model(), make_loader(), lr=0.25, run=tmp_path / "run", device="cpu")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    recipe = ("lr", "order", "batch_size", "seq_len", "num_epochs", "max_grad_norm", "seed")
    assert [0.25, "sequential", 4, 10, 1, 1.0, 0] == [settings[name] for name in recipe]
    text = ("version", "num_tokens", "corpus_hash", "num_held_out_tokens", "rank", "world_size")
    assert [3, len(CORPUS), CORPUS.hash, 0, 0, 1] == [settings[name] for name in text]


def test_metrics_count_epochs_and_steps() -> None:
    """Steps go on over the epochs; every epoch has a speed."""
    history = tl.train(make_model(), make_loader(num_epochs=3), device="cpu")
    num_batches = make_loader().plan.num_batches
    expected = [(0, num_batches), (1, 2 * num_batches), (2, 3 * num_batches)]
    assert expected == [(entry.epoch, entry.step) for entry in history]
    assert all(entry.tokens_per_second > 0 for entry in history)


def test_the_losses_are_those_of_the_metrics(tmp_path: Path) -> None:
    """One per step; their mean is the epoch's perplexity."""
    history = tl.train(make_model(), make_loader(num_epochs=3), run=tmp_path / "run", device="cpu")
    parts = tl.Run.open(tmp_path / "run").losses()
    num_batches = make_loader().plan.num_batches
    assert [1 + num_batches * epoch for epoch in range(3)] == [part.step for part in parts]
    perplexities = [math.exp(float(np.mean(part.losses))) for part in parts]
    assert pytest.approx([entry.perplexity for entry in history], rel=1e-5) == perplexities


def test_losses_are_not_waited_for_in_the_epoch(tmp_path: Path) -> None:
    """They are written when the epoch ends, not after each step."""
    model, num_batches = make_model(), make_loader().plan.num_batches
    written: list[int] = []

    def look(*_: Any) -> None:
        path = tmp_path / "run" / "losses.jsonl"
        written.append(path.read_text().count("\n") if path.exists() else 0)

    model.register_forward_pre_hook(look)
    tl.train(model, make_loader(num_epochs=2), run=tmp_path / "run", device="cpu")
    assert [0] * num_batches + [1] * num_batches == written


def test_the_held_out_perplexity_is_that_of_the_model() -> None:
    """It is what evaluate() says of the model after the epoch."""
    train, held_out = CORPUS.split(0.8)
    loader = tl.Loader(tl.SequentialWindows(train, batch_size=4, seq_len=10))
    model = make_model()
    history = tl.train(model, loader, held_out=held_out, device="cpu")
    found, last = tl.evaluate(model, held_out), history[-1]
    assert found.perplexity == last.held_out_perplexity
    assert found.perplexity_per_character == last.held_out_perplexity_per_character
    assert found.perplexity_per_byte == last.held_out_perplexity_per_byte


def test_the_held_out_text_is_read_like_the_training() -> None:
    """Where the windows leave out that documents start, so does its perplexity."""
    documents = [0, 33, 47, 250, len(CORPUS)]
    whole = tl.Corpus.from_tokens(CORPUS.tokens, vocab=CORPUS.vocab, documents=documents)
    model = make_model()
    windows = tl.SequentialWindows(whole, batch_size=4, seq_len=10, resets=False)
    history = tl.train(model, tl.Loader(windows), held_out=whole, device="cpu")
    plain, reset = (tl.evaluate(model, whole, resets=resets) for resets in (False, True))
    assert plain.perplexity == history[-1].held_out_perplexity
    assert plain != reset


def test_numbers_of_numpy_are_written_down(tmp_path: Path) -> None:
    """The settings hold plain ones."""
    numbers: dict[str, Any] = {"lr": np.float32(0.5), "seed": np.int64(3)}
    tl.train(make_model(), make_loader(), **numbers, run=tmp_path / "run", device="cpu")
    settings = tl.Run.open(tmp_path / "run").settings
    assert (0.5, 3) == (settings["lr"], settings["seed"])


def interrupt_in_step(model: tl.RNNModel, step: int) -> None:
    """Press Ctrl-C while the model computes in a step, counted from 1."""
    calls: list[int] = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGINT)

    model.register_forward_pre_hook(interrupt)


def test_an_interruption_leaves_a_usable_run(tmp_path: Path) -> None:
    """Ctrl-C goes on to the caller, after the step, checkpoint, metrics and plot are whole."""
    model, num_batches = make_model(), make_loader().plan.num_batches
    interrupt_in_step(model, num_batches + 2)
    with pytest.raises(KeyboardInterrupt):
        tl.train(model, make_loader(num_epochs=9), run=tmp_path / "run", device="cpu")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    run = tl.Run.open(tmp_path / "run")
    # Of the epoch that was broken off, the two steps that were done.
    steps = [(part.step, part.epoch, part.batch, len(part.losses)) for part in run.losses()]
    assert [(1, 0, 0, num_batches), (num_batches + 1, 1, 0, 2)] == steps
    loaded = run.load_model()
    assert torch.equal(model.linear.weight, loaded.linear.weight)


def test_an_interruption_at_an_epochs_end_writes_no_loss_twice(tmp_path: Path) -> None:
    """Ctrl-C in the last step of an epoch finds its losses written already."""
    model, num_batches = make_model(), make_loader().plan.num_batches
    interrupt_in_step(model, num_batches)
    with pytest.raises(KeyboardInterrupt):
        tl.train(model, make_loader(num_epochs=9), run=tmp_path / "run", device="cpu")
    assert [1] == [part.step for part in tl.Run.open(tmp_path / "run").losses()]


def test_two_directions_are_warned_of() -> None:
    """Such a model completes, and its user is told that it sees the future."""
    with pytest.warns(UserWarning, match="sees the future"):
        history = tl.train(make_model(bidirectional=True), make_loader(), device="cpu")
    assert len(history) == 1


def test_a_loader_in_the_middle_is_trained_to_its_end() -> None:
    """A loaded position is where training begins; its epoch counts what was trained."""
    loader = make_loader()
    loader.load_state_dict({**loader.state_dict(), "next_batch": 3})
    history = tl.train(make_model(), loader, device="cpu")
    assert [loader.plan.num_batches - 3] == [entry.step for entry in history]


def test_a_progress_bar_is_shown_when_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to stderr, a line per epoch where that is no terminal; by default it stays clean."""
    history = tl.train(make_model(), make_loader(num_epochs=2), progress=True, device="cpu")
    shown = capfd.readouterr()
    lines = [f"epoch {n + 1} of 2: perplexity {history[n].perplexity:.2f}\n" for n in range(2)]
    assert "".join(lines) == shown.err
    tl.train(make_model(), make_loader(), device="cpu")
    assert (shown.out, ("", "")) == ("", capfd.readouterr())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, r"lr must be a number in \(0, inf\), got 0.0"),
        ({"lr": "1"}, "lr must be a number, got '1'"),
        ({"max_grad_norm": -1.0}, r"max_grad_norm must be a number in \(0, inf\), got -1.0"),
        ({"seed": 1.5}, r"seed must be an integer in \[0, 18446744073709551616\), got 1.5"),
        ({"device": "abacus"}, "device must be one that PyTorch can use"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(ArgumentError, match=message):
        tl.train(make_model(), make_loader(), **options)


def test_a_refused_training_leaves_no_folder(tmp_path: Path) -> None:
    """A wrong argument is found before the run begins."""
    with pytest.raises(ArgumentError):
        tl.train(make_model(), make_loader(), run=tmp_path / "run", device="abacus")
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_too_small_is_refused() -> None:
    """Its vocabulary must hold the corpus's."""
    with pytest.raises(ArgumentError, match=r"must be at least the corpus's 20, got 3"):
        tl.train(tl.RNNModel(nn.RNN(3, 4), 3), make_loader())


def test_a_caller_is_told_when_it_starts() -> None:
    """Once, after all checks and before the first step; what cannot be called is refused."""
    model, seen = make_model(), list[str]()
    model.register_forward_pre_hook(lambda *_: seen.append("step"))
    with pytest.raises(ArgumentError, match="device must be"):
        tl.train(model, make_loader(), device="abacus", on_start=lambda: seen.append("start"))
    tl.train(model, make_loader(), device="cpu", on_start=lambda: seen.append("start"))
    assert ["start", *["step"] * make_loader().plan.num_batches] == seen
    with pytest.raises(
        ArgumentError, match="on_start must be a function without parameters, got 'now'"
    ):
        tl.train(model, make_loader(), on_start="now")  # type: ignore[arg-type]  # on purpose


def test_bare_windows_are_refused() -> None:
    """The message says how to wrap them."""
    with pytest.raises(ArgumentError, match=r"wrap the windows in Loader"):
        tl.train(make_model(), make_loader().windows)  # type: ignore[arg-type]  # on purpose


def test_documents_do_not_see_each_other() -> None:
    """The state begins at zero where one starts, unless the windows leave that out."""
    documents = [0, 33, 47, 250, len(CORPUS)]
    corpus = tl.Corpus.from_tokens(CORPUS.tokens, vocab=CORPUS.vocab, documents=documents)
    losses = {}
    for resets in (None, False):
        windows = tl.SequentialWindows(corpus, batch_size=1, seq_len=10, resets=resets)
        model = make_model()
        seen: list[Any] = []
        model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs)))
        losses[resets] = tl.train(model, tl.Loader(windows), device="cpu")[0].perplexity
        assert (len(documents) - 1 - (windows.plan.phase > 0) if resets is None else 0) == sum(
            count == 3 for count in seen
        )
    assert losses[None] != losses[False]


def test_a_schedule_needs_an_end(tmp_path: Path) -> None:
    """What falls up to the last update is refused without one, and no run is begun."""
    model, options = make_model(), tl.TrainingOptions(schedule="cosine")
    # Otherwise it would go on without end.
    stop_in_step(model, 2)
    with pytest.raises(ArgumentError, match="give the loader num_epochs, or use schedule="):
        tl.train(model, make_loader(num_epochs=None), options=options, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _documents() -> tl.Corpus:
    """Return a text in documents of 23 tokens, the last of them shorter."""
    bounds = [*range(0, len(CORPUS), 23), len(CORPUS)]
    return tl.Corpus.from_tokens(CORPUS.tokens, vocab=CORPUS.vocab, documents=bounds)


@pytest.mark.parametrize("kind", [tl.RandomWindows, tl.SequentialWindows])
def test_no_loss_crosses_documents_where_that_is_asked_for(tmp_path: Path, kind: Any) -> None:
    """The loss of a step is the mean over the targets that lie in the document of their input."""
    windows = kind(_documents(), batch_size=4, seq_len=10)
    options = tl.TrainingOptions(across_documents=False)
    model = make_model()
    with torch.inference_mode():
        batch = next(iter(tl.Loader(windows))).within_documents()
        logits, _ = model(batch.inputs, None, batch.resets)
        expected = functional.cross_entropy(logits, batch.targets.T.reshape(-1)).item()
    run = tmp_path / "run"
    tl.train(model, tl.Loader(windows), options=options, run=run, device="cpu")
    (losses,) = tl.Run.open(run).losses()
    assert pytest.approx(expected, rel=1e-5) == losses.losses[0]
    assert tl.Run.open(run).settings["across_documents"] is False
    again = tl.training.reopen_training(tl.Run.open(run), corpus=_documents(), device="cpu")
    assert again.options == options


@pytest.mark.parametrize(
    ("kind", "across_documents"), [(tl.RandomWindows, False), (tl.PackedWindows, True)]
)
def test_only_what_is_learnt_counts(tmp_path: Path, kind: Any, across_documents: bool) -> None:
    """The loss of a step is the mean over the targets whose mask is 1; so is the perplexity."""
    plain = _documents()
    mask = np.arange(len(plain)) % 3 == 0
    corpus = tl.Corpus.from_tokens(
        plain.tokens, vocab=plain.vocab, documents=plain.documents, loss_mask=mask
    )
    windows = kind(corpus, batch_size=4, seq_len=10)
    model = make_model()
    with torch.inference_mode():
        batch = next(iter(tl.Loader(windows)))
        batch = batch if across_documents else batch.within_documents()
        logits, _ = model(batch.inputs, None, batch.resets)
        expected = functional.cross_entropy(logits, batch.targets.T.reshape(-1)).item()
    run = tmp_path / "run"
    options = tl.TrainingOptions(across_documents=across_documents)
    loader = tl.Loader(windows)
    history = tl.train(model, loader, held_out=corpus, options=options, run=run, device="cpu")
    (losses,) = tl.Run.open(run).losses()
    assert pytest.approx(expected, rel=1e-5) == losses.losses[0]
    assert history[0].perplexity_per_character is None
    assert history[0].held_out_perplexity is not None
    assert history[0].held_out_perplexity_per_character is None
    measured = tl.evaluate(model, corpus, across_documents=across_documents)
    assert pytest.approx(measured.perplexity, rel=1e-4) == history[0].held_out_perplexity
    with pytest.raises(tl.StateMismatchError, match="corpus"):
        tl.train(
            make_model(),
            tl.Loader(kind(plain, batch_size=4, seq_len=10), num_epochs=2),
            options=options,
            run=run,
            resume=True,
            device="cpu",
        )


def test_a_run_that_crosses_documents_says_nothing_of_it(tmp_path: Path) -> None:
    """Its settings are those of releases that had no choice; to resume otherwise is refused."""
    windows = tl.RandomWindows(_documents(), batch_size=4, seq_len=10)
    run = tmp_path / "run"
    tl.train(make_model(), tl.Loader(windows), run=run, device="cpu")
    assert "across_documents" not in tl.Run.open(run).settings
    options = tl.TrainingOptions(across_documents=False)
    loader = tl.Loader(windows, num_epochs=2)
    with pytest.raises(tl.StateMismatchError, match="across_documents: saved True, now False"):
        tl.train(make_model(), loader, run=run, resume=True, options=options, device="cpu")


def test_a_loss_within_documents_needs_documents() -> None:
    """What is missing is named."""
    options = tl.TrainingOptions(across_documents=False)
    with pytest.raises(ArgumentError, match=r"across_documents=False needs documents, and .* none"):
        tl.train(make_model(), make_loader(), options=options)


def test_packed_documents_are_learnt_with_resets() -> None:
    """A row of several documents gives the losses of each of them alone."""
    windows = tl.PackedWindows(_documents(), batch_size=2, seq_len=60, tail="pad")
    model = make_model()
    with torch.inference_mode():
        losses = torch.cat([token_losses(model, batch, None)[0] for batch in windows])
        alone = [
            tl.evaluate(model, _documents().document(number), batch_size=1)
            for number in range(_documents().num_documents)
        ]
    expected = sum(each.nats_per_token * each.num_tokens for each in alone)
    assert expected == pytest.approx(losses.double().sum().item(), rel=1e-5)
    history = tl.train(model, tl.Loader(windows, num_epochs=2), device="cpu")
    assert history[1].perplexity < history[0].perplexity


def test_a_training_skips_no_batches() -> None:
    """Its records number them one after another, and would name the wrong text."""
    loader = make_loader()
    with pytest.raises(UsageError, match="on_start must not skip batches of a training"):
        tl.train(make_model(), loader, device="cpu", on_start=lambda: loader.skip(2))


@pytest.mark.parametrize("held_out", [{"a": 5}, {"a": None}, {5: CORPUS}])
def test_held_out_texts_must_be_corpora_by_name(held_out: Any) -> None:
    """The message names the text and the value that is not a corpus."""
    (name, text) = next(iter(held_out.items()))
    expected = f"a dict of corpora by their names, got .* for {name!r}"
    with pytest.raises(ArgumentError, match=expected) as raised:
        tl.train(make_model(), make_loader(), held_out=held_out, device="cpu")
    assert repr(text)[:5] in str(raised.value)


def test_ids_are_checked_where_no_text_of_many_is_held_out() -> None:
    """An empty dict is no held-out text: the text that is trained on is looked at all the same."""
    model = tl.RNNModel(nn.RNN(3, 4), 3)
    with pytest.raises(ArgumentError, match="vocab"):
        tl.train(model, make_loader(), held_out={}, device="cpu")
