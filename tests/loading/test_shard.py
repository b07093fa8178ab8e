"""Which part of each batch a process reads."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

import tokenloom as tl
from tokenloom.errors import ArgumentError
from tokenloom.loading.shard import read_number


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a launcher might have set."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_columns_tile_the_batch() -> None:
    """The parts of all ranks are the whole, in order."""
    parts = [tl.Shard(rank=rank, world_size=4).columns(12) for rank in range(4)]
    assert [range(3), range(3, 6), range(6, 9), range(9, 12)] == parts


def test_a_world_size_that_does_not_divide_is_refused() -> None:
    """The message names the divisors next to it, and sizes next to the batch's."""
    message = (
        "world_size must divide batch_size=12, got 5: use 4 or 6 processes, or batch_size=10 or 15"
    )
    with pytest.raises(ArgumentError, match=message):
        tl.Shard(rank=0, world_size=5).columns(12)


@pytest.mark.parametrize(
    ("batch_size", "world_size", "cure"),
    [
        (2**62, 3, "use 2 or 4 processes"),
        (2**24, 3, "use 2 or 4 processes, or batch_size=16777215 or 16777218"),
        (2**61 - 1, 3, "use 1 process"),
        (2, 2**40, "use 2 processes, or batch_size=1099511627776"),
        (2**61 - 1, 2**40, "use 1 process"),
    ],
)
def test_a_large_batch_is_refused_at_once(batch_size: int, world_size: int, cure: str) -> None:
    """Neighbours are named, and not all divisors searched for, which would take for ever."""
    with pytest.raises(ArgumentError, match=cure):
        tl.Shard(rank=0, world_size=world_size).columns(batch_size)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    """The message has both bounds."""
    with pytest.raises(ArgumentError, match=rf"rank must be in \[0, world_size=2\), got {rank}"):
        tl.Shard(rank=rank, world_size=2)


def test_an_empty_world_is_refused() -> None:
    """There is at least one process."""
    with pytest.raises(ArgumentError, match="world_size must be at least 1, got 0"):
        tl.Shard(rank=0, world_size=0)


def test_alone_there_is_one_part() -> None:
    """Without a launcher and a group a process reads everything."""
    assert tl.Shard(rank=0, world_size=1) == tl.Shard.detect()


def test_the_launcher_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchrun's variables count where there is no group."""
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert tl.Shard(rank=2, world_size=4) == tl.Shard.detect()


def test_half_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """RANK without WORLD_SIZE is a mistake, not a world of one."""
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ArgumentError, match="got RANK='2' and WORLD_SIZE=None"):
        tl.Shard.detect()


def test_a_group_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An initialised torch.distributed counts more than the launcher's variables."""
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    store = tmp_path_factory.mktemp("store") / "file"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    try:
        assert tl.Shard(rank=0, world_size=1) == tl.Shard.detect()
        assert tl.Shard(rank=0, world_size=1) == tl.Shard.detect(group=dist.group.WORLD)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("rank", "world_size"),
    [
        ("", "2"),
        ("0", ""),
        ("", ""),
        ("two", "4"),
        ("-1", "2"),
        ("4", "4"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_variables_that_are_no_pair_are_refused(
    rank: str, world_size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names both of them, and who sets them."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(ArgumentError, match="RANK and WORLD_SIZE, which torchrun sets, must"):
        tl.Shard.detect()


def test_other_variables_of_torchrun_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is wrong is named."""
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "")
    with pytest.raises(ArgumentError, match="TORCHELASTIC_RESTART_COUNT, which torchrun sets"):
        read_number("TORCHELASTIC_RESTART_COUNT", default=0)


def test_a_mesh_says_which_part_is_read() -> None:
    """Its dimensions are data-parallel ones only, and its places are numbered row by row."""

    def mesh(*shape: int, coordinates: Any = None, names: tuple[str, ...] | None = ("dp",)) -> Any:
        return SimpleNamespace(
            get_coordinate=lambda: coordinates,
            size=lambda: math.prod(shape),
            shape=shape,
            mesh_dim_names=names,
        )

    assert tl.Shard(rank=1, world_size=3) == tl.Shard.detect(mesh=mesh(3, coordinates=[1]))
    names = ("dp_replicate", "dp_shard", "ep")
    places = [
        tl.Shard.detect(mesh=mesh(2, 3, 2, coordinates=list(place), names=names))
        for place in itertools.product(range(2), range(3), range(2))
    ]
    assert [tl.Shard(rank=rank, world_size=12) for rank in range(12)] == places
    nameless = mesh(2, 2, coordinates=[1, 0], names=None)
    assert tl.Shard(rank=2, world_size=4) == tl.Shard.detect(mesh=nameless)
    for wrong in (("dp", "tp"), ("TP",), ("dp_shard_cp",), ("tensor_parallel", "dp")):
        with pytest.raises(ArgumentError, match=r"data-parallel dimensions only, got .*mesh\['dp'"):
            tl.Shard.detect(mesh=mesh(2, coordinates=[1], names=wrong))
    with pytest.raises(ArgumentError, match="this process must be in the mesh, got one without"):
        tl.Shard.detect(mesh=mesh(2))
    for no_mesh in (2, "dp"):
        with pytest.raises(ArgumentError, match="mesh must be a DeviceMesh of the data-parallel"):
            tl.Shard.detect(mesh=no_mesh)  # type: ignore[arg-type]
    given: Any = {"group": object(), "mesh": mesh(1, coordinates=[0])}
    with pytest.raises(ArgumentError, match="give group or mesh, got both"):
        tl.Shard.detect(**given)
