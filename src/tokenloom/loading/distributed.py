"""The processes that train one model together: they join, compare and add up."""

import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import distributed, nn
from torch.distributed.rendezvous import rendezvous

from tokenloom._wording import show
from tokenloom.errors import ArgumentError, TokenloomError, UsageError, WorkerError
from tokenloom.loading.shard import Shard, read_launched, read_number
from tokenloom.plan.seeds import mix_rank, torch_seed

# What gloo and NCCL report where another process does not answer. PyTorch raises
# plain RuntimeErrors for some of it.
_LOST = re.compile(
    r"connection (closed|reset|refused)|timed? ?out|broken pipe|gloo|nccl|remote process",
    re.IGNORECASE,
)
# How long a rank waits at its end for the report of another one.
_PATIENCE = dt.timedelta(seconds=10)
# The most differences, and the most values of each, that a message names.
_MAX_NAMED = 12


class _Averaged(nn.parallel.DistributedDataParallel):
    """A module whose gradients are averaged, and which can be freed after its process group."""

    def __del__(self) -> None:
        # If the reducer is the last that holds a gloo group, its end joins gloo's thread and
        # keeps Python's lock meanwhile, for which that thread may wait: both then wait for
        # ever. Python lets go of the lock where it frees a group, so the group must be last.
        group = self.__dict__.get("process_group")
        for name in ("logger", "reducer"):
            self.__dict__.pop(name, None)
        del group


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One process among those that train together.

    Parameters
    ----------
    rank : int
        Which one, in [0, world_size).
    world_size : int
        How many there are.
    group : torch.distributed.ProcessGroup, optional
        What they are the members of; PyTorch's default group, if there is one.
    """

    rank: int = 0
    world_size: int = 1
    group: distributed.ProcessGroup | None = None

    @classmethod
    def detect(cls, group: distributed.ProcessGroup | None = None) -> Self:
        """Return this process's place in a group, by default PyTorch's; alone without one.

        Raises
        ------
        ArgumentError
            This process is no member of the group.
        UsageError
            torchrun started several processes, and there is no group yet.
        """
        if group is not None or (distributed.is_available() and distributed.is_initialized()):
            shard = Shard.detect(group=group)
            return cls(rank=shard.rank, world_size=shard.world_size, group=group)
        if is_launched():
            msg = (
                "torchrun started several processes, which are in no group: call "
                "torch.distributed.init_process_group() before training"
            )
            raise UsageError(msg)
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def check_shard(self, shard: Shard) -> None:
        """Check that this process reads its own part of each batch.

        Raises
        ------
        UsageError
            There are several ranks, and it reads another part.
        """
        mine = Shard(rank=self.rank, world_size=self.world_size)
        if self.world_size > 1 and shard != mine:
            msg = (
                f"rank {self.rank} of {self.world_size} must read its own part of each batch, "
                f"its windows have {shard}: leave out shard, so that it is detected"
            )
            raise UsageError(msg)

    def check_group(self, shard: Shard) -> None:
        """Check that there is a group in which ranks can be compared.

        Raises
        ------
        UsageError
            This process reads a part of each batch, and knows no other process.
        """
        if self.world_size == 1 and self.group is None and shard.world_size > 1:
            msg = (
                f"this process reads part {shard.rank} of {shard.world_size} of each batch, and "
                "is in no group with those that read the others: call "
                "torch.distributed.init_process_group() first"
            )
            raise UsageError(msg)

    def mix_seed(self, seed: int, step: int = 0) -> int:
        """Return a seed of PyTorch's generators that differs on each rank and after each step."""
        if self.is_first and not step:
            return torch_seed(seed)
        return mix_rank(seed, rank=self.rank, step=step)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over all ranks."""
        if self.world_size == 1:
            return module
        return _Averaged(module)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, on the CPU."""
        if self.world_size == 1:
            return values.cpu()
        moved = values.to(_device(), copy=True)
        distributed.all_reduce(moved)
        return moved.cpu()

    def all_gather(self, value: Any) -> list[Any]:
        """Return every rank's value, which pickles, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value, group=self.group)
        return values

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Raise an error on every rank if any of them raises one in the block.

        All ranks run it, at the same place. Each raises its own error; those
        that have none raise that of the first rank that has one.

        Raises
        ------
        WorkerError
            Another rank failed with an error that is not tokenloom's.
        """
        try:
            yield
        # The other ranks wait for a report, whatever the error is.
        except Exception as error:
            if self.world_size == 1:
                raise
            # If another rank has gone, this error is raised all the same.
            with contextlib.suppress(RuntimeError):
                self.all_gather(self._as_refusal(error))
            raise
        if self.world_size > 1:
            with self.watched():
                errors = self.all_gather(None)
            refused = next((error for error in errors if error is not None), None)
            if refused is not None:
                raise refused

    def _as_refusal(self, error: Exception) -> TokenloomError:
        """Return the error that the other ranks raise for an error of this one."""
        if isinstance(error, TokenloomError):
            return type(error)(str(error))
        kind = type(error).__name__
        return WorkerError(f"rank {self.rank} of {self.world_size} failed with {kind}: {error}")

    def confirm(self, facts: Mapping[str, Any], *, shard: Shard | None = None) -> None:
        """Check that all ranks have the same facts, and that together they read whole batches.

        All ranks call it, at the same place, and all of them raise the same error.

        Parameters
        ----------
        facts : mapping of str to JSON-able
        shard : Shard, optional
            The part of each batch that this rank reads.

        Raises
        ------
        ArgumentError
            A value is not JSON-able.
        UsageError
            Ranks differ; each field is named with its values and their ranks.
        """
        parts = {} if shard is None else {"shard.world_size": shard.world_size}
        with self.together():
            mine = {name: _as_text(name, value) for name, value in {**facts, **parts}.items()}
        if self.world_size == 1:
            return
        with self.watched():
            gathered = self.all_gather((mine, shard))
        lines = [
            *_differences([each for each, _ in gathered]),
            *_untidy_parts([part for _, part in gathered if part is not None]),
        ]
        if not lines:
            return
        more = [f"  and {len(lines) - _MAX_NAMED} more"] if len(lines) > _MAX_NAMED else []
        cure = (
            "Start all of them with the same arguments, the same release of tokenloom and the "
            "same copy of the text."
        )
        head = f"the {self.world_size} ranks must work on the same, and differ:"
        raise UsageError("\n".join([head, *lines[:_MAX_NAMED], *more, cure]))

    def share(self, value: Any) -> Any:
        """Return the first rank's value, which pickles; that of the others is ignored."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=_device())
        return values[0]

    @contextlib.contextmanager
    def watched(self, *, cure: str = "start all of them again") -> Iterator[None]:
        """Raise a `WorkerError` if another rank died or does not answer.

        Parameters
        ----------
        cure : str
            The advice of the message.

        Raises
        ------
        WorkerError
            It died or did not answer while the block waited for it.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not _LOST.search(str(error)):
                raise
            reason = str(error).strip().partition("\n")[0]
            msg = (
                f"rank {self.rank} of {self.world_size} waited for another rank, which died or "
                f"does not answer: {cure} ({reason})"
            )
            raise WorkerError(msg) from error


