"""Time the whole way from text on disk to token ids on disk, next to other packages.

    python benchmarks/whole_way.py [--megabytes 20] [--processes 2] [--repetitions 3]

Documents of about 4 kB lie in files of JSON Lines, and a byte-level BPE that was
learnt of a part of them in a tokenizer.json. Each way reads them, encodes them
on a number of processes, puts the end of a document after each, and keeps the ids:

- tokenloom prepares a store, and then verifies it; "alone" is without tiktoken,
  which encodes most texts of such a tokenizer.json where it is installed;
- datasets maps batches on processes, or one process with as many threads, and
  saves to disk;
- nanoGPT maps in the same way, and then writes one memory map in 1,024 parts;
- LitData optimises the files to chunks for its TokensLoader.

Each run has a process and folders of its own, so nothing is kept from another
run; the clock starts when its packages are imported. The ways take turns, and
ratios are medians over the repetitions: above 1, tokenloom is faster. "encoder"
is what nobody who calls the package tokenizers can do without: it encodes
batches of texts that lie in memory, on as many processes, and the ids are
thrown away. What a way takes beyond that is its own. Memory is the sum, over all
processes of a way, of the largest resident set that each had.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import itertools
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers
from tqdm import tqdm

import tokenloom as tl
from preparing import run_watched
from tokenloom.store.verify import verify_store
from tokenloom.text.huggingface import DEFAULT_VOCAB_SIZE, END_OF_TEXT, PARALLELISM, BpeLearner

# What the fastest of the others is to take, in times of tokenloom.
ASKED = 1.5
_NUM_FILES = 8
_BATCH_DOCUMENTS = 1000
# As nanoGPT's data/openwebtext/prepare.py has it.
_NUM_MEMMAP_PARTS = 1024
# As LitData's documentation of its TokensLoader has it.
_LITDATA_CHUNK_TOKENS = 2049 * 8012

_Ids = npt.NDArray[Any]


class Task(NamedTuple):
    """What is to be done.

    Attributes
    ----------
    sources : list of Path
        JSON Lines.
    tokenizer : Path
        A tokenizer.json.
    folder : Path
        New, for whatever is written.
    num_processes : int
    """

    sources: list[Path]
    tokenizer: Path
    folder: Path
    num_processes: int


class Way(NamedTuple):
    """A way from text to ids.

    Attributes
    ----------
    make : callable
        From a task to what `read` takes; this is timed.
    read : callable
        From that to all ids, in any order.
    module : str
        What must be installed.
    in_threads : bool
        Whether the encoder of one process uses as many threads.
    without : str
        A package that cannot be imported.
    """

    make: Callable[[Task], Any]
    read: Callable[[Any], _Ids]
    module: str
    in_threads: bool = False
    without: str = ""


class Run(NamedTuple):
    """What a way took, and a number of ids and a sum of them that all must have in common."""

    seconds: float
    num_ids: int
    sum_of_ids: int
    peak_megabytes: float = 0.0


@functools.cache
def load_encoder(path: Path) -> tuple[Any, int]:
    """Return the tokenizer, once in each process, and the id of the end of a document."""
    encoder = tokenizers.Tokenizer.from_file(str(path))
    # What a text spells is text, for all ways.
    encoder.encode_special_tokens = True
    return encoder, encoder.token_to_id(END_OF_TEXT)


def encode(texts: list[str], path: Path) -> list[list[int]]:
    """Return the ids of each text, and the end after them."""
    encoder, end = load_encoder(path)
    batch = encoder.encode_batch_fast(texts, add_special_tokens=False)
    return [[*encoding.ids, end] for encoding in batch]


def read_batches(source: Path) -> Iterator[list[str]]:
    """Yield the texts of JSON Lines, some at a time."""
    with source.open(encoding="utf-8") as file:
        while lines := list(itertools.islice(file, _BATCH_DOCUMENTS)):
            yield [json.loads(line)["text"] for line in lines]


def prepare_and_verify(task: Task) -> Path:
    """Make a store and check every byte of it."""
    store = task.folder / "store"
    tl.prepare(
        task.sources,
        store,
        tokenizer=task.tokenizer,
        options=tl.PrepareOptions(end_of_document=END_OF_TEXT),
        num_workers=task.num_processes,
        progress=False,
    )
    if problems := verify_store(store, progress=False):
        raise ValueError(problems)
    return store


def read_store(store: Path) -> _Ids:
    """Return the ids of a store."""
    return np.asarray(tl.Corpus.open(store).tokens[:])


def encode_rows(rows: dict[str, Any], *, path: Path) -> dict[str, Any]:
    """Return columns of ids and of their number, which datasets keep as int32 for this name."""
    ids = encode(rows["text"], path)
    return {"input_ids": ids, "len": [len(each) for each in ids]}


def map_rows(task: Task, num_processes: int | None) -> Any:
    """Return a data set of ids."""
    import datasets

    datasets.disable_progress_bars()
    dataset = datasets.load_dataset(
        "json",
        data_files=[str(source) for source in task.sources],
        split="train",
        num_proc=num_processes,
        cache_dir=str(task.folder / "cache"),
    )
    return dataset.map(
        functools.partial(encode_rows, path=task.tokenizer),
        batched=True,
        batch_size=_BATCH_DOCUMENTS,
        remove_columns=dataset.column_names,
        num_proc=num_processes,
    )


def map_and_save(task: Task, *, in_threads: bool = False) -> Path:
    """Save a mapped data set."""
    num_processes = None if in_threads else task.num_processes
    saved = task.folder / "saved"
    map_rows(task, num_processes).save_to_disk(str(saved), num_proc=num_processes)
    return saved


def read_saved(saved: Path) -> _Ids:
    """Return the ids of a saved data set."""
    import datasets

    column = datasets.load_from_disk(str(saved)).data.column("input_ids")
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])


def map_and_copy(task: Task) -> Path:
    """Write one memory map of a mapped data set."""
    dataset = map_rows(task, task.num_processes)
    path = task.folder / "train.bin"
    num_ids = int(np.sum(dataset["len"], dtype=np.uint64))
    ids = np.memmap(path, dtype=np.uint16, mode="w+", shape=(num_ids,))
    num_parts, start = min(_NUM_MEMMAP_PARTS, len(dataset)), 0
    for index in range(num_parts):
        part = dataset.shard(num_shards=num_parts, index=index, contiguous=True)
        batch = np.concatenate(part.with_format("numpy")["input_ids"][:])
        ids[start : start + len(batch)] = batch
        start += len(batch)
    ids.flush()
    return path


def read_memmap(path: Path) -> _Ids:
    """Return the ids of a file of them."""
    return np.fromfile(path, np.uint16)


def encode_file(source: Path, *, path: Path) -> Iterator[Any]:
    """Yield the ids of each document of a file, as LitData's own example does, but by batches."""
    import torch

    for texts in read_batches(source):
        for ids in encode(texts, path):
            yield torch.from_numpy(np.array(ids, np.uint16))


