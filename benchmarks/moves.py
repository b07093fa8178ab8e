"""Count the moves between files of one training step, one `tl.prepare` and one `tl.trace`.

python benchmarks/moves.py [--list]

A move is a call from a function in one file of tokenloom to a function in another:
what somebody who reads along has to open. ``--list`` prints each of them.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
import torch

import tokenloom as tl

SOURCE = Path(tl.__file__).parent
Moves = Counter[tuple[str, str, str]]


def count_moves(work: Callable[[], object]) -> Moves:
    """Return how often each function was called out of another file."""
    moves: Moves = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back
        if event != "call" or caller is None:
            return
        names = [one.f_code.co_filename for one in (caller, frame)]
        if names[0] != names[1] and all(name.startswith(str(SOURCE)) for name in names):
            here, there = (Path(name).relative_to(SOURCE).as_posix() for name in names)
            moves[here, there, frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return moves


def train(num_steps: int) -> Callable[[], object]:
    """Return a training of one epoch of ``num_steps`` steps."""
    # The epoch begins at a random phase below seq_len, which takes one window.
    corpus = tl.Corpus.from_tokens(np.arange(4 * 8 * (num_steps + 1)) % 30, vocab_size=30)
    windows = tl.SequentialWindows(corpus, batch_size=4, seq_len=8, seed=0)
    model = tl.RNNModel(torch.nn.GRU(30, 8), vocab_size=30)
    loader = tl.Loader(windows, num_workers=0)
    if len(loader) != num_steps:
        msg = f"expected {num_steps} steps, got {len(loader)}"
        raise RuntimeError(msg)
    return lambda: tl.train(model, loader, device="cpu", progress=False)


def prepare(source: Path, store: Path) -> None:
    """Prepare a store of one small file, in this process."""
    tl.prepare(str(source), store, num_workers=0, progress=False)


def measure(folder: Path) -> dict[str, Moves]:
    """Return the moves of each kind of work."""
    source = folder / "text.txt"
    source.write_text("the time traveller (for so it will be convenient)\n" * 200, "utf-8")
    train(3)()
    more, fewer = (count_moves(train(num_steps)) for num_steps in (20, 19))
    stores = [folder / "first", folder / "store"]
    # The first call imports what it needs, which is not to be counted.
    _, prepared = (count_moves(partial(prepare, source, store)) for store in stores)
    store = tl.Corpus.open(folder / "store")
    tl.trace(store, 0)
    return {
        "one training step": more - fewer,
        "tl.prepare of one file": prepared,
        "tl.trace of one token": count_moves(lambda: tl.trace(store, 1_000)),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print each move")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    for name, moves in measured.items():
        files = {file for here, there, _ in moves for file in (here, there)}
        print(f"{name:<24} {moves.total():>4} moves between {len(files)} files")
        if arguments.list:
            for (here, there, function), number in sorted(moves.items()):
                print(f"    {number:>3} x {here} -> {there}: {function}")


if __name__ == "__main__":
    main()
