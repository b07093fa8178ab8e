"""What the model of a run saw."""

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from tokenloom.cli.main import main
from tokenloom.errors import ArgumentError, RunError
from tokenloom.inspection.batches import read_batch
from tokenloom.inspection.steps import find_spikes, read_spikes, read_step
from tokenloom.training.reopen import reopen_windows

TEXT = "The Time Traveller (for so it will be convenient to speak of him)\n" * 9


@pytest.fixture
def book(tmp_path: Path) -> str:
    """Return the path of a small text file."""
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def train_and_watch(
    corpus: tl.Corpus, folder: Path, kind: Any, *, next_batch: int = 0, **options: Any
) -> tuple[list[str], list[float]]:
    """Train, and return the inputs of row 1 in each step, as text, and the losses."""
    windows = kind(corpus, batch_size=2, seq_len=12, seed=5, **options)
    loader = tl.Loader(windows, num_epochs=2)
    loader.load_state_dict({**loader.state_dict(), "next_batch": next_batch})
    torch.manual_seed(0)
    model = tl.RNNModel(nn.RNN(corpus.vocab_size, 8), corpus.vocab_size)
    saw: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, arguments: saw.append(arguments[0].clone()))
    model.register_forward_hook(lambda *arguments: outputs.append(arguments[2][0].detach().clone()))
    tl.train(model, loader, run=folder, device="cpu")
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "next_batch": next_batch})
    losses = [
        float(functional.cross_entropy(logits, batch.targets.T.reshape(-1), ignore_index=-100))
        for logits, batch in zip(outputs, loader, strict=True)
    ]
    return [corpus.decode(inputs[1]) for inputs in saw], losses


@pytest.mark.parametrize("kind", [tl.RandomWindows, tl.SequentialWindows])
@pytest.mark.parametrize(
    ("tokenizer", "normalize"),
    [("char", True), ("char", False), ("word", True), ("word", False), ("byte", True)],
)
def test_a_step_is_what_the_model_saw(
    kind: Any, tokenizer: str, normalize: bool, book: str, tmp_path: Path
) -> None:
    """In a fresh look at the folder, each step's text and loss are those of the training."""
    # Bytes are never normalised.
    is_normalized = normalize or tokenizer == "byte"
    corpus = tl.load(book, tokenizer=tokenizer, normalize=is_normalized).slice(0, 100)
    saw, losses = train_and_watch(corpus, tmp_path / "run", kind)
    run = tl.Run.open(tmp_path / "run")
    windows = reopen_windows(run)
    shown = [read_step(run, windows, step=step, rows=[1]) for step in range(1, len(saw) + 1)]
    assert saw == [step.batch.rows[0].inputs for step in shown]
    assert pytest.approx(losses, rel=1e-5) == [step.loss for step in shown]


@pytest.mark.parametrize("options", [{"tail": "pad"}, {"shard": tl.Shard(rank=0, world_size=1)}])
def test_the_settings_hold_what_decides_the_text(
    options: dict[str, Any], book: str, tmp_path: Path
) -> None:
    """Tail and part of the batch too; the reopened windows read the same plan."""
    corpus = tl.load(book)
    train_and_watch(corpus, tmp_path / "run", tl.SequentialWindows, **options)
    made = tl.SequentialWindows(corpus, batch_size=2, seq_len=12, seed=5, **options)
    windows = reopen_windows(tl.Run.open(tmp_path / "run"))
    assert (made.plan, made.columns) == (windows.plan, windows.columns)


def test_a_rank_shows_its_own_rows(book: str, tmp_path: Path) -> None:
    """The run of rank 1 of 2 saw the second half of each batch."""
    corpus = tl.load(book)
    shard = tl.Shard(rank=1, world_size=2)
    windows = tl.RandomWindows(corpus, batch_size=4, seq_len=12, shard=shard)
    model = tl.RNNModel(nn.RNN(corpus.vocab_size, 8), corpus.vocab_size)
    tl.train(model, tl.Loader(windows), run=tmp_path / "run", device="cpu")
    reopened = reopen_windows(tl.Run.open(tmp_path / "run"))
    expected = [row.start for row in read_batch(windows, index=0, rows=[0, 1]).rows]
    assert expected == [row.start for row in read_batch(reopened, index=0, rows=[0, 1]).rows]
    assert windows.plan.starts(range(1))[0, 2:].tolist() == expected


def test_a_training_from_the_middle_counts_its_own_steps(book: str, tmp_path: Path) -> None:
    """Step 1 is the batch at which the loader stood."""
    saw, _ = train_and_watch(tl.load(book), tmp_path / "run", tl.RandomWindows, next_batch=4)
    run = tl.Run.open(tmp_path / "run")
    shown = read_step(run, reopen_windows(run), step=1, rows=[1])
    assert (0, 4) == (shown.batch.epoch, shown.batch.batch)
    assert saw[0] == shown.batch.rows[0].inputs


