"""A run's folder."""

import json
import math
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tokenloom as tl
from tests.support.training.trainings import BOOK, SMALL, checkpoint_of, make_loader, make_model
from tokenloom.cli.main import main
from tokenloom.errors import RunError
from tokenloom.training.metrics import StepLosses
from tokenloom.training.run import is_run

TEXT = "the time machine by h g wells " * 20


def make_run(folder: Path, **options: Any) -> tl.Run:
    """Begin a run on a small corpus."""
    corpus = tl.Corpus.from_text(TEXT, **options)
    return tl.Run.create(folder, corpus=corpus, settings={"lr": 0.5})


@pytest.mark.parametrize(
    ("tokenizer", "normalize"),
    [("char", True), ("char", False), ("word", True), ("word", False), ("byte", True)],
)
def test_the_tokenizer_comes_back(tokenizer: str, normalize: bool, tmp_path: Path) -> None:
    """The loaded tokenizer encodes as the corpus did."""
    make_run(tmp_path / "run", tokenizer=tokenizer, normalize=normalize)
    loaded = tl.Run.open(tmp_path / "run").load_tokenizer()
    expected = tl.Corpus.from_text(TEXT, tokenizer=tokenizer, normalize=normalize).tokens
    assert expected.tolist() == np.asarray(loaded.encode(TEXT)).tolist()


def test_settings_come_back(tmp_path: Path) -> None:
    """Settings are plain JSON."""
    make_run(tmp_path / "run")
    assert tl.Run.open(tmp_path / "run").settings["lr"] == 0.5


def test_a_notebook_shows_a_run_with_its_plot(tmp_path: Path) -> None:
    """And its perplexity, once it has epochs."""
    run = make_run(tmp_path)
    assert "<img" not in run._repr_html_()
    run.record(tl.training.EpochMetrics(epoch=0, step=8, perplexity=9.5, tokens_per_second=1.0))
    (tmp_path / "perplexity.png").write_bytes(b"picture")
    shown = run._repr_html_()
    assert "<td>9.50 after 1 epoch</td>" in shown
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in shown


def test_repr_says_what_was_trained(tmp_path: Path) -> None:
    """The settings that tell one run from another, as far as they are there."""
    settings = {"corpus": "my-book", "model": {"rnn": "GRU"}, "num_epochs": 3}
    path = repr(str(tmp_path))
    assert repr(tl.Run(tmp_path, settings)) == (
        f"Run({path}, corpus='my-book', model='GRU', num_epochs=3)"
    )
    assert f"Run({path})" == repr(tl.Run(tmp_path, {"model": None}))


def test_metrics_are_lines_of_json(tmp_path: Path) -> None:
    """Each epoch is a line with all keys, and a digest of the line before it."""
    run = make_run(tmp_path)
    metrics = [
        tl.training.EpochMetrics(epoch=0, step=8, perplexity=9.5, tokens_per_second=1000.0),
        tl.training.EpochMetrics(
            epoch=1,
            step=16,
            perplexity=8.5,
            tokens_per_second=1.0,
            held_out_perplexity=3.5,
            held_out_perplexity_per_character=1.5,
            held_out_perplexity_per_byte=1.25,
        ),
    ]
    for entry in metrics:
        run.record(entry)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    keys = {"epoch", "step", "perplexity", "tokens_per_second", "held_out_perplexity", "after"}
    keys |= {"held_out_perplexity_per_character", "held_out_perplexity_per_byte"}
    keys |= {"perplexity_per_character", "perplexity_per_byte"}
    assert [keys, keys] == [set(line) for line in lines]
    assert metrics == tl.Run.open(tmp_path).metrics()


def test_a_perplexity_that_is_not_finite_stays_json(tmp_path: Path) -> None:
    """JSON has no infinity: it is null in the file, and NaN when it is read."""
    run = make_run(tmp_path)
    run.record(
        tl.training.EpochMetrics(epoch=0, step=1, perplexity=math.inf, tokens_per_second=1.0)
    )
    assert '"perplexity": null' in (tmp_path / "metrics.jsonl").read_text()
    assert [True] == [math.isnan(entry.perplexity) for entry in run.metrics()]


