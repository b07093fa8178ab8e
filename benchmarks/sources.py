"""Speed and memory of preparations from Parquet, as ratios of one run.

python benchmarks/sources.py TEXT [--megabytes 200 2000] [--group-megabytes 500]

TEXT is a file in UTF-8, of which documents of about 4 kB are made. Speeds are
those of Parquet and of JSON Lines of the same documents in turn, and their
ratio is the median over pairs. Memory is that of a Parquet file of large row
groups, and of a smaller one: the sum, over all processes, of the largest
resident set that each had.
"""

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from preparing import prepare

MIN_SPEED_RATIO = 1.0
MAX_MEMORY_RATIO = 1.2
_DOCUMENT_CHARACTERS = 4000


def documents(text: Path, num_bytes: int) -> Iterator[str]:
    """Yield documents of about 4 kB, no two alike, of a size in all."""
    content = text.read_text(encoding="utf-8")
    starts = range(0, len(content), _DOCUMENT_CHARACTERS)
    for number in itertools.count():
        for start in starts:
            # Else the pages of a Parquet file would be a few bytes.
            document = f"{number} {content[start : start + _DOCUMENT_CHARACTERS]}"
            yield document
            num_bytes -= len(document.encode())
            if num_bytes <= 0:
                return


def write_parquet(text: Path, path: Path, num_bytes: int, group_bytes: int) -> Path:
    """Write documents to row groups of a size, with a column of numbers."""
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    rows = max(group_bytes // _DOCUMENT_CHARACTERS, 1)
    numbers = itertools.count()
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        each = documents(text, num_bytes)
        while group := list(itertools.islice(each, rows)):
            ids = list(itertools.islice(numbers, len(group)))
            writer.write_table(
                pa.table({"id": ids, "text": group}, schema=schema), row_group_size=rows
            )
    return path


def write_json_lines(text: Path, path: Path, num_bytes: int) -> Path:
    """Write the same documents as objects, one on each line."""
    with path.open("w", encoding="utf-8") as file:
        for number, document in enumerate(documents(text, num_bytes)):
            file.write(json.dumps({"id": number, "text": document}, ensure_ascii=False) + "\n")
    return path


def compare_speed(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the rows of a table about speed, in Markdown."""
    size = arguments.speed_megabytes * 1_000_000
    table = write_parquet(arguments.text, folder / "a.parquet", size, 64_000_000)
    lines = write_json_lines(arguments.text, folder / "a.jsonl", size)
    for tokenizer in arguments.tokenizers:
        pairs = [
            [prepare(source, tokenizer, arguments.workers).seconds for source in (lines, table)]
            for _ in range(arguments.repetitions)
        ]
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        seconds = f"{min(theirs for theirs, _ in pairs):.2f} s"
        verdict = "yes" if ratio >= MIN_SPEED_RATIO else "no"
        what = f"{tokenizer}: Parquet to store"
        asked = f"{MIN_SPEED_RATIO} x"
        yield f"| {what} | JSON Lines, {seconds} | {asked} | {ratio:.2f} x | {verdict} |"


def compare_memory(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the rows of a table about memory, in Markdown."""
    group = arguments.group_megabytes * 1_000_000
    peaks = []
    for megabytes in arguments.megabytes:
        path = folder / f"{megabytes}.parquet"
        write_parquet(arguments.text, path, megabytes * 1_000_000, group)
        peaks.append(prepare(path, "byte", arguments.workers).peak_megabytes)
        path.unlink()
    small, large = arguments.megabytes
    ratio = peaks[1] / peaks[0]
    verdict = "yes" if ratio <= MAX_MEMORY_RATIO else "no"
    what = f"peak memory of {large:,} MB of Parquet, {peaks[1]:,.0f} MB"
    against = f"of {small:,} MB, {peaks[0]:,.0f} MB"
    yield f"| {what} | {against} | {MAX_MEMORY_RATIO} x | {ratio:.2f} x | {verdict} |"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path, metavar="TEXT", help="a file that is repeated")
    parser.add_argument("--megabytes", type=int, nargs=2, default=[200, 2000], metavar="N")
    parser.add_argument("--group-megabytes", type=int, default=500, metavar="N")
    parser.add_argument("--speed-megabytes", type=int, default=200, metavar="N")
    parser.add_argument("--tokenizers", nargs="+", default=["byte", "char"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3, help="of the runs for speed")
    parser.add_argument("--folder", type=Path, help="where there is room for files and stores")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="tokenloom-", dir=arguments.folder) as folder:
        print("| what | against | asked | reached | |")
        print("|---|---|---|---|---|")
        for row in (
            *compare_memory(arguments, Path(folder)),
            *compare_speed(arguments, Path(folder)),
        ):
            print(row, flush=True)


if __name__ == "__main__":
    main()