def optimize(task: Task) -> Path:
    """Write chunks of LitData."""
    import litdata

    chunks = task.folder / "chunks"
    litdata.optimize(
        fn=functools.partial(encode_file, path=task.tokenizer),
        inputs=task.sources,
        output_dir=str(chunks),
        chunk_size=_LITDATA_CHUNK_TOKENS,
        num_workers=task.num_processes,
        item_loader=litdata.TokensLoader(),
        # Its default, to spawn, would import PyTorch once more in each worker.
        start_method="fork",
        verbose=False,
    )
    return chunks


def read_chunks(chunks: Path) -> _Ids:
    """Return the ids in chunks of LitData: a number of items, their offsets, ids."""
    found = []
    for path in sorted(chunks.glob("*.bin")):
        num_items = int(np.fromfile(path, np.uint32, 1)[0])
        found.append(np.fromfile(path, np.uint16, offset=4 * (num_items + 2)))
    return np.concatenate(found)


WAYS = {
    "tokenloom": Way(prepare_and_verify, read_store, "tokenloom"),
    "tokenloom, alone": Way(prepare_and_verify, read_store, "tokenloom", without="tiktoken"),
    "datasets": Way(map_and_save, read_saved, "datasets"),
    "datasets, threads": Way(
        functools.partial(map_and_save, in_threads=True), read_saved, "datasets", in_threads=True
    ),
    "nanoGPT": Way(map_and_copy, read_memmap, "datasets"),
    "LitData": Way(optimize, read_chunks, "litdata"),
}
# Not a way, but a part of each.
ENCODER = "encoder"


