"""Processes that train together; real groups are tried in tests/integration."""

import pytest
import torch

import tokenloom as tl
from tests.support.training.trainings import TRAIN, make_loader, make_model
from tokenloom.errors import ArgumentError, RunError, UsageError, WorkerError
from tokenloom.loading.distributed import Ranks, joined


def test_alone_nothing_is_sent() -> None:
    """Without a group a process is its own sum, and the first."""
    ranks = Ranks.detect()
    values = torch.tensor([1.0, 2.0])
    assert (True, [5], "a") == (ranks.is_first, ranks.all_gather(5), ranks.share("a"))
    assert values.equal(ranks.total(values))
    with joined(timeout_seconds=1.0, report=print) as found:
        assert ranks == found
    with pytest.raises(RunError, match="mine"), joined(timeout_seconds=1.0, report=print):
        raise RunError("mine")  # noqa: EM101  as it is


def test_seeds_differ_by_rank() -> None:
    """The first rank's is the seed itself; mixed with a step it is another one."""
    first, second = (Ranks(rank=rank, world_size=2) for rank in range(2))
    assert 7 == first.mix_seed(7)
    assert len({7, second.mix_seed(7), first.mix_seed(7, 3), second.mix_seed(7, 3)}) == 4
    assert second.mix_seed(7) != first.mix_seed(7, 1)


def test_torchrun_without_a_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would train a model of its own, on a part of the batch."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"call torch\.distributed"):
        tl.train(make_model(), make_loader(), device="cpu")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK and WORLD_SIZE, which torchrun sets, must"),
        ({"WORLD_SIZE": "2"}, "got RANK=None and WORLD_SIZE='2'"),
        ({"RANK": "0"}, "got RANK='0' and WORLD_SIZE=None"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "torchrun did not start: start them with torchrun"),
    ],
)
def test_variables_of_a_launcher_that_is_not_there_are_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process would train a whole model of its own."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(tl.TokenloomError, match=message), joined(timeout_seconds=1.0, report=print):
        pass


@pytest.mark.parametrize("name", ["LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_torchrun_did_not_set_is_named(
    name: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch would wait, or raise an error of its own."""
    whole = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    launched = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "2"}
    for each, text in {**whole, **launched, name: value}.items():
        if text is not None:
            monkeypatch.setenv(each, text)
    message = f"the variable {name}, which torchrun sets, must be"
    with pytest.raises(ArgumentError, match=message), joined(timeout_seconds=1.0, report=print):
        pass


def test_another_ranks_windows_are_refused() -> None:
    """The message says to leave out the shard."""
    ranks = Ranks(rank=1, world_size=2)
    with pytest.raises(UsageError, match=r"rank 1 of 2 must read its own part .* leave out"):
        ranks.check_shard(tl.Shard(rank=0, world_size=2))
    ranks.check_shard(tl.Shard(rank=1, world_size=2))
    # One process may train on a part.
    Ranks().check_shard(tl.Shard(rank=1, world_size=2))


@pytest.mark.parametrize("lost", ["Connection closed by peer [127.0.0.1]", "Timed out waiting 9ms"])
def test_a_lost_rank_is_told_in_words(lost: str) -> None:
    """Other errors go on as they are, and alone there is nobody to lose."""
    with (
        pytest.raises(WorkerError, match="rank 1 of 2 waited for another rank"),
        Ranks(rank=1, world_size=2).watched(),
    ):
        raise RuntimeError(lost)
    with pytest.raises(RuntimeError, match="shapes"), Ranks(world_size=2).watched():
        raise RuntimeError("shapes")  # noqa: EM101  what PyTorch might say
    with pytest.raises(RuntimeError, match=lost[:9]), Ranks().watched():
        raise RuntimeError(lost)


def test_a_process_that_knows_no_other_cannot_be_compared() -> None:
    """Alone there is nothing to compare; a part of a batch has others."""
    make_loader().confirm_ranks(model=make_model(), facts={"lr": 0.1})
    make_loader().windows.confirm_ranks(model=make_model(), facts={"lr": 0.1})
    windows = tl.RandomWindows(TRAIN, batch_size=4, shard=tl.Shard(rank=1, world_size=2))
    for part in (windows, tl.Loader(windows)):
        with pytest.raises(UsageError, match=r"part 1 of 2 .* call torch\.distributed"):
            part.confirm_ranks()
