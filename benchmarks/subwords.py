"""Time what makes ids of sub-words, next to the packages called directly.

    python benchmarks/subwords.py [--megabytes 40] [--repetitions 5] [--ids 16384]

Documents of about 4 kB are made of the text that every Python carries, and of
them a byte-level BPE, which is also an encoding of tiktoken. The packages are
called on documents in memory, on one thread; tokenloom makes a corpus of the
same documents in memory, or a store of them in a file of JSON Lines, in one
process and in two. The ways take turns, and ratios are medians over the
repetitions; a ratio above 1 means that tokenloom, or two processes, are faster.
"""

import argparse
import functools
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
import tokenizers
from tqdm import tqdm

import tokenloom as tl
from tokenloom.text.encodings import GPT2_PATTERN
from tokenloom.text.huggingface import (
    DEFAULT_VOCAB_SIZE,
    END_OF_TEXT,
    PARALLELISM,
    BpeLearner,
    HuggingFaceTokenizer,
)

_DOCUMENT_CHARACTERS = 4_000
# What each pair is asked for.
ASKED = {
    ("tokenizers", "tokenizers, corpus"): 0.95,
    ("tokenizers", "tokenizers, store"): 0.95,
    ("tiktoken", "tiktoken, corpus"): 0.9,
    ("tiktoken", "tiktoken, store"): 0.9,
    ("tokenizers, store", "tokenizers, store, 2 workers"): 1.7,
    ("tiktoken, store", "tiktoken, store, 2 workers"): 1.7,
}


def make_documents(num_bytes: int) -> list[str]:
    """Return documents, each of paragraphs in an order of its own."""
    corpus = tl.load("python_docs", tokenizer="byte")
    paragraphs = corpus.decode(corpus.tokens).split("\n\n")
    draw = random.Random(0)  # noqa: S311  an order, no secret
    documents = []
    while num_bytes > 0:
        chosen = itertools.chain.from_iterable(
            draw.sample(paragraphs, len(paragraphs)) for _ in itertools.count()
        )
        lines: list[str] = [f"{len(documents)}"]
        while sum(map(len, lines)) < _DOCUMENT_CHARACTERS:
            lines.append(next(chosen))
        documents.append("\n\n".join(lines))
        num_bytes -= len(documents[-1].encode())
    return documents


def make_encoding(tokenizer: HuggingFaceTokenizer) -> Any:
    """Return tiktoken's encoding of the same tokens, merged in the same order."""
    tokens = [token for token in tokenizer.token_bytes() or [] if token]
    ranks = {token: rank for rank, token in enumerate(sorted(tokens, key=lambda one: len(one) > 1))}
    return tiktoken.Encoding(
        "benchmark",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: len(ranks)},
    )


def ways(documents: list[str], num_ids: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by its name."""
    learned = BpeLearner(num_ids).learn(documents[:1000], in_threads=True)
    inner, encoding = tokenizers.Tokenizer.from_str(learned.content), make_encoding(learned)
    inner.encode_special_tokens = True
    source = folder / "documents.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    made = itertools.count()

    def encode_batch() -> list[list[int]]:
        return [
            encoded.ids for encoded in inner.encode_batch_fast(documents, add_special_tokens=False)
        ]

    def encode_one_by_one() -> list[list[int]]:
        return [encoding.encode_ordinary(text) for text in documents]

    def prepare(tokenizer: Any, num_workers: int) -> Any:
        store = folder / f"store-{next(made)}"
        tl.prepare(source, store, tokenizer=tokenizer, num_workers=num_workers, progress=False)
        return tl.Corpus.open(store)

    found: dict[str, Callable[[], Any]] = {}
    packages = (("tokenizers", inner, encode_batch), ("tiktoken", encoding, encode_one_by_one))
    for name, tokenizer, directly in packages:
        found[name] = directly
        found[f"{name}, corpus"] = functools.partial(
            tl.Corpus.from_documents, documents, tokenizer=tokenizer
        )
        for num_workers, label in ((1, ""), (2, ", 2 workers")):
            found[f"{name}, store{label}"] = lambda given=tokenizer, n=num_workers: prepare(
                given, n
            )
    return found


def check(found: dict[str, Callable[[], Any]]) -> None:
    """Refuse to time ways that do not make the same ids."""
    for direct, ours in ASKED:
        if direct in ("tokenizers", "tiktoken"):
            expected = np.concatenate([np.array(ids) for ids in found[direct]()])
            if not np.array_equal(expected, found[ours]().tokens[:]):
                msg = f"the ids of {ours} differ from those of {direct}"
                raise ValueError(msg)


def measure(make: Callable[[], Any]) -> float:
    """Return the seconds that a way takes."""
    began_at = time.perf_counter()
    make()
    return time.perf_counter() - began_at


def report(samples: list[dict[str, float]], num_megabytes: float) -> None:
    """Print the speed of each way, and the ratios."""
    print(f"{num_megabytes:.0f} MB of documents, medians of {len(samples)}")
    for name in samples[0]:
        seconds = statistics.median(sample[name] for sample in samples)
        print(f"{name:32}{num_megabytes / seconds:8.2f} MB/s")
    for (other, ours), asked in ASKED.items():
        ratio = statistics.median(sample[other] / sample[ours] for sample in samples)
        print(f"{ours} : {other:24}{ratio:8.2f}x, asked {asked}x")


def main(argv: Sequence[str] | None = None) -> None:
    """Time everything and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--ids", type=int, default=DEFAULT_VOCAB_SIZE)
    arguments = parser.parse_args(argv)
    documents = make_documents(int(1e6 * arguments.megabytes))
    with tempfile.TemporaryDirectory(prefix="tokenloom-benchmark-") as folder:
        found = ways(documents, arguments.ids, Path(folder))
        # One thread for those that are called directly.
        os.environ[PARALLELISM] = "false"
        check(found)
        samples = []
        for number in tqdm(range(arguments.repetitions), leave=False):
            # Each repetition begins with another one.
            names = [*found][number % len(found) :] + [*found][: number % len(found)]
            times = {name: measure(found[name]) for name in names}
            samples.append({name: times[name] for name in found})
    report(samples, sum(len(text.encode()) for text in documents) / 1e6)


if __name__ == "__main__":
    main()