def test_losses_come_back(tmp_path: Path) -> None:
    """One line of JSON for successive steps; what is not finite is null, and NaN when read."""
    run = make_run(tmp_path)
    parts = [
        StepLosses(step=1, epoch=0, batch=3, losses=[2.5, 1.25]),
        StepLosses(step=3, epoch=1, batch=0, losses=[math.inf, 0.1234567]),
    ]
    for part in parts:
        run.record(part)
    assert "[null, 0.1234567]" in (tmp_path / "losses.jsonl").read_text()
    first, second = tl.Run.open(tmp_path).losses()
    assert (parts[0], 3, 0.1234567) == (first, second.step, second.losses[1])
    assert math.isnan(second.losses[0])


def test_a_line_of_losses_that_was_broken_off_is_left_out(tmp_path: Path) -> None:
    """A process that is killed while it writes leaves what was whole before."""
    run = make_run(tmp_path)
    part = StepLosses(step=1, epoch=0, batch=0, losses=[2.5])
    run.record(part)
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"step": 2, "epoch": 1, "ba')
    assert [part] == run.losses()


def test_losses_of_an_older_release_are_missing(tmp_path: Path) -> None:
    """The message says why."""
    with pytest.raises(RunError, match=r"has no losses\.jsonl: no step was finished, or an old"):
        make_run(tmp_path).losses()


@pytest.mark.parametrize("line", ["[]", "{}", '{"losses": [1.0]}', "\x00", '{"losses": 3}'])
def test_damaged_losses_are_refused(line: str, tmp_path: Path) -> None:
    """A line that is whole but says something else is damage."""
    run = make_run(tmp_path)
    (tmp_path / "losses.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"cannot read the losses in .*: line 1 of losses\.jsonl "):
        run.losses()


def test_a_run_is_told_from_other_folders(tmp_path: Path) -> None:
    """By its settings; names that no file can have are none."""
    make_run(tmp_path / "run")
    folders = [tmp_path / "run", tmp_path, tmp_path / "nothing"]
    names = [*map(str, folders), "python_docs", "x" * 5000, "a\0b"]
    assert [True, False, False, False, False, False] == [is_run(name) for name in names]


def test_a_run_whose_folder_is_gone_says_so(tmp_path: Path) -> None:
    """Nothing is written where nobody would find it."""
    run = make_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match=r"cannot write into the run's folder .* is gone"):
        run.save(checkpoint_of(tl.RNNModel(nn.RNN(5, 8), 5), epoch=0, step=1))
    assert not (tmp_path / "run").exists()


def test_one_of_two_runs_gets_the_folder(tmp_path: Path) -> None:
    """Even where both find it empty."""
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(make_run, tmp_path / "run") for _ in range(8)]
    assert [None] == [e for e in (future.exception() for future in tries) if e is None]


def test_settings_that_are_no_table_are_refused(tmp_path: Path) -> None:
    """A damaged file is not a run."""
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(RunError, match="expected the folder of a run"):
        tl.Run.open(tmp_path)


