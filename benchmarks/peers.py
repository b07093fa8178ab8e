"""Libraries that a user could pick instead; each is imported when it is asked for.

Each keeps the corpus in files of its own format, as rows of seq_len + 1 ids,
and shuffles them by its own means.
"""

import importlib.machinery
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from systems import Batches, MixedTask, System, Task, endless, split

_SHUFFLE_BUFFER = 10_000
# The number of shards that HF datasets mixes into one before its buffer.
_NUM_MIXED = 10


def _rows(task: Task) -> npt.NDArray[Any]:
    """Return the corpus as rows, shape (num_rows, seq_len + 1); the rest is left out."""
    width = task.seq_len + 1
    tokens = np.asarray(task.tokens())
    return tokens[: len(tokens) // width * width].reshape(-1, width)


def _widen(batches: Any) -> Batches:
    for rows in batches:
        yield split(rows.long())


def prepare_hf(task: Task) -> None:
    """Write an Arrow file of rows."""
    import datasets
    import pyarrow as pa

    rows = _rows(task)
    ids = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    datasets.Dataset(pa.table({"ids": ids})).save_to_disk(task.folder / "hf")


def _open_hf(task: Task) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_from_disk(task.folder / "hf")


def _load_hf(task: Task, dataset: Any, **how: Any) -> Batches:
    loader = DataLoader(
        dataset, batch_size=task.batch_size, num_workers=task.num_workers, drop_last=True, **how
    )
    return _widen(batch["ids"] for batch in endless(loader))


def hf(task: Task) -> Batches:
    """Load rows by index: HF datasets, map-style."""
    return _load_hf(task, _open_hf(task).with_format("torch"), shuffle=True)


def hf_iterable(task: Task) -> Batches:
    """Load rows through a shuffle buffer: HF datasets, iterable."""
    dataset = _open_hf(task).to_iterable_dataset(num_shards=_NUM_MIXED * max(1, task.num_workers))
    dataset = dataset.shuffle(seed=0, buffer_size=_SHUFFLE_BUFFER).with_format("torch")
    return _load_hf(task, dataset)


_STAND_INS = {
    "torchvision": (),
    "torchvision.datasets": ("CIFAR10", "VisionDataset"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("to_tensor",),
}


def _import_streaming() -> Any:
    """Import MosaicML streaming without torchvision, which only its images need.

    A torchvision that was built for another PyTorch would end in an error here.
    """
    for name, classes in _STAND_INS.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(sys.modules[name]).update({each: type(each, (), {}) for each in classes})
    import streaming

    return streaming


def prepare_mosaicml(task: Task) -> None:
    """Write MDS shards of rows."""
    streaming = _import_streaming()
    rows = _rows(task)
    columns = {"ids": f"ndarray:{rows.dtype.name}:{rows.shape[1]}"}
    with streaming.MDSWriter(out=str(task.folder / "mds"), columns=columns) as writer:
        for row in rows:
            writer.write({"ids": row})


def mosaicml(task: Task) -> Batches:
    """Load shuffled rows of MDS shards: MosaicML streaming."""
    return _load_mosaicml(task, local=str(task.folder / "mds"))


def mix_mosaicml(mixed: MixedTask) -> Batches:
    """Load shuffled rows of several streams in proportion: MosaicML streaming."""
    Stream = _import_streaming().Stream  # noqa: N806  a class
    streams = [
        Stream(local=str(part.folder / "mds"), proportion=weight)
        for part, weight in zip(mixed.parts, mixed.weights, strict=True)
    ]
    return _load_mosaicml(mixed, streams=streams)


def _load_mosaicml(task: Task | MixedTask, **source: Any) -> Batches:
    dataset = _import_streaming().StreamingDataset(
        **source, shuffle=True, batch_size=task.batch_size
    )
    loader = DataLoader(
        dataset,
        batch_size=task.batch_size,
        num_workers=task.num_workers,
        drop_last=True,
        # Its rows are unsigned arrays; PyTorch's own way would refuse some of them.
        collate_fn=_stack,
    )
    return _widen(endless(loader))


def _stack(samples: list[dict[str, npt.NDArray[Any]]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([sample["ids"] for sample in samples]).astype(np.int64))


def prepare_litdata(task: Task) -> None:
    """Write LitData's chunks of tokens."""
    import litdata

    num_rows = len(_rows(task))
    parts = [(start, min(start + 10_000, num_rows)) for start in range(0, num_rows, 10_000)]
    litdata.optimize(
        fn=_LitDataPart(task),
        inputs=parts,
        output_dir=str(task.folder / "litdata"),
        num_workers=1,
        chunk_size=10_000_000 // (task.seq_len + 1) * (task.seq_len + 1),
        item_loader=litdata.TokensLoader(),
    )


class _LitDataPart:
    """A function from a range of rows to their ids, which a process of LitData runs."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, part: tuple[int, int]) -> Iterator[torch.Tensor]:
        rows = _rows(self._task)[slice(*part)]
        # PyTorch has few operations for unsigned types; LitData stores signed ones.
        yield torch.from_numpy(rows.ravel().astype(np.int32))


def litdata(task: Task) -> Batches:
    """Load shuffled blocks of tokens: LitData's TokensLoader."""
    return _load_litdata(task, _open_litdata(task))


def mix_litdata(mixed: MixedTask) -> Batches:
    """Draw blocks of tokens from several datasets: LitData's CombinedStreamingDataset."""
    import litdata

    combined = litdata.CombinedStreamingDataset(
        datasets=[_open_litdata(part) for part in mixed.parts],
        weights=mixed.weights,
        iterate_over_all=False,
    )
    return _load_litdata(mixed, combined)


def _open_litdata(task: Task) -> Any:
    import litdata

    return litdata.StreamingDataset(
        str(task.folder / "litdata"),
        item_loader=litdata.TokensLoader(block_size=task.seq_len + 1),
        shuffle=True,
        drop_last=True,
    )


def _load_litdata(task: Task | MixedTask, dataset: Any) -> Batches:
    import litdata

    loader = litdata.StreamingDataLoader(
        dataset, batch_size=task.batch_size, num_workers=task.num_workers
    )
    return _widen(endless(loader))


class _GrainRows:
    """What Grain asks of a source: a length and items."""

    def __init__(self, task: Task) -> None:
        self._task, self._rows = task, _rows(task)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> npt.NDArray[np.int64]:
        return self._rows[index].astype(np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        # Each process maps the file for itself.
        return _GrainRows, (self._task,)


def grain(task: Task) -> Batches:
    """Load shuffled rows, without its threads, which are slower here: Grain."""
    return _load_grain(task, _open_grain(task))


def mix_grain(mixed: MixedTask) -> Batches:
    """Mix shuffled rows of several sources: Grain's MapDataset.mix."""
    import grain

    parts = [_open_grain(part) for part in mixed.parts]
    return _load_grain(mixed, grain.MapDataset.mix(parts, mixed.weights))


def _open_grain(task: Task) -> Any:
    import grain

    return grain.MapDataset.source(_GrainRows(task)).seed(0).shuffle().repeat()


def _load_grain(task: Task | MixedTask, dataset: Any) -> Batches:
    import grain

    batches: Any = dataset.batch(task.batch_size, drop_remainder=True).to_iter_dataset(
        grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    )
    if task.num_workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=task.num_workers))
    return _widen(map(torch.from_numpy, batches))


def _peer(title: str, batches: Any, module: str, prepare: Any = None) -> System:
    return System(title=title, kind="peer", batches=batches, module=module, prepare=prepare)


PEERS: dict[str, System] = {
    "hf": _peer("HF datasets, map-style", hf, "datasets", prepare_hf),
    "hf-iterable": _peer("HF datasets, shuffle buffer", hf_iterable, "datasets", prepare_hf),
    "mosaicml": _peer("MosaicML streaming", mosaicml, "streaming", prepare_mosaicml),
    "litdata": _peer("LitData TokensLoader", litdata, "litdata", prepare_litdata),
    "grain": _peer("Grain", grain, "grain"),
}
# What pip calls the packages of their modules.
PACKAGES = {
    slug: "mosaicml-streaming" if system.module == "streaming" else str(system.module)
    for slug, system in PEERS.items()
}
