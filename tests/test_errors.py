"""Errors: one base, and leaves that are also what a caller would catch."""

import inspect
import pickle
import traceback

import pytest

import tokenloom as tl
from tokenloom import errors
from tokenloom.errors import TokenloomError

LEAVES = {
    errors.AbsentError: RuntimeError,
    errors.AbsentFromCorpusError: ValueError,
    errors.ArchiveError: OSError,
    errors.ArgumentError: ValueError,
    errors.ChecksumError: OSError,
    errors.CorpusError: ValueError,
    errors.DownloadError: OSError,
    errors.EndlessError: TypeError,
    errors.LawError: AssertionError,
    errors.RunError: OSError,
    errors.StateMismatchError: ValueError,
    errors.StoreError: OSError,
    errors.UnknownKeyError: KeyError,
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


@pytest.mark.parametrize(
    ("leaf", "other"),
    [
        (errors.AbsentError, errors.UsageError),
        (errors.AbsentFromCorpusError, errors.CorpusError),
        (errors.EndlessError, TokenloomError),
    ],
)
def test_what_is_absent_is_an_attribute_error_too(
    leaf: type[Exception], other: type[Exception]
) -> None:
    """``hasattr`` is false, and what caught the error before such leaves were made still does."""
    assert (True, True) == (issubclass(leaf, AttributeError), issubclass(leaf, other))


def make_objects() -> dict[str, object]:
    """Return an object of each kind that lacks what others of its class have."""
    corpus = tl.Corpus.from_tokens(range(90), vocab_size=90)
    windows = tl.RandomWindows(corpus, batch_size=2, seq_len=4)
    loader = tl.Loader(windows, num_epochs=None)
    batch = next(iter(loader))
    return {"corpus": corpus, "windows": windows, "plan": windows.plan, "loader": loader} | {
        "batch": batch,
        "moved batch": batch.to("cpu"),
        "batch of a pickle": pickle.loads(pickle.dumps(batch)),  # noqa: S301  our own bytes
    }


@pytest.mark.parametrize("name", make_objects())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tools_may_look_at_all_attributes(name: str) -> None:
    """As ``inspect.getmembers``, completion in notebooks and debuggers do."""
    thing = make_objects()[name]
    absent = {name for name in dir(thing) if not hasattr(thing, name)} - {"__abstractmethods__"}
    of_batches = {"cu_seqlens", "document_ids", "max_seqlen", "position_ids", "resets", "sources"}
    expected = {
        "corpus": {"documents_by_length", "num_documents"},
        "loader": {"remaining"},
        "windows": set(),
        "plan": set(),
    }.get(name, of_batches)
    assert (expected, set()) == (absent, {name for name, _ in inspect.getmembers(thing)} & absent)


def test_an_absent_attribute_brings_no_other_name() -> None:
    """Python would propose the private one of a like name."""
    batch = make_objects()["batch"]
    with pytest.raises(errors.AbsentError, match="this batch has no sources") as raised:
        _ = batch.sources  # type: ignore[attr-defined]
    assert "Did you mean" not in "".join(traceback.format_exception(raised.value))
    assert None is raised.value.obj


@pytest.mark.parametrize("leaf", LEAVES)
def test_message_survives_another_process(leaf: type[Exception]) -> None:
    """An error that a worker raises arrives with its message."""
    expected = "expected this, got that"
    copied = pickle.loads(pickle.dumps(leaf(expected)))  # noqa: S301  our own bytes

    assert expected == str(copied)
