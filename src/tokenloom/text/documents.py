"""A document, as a source yields it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that stands for itself, such as a review.

    Attributes
    ----------
    text : str
    metadata : mapping of str
        What is known about it; which keys there are depends on the corpus.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
