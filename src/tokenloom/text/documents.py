"""Documents, as a source yields them, and segments of them, as they are encoded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that stands for itself, such as a review.

    Attributes
    ----------
    text : str
    metadata : mapping of str
        What is known about it; which keys there are depends on the corpus.
    prompt : str or None
        What stands before the text, and is read and not learnt, such as the question
        before an answer.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None


def find_cure(texts: object) -> str | None:
    """Return what to pass instead of an iterable whose elements are other texts than meant.

    >>> find_cure({"a", "b"})
    'a set has another order in each process, pass a list'
    """
    if isinstance(texts, Mapping):
        return "a mapping yields its keys, pass its values"
    if isinstance(texts, set | frozenset):
        return "a set has another order in each process, pass a list"
    # Of pandas, polars and others; no package need be there to ask for its name.
    if any(one.__name__ == "DataFrame" for one in type(texts).__mro__):
        return "a table yields its columns, pass one of them, as in frame['text']"
    return None


class TextSegment(NamedTuple):
    """A document, or a part of one.

    Attributes
    ----------
    text : str or bytes
    state : int
        See `tokenloom.text.normalize.state_after`.
    ends : bool
        Whether the document ends with it.
    offset : int
        Bytes of the source that come before it.
    """

    text: str | bytes
    state: int
    ends: bool
    offset: int = 0