def is_launched() -> bool:
    """Return whether torchrun started this process and others beside it.

    Raises
    ------
    ArgumentError
        The variable WORLD_SIZE is no integer.
    """
    return distributed.is_torchelastic_launched() and read_number("WORLD_SIZE", default=1) > 1


def is_restarted() -> bool:
    """Return whether torchrun restarted this process after a failure."""
    return _num_restarts() > 0


@contextlib.contextmanager
def joined(*, timeout_seconds: float, report: Callable[[Exception], None]) -> Iterator[Ranks]:
    """Join the processes that torchrun started with this one, for the length of the block.

    The rank that fails first reports why. The others, which then fail in the same
    way or because it is gone, report nothing; and only the first rank warns. Without
    torchrun there is nothing to join, and errors are raised as they are.

    Parameters
    ----------
    timeout_seconds : float
        How long to wait for another rank, in everything that is done together.
    report : callable
        Called with the error that ended the block, in one of the processes.

    Raises
    ------
    ArgumentError
        A variable that torchrun sets is missing, empty or no number.
    SystemExit
        The block ended with an error, which this rank or another one reported.
    UsageError
        RANK and WORLD_SIZE name several processes, and torchrun did not start this one.
    WorkerError
        Another rank does not answer from the beginning.
    """
    shard = read_launched()
    if not is_launched():
        _check_alone(shard)
        yield Ranks()
        return
    local_rank = _read_place()
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    ranks = Ranks(rank=shard.rank, world_size=shard.world_size)
    timeout = dt.timedelta(seconds=timeout_seconds)
    with ranks.watched():
        store, rank, world_size = next(rendezvous("env://", timeout=timeout))
        # A restart finds the store of the last start, with the addresses of dead processes.
        store = distributed.PrefixStore(  # type: ignore[attr-defined]  # it is there
            f"restart-{_num_restarts()}", store
        )
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=timeout
        )
    try:
        with warnings.catch_warnings():
            if not ranks.is_first:
                warnings.simplefilter("ignore", UserWarning)
            yield ranks
    except (TokenloomError, OSError, RuntimeError) as error:
        _report_once(error, store=store, report=report)
        raise SystemExit(1) from error
    finally:
        distributed.destroy_process_group()


