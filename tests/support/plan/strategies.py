"""Hypothesis strategies that several tests draw from."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

import tokenloom as tl
from tokenloom.loading import Windows
from tokenloom.plan.order import Tail
from tokenloom.plan.plan import Plan

kinds: st.SearchStrategy[str] = st.sampled_from(["random", "sequential"])
tails: st.SearchStrategy[Tail] = st.sampled_from(["drop", "pad"])
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**32)


@st.composite
def plans(
    draw: st.DrawFn,
    *,
    kind: st.SearchStrategy[str] = kinds,
    tail: st.SearchStrategy[Tail] = tails,
) -> Plan:
    """Plans of up to some hundred windows, with corpora of any length that works."""
    chosen_tail = draw(tail)
    seq_len = draw(st.integers(1, 12))
    batch_size = draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
    least = 2 if chosen_tail == "pad" else batch_size * seq_len + 1
    return Plan(
        kind=draw(kind),
        num_tokens=draw(st.integers(least, least + 40 * seq_len)),
        seq_len=seq_len,
        batch_size=batch_size,
        seed=draw(seeds),
        epoch=draw(epochs),
        tail=chosen_tail,
    )


def make_windows(plan: Plan, *, shard: tl.Shard | None = None) -> Windows:
    """Return the windows of a plan over a corpus in which every token is its position."""
    corpus = tl.Corpus.from_tokens(np.arange(plan.num_tokens, dtype=np.uint16))
    options: dict[str, Any] = {
        "batch_size": plan.batch_sizes or plan.batch_size,
        "seq_len": plan.seq_len,
        "seed": plan.seed,
        "tail": plan.tail,
        "shard": shard,
    }
    windows = Windows(plan.kind, corpus, **options)
    windows.set_epoch(plan.epoch)
    return windows