def time_way(way: Way, task: Task) -> Run:
    """Return what a way takes in this process and its own."""
    importlib.import_module(way.module)
    began_at = time.perf_counter()
    made = way.make(task)
    seconds = time.perf_counter() - began_at
    ids = way.read(made)
    return Run(seconds, len(ids), int(ids.sum(dtype=np.int64)))


def time_encoder(task: Task) -> Run:
    """Return what the encoder alone takes on a number of processes, the longest of them."""
    shares = [task.sources[start :: task.num_processes] for start in range(task.num_processes)]
    with multiprocessing.get_context("spawn").Pool(task.num_processes) as pool:
        runs = pool.map(functools.partial(encode_share, path=task.tokenizer), shares, 1)
    seconds, num_ids, sums = zip(*runs, strict=True)
    return Run(max(seconds), sum(num_ids), sum(sums))


def encode_share(sources: list[Path], *, path: Path) -> tuple[float, int, int]:
    """Return the seconds that the encoder takes for some files, the number of ids and their sum."""
    encoder, end = load_encoder(path)
    seconds, num_ids, sum_of_ids = 0.0, 0, 0
    for texts in itertools.chain.from_iterable(map(read_batches, sources)):
        began_at = time.perf_counter()
        batch = encoder.encode_batch_fast(texts, add_special_tokens=False)
        seconds += time.perf_counter() - began_at
        num_ids += len(batch) + sum(len(encoding.ids) for encoding in batch)
        sum_of_ids += end * len(batch) + sum(sum(encoding.ids) for encoding in batch)
    return seconds, num_ids, sum_of_ids


def write_inputs(folder: Path, arguments: argparse.Namespace) -> tuple[list[Path], Path]:
    """Write files of documents and a tokenizer.json; return their paths."""
    # It imports tiktoken, which a way may be without.
    from subwords import make_documents

    documents = make_documents(int(1e6 * arguments.megabytes))
    tokenizer = folder / "tokenizer.json"
    learned = BpeLearner(arguments.ids).learn(documents[:1000], in_threads=True)
    tokenizer.write_text(learned.content, encoding="utf-8")
    sources = []
    for start in range(_NUM_FILES):
        sources.append(folder / f"part-{start}.jsonl")
        lines = (json.dumps({"text": text}) + "\n" for text in documents[start::_NUM_FILES])
        sources[-1].write_text("".join(lines), encoding="utf-8")
    return sources, tokenizer


def run_alone(name: str, inputs: Path, num_processes: int) -> Run:
    """Return what a way takes in a process of its own, in folders that nobody has used."""
    with tempfile.TemporaryDirectory(dir=inputs) as folder:
        in_threads = name in WAYS and WAYS[name].in_threads
        if name in WAYS and WAYS[name].without:
            (Path(folder) / f"{WAYS[name].without}.py").write_text("raise ImportError\n")
        homes = ("HOME", "HF_HOME", "TMPDIR", "DATA_OPTIMIZER_CACHE_FOLDER")
        environment = {
            **os.environ,
            **dict.fromkeys(homes, folder),
            "PYTHONPATH": os.pathsep.join([folder, *sys.path]),
            PARALLELISM: "true" if in_threads else "false",
            "RAYON_NUM_THREADS": str(num_processes if in_threads else 1),
        }
        command = [
            *(sys.executable, __file__, "--processes", str(num_processes)),
            *("--run", name, "--inputs", str(inputs), "--folder", folder),
        ]
        printed, peak_megabytes = run_watched(command, name=name, env=environment)
    return Run(*json.loads(printed.splitlines()[-1]))._replace(peak_megabytes=peak_megabytes)