def test_a_run_that_was_killed_at_its_beginning_is_begun_again(tmp_path: Path) -> None:
    """Its settings are empty until all else is there; a file of somebody else is left alone."""
    for name in ("settings.json", "vocab.json", f".settings.json.{'0' * 16}.part"):
        (tmp_path / name).touch()
    corpus = tl.Corpus.from_text(TEXT)
    with pytest.raises(RunError, match="must be new or empty"):
        make_run(tmp_path)
    tl.Run.create(tmp_path, corpus=corpus, settings={}, again=True)
    assert ["settings.json", "vocab.json"] == sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "settings.json").unlink()
    with pytest.raises(RunError, match="must be new or empty"):
        tl.Run.create(tmp_path, corpus=corpus, settings={}, again=True)
    assert ["vocab.json"] == [path.name for path in tmp_path.iterdir()]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Nothing of another run is overwritten."""
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(RunError, match=r"must be new or empty, .* is not: name another$"):
        make_run(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the run's folder"):
        make_run(tmp_path / "file" / "run")


def test_any_other_folder_is_no_run(tmp_path: Path) -> None:
    """The message says how to make one."""
    with pytest.raises(RunError, match="'tokenloom train' makes one"):
        tl.Run.open(tmp_path)


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    """The message says what to do."""
    with pytest.raises(RunError, match="found none: train first"):
        make_run(tmp_path).load_model()


def test_the_model_comes_back(tmp_path: Path) -> None:
    """A saved model is loaded with its weights."""
    run, model = make_run(tmp_path), tl.RNNModel(nn.RNN(5, 8), 5)
    run.save(checkpoint_of(model, epoch=0, step=1))
    loaded = run.load_model().linear.weight
    assert torch.equal(model.linear.weight, loaded)


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    """The message names the file's format."""
    run = make_run(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(RunError, match="must be a vocabulary in the format"):
        run.load_tokenizer()


def test_damaged_metrics_are_refused(tmp_path: Path) -> None:
    """A line that lacks something is a typed error."""
    run = make_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n')
    with pytest.raises(RunError, match=r": line 1 of metrics\.jsonl lacks 'step'"):
        run.metrics()


class Shout:
    """A tokenizer from elsewhere."""

    vocab_size = 256

    def encode(self, text: str, /) -> list[int]:
        """Return upper-case bytes."""
        return list(text.upper().encode())

    def decode(self, ids: list[int], /) -> str:
        """Return the text of bytes."""
        return bytes(ids).decode()


def test_a_foreign_tokenizer_is_not_guessed(tmp_path: Path) -> None:
    """The message says how to generate with it."""
    make_run(tmp_path, tokenizer=Shout())
    with pytest.raises(RunError, match=r"give your tokenizer to tokenloom\.generate"):
        tl.Run.open(tmp_path).load_tokenizer()


def put_in_place(path: Path, what: str) -> None:
    """Put something that is no regular file in the place of one."""
    if path.exists():
        path.unlink()
    match what:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(path.with_name("nowhere"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "link"])
@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl", "losses.jsonl"])
def test_what_is_no_file_is_refused_at_once(name: str, what: str, tmp_path: Path) -> None:
    """A pipe, a device, a folder or a broken link is neither waited for nor read without end."""
    path = tmp_path / "run"
    options: dict[str, Any] = {"run": path, "device": "cpu"}
    tl.train(make_model(), make_loader(num_epochs=1), **options)
    put_in_place(path / name, what)
    with pytest.raises(RunError):
        tl.train(make_model(), make_loader(num_epochs=2), resume=True, **options)
    with pytest.raises(RunError):
        [read(tl.Run.open(path)) for read in (tl.Run.metrics, tl.Run.losses)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "link"])
def test_a_checkpoint_that_is_no_file_costs_only_itself(what: str, tmp_path: Path) -> None:
    """The one before it is read, after a warning."""
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "run", device="cpu")
    folder = tmp_path / "run" / "checkpoints"
    put_in_place(folder / f"step-000000099-{'0' * 16}.pt", what)
    with pytest.warns(UserWarning, match="step-000000099"):
        assert tl.Run.open(tmp_path / "run").load_model() is not None


@pytest.mark.parametrize(
    "name",
    ["checkpoints", "metrics.jsonl", "losses.jsonl", "settings.json", "perplexity.png"],
)
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path) -> None:
    """What it leads to stays as it was."""
    path, docs = tmp_path / "run", tmp_path / "docs"
    options: dict[str, Any] = {"run": path, "device": "cpu"}
    tl.train(make_model(), make_loader(num_epochs=1), **options)
    if name == "perplexity.png":
        # It is there only with matplotlib.
        (path / name).touch()
    (path / name).rename(docs)
    (path / name).symlink_to(docs)
    before = docs.read_bytes() if docs.is_file() else sorted(docs.iterdir())
    with pytest.raises(RunError, match="must be no link"):
        tl.train(make_model(), make_loader(num_epochs=2), resume=True, **options)
    assert before == (docs.read_bytes() if docs.is_file() else sorted(docs.iterdir()))