def test_spikes_are_shown_with_their_text(book: str, tmp_path: Path) -> None:
    """The step whose loss was raised is found, and its text is that of the step."""
    train_and_watch(tl.load(book), tmp_path / "run", tl.RandomWindows)
    path = tmp_path / "run" / "losses.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["losses"][3:5] = [99.0, None]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # It would know that these are not its losses.
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    run = tl.Run.open(tmp_path / "run")
    windows = reopen_windows(run)
    found = read_spikes(run, windows, top=1, rows=[0])
    ((spike, text),) = found.spikes
    assert (1, found.num_steps) == (found.num_spikes, len(found.losses))
    step = lines[1]["step"] + 3
    assert (step, 2, 99.0) == (text.step, spike.stop - spike.first, text.loss)
    assert math.isinf(spike.deviations)
    assert read_step(run, windows, step=step, rows=[0]) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("Time", "Tide"), "was trained on .* tokens of sha256:.*, the f"),
        (lambda text: text[:200], "was trained on 5.. tokens of .* are 1.. of sha256:"),
        (lambda _: "!!!", "cannot be read again: .* must hold at least one token"),
    ],
)
def test_another_text_is_refused(change: Any, message: str, book: str, tmp_path: Path) -> None:
    """What was changed, shortened or emptied is not shown as what the model saw."""
    train_and_watch(tl.load(book), tmp_path / "run", tl.RandomWindows)
    Path(book).write_text(change(TEXT), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        reopen_windows(tl.Run.open(tmp_path / "run"))


def test_a_text_that_is_gone_can_be_given(tmp_path: Path) -> None:
    """A text that was never a file cannot be found, but a program may have it."""
    corpus = tl.Corpus.from_text(TEXT)
    saw, _ = train_and_watch(corpus, tmp_path / "run", tl.RandomWindows)
    run = tl.Run.open(tmp_path / "run")
    with pytest.raises(RunError, match=r"cannot be read again: .* be one of.*; a relative path"):
        reopen_windows(run)
    shown = read_step(run, reopen_windows(run, corpus), step=7, rows=[1])
    assert saw[6] == shown.batch.rows[0].inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus_hash": None}, "lack corpus_hash: an older release made the run"),
        ({"order_version": 0}, "knows order version 1, the run .* has 0"),
        ({"order": "spiral"}, "trained in 'spiral' order, and this release knows 'random' and"),
    ],
)
def test_runs_of_other_releases_are_refused(
    change: dict[str, Any], message: str, book: str, tmp_path: Path
) -> None:
    """What it was trained on is not known, or not to this release."""
    train_and_watch(tl.load(book), tmp_path / "run", tl.RandomWindows)
    path = tmp_path / "run" / "settings.json"
    settings = {**json.loads(path.read_text()), **change}
    kept = {name: value for name, value in settings.items() if value is not None}
    path.write_text(json.dumps(kept))
    with pytest.raises(RunError, match=message):
        reopen_windows(tl.Run.open(tmp_path / "run"))


@pytest.mark.parametrize("step", [0, -1, 10**6])
def test_a_step_that_is_not_there_is_refused(step: int, book: str, tmp_path: Path) -> None:
    """The message names the range."""
    saw, _ = train_and_watch(tl.load(book), tmp_path / "run", tl.RandomWindows)
    run = tl.Run.open(tmp_path / "run")
    windows = reopen_windows(run)
    message = rf"step must be in \[1, {len(saw) + 1}\), got {step}"
    with pytest.raises(ArgumentError, match=message):
        read_step(run, windows, step=step, rows=[0])


