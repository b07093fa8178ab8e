"""What tokenloom asks of itself, next to what a run reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from measuring import ALL
from results import SHAPES, Results, Shape, name_shape

MAX_STEP_COST = 30e-6
MAX_GROWN_MEGABYTES = 4.0
ORDERS = ("random", "sequential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing asked for.

    Attributes
    ----------
    what, against : str
        What is measured, and what it is compared with.
    asked, reached : float
        A ratio, or a number of ``unit``.
    at_most : bool
        Whether less is better.
    unit : str
        "x" for a ratio.
    limit : float, optional
        What the limit named by ``limit_name`` measured in the same comparison.
    """

    what: str
    against: str
    asked: float
    reached: float
    at_most: bool = False
    unit: str = "x"
    limit: float | None = None
    limit_name: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the measurement is on the right side of what is asked."""
        return self.reached <= self.asked if self.at_most else self.reached >= self.asked


def rows(results: Results) -> Iterator[Row]:
    """Yield every row for which the run has the figures."""
    for shape in SHAPES:
        yield from _in_process(results, shape)
    most = max(results.workers)
    if most:
        for shape in SHAPES:
            yield from _with_workers(results, shape, most)
    for shape in SHAPES:
        yield from _steps(results, shape)
        yield from _starts(results, shape)
    yield from _memory(results)


def _in_process(results: Results, shape: Shape) -> Iterator[Row]:
    if shape == SHAPES[0]:
        yield from _faster(results, shape, 0, "random", "textbook-random", 30, "gather-64")
    peer = results.best_peer(shape, 0)
    asked = 15 if shape == SHAPES[0] else 6
    yield from _faster(results, shape, 0, "random", peer, asked, "gather-64")
    yield from _faster(results, shape, 0, "sequential", "gather-lanes", 0.8, "copy-lanes")


def _with_workers(results: Results, shape: Shape, most: int) -> Iterator[Row]:
    is_short = shape == SHAPES[0]
    peer = results.best_peer(shape, most)
    yield from _faster(results, shape, most, "random-loader", peer, 40 if is_short else 15, None)
    asked = 4 if is_short else 3
    yield from _faster(results, shape, most, "random-dataloader", peer, asked, "message")
    if not is_short:
        yield from _faster(results, shape, most, "random-dataloader", "message", 0.85, None)


def _faster(
    results: Results,
    shape: Shape,
    num_workers: int,
    slug: str,
    reference: str | None,
    asked: float,
    limit: str | None,
) -> Iterator[Row]:
    """Yield how much faster a system is than another, and how much faster a limit is."""
    reached = results.faster(slug, reference, shape, num_workers)
    if reached is None or reference is None:
        return
    bound = None if limit is None else results.faster(limit, reference, shape, num_workers)
    where = f"{num_workers} workers" if num_workers else "in process"
    yield Row(
        what=f"{name_shape(shape)}, {where}: {ALL[slug].title}",
        against=ALL[reference].title,
        asked=asked,
        reached=reached,
        limit=bound,
        limit_name="" if bound is None or limit is None else ALL[limit].title,
    )


def _steps(results: Results, shape: Shape) -> Iterator[Row]:
    for num_workers in sorted({0, max(results.workers)}):
        for order in ORDERS:
            cost = results.median("step", f"{order}-loader", shape, num_workers)
            if cost is not None:
                yield Row(
                    what=f"{name_shape(shape)}, {num_workers} workers, {order}: "
                    "a busy step of 2 ms, beyond it",
                    against="time",
                    asked=MAX_STEP_COST * 1e6,
                    reached=cost * 1e6,
                    at_most=True,
                    unit="us",
                )


def _starts(results: Results, shape: Shape) -> Iterator[Row]:
    dense, sparse = ("first", "random"), ("first-sparse", "random")
    theirs, opened = ("first", "map-style"), ("first", "copy-lanes")
    limit = results.ratio(theirs, opened, shape, 0)
    name = name_shape(shape)
    for what, against, asked, reached, at_most in (
        ("first batch", ALL["map-style"].title, 10, results.ratio(theirs, dense, shape, 0), False),
        (
            "first batch of 10^12 tokens",
            ALL["map-style"].title,
            10,
            results.ratio(theirs, sparse, shape, 0),
            False,
        ),
        (
            "first batch of 10^12 tokens",
            "the same of this corpus",
            1.2,
            results.ratio(sparse, dense, shape, 0),
            True,
        ),
    ):
        if reached is not None:
            yield Row(
                what=f"{name}: {what}",
                against=against,
                asked=asked,
                reached=reached,
                at_most=at_most,
                limit=None if at_most else limit,
                limit_name="the file is opened, and a batch copied",
            )
    for num_workers in sorted({0, max(results.workers)}):
        for order in ORDERS:
            yield from _resume(results, shape, num_workers, order)


def _resume(results: Results, shape: Shape, num_workers: int, order: str) -> Iterator[Row]:
    slug = f"{order}-loader"
    for quantity, which in (
        ("resume", ""),
        ("resume-known", ", the corpus' hash being known"),
    ):
        reached = results.ratio((quantity, slug), ("start", slug), shape, num_workers)
        hashed = results.ratio(("hash", slug), ("start", slug), shape, num_workers)
        if reached is not None:
            yield Row(
                what=f"{name_shape(shape)}, {num_workers} workers, {order}: "
                f"resume at the middle{which}",
                against="first batch",
                asked=1.2,
                reached=reached,
                at_most=True,
                limit=None if which or hashed is None else 1 + hashed,
                limit_name="a first batch, and the hash of 4 MiB",
            )


def _memory(results: Results) -> Iterator[Row]:
    shape, most = SHAPES[0], max(results.workers)
    alone = results.median("memory", "random", shape, 0)
    idle = results.median("memory", "message", shape, most)
    for order in ORDERS:
        ours = results.median("memory", f"{order}-loader", shape, most)
        grown = results.median("growth", f"{order}-loader", shape, most)
        if alone and idle and ours:
            corpus = results.settings["corpus_bytes"] / 2**20
            yield Row(
                what=f"memory of each of {most} workers, {order}",
                against="an idle DataLoader worker; asked is a tenth of the corpus",
                asked=corpus / 10,
                reached=(ours - idle) / most,
                at_most=True,
                unit="MB",
            )
        if grown is not None:
            yield Row(
                what=f"memory gained in ten epochs, {most} workers, {order}",
                against="the first epoch",
                asked=MAX_GROWN_MEGABYTES,
                reached=grown,
                at_most=True,
                unit="MB",
            )
