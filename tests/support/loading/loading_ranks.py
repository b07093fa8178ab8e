"""What each process of the tests of ranks runs: read a stream, write down what it said.

Usage: loading_ranks.py FOLDER HOW [RANK WORLD_SIZE]; HOW is one of the functions below.
"""

import itertools
import json
import multiprocessing
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.data import DataLoader

import tokenloom as tl
from tests.support.loading.process_resources import end_rank
from tokenloom.errors import ArgumentError, UsageError

# Shapes and names of meshes of four processes, and the dimensions whose processes read apart.
MESHES: list[tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]] = [
    ((2, 2), ("dp", "tp"), ("dp",)),
    ((2, 2), ("pp", "dp_shard"), ("dp_shard",)),
    ((2, 2), ("dp_replicate", "dp_shard"), ("dp_replicate", "dp_shard")),
    ((2, 1, 2), ("dp_replicate", "dp_shard", "cp"), ("dp_replicate", "dp_shard")),
    ((1, 2, 2), ("dp_replicate", "dp_shard", "tp"), ("dp_replicate", "dp_shard")),
    ((2, 2, 1), ("dp_replicate", "dp_shard", "tp_1"), ("dp_replicate", "dp_shard")),
]


def make_windows(**options: Any) -> tl.RandomWindows:
    """Return windows of 19 batches of 4 rows."""
    corpus = tl.Corpus.from_tokens(np.arange(400, dtype=np.uint16))
    return tl.RandomWindows(corpus, batch_size=4, seq_len=5, **options)


def read(batches: Any) -> list[Any]:
    """Return what batches say."""
    return [[batch.epoch, batch.index, batch.inputs.tolist()] for batch in batches]


def group(_: Path) -> Any:
    """Read in the default group: by itself, with workers, and after a resume."""
    windows = make_windows()
    options = tl.WorkerOptions(block_size=3)
    loader = tl.Loader(windows, num_workers=2, worker_options=options)
    batches = iter(loader)
    for _batch in itertools.islice(batches, 7):
        pass
    state = loader.state_dict()
    del batches
    resumed = tl.Loader(windows, num_workers=0)
    resumed.load_state_dict(state)
    return {
        "alone": read(windows),
        "spawned": read(
            DataLoader(
                windows, batch_size=None, num_workers=2, multiprocessing_context="forkserver"
            )
        ),
        "loader": read(tl.Loader(windows, num_workers=2, worker_options=options)),
        "state": state,
        "resumed": read(resumed),
    }


def environment(folder: Path) -> Any:
    """Read under a launcher, without a group."""
    return group(folder)


def subgroup(_: Path) -> Any:
    """Read in groups of two: 0 and 1, 2 and 3."""
    groups = [dist.new_group([first, first + 1]) for first in (0, 2)]
    mine: Any = groups[dist.get_rank() // 2]
    return {"alone": read(make_windows(shard=tl.Shard.detect(group=mine)))}


def mesh(_: Path) -> Any:
    """Read in the data-parallel dimensions of meshes of 2 and 3 dimensions."""
    parts = {}
    for shape, names, mine in MESHES:
        whole = init_device_mesh("cpu", shape, mesh_dim_names=names)
        try:
            tl.Shard.detect(mesh=whole)
            refused = ""
        except ArgumentError as error:
            refused = str(error)
        chosen = whole if mine == names else whole[mine]
        windows = make_windows(shard=tl.Shard.detect(mesh=chosen))
        windows.confirm_ranks()
        parts[" ".join(names)] = {
            "alone": read(windows),
            "spawned": read(
                DataLoader(
                    windows, batch_size=None, num_workers=1, multiprocessing_context="forkserver"
                )
            ),
            "refused": refused,
            "shard": [windows.shard.rank, windows.shard.world_size],
        }
    # One process that reads another part than its place in the mesh leaves one unread.
    wrong = make_windows(shard=tl.Shard(rank=min(dist.get_rank(), 1), world_size=2))
    return {**parts, "untidy": attempt(wrong.confirm_ranks)}


def late(folder: Path) -> Any:
    """Use windows before the group is there, and after."""
    windows = make_windows()
    len(windows)
    connect(folder, *map(int, sys.argv[3:]))
    spawn_loader = DataLoader(
        windows, batch_size=None, num_workers=1, multiprocessing_context="forkserver"
    )
    return {
        "error": attempt(lambda: read(windows)),
        "in worker": attempt(lambda: read(spawn_loader)),
    }


def make_model() -> tl.RNNModel:
    """Return a small random model, the same in every process."""
    torch.manual_seed(0)
    return tl.RNNModel(torch.nn.GRU(7, 8), 7)


def evaluation(_: Path) -> Any:
    """Evaluate a model, with as many lanes as the ranks divide, and with fewer."""
    corpus = tl.Corpus.from_tokens(np.arange(200) % 7, vocab_size=7)
    results = [
        tl.evaluate(make_model(), corpus, batch_size=batch_size, num_workers=num_workers)
        for batch_size, num_workers in ((8, 0), (8, 1), (6, 0), (1, 0))
    ]
    return [[result.num_tokens, result.nats_per_token] for result in results]


def spawned(folder: Path) -> Any:
    """Read, in ranks that one process spawned, the windows that it gave them."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=_spawned_rank,
            args=(rank, folder, make_windows(), tl.Loader(make_windows())),
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return {}


def _spawned_rank(rank: int, folder: Path, windows: Any, loader: Any) -> None:
    connect(folder, rank, 2)
    errors = [attempt(lambda: read(windows)), attempt(lambda: read(loader))]
    (folder / f"spawned-{rank}.json").write_text(json.dumps(errors), encoding="utf-8")
    leave()


def foreign(folder: Path) -> Any:
    """Unpickle on every rank what rank 0 pickled."""
    path = folder / "windows.pickle"
    if dist.get_rank() == 0:
        path.write_bytes(pickle.dumps(make_windows()))
    dist.barrier()
    windows = pickle.loads(path.read_bytes())  # noqa: S301  our own bytes
    return {
        "error": attempt(lambda: read(windows)),
        "in worker": attempt(lambda: read(DataLoader(windows, batch_size=None, num_workers=1))),
    }


def attempt(action: Any) -> str:
    """Return our own error's message, or nothing."""
    try:
        action()
    except UsageError as error:
        return str(error)
    return ""


def connect(folder: Path, rank: int, world_size: int) -> None:
    """Join the group whose members find each other by a file of this folder.

    A port that is free now could be taken by the time the first rank listens on it.
    """
    method = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=world_size)


def leave() -> None:
    """Leave the group once all its members have come here, and end this process."""
    dist.barrier()
    dist.destroy_process_group()
    end_rank()


def main() -> None:
    """Run what the arguments say, and write the result to FOLDER/RANK.json."""
    folder, how = Path(sys.argv[1]), sys.argv[2]
    if how not in ("environment", "late", "spawned"):
        connect(folder, *map(int, sys.argv[3:]))
    result = globals()[how](folder)
    rank = dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))
    (folder / f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    if dist.is_initialized():
        leave()


if __name__ == "__main__":
    main()