@pytest.mark.parametrize("name", ["metrics.jsonl", "losses.jsonl", "settings.json"])
def test_records_of_another_run_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are refused by all that reads them, as --resume refuses them."""
    for number, each in enumerate(("run", "other")):
        loader = make_loader(num_epochs=1)
        tl.train(make_model(), loader, run=tmp_path / each, device="cpu", lr=0.5 + number)
    shutil.copy(tmp_path / "other" / name, tmp_path / "run" / name)
    run = tl.Run.open(tmp_path / "run")
    readers: dict[str, list[Any]] = {
        "metrics.jsonl": [run.metrics],
        "losses.jsonl": [run.losses],
        "settings.json": [run.metrics, run.losses, run.load_model],
    }
    for read in readers[name]:
        with pytest.raises(RunError, match="another run"):
            read()
    if name == "settings.json":
        assert main(["generate", str(run.path), "--prompt", "the"]) == 1
        assert "another run" in capsys.readouterr().err


def test_a_damaged_checkpoint_leaves_the_records_readable(tmp_path: Path) -> None:
    """What cannot be compared is read as it is, without a warning."""
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "run", device="cpu")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(b"")
    run = tl.Run.open(tmp_path / "run")
    assert (1, 1) == (len(run.metrics()), len(run.losses()))


def test_a_link_of_ones_own_to_a_run_leads_there(tmp_path: Path) -> None:
    """Such as runs/latest: it stays a link, and the run that it leads to is resumed."""
    path, link = tmp_path / "run", tmp_path / "latest"
    tl.train(make_model(), make_loader(num_epochs=1), run=path, device="cpu")
    link.symlink_to("run")
    options: dict[str, Any] = {"run": link, "resume": True, "device": "cpu"}
    assert 2 == len(tl.train(make_model(), make_loader(num_epochs=2), **options))
    assert (path, 2, True) == (
        tl.Run.open(link).path,
        len(tl.Run.open(path).metrics()),
        is_run(link),
    )
    assert link.is_symlink()


def test_a_new_run_may_be_begun_through_a_link_of_ones_own(tmp_path: Path) -> None:
    """The folder that it leads to must be empty, like any other."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    assert tmp_path / "disk" == make_run(tmp_path / "run").path
    with pytest.raises(RunError, match=r"or empty.* or resume its run with resume=True$"):
        make_run(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "latest").symlink_to("other")
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "latest", device="cpu")
    assert 1 == len(tl.Run.open(tmp_path / "other").metrics())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows other owners than numbers")
def test_a_link_of_another_user_to_a_run_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user who may write to a folder could plant it."""
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "run", device="cpu")
    link = tmp_path / "latest"
    link.symlink_to("run")
    monkeypatch.setattr(os, "geteuid", lambda: link.lstat().st_uid + 1)
    with pytest.raises(RunError, match="must be no link"):
        tl.train(make_model(), make_loader(num_epochs=2), run=link, resume=True, device="cpu")


def test_what_a_killed_run_left_is_begun_again_by_train(tmp_path: Path) -> None:
    """A folder that holds only what we left is taken; one with a file of others is not."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "settings.json").touch()
    (path / f".vocab.json.{'0' * 16}.part").touch()
    with pytest.raises(RunError, match=r"killed before its settings were written.* begin it"):
        tl.Run.open(path)
    (path / "mine.txt").touch()
    with pytest.raises(RunError, match="must be new or empty"):
        tl.train(make_model(), make_loader(num_epochs=1), run=path, device="cpu")
    (path / "mine.txt").unlink()
    tl.train(make_model(), make_loader(num_epochs=1), run=path, device="cpu")
    assert tl.Run.open(path).has_checkpoint


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "1" * 5000, '"a"', "\x00", "{}\n{}"])
def test_settings_that_are_no_object_are_refused(text: str, tmp_path: Path) -> None:
    """Whatever the parser says of them."""
    tl.train(make_model(), make_loader(num_epochs=1), run=tmp_path / "run", device="cpu")
    (tmp_path / "run" / "settings.json").write_text(text)
    with pytest.raises(RunError):
        tl.Run.open(tmp_path / "run")


def test_settings_of_other_values_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each setting in turn is something else: an error in one line, or it does not matter."""
    book, path = tmp_path / "book.txt", tmp_path / "run"
    book.write_text(BOOK)
    assert main(["train", str(book), *SMALL, "--run", str(path), "--quiet"]) == 0
    settings = json.loads((path / "settings.json").read_text())
    values: list[Any] = [None, "x", -1, [], {"x": 1}, math.nan, True]
    for number, name in enumerate(settings):
        for wrong in (values[number % 7], values[(number + 3) % 7]):
            (path / "settings.json").write_text(json.dumps({**settings, name: wrong}))
            code = main(["train", "--resume", str(path), "--epochs", "3", "--quiet"])
            assert code == 0 or "error: " in capsys.readouterr().err, (name, wrong)
