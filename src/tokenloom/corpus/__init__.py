"""The corpus: tokens with their vocabulary, their documents and their proof."""

from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.formats import open_foreign, write_megatron, write_nanogpt
from tokenloom.corpus.mixture import Mixture
from tokenloom.corpus.statistics import (
    StoreDescription,
    TextSize,
    TokenCount,
    TokenStatistics,
    count_ids,
    count_tokens,
    describe_store,
    measure_text,
    most_frequent,
)

__all__ = [
    "Corpus",
    "Mixture",
    "StoreDescription",
    "TextSize",
    "TokenCount",
    "TokenStatistics",
    "count_ids",
    "count_tokens",
    "describe_store",
    "measure_text",
    "most_frequent",
    "open_foreign",
    "write_megatron",
    "write_nanogpt",
]
