"""The documents, or segments of them, in a chunk's bytes."""

from collections import Counter

from tokenloom.errors import CorpusError
from tokenloom.preparation.chunks import FORMS
from tokenloom.preparation.forms import BadInput, Found, Reading, Slice
from tokenloom.text.boundaries import is_blank
from tokenloom.text.documents import TextSegment

REFUSED, EMPTY = "text that the tokenizer refuses", "an empty document"


def find_segments(piece: Slice, reading: Reading, problems: Counter[str]) -> list[TextSegment]:
    """Return the segments of a slice in order.

    Parameters
    ----------
    piece : Slice
    reading : Reading
    problems : Counter
        Counts what was left out or replaced, by its reason.

    Raises
    ------
    CorpusError
        Something cannot be read, and that is to stop; the message has the
        source and the offset in bytes.
    """
    segments = []
    for found in FORMS[piece.form].find(piece):
        state = 0 if found.starts else piece.start.state
        try:
            text = _read(found, piece, reading)
        except BadInput as bad:
            if reading.on_error == "stop":
                raise CorpusError(describe(bad, piece)) from bad
            problems[bad.what] += 1
            is_left_out = reading.on_error == "skip"
            if is_left_out and found.starts:
                continue
            # A document that began before may end here all the same.
            text = "" if is_left_out else bad.instead
        ours = text.encode("utf-8") if reading.as_bytes and isinstance(text, str) else text
        segments.append(TextSegment(ours, state, found.ends, found.offset))
    return segments


def describe(bad: BadInput, piece: Slice) -> str:
    """Return the message of an error: the source, the place in it, the reason and the cure."""
    why = " ".join(bad.why.split())
    place = FORMS[piece.form].locate(piece, bad.offset)
    return f"{piece.name} has {bad.what} {place}{why}; {bad.cure}"


def _read(found: Found, piece: Slice, reading: Reading) -> str | bytes:
    if found.fault is not None:
        raise BadInput(*found.fault, offset=found.offset)
    text = FORMS[piece.form].read(found, piece, reading)
    # Of the segments of a long document none is looked at.
    is_whole = found.starts and found.ends
    if is_whole and (is_blank(text) if isinstance(text, bytes) else not text.strip()):
        raise BadInput(EMPTY, "nothing but white space", offset=found.offset)
    return text