def _check_alone(shard: Shard) -> None:
    """Refuse several processes without a process group: each would train its own model."""
    if shard.world_size > 1:
        msg = (
            f"the variables RANK={shard.rank} and WORLD_SIZE={shard.world_size} name several "
            "processes, which torchrun did not start: start them with torchrun, or unset both"
        )
        raise UsageError(msg)


def _read_place() -> int:
    """Return the local rank, after a check of the address where the first process waits."""
    read_number("MASTER_PORT")
    if not os.environ.get("MASTER_ADDR"):
        address = os.environ.get("MASTER_ADDR")
        msg = (
            "the variable MASTER_ADDR, which torchrun sets, must be the address of the first "
            f"process, got {show(address)}: start with torchrun"
        )
        raise ArgumentError(msg)
    return read_number("LOCAL_RANK")


def _report_once(error: Exception, *, store: Any, report: Callable[[Exception], None]) -> None:
    """Report an error; if another rank has failed before, wait until it has reported its own."""
    try:
        is_first = store.add("failures", 1) == 1
    except RuntimeError:
        # The store was in a process that is gone.
        is_first = True
    # torchrun ends all ranks when the first has ended: not before the message is out.
    with contextlib.suppress(RuntimeError):
        if is_first:
            report(error)
            store.set("reported", "")
        else:
            store.wait(["reported"], _PATIENCE)


def _num_restarts() -> int:
    return read_number("TORCHELASTIC_RESTART_COUNT", default=0)


def _as_text(name: str, value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"facts must be JSON-able, so that ranks can compare them, got {name}={show(value)}"
        raise ArgumentError(msg) from error


def _differences(ranks_facts: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield a line for each field that is not the same on all ranks."""
    for name in dict.fromkeys(name for each in ranks_facts for name in each):
        ranks_of: dict[str | None, list[int]] = {}
        for rank, each in enumerate(ranks_facts):
            ranks_of.setdefault(each.get(name), []).append(rank)
        if len(ranks_of) > 1:
            values = [
                f"{'nothing' if text is None else show(json.loads(text))} on {_name(ranks)}"
                for text, ranks in [*ranks_of.items()][:_MAX_NAMED]
            ]
            yield f"  {name}: {', '.join(values)}"


def _untidy_parts(parts: Sequence[Shard]) -> Iterator[str]:
    """Yield a line where the ranks do not read each part of a batch equally often.

    >>> list(_untidy_parts([Shard(rank=0, world_size=2), Shard(rank=0, world_size=2)]))
    ['  part of each batch: 2 of 2 ranks read part 0 of 2, no rank part 1 of 2']
    """
    size = parts[0].world_size if parts else 1
    # A difference in size has its own message; and a group with fewer ranks than there are parts
    # cannot hold all of them.
    if any(part.world_size != size for part in parts) or len(parts) < size:
        return
    counts = [sum(part.rank == rank for part in parts) for rank in range(size)]
    if len(set(counts)) > 1:
        most, least = counts.index(max(counts)), counts.index(min(counts))
        rest = f"{counts[least]} rank part" if counts[least] else "no rank part"
        yield (
            f"  part of each batch: {counts[most]} of {len(parts)} ranks read part {most} of "
            f"{size}, {rest} {least} of {size}"
        )


def _name(ranks: Sequence[int]) -> str:
    """Return how a message calls some ranks.

    >>> _name([3]), _name([0, 2]), _name([1, 2, 3])
    ('rank 3', 'ranks 0 and 2', 'ranks 1 to 3')
    """
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > 2 and ranks[-1] - ranks[0] == len(ranks) - 1:
        return f"ranks {ranks[0]} to {ranks[-1]}"
    shown = [str(rank) for rank in ranks[:_MAX_NAMED]]
    last = "others" if len(ranks) > _MAX_NAMED else shown.pop()
    return f"ranks {', '.join(shown)} and {last}"


def _device() -> torch.device:
    """Return the device of tensors that the default group sends."""
    has_gloo = "gloo" in str(distributed.get_backend_config())
    return torch.device("cpu" if has_gloo else "cuda")


def describe_weights(model: nn.Module) -> dict[str, str]:
    """Return type and shape of each of a model's tensors, and a hash of all their values."""
    digest, shapes = hashlib.sha256(), {}
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            shapes[f"model.{name}"] = f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
            # As bytes, since NumPy does not know every type.
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            digest.update(content.data)
    return {**shapes, "model.weights": f"sha256:{digest.hexdigest()}"}
