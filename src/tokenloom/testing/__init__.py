"""The laws of the stream, checked on any loader, tokenloom's or your own."""

from tokenloom.testing.laws import (
    assert_resumes_everywhere,
    check_batches,
    check_cost,
    check_length,
    check_ranks,
    check_seeds,
    check_shares,
    check_state,
    check_stream,
    check_world_sizes,
)

__all__ = [
    "assert_resumes_everywhere",
    "check_batches",
    "check_cost",
    "check_length",
    "check_ranks",
    "check_seeds",
    "check_shares",
    "check_state",
    "check_stream",
    "check_world_sizes",
]
