"""A program that stops iterations of loaders in many ways, and prints what is left of them.

``python -m tests.support.loading.stopped_loaders TIMES SEED FILE`` prints a JSON object.
It is a program of its own, since Ctrl-C comes at any moment, also where pytest is at work.
"""

import gc
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import tokenloom as tl
from tests.support.loading.process_resources import loader_threads, wait_for

# About as long as an iteration takes to start and to read some blocks, in seconds.
MAX_SECONDS = 0.004


class StopError(Exception):
    """What a consumer raises."""


def fail_from(index: int, batch: tl.Batch) -> None:
    """Raise an error with the batch of this index and each later one."""
    if batch.index >= index:
        raise StopError


class Program:
    """Iterations over one memory map that are stopped.

    Parameters
    ----------
    path : Path
        Where the ids are.
    seed : int
    """

    def __init__(self, path: Path, seed: int) -> None:
        np.save(path, np.arange(60_000, dtype=np.uint16))
        self.path = path
        self.random = random.Random(seed)  # noqa: S311  no cryptography
        self.misplaced = 0
        self.unheard = 0
        # Its traceback is kept until the next one.
        self.error: BaseException | None = None
        sys.unraisablehook = self._note

    def make_loader(self) -> tl.Loader:
        """Return an endless loader, over a map of its own."""
        corpus = tl.Corpus.from_tokens(np.load(self.path, mmap_mode="r"))
        windows = tl.RandomWindows(corpus, batch_size=4, seq_len=8)
        options = tl.WorkerOptions(
            block_size=self.random.choice([1, 2, 50, None]),
            prefetch_factor=self.random.choice([1, 2, 5]),
        )
        return tl.Loader(
            windows,
            num_workers=self.random.choice([0, 1, 2, 4]),
            num_epochs=None,
            device=self.random.choice([None, None, "cpu"]),
            worker_options=options,
        )

    def leave_early(self) -> None:
        """Break out of the loop."""
        stop = self.random.randrange(100)
        for batch in self.make_loader():
            if batch.index >= stop:
                break

    def fail(self) -> None:
        """Raise an error in the loop, and keep its traceback for a while."""
        stop = self.random.randrange(100)
        try:
            for batch in self.make_loader():
                fail_from(stop, batch)
        except StopError as error:
            self.error = error

    def drop(self) -> None:
        """Forget an iterator and its loader, in either order; or replace it first."""
        loader = self.make_loader()
        batches = iter(loader)
        for _ in range(self.random.randrange(5)):
            next(batches)
        match self.random.randrange(3):
            case 0:
                loader.load_state_dict(loader.state_dict())
            case 1:
                next(iter(loader))
            case _:
                del loader
        del batches

    def interrupt(self) -> None:
        """Press Ctrl-C at any moment, and look whether the position is right."""
        loader = self.make_loader()
        batch = None
        try:
            signal.setitimer(signal.ITIMER_REAL, self.random.uniform(1e-6, MAX_SECONDS))
            for batch in loader:  # noqa: B007  looked at below
                pass
        except KeyboardInterrupt as error:
            self.error = error
        expected = (0, 0)
        if batch is not None:
            epochs, next_batch = divmod(batch.index + 1, loader.plan.num_batches)
            expected = batch.epoch + epochs, next_batch
        state = loader.state_dict()
        self.misplaced += expected != (state["epoch"], state["next_batch"])

    def fork(self) -> None:
        """Let a child go on with an iteration, and stop there and here."""
        batches = iter(self.make_loader())
        next(batches)
        child = os.fork()
        if child == 0:
            expected = next(batches).index
            os._exit(0 if expected == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert next(batches).index == 1

    def use_thread(self) -> None:
        """Stop early in a thread."""
        thread = threading.Thread(target=self.leave_early)
        thread.start()
        thread.join()

    def _note(self, unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # It came while Python forgot an iterator, where no error can be raised.
            self.unheard += 1
            signal.setitimer(signal.ITIMER_REAL, self.random.uniform(1e-6, MAX_SECONDS))
        else:
            sys.__unraisablehook__(unraisable)

    def run(self, times: int) -> dict[str, int]:
        """Stop a number of iterations; return how many of each kind."""
        ways = [self.leave_early, self.fail, self.drop]
        ways += [self.interrupt] * 3 + [self.use_thread]
        counts: dict[str, int] = {}
        for number in range(times):
            # Each fork takes as long as all others together.
            way = self.fork if number % 50 == 49 else self.random.choice(ways)
            way()
            counts[way.__name__] = counts.get(way.__name__, 0) + 1
        return counts


def count(path: Path) -> dict[str, int]:
    """Return what this process holds of what loaders use, when it has come to rest."""
    gc.collect()
    wait_for(lambda: not loader_threads())
    tasks, files, maps = Path("/proc/self/task"), Path("/proc/self/fd"), Path("/proc/self/maps")
    return {
        "threads": threading.active_count(),
        "tasks": len(list(tasks.iterdir())),
        "files": len(list(files.iterdir())),
        "maps": maps.read_text(encoding="utf-8").count(str(path)),
    }


def main() -> None:
    """Stop iterations, and print what was held before and after."""
    path = Path(sys.argv[3]).resolve()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    program = Program(path, int(sys.argv[2]))
    for way in (program.leave_early, program.fail, program.drop, program.use_thread):
        way()
    program.error = None
    before = count(path)
    began_at = time.monotonic()
    counts = program.run(int(sys.argv[1]))
    program.error = None
    # What has ended is listed by the system a moment longer.
    wait_for(lambda: all(number <= before[name] for name, number in count(path).items()))
    said = {
        "before": before,
        "after": count(path),
        "misplaced": program.misplaced,
        "unheard": program.unheard,
        "counts": counts,
        "seconds": round(time.monotonic() - began_at, 1),
    }
    print(json.dumps(said))  # noqa: T201  it is a program


if __name__ == "__main__":
    main()
