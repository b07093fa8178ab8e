"""Errors: one base, and leaves that are also what a caller would catch."""

import pickle

import pytest

from tokenloom import errors
from tokenloom.errors import TokenloomError

LEAVES = {
    errors.ArchiveError: OSError,
    errors.ArgumentError: ValueError,
    errors.ChecksumError: OSError,
    errors.CorpusError: ValueError,
    errors.DownloadError: OSError,
    errors.LawError: AssertionError,
    errors.RunError: OSError,
    errors.StateMismatchError: ValueError,
    errors.StoreError: OSError,
    errors.UsageError: RuntimeError,
    errors.WorkerError: RuntimeError,
}


def test_every_error_is_listed_here() -> None:
    """The module defines the base and the leaves below, nothing else."""
    defined = {value for value in vars(errors).values() if isinstance(value, type)}

    assert {TokenloomError, *LEAVES} == defined


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf_is_caught_as_the_base(leaf: type[Exception]) -> None:
    """``except TokenloomError`` catches every leaf."""
    assert issubclass(leaf, TokenloomError)


@pytest.mark.parametrize(("leaf", "builtin"), LEAVES.items())
def test_leaf_is_caught_as_its_builtin(leaf: type[Exception], builtin: type[Exception]) -> None:
    """``except`` with the builtin that fits catches the leaf."""
    assert issubclass(leaf, builtin)


@pytest.mark.parametrize("leaf", LEAVES)
def test_message_survives_another_process(leaf: type[Exception]) -> None:
    """An error that a worker raises arrives with its message."""
    expected = "expected this, got that"
    copied = pickle.loads(pickle.dumps(leaf(expected)))  # noqa: S301  our own bytes

    assert expected == str(copied)
