"""Prepare a store from files and records, stop in the middle, and go on."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tokenloom as tl

POEM = "Tell me where is fancy bred,\nor in the heart or in the head?\n\n"


def write_texts(folder: Path) -> None:
    """Write a text file, and records as JSON Lines."""
    folder.mkdir()
    (folder / "poem.txt").write_text(POEM * 200, encoding="utf-8")
    records = [{"id": number, "text": f"record number {number}"} for number in range(100)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")


class Stopping(ThreadPoolExecutor):
    """Threads that are interrupted after some tasks."""

    num_tasks = 0

    def submit(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        """Do a task, or stop as Ctrl-C would."""
        self.num_tasks += 1
        if self.num_tasks > 5:
            raise KeyboardInterrupt
        return super().submit(*args, **kwargs)


def main() -> None:
    """Prepare, be interrupted, go on, look at the result."""
    options = tl.PrepareOptions(
        documents="paragraph", end_of_document="<eod>", splits={"valid": 0.1}, task_bytes=4096
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder / "texts")
        with Stopping(2) as threads:
            try:
                tl.prepare(folder / "texts", folder / "store", options=options, executor=threads)
            except KeyboardInterrupt as interrupt:
                print("stopped", interrupt)
        made = tl.prepare(folder / "texts", folder / "store", options=options, num_workers=1)
        print(f"{made.num_documents} documents, {made.num_tokens:,} tokens")
        print(f"{made.characters_per_token:.2f} characters per token")

        corpus = tl.Corpus.open(made.path, verify=True)
        print("the first:", corpus.decode(corpus.document(0).tokens))
        valid = tl.Corpus.open(made.path, split="valid")
        print("held out:", valid.num_documents, "documents")
        again = tl.prepare(folder / "texts", folder / "store", options=options)
        print("made again:", again.is_new)


if __name__ == "__main__":
    main()