def run_here(name: str, inputs: Path, folder: Path, num_processes: int) -> None:
    """Print what a way takes in this process, as JSON on the last line."""
    task = Task(
        sources=sorted(inputs.glob("part-*.jsonl")),
        tokenizer=inputs / "tokenizer.json",
        folder=folder,
        num_processes=num_processes,
    )
    logging.disable()
    # Some packages print how far they are.
    with contextlib.redirect_stdout(sys.stderr):
        run = time_encoder(task) if name == ENCODER else time_way(WAYS[name], task)
    print(json.dumps(run))


def check(runs: dict[str, Run]) -> None:
    """Refuse ways that did not keep the same ids."""
    kept = {name: (run.num_ids, run.sum_of_ids) for name, run in runs.items()}
    if len(set(kept.values())) > 1:
        msg = f"the number of ids, and their sum, must be the same for all ways, got {kept}"
        raise ValueError(msg)


def tabulate(samples: list[dict[str, Run]], num_megabytes: float) -> Iterable[str]:
    """Yield what each way took, and then the ratios, in Markdown."""
    yield "| way | seconds | MB/s | of it the encoder | peak MB |"
    yield "|---|---|---|---|---|"
    for name in samples[0]:
        runs = [sample[name] for sample in samples]
        seconds = statistics.median(run.seconds for run in runs)
        share = statistics.median(
            sample[ENCODER].seconds / sample[name].seconds for sample in samples
        )
        peak = max(run.peak_megabytes for run in runs)
        speed = num_megabytes / seconds
        yield f"| {name} | {seconds:.2f} | {speed:.2f} | {100 * share:.0f} % | {peak:,.0f} |"
    yield ""
    yield "| what | against | asked | reached | |"
    yield "|---|---|---|---|---|"
    for name in samples[0]:
        if WAYS.get(name, WAYS["tokenloom"]).module == "tokenloom":
            continue
        ratio = statistics.median(
            sample[name].seconds / sample["tokenloom"].seconds for sample in samples
        )
        verdict = "yes" if ratio >= ASKED else "no"
        yield f"| text to a verified store | {name} | {ASKED} x | {ratio:.2f} x | {verdict} |"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--ids", type=int, default=DEFAULT_VOCAB_SIZE)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--folder", type=Path, help="where there is room for files and stores")
    # What this program starts itself with.
    parser.add_argument("--run", choices=[*WAYS, ENCODER], help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Time everything and print tables."""
    arguments = parse(argv)
    if arguments.run is not None:
        run_here(arguments.run, arguments.inputs, arguments.folder, arguments.processes)
        return
    missing = [name for name in arguments.ways if not importlib.util.find_spec(WAYS[name].module)]
    names = [ENCODER, *(name for name in arguments.ways if name not in missing)]
    for name in missing:
        print(f"{name} is left out: {WAYS[name].module} is not installed")
    samples = []
    with tempfile.TemporaryDirectory(prefix="tokenloom-", dir=arguments.folder) as folder:
        sources, _ = write_inputs(Path(folder), arguments)
        num_megabytes = sum(source.stat().st_size for source in sources) / 1e6
        for number in tqdm(range(arguments.repetitions), leave=False):
            # Each repetition begins with another one.
            turn = number % len(names)
            order = [*names[turn:], *names[:turn]]
            runs = {name: run_alone(name, Path(folder), arguments.processes) for name in order}
            check(runs)
            samples.append({name: runs[name] for name in names})
    print(
        f"{num_megabytes:.0f} MB on {arguments.processes} processes, {len(samples)} repetitions\n"
    )
    print("\n".join(tabulate(samples, num_megabytes)))


if __name__ == "__main__":
    main()
