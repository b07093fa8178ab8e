"""The processes that train one model together, each on its rows of every batch."""

import contextlib
import datetime as dt
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import distributed, nn
from torch.distributed.rendezvous import rendezvous

from tokenloom.errors import TokenloomError, UsageError, WorkerError
from tokenloom.seeds import mix_rank, torch_seed
from tokenloom.sharding import Shard

# How gloo and NCCL tell that another process does not answer. PyTorch raises
# plain RuntimeErrors for some of it.
_LOST = re.compile(
    r"connection (closed|reset|refused)|timed? ?out|broken pipe|gloo|nccl|remote process",
    re.IGNORECASE,
)
# How long a rank waits at its end for the message of another one.
_TELLING = dt.timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One process among those that train together.

    Parameters
    ----------
    rank : int
        Which one, in [0, world_size).
    world_size : int
        How many there are.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def detect(cls) -> Self:
        """Return this process's place in PyTorch's default group; alone without one.

        Raises
        ------
        UsageError
            torchrun started several processes, and there is no group yet.
        """
        if distributed.is_available() and distributed.is_initialized():
            return cls(rank=distributed.get_rank(), world_size=distributed.get_world_size())
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

    def mix_seed(self, seed: int, step: int = 0) -> int:
        """Return a seed of PyTorch's generators that differs on each rank and after each step."""
        if self.is_first and not step:
            return torch_seed(seed)
        return mix_rank(seed, rank=self.rank, step=step)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over all ranks."""
        if self.world_size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, on the CPU."""
        if self.world_size == 1:
            return values.cpu()
        moved = values.to(_device(), copy=True)
        distributed.all_reduce(moved)
        return moved.cpu()

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, which pickles, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def share(self, value: Any) -> Any:
        """Return the first rank's value, which pickles; that of the others is ignored."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=_device())
        return values[0]

    @contextlib.contextmanager
    def watched(self, *, cure: str = "start all of them again") -> Iterator[None]:
        """Tell in words where another rank died or does not answer.

        Parameters
        ----------
        cure : str
            What to do then.

        Raises
        ------
        WorkerError
            It did, while the block waited for it.
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
    """Return whether torchrun started this process and others beside it."""
    return distributed.is_torchelastic_launched() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_restarted() -> bool:
    """Return whether torchrun started this process anew, since one had failed."""
    return _num_restarts() > 0


def launch_id() -> str | None:
    """Return what torchrun calls this launch, the same after it restarts; None without it."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


@contextlib.contextmanager
def joined(*, timeout_seconds: float, tell: Callable[[Exception], None]) -> Iterator[Ranks]:
    """Join the processes that torchrun started with this one, for the length of the block.

    Whichever fails first tells why. The others, which fail then in the same way
    or for want of it, say nothing; and only the first rank warns. Alone,
    without torchrun, there is nothing to join, and errors go on as they are.

    Parameters
    ----------
    timeout_seconds : float
        How long to wait for another rank, in everything that is done together.
    tell : callable
        Called with the error that ended the block, in one of the processes.

    Raises
    ------
    SystemExit
        The block ended with an error, which was told, by this rank or another one.
    WorkerError
        Another rank does not answer from the beginning.
    """
    if not is_launched():
        yield Ranks()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    ranks = Ranks(rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
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
        _tell_once(error, store=store, tell=tell)
        raise SystemExit(1) from error
    finally:
        distributed.destroy_process_group()


def _tell_once(error: Exception, *, store: Any, tell: Callable[[Exception], None]) -> None:
    """Tell an error, unless another rank has failed before; then wait until it has told."""
    try:
        is_first = store.add("failures", 1) == 1
    except RuntimeError:
        # The store was in a process that is gone.
        is_first = True
    # torchrun ends all ranks when the first has ended: not before the message is out.
    with contextlib.suppress(RuntimeError):
        if is_first:
            tell(error)
            store.set("told", "")
        else:
            store.wait(["told"], _TELLING)


def _num_restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _device() -> torch.device:
    """Return where tensors must be that the default group sends."""
    has_gloo = "gloo" in str(distributed.get_backend_config())
    return torch.device("cpu" if has_gloo else "cuda")