def noise(num_steps: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return losses that fall, with noise."""
    generator = np.random.default_rng(seed)
    falling = 3 * np.exp(-np.arange(num_steps) / 200) + 1
    return falling + generator.normal(0, 0.05, num_steps)


def test_a_training_without_spikes_has_none() -> None:
    """Neither its high beginning nor its noise stands out."""
    found = [spike.deviations for seed in range(20) for spike in find_spikes(noise(2000, seed))]
    # Of 40,000 normal numbers one may lie that far out.
    assert len(found) <= 1
    assert max(found, default=0) < 5


def test_spikes_come_strongest_first() -> None:
    """Each with its steps, its loss and what was usual before it."""
    losses = noise(2000)
    losses[700], losses[1500:1503] = 3.0, [4.0, 9.0, 4.0]
    first, second = find_spikes(losses)
    assert [(1500, 1503, 4.0), (700, 701, 3.0)] == [
        (spike.first, spike.stop, spike.loss) for spike in (first, second)
    ]
    assert np.median(losses[650:751]) == second.usual
    distances = [
        abs(losses[step] - np.median(losses[step - 50 : step + 51])) for step in range(600, 801)
    ]
    expected = (3.0 - second.usual) / (1.4826 * np.median(distances))
    assert pytest.approx(expected) == second.deviations


def test_a_trend_hides_no_spike() -> None:
    """A loss that falls fast widens no deviation: the same junk stands out as much as later."""
    falling = np.linspace(5, 2, 300) + noise(300) - noise(300, 1)
    steady = 2 + noise(300) - noise(300, 1)
    for losses in (falling, steady):
        losses[150] += 0.6
    (there,), (here,) = find_spikes(falling), find_spikes(steady)
    assert (150, 150) == (there.first, here.first)
    assert pytest.approx(here.deviations, rel=0.2) == there.deviations


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_a_threshold_is_above_0(threshold: float) -> None:
    """Else half of the steps would stand out."""
    with pytest.raises(ArgumentError, match="threshold must be"):
        find_spikes(noise(100), threshold)


def test_a_threshold_decides_what_a_spike_is() -> None:
    """The deviations stay the same."""
    losses = noise(400)
    losses[300] += 0.5
    (spike,) = find_spikes(losses)
    assert [] == find_spikes(losses, threshold=spike.deviations)
    assert spike in find_spikes(losses, threshold=1.0)


JUNK = {
    "base64": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "hexadecimal": "0123456789abcdef",
    "signs": "{}[]<>;=&%$#@!|^~*",
}


def plant(folder: Path, seed: int) -> tuple[tl.Run, range]:
    """Train on a text with 400 characters of junk; return the run and where the junk lies."""
    draw = random.Random(seed)  # noqa: S311  no secret
    text = tl.load("python_docs", normalize=False)
    start = draw.randrange(len(text) - 40_000)
    words = text.decode(text.tokens[start : start + 40_000])
    place = draw.randrange(10_000, 40_000)
    junk = "".join(draw.choice(list(JUNK.values())[seed % 3]) for _ in range(400))
    path = folder / "text.txt"
    path.write_text(words[:place] + junk + words[place:], encoding="utf-8", newline="")
    corpus = tl.load(path, normalize=False)
    kind = (tl.RandomWindows, tl.SequentialWindows)[seed % 2]
    torch.manual_seed(seed)
    model = tl.RNNModel(nn.GRU(corpus.vocab_size, 48), corpus.vocab_size)
    loader = tl.Loader(kind(corpus, batch_size=8, seq_len=35, seed=seed), num_epochs=4)
    tl.train(model, loader, run=folder / "run", device="cpu", progress=False)
    return tl.Run.open(folder / "run"), range(place, place + 400)


@pytest.mark.slow
def test_planted_junk_is_found(tmp_path: Path) -> None:
    """Among the three steps that are listed, in at least 18 of 20 trainings."""
    found = 0
    for seed in range(20):
        (folder := tmp_path / str(seed)).mkdir()
        run, junk = plant(folder, seed)
        listed = read_spikes(run, reopen_windows(run), top=3, rows=range(8)).spikes
        rows = [row for _, text in listed for row in text.batch.rows]
        found += any(row.start < junk.stop and junk.start < row.stop for row in rows)
    assert 18 <= found


def test_earlier_spikes_do_not_hide_later_ones() -> None:
    """Median and MAD are not moved by what stood out before."""
    losses = noise(1000)
    losses[500:600:5] = 9.0
    losses[590] = 5.0
    assert 590 in [spike.first for spike in find_spikes(losses)]


def test_what_is_not_finite_stands_out() -> None:
    """Also at the very beginning, and it spoils no median."""
    losses = noise(300)
    losses[3] = losses[200] = math.nan
    losses[250] = 9.0
    assert [3, 200, 250] == [spike.first for spike in find_spikes(losses)]


def test_rounding_is_no_spike() -> None:
    """Where all losses are equal the MAD is 0; what is a bit higher does not stand out."""
    losses = np.full(300, 2.0)
    losses[200], losses[250] = 2.001, 2.1
    assert [250] == [spike.first for spike in find_spikes(losses)]


@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_a_short_training_has_none(num_steps: int) -> None:
    """There is nothing to compare with."""
    assert [] == find_spikes(np.full(num_steps, 5.0))


def test_long_trainings_are_looked_at_in_parts() -> None:
    """What is found does not depend on where a part ends."""
    losses = noise(10_000)
    places = [4095, 4096, 4097, 8192, 9999]
    losses[places] = 9.0
    found = find_spikes(losses)
    assert [(4095, 4098), (8192, 8193), (9999, 10_000)] == sorted((s.first, s.stop) for s in found)


def test_a_step_without_a_learnt_target_is_not_judged() -> None:
    """It has no loss, which would stand out, nor one of 0, which would pull the median down."""
    losses = noise(400)
    losses[90] = 9.0
    (expected,) = find_spikes(losses)
    has_targets = np.arange(400) % 5 <= 1
    losses[~has_targets] = np.nan
    (spike,) = find_spikes(losses, has_targets=has_targets)
    assert (90, 91) == (spike.first, spike.stop)
    assert spike.usual == pytest.approx(expected.usual, rel=0.2)


def test_a_step_of_which_nothing_is_learnt_has_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither 0, which is the loss of a perfect model, nor a spike."""
    mask = np.arange(1000) % 100 < 50
    ids = np.arange(1000) % 7
    corpus = tl.Corpus.from_tokens(ids, vocab=tl.Vocab(list("abcdef")), loss_mask=mask)
    path = corpus.save(tmp_path / "store")
    windows = tl.RandomWindows(tl.Corpus.open(path), batch_size=1, seq_len=10)
    expected = [at for at, batch in enumerate(windows) if not batch.num_targets]
    assert 20 < len(expected) < 60
    model = tl.RNNModel(nn.RNN(7, 4), 7)
    tl.train(model, tl.Loader(windows), run=tmp_path / "run", device="cpu")
    run = tl.Run.open(tmp_path / "run")
    (record,) = run.losses()
    assert expected == record.without_targets
    assert expected == np.flatnonzero(np.isnan(record.losses)).tolist()
    found = read_spikes(run, reopen_windows(run), top=99, rows=[0])
    assert not {step.step - 1 for _, step in found.spikes} & {*expected}
    assert expected == np.flatnonzero(np.isnan(found.losses)).tolist()
    assert main(["show", str(run.path), "--step", str(expected[0] + 1)]) == 0
    assert f"step {expected[0] + 1}: no target is learnt\n" in capsys.readouterr().out
    assert main(["show", str(run.path), "--step", str(expected[0] + 1), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (None, False) == (shown["loss"], shown["has_targets"])


@pytest.mark.filterwarnings("ignore:the perplexity of epoch:UserWarning")
@pytest.mark.parametrize(
    ("loss", "shown", "value"), [(0.0, "loss 0.000", 0.0), (math.nan, "loss nan", None)]
)
def test_a_loss_of_any_value_is_shown_as_a_loss(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    loss: float,
    shown: str,
    value: float | None,
) -> None:
    """What has no target is known by their number: 0 is the loss of a perfect model."""
    path = tl.Corpus.from_tokens(np.zeros(400, int), vocab_size=7).save(tmp_path / "store")
    windows = tl.RandomWindows(tl.Corpus.open(path), batch_size=2, seq_len=4)
    model = tl.RNNModel(nn.RNN(7, 4), 7)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.linear.bias[0] = 1e9 if loss == 0 else math.nan
    tl.train(model, tl.Loader(windows), run=tmp_path / "run", device="cpu")
    run = tl.Run.open(tmp_path / "run")
    (record,) = run.losses()
    assert record.without_targets is None
    assert main(["show", str(run.path), "--step", "3"]) == 0
    assert f"step 3: {shown}\n" in capsys.readouterr().out
    assert main(["show", str(run.path), "--step", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (value, True) == (facts["loss"], facts["has_targets"])


def test_a_loss_stands_out_of_those_of_a_perfect_model() -> None:
    """Whose usual loss is 0."""
    losses = np.zeros(200)
    losses[[70, 90]] = 9.0, 1e-9
    (spike,) = find_spikes(losses)
    assert (70, 71, 9.0, 0.0) == (spike.first, spike.stop, spike.loss, spike.usual)
    assert np.isfinite(spike.deviations)


def test_an_epoch_of_which_nothing_is_learnt_has_no_perplexity() -> None:
    """It would be 1, that of a perfect model; a warning says why."""
    mask = np.arange(103) == 102
    corpus = tl.Corpus.from_tokens(np.arange(103) % 7, vocab_size=7, loss_mask=mask)
    windows = tl.SequentialWindows(corpus, batch_size=4, seq_len=10)
    assert [0, 0] == [batch.num_targets for batch in windows]
    model = tl.RNNModel(nn.RNN(7, 4), 7)
    with pytest.warns(UserWarning, match="epoch 0 is nan: no target of its batches is learnt"):
        (metrics,) = tl.train(model, tl.Loader(windows), device="cpu")
    assert math.isnan(metrics.perplexity)
