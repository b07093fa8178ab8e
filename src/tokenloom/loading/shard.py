"""Which rows of each batch this process reads: given, or detected from torchrun."""

import os
from dataclasses import dataclass
from typing import Self

import torch.distributed
from torch.distributed.device_mesh import DeviceMesh

from tokenloom._checks import as_integer, to_integer
from tokenloom._wording import show
from tokenloom.errors import ArgumentError, UsageError
from tokenloom.plan.division import divide_batch

# Parts of the names of dimensions whose processes share rows: tensor, context, pipeline and
# sequence parallelism.
_SHARING = frozenset(
    ("tp", "cp", "pp", "sp", "tensor", "context", "pipeline", "pipe", "sequence", "model")
)
# No batch has this number of rows.
_STOP = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of several equal parts of every batch: a range of its rows.

    Parameters
    ----------
    rank : int
        Which part, in [0, world_size).
    world_size : int
        How many parts.

    Raises
    ------
    ArgumentError
        ``world_size`` is below 1, ``rank`` out of range, or one no integer.

    >>> Shard(rank=1, world_size=4).columns(batch_size=32)
    range(8, 16)
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        for name in ("rank", "world_size"):
            try:
                object.__setattr__(self, name, to_integer(getattr(self, name)))
            except TypeError:
                msg = f"{name} must be an integer, got {show(getattr(self, name))}"
                raise ArgumentError(msg) from None
        if self.world_size < 1:
            msg = f"world_size must be at least 1, got {show(self.world_size)}"
            raise ArgumentError(msg)
        if self.world_size >= _STOP:
            msg = f"world_size must be below 2**63, got {show(self.world_size)}"
            raise ArgumentError(msg)
        if not 0 <= self.rank < self.world_size:
            msg = f"rank must be in [0, world_size={show(self.world_size)}), got {show(self.rank)}"
            raise ArgumentError(msg)

    def columns(self, batch_size: int) -> range:
        """Return the rows of a batch that belong to this part, half-open.

        Raises
        ------
        ArgumentError
            ``world_size`` does not divide ``batch_size``.
        """
        batch_size = as_integer("batch_size", batch_size)
        return divide_batch(batch_size, rank=self.rank, world_size=self.world_size)

    @classmethod
    def detect(
        cls,
        *,
        group: torch.distributed.ProcessGroup | None = None,
        mesh: DeviceMesh | None = None,
    ) -> Self:
        """Return this process's part.

        Asked in this order: ``group`` or ``mesh`` if given, an initialised
        `torch.distributed`, the variables RANK and WORLD_SIZE that torchrun
        sets. Without any of them there is one part.

        Parameters
        ----------
        group : torch.distributed.ProcessGroup, optional
            The processes that read different data.
        mesh : torch.distributed.device_mesh.DeviceMesh, optional
            The data-parallel dimensions only, one or several, such as
            ``mesh["dp_replicate", "dp_shard"]``: processes that differ in another
            dimension read the same rows. Parts are numbered in row-major order, so the
            last dimension counts fastest.

        Raises
        ------
        ArgumentError
            Both are given, a dimension has the name of one that shares rows, such as
            "tp", this process is not in the group or the mesh, or RANK and WORLD_SIZE
            are no valid pair.
        """
        if group is not None and mesh is not None:
            msg = "give group or mesh, got both"
            raise ArgumentError(msg)
        if mesh is not None:
            if not hasattr(mesh, "get_coordinate"):
                msg = (
                    "mesh must be a DeviceMesh of the data-parallel dimensions, such as "
                    f"mesh['dp'], got {show(mesh)}"
                )
                raise ArgumentError(msg)
            return cls(rank=_find_place(mesh), world_size=mesh.size())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank = torch.distributed.get_rank(group)
            return cls(rank=rank, world_size=torch.distributed.get_world_size(group))
        launched = read_launched()
        return cls(rank=launched.rank, world_size=launched.world_size)


def _find_place(mesh: DeviceMesh) -> int:
    """Return which process of a mesh this one is, in row-major order."""
    names = mesh.mesh_dim_names or ()
    shared = [name for name in names if not _SHARING.isdisjoint(name.lower().split("_"))]
    if shared:
        msg = (
            f"mesh must have data-parallel dimensions only, got {', '.join(map(show, names))}: "
            f"processes that differ in {show(shared[0])} alone must read the same rows; pass for "
            "example mesh['dp']"
        )
        raise ArgumentError(msg)
    coordinates = mesh.get_coordinate()
    if coordinates is None:
        msg = "this process must be in the mesh, got one without it: pass a mesh of all ranks"
        raise ArgumentError(msg)
    place = 0
    for index, size in zip(coordinates, mesh.shape, strict=True):
        # Shape (2, 4), coordinates (1, 2): place 6.
        place = place * size + index
    return int(place)


def read_launched() -> Shard:
    """Return the part that the variables RANK and WORLD_SIZE name; one part where both are unset.

    Raises
    ------
    ArgumentError
        One of them is unset or empty, or they are no valid pair.
    """
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world_size is None:
        return Shard()
    numbers = _parse_number(rank), _parse_number(world_size)
    if numbers[0] is None or numbers[1] is None or numbers[0] >= numbers[1]:
        msg = (
            "the variables RANK and WORLD_SIZE, which torchrun sets, must be integers with "
            f"RANK below WORLD_SIZE, or both be unset, got RANK={show(rank)} and "
            f"WORLD_SIZE={show(world_size)}"
        )
        raise ArgumentError(msg)
    return Shard(rank=numbers[0], world_size=numbers[1])


def read_number(name: str, *, default: int | None = None) -> int:
    """Return a variable of the environment that torchrun sets, an integer of at least 0.

    Parameters
    ----------
    name : str
    default : int, optional
        Value if it is unset; by default it must be set.

    Raises
    ------
    ArgumentError
        It is no such integer.
    """
    text = os.environ.get(name)
    number = default if text is None else _parse_number(text)
    if number is None:
        msg = (
            f"the variable {name}, which torchrun sets, must be an integer of at least 0, "
            f"got {show(text)}"
        )
        raise ArgumentError(msg)
    return number


def _parse_number(text: str | None) -> int | None:
    # No number of processes has more digits.
    is_number = text is not None and text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if text is not None and is_number else None


def check_same_part(detected: Shard, now: Shard) -> None:
    """Check that the part that windows read is this process's.

    Raises
    ------
    UsageError
        It is the part of another process, or of this one before its group was
        made.
    """
    if now != detected:
        msg = (
            f"these windows belong to rank {detected.rank} of {detected.world_size}, as was "
            f"detected when they were first used, but this is rank {now.rank} of "
            f"{now.world_size}: make the windows in each process, after "
            "torch.distributed.init_process_group, or pass the part as shard=Shard(...)"
        )
        raise UsageError(msg)
