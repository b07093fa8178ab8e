"""The textbook's text normalisation, without its regular expression.

Each line loses everything but letters: every run of characters outside A-Z
and a-z becomes one space, the ends are stripped, and the rest is lower case.
Line ends vanish from characters and separate words.

Source: Zhang, Lipton, Li and Smola, "Dive into Deep Learning", chapter on
text preprocessing: ``re.sub('[^A-Za-z]+', ' ', line).strip().lower()``.

In UTF-8 every byte of a character beyond ASCII is no letter, so runs of such
bytes collapse just like runs of such characters. Long texts are worked on in
pieces that stay in a processor's cache, and are cut where that changes nothing.
"""

import itertools
import logging
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import AnyStr, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenloom._wording import count
from tokenloom.text.documents import TextSegment

_logger = logging.getLogger(__name__)
_CURES = {
    True: "to keep them use normalize=False",
    False: "the tokenizer that was given drops them; one that was made with normalize=False "
    "(--raw) keeps them",
}

_PIECE = 1 << 18

_SPACE, _NEWLINE = b" \n"
_LETTERS_AND_SPACES = bytes(
    ord(chr(byte).lower()) if chr(byte) in string.ascii_letters else _SPACE for byte in range(256)
)
_LINES = bytes(
    # Lines of text files end with either of the two or both; Python reads all three as a line feed.
    _NEWLINE if byte in b"\r\n" else cleaned
    for byte, cleaned in enumerate(_LETTERS_AND_SPACES)
)
# What each byte is to a cut: a letter a-z, the end of a line, a later byte of a
# character, or something else.
_LETTER, LINE_END, _INNER, OTHER = b"a\nc "
CLASSES = bytes(
    _LETTER
    if chr(byte) in string.ascii_letters
    else LINE_END
    if byte in b"\r\n"
    else _INNER
    if byte & 0xC0 == 0x80
    else OTHER
    for byte in range(256)
)
# What the normaliser of characters has seen of a line before a cut, and a text that stands for it.
NOTHING, LETTER, GAP = range(3)
PREFIXES = {NOTHING: "", LETTER: "a", GAP: "a "}
_IN_WORD = re.compile(rb"(?<=[A-Za-z])[A-Za-z]")
_NO_LETTER = re.compile(rb"[^A-Za-z]")
_WHITE_SPACE = re.compile(r"\s")
_WORD = re.compile(r"\S+")
_IS_LETTER = np.array([code == _LETTER for code in CLASSES])
# Latin-1's signs, and the dashes, quotes and ideographic full stops of other writing.
_SIGNS = (b"\xc2", b"\xe2\x80", b"\xe2\x81", b"\xe3\x80", b"\xef\xbc")
# English prose loses its punctuation: 4 % of The Time Machine, 15 % of the Python documentation,
# which is half code, with 0.6 % of digits and no other letter. Code itself loses 15 to 25 %.
_MOST_LETTERS, _MOST_DIGITS, _MOST = 0.005, 0.02, 1 / 6


def clean_characters(text: str, *, piece: int = _PIECE) -> str:
    r"""Return normalised text whose lines are joined by nothing.

    It is worked on in pieces of at least ``piece`` bytes.

    >>> clean_characters("The Time Machine, by\nH. G. Wells [1898]")
    'the time machine byh g wells'
    """
    pieces = _cut(_encode(text), _IN_WORD, piece)
    return b"".join(map(_clean_lines, pieces)).decode("ascii")


def find_characters(text: str) -> npt.NDArray[np.int64]:
    r"""Return where each character of `clean_characters` stands in a text: int64 array.

    A space stands for a gap, at the place where the gap begins.

    >>> clean_characters("Caf\u00e9s,\nat 1"), find_characters("Caf\u00e9s,\nat 1").tolist()
    ('caf sat', [0, 1, 2, 3, 4, 7, 8])
    """
    content = _encode(text)
    return _as_characters(np.flatnonzero(_find_kept(_classify(content))), content)


def clean_words(text: str) -> str:
    r"""Return normalised text whose words are all separated by one space.

    >>> clean_words("The Time Machine, by\nH. G. Wells [1898]")
    'the time machine by h g wells'
    """
    return " ".join(itertools.chain.from_iterable(split_words(text)))


def split_words(text: str, *, normalize: bool = True, piece: int = _PIECE) -> Iterator[list[str]]:
    """Yield the words of a text in order, many at once.

    Parameters
    ----------
    text : str
    normalize : bool
        Whether the text is normalised first; words stand between white space.
    piece : int
        The fewest bytes, or characters, that are split at once.

    >>> list(split_words("Time flies."))
    [['time', 'flies']]
    """
    if not normalize:
        yield from (part.split() for part in _cut(text, _WHITE_SPACE, piece))
        return
    for part in cut_words(text, normalize=True, piece=piece):
        yield part.decode("ascii").split()


def cut_words(text: str, *, normalize: bool, piece: int) -> Iterator[bytes]:
    """Yield pieces of a text in UTF-8, none of which ends within a word.

    Parameters
    ----------
    text : str
    normalize : bool
        Whether all but letters becomes spaces, and letters become lower case.
    piece : int
        The fewest bytes, or characters, of a piece that is not the last.

    >>> list(cut_words("Time flies.", normalize=True, piece=5))
    [b'time flies', b' ']
    """
    if not normalize:
        yield from map(_encode, _cut(text, _WHITE_SPACE, piece))
        return
    for part in _cut(_encode(text), _NO_LETTER, piece):
        yield part.translate(_LETTERS_AND_SPACES)


def state_after(text: bytes, state: int) -> int:
    r"""Return what the normalisation of characters has seen at the end of a text.

    Parameters
    ----------
    text : bytes
    state : int
        What it has seen before: NOTHING that is kept of the line, a LETTER right
        before, or a letter and then a GAP.

    >>> [state_after(text, NOTHING) for text in (b"ab", b"ab ", b"ab \n", b"1")]
    [1, 2, 0, 0]
    >>> state_after(b"12", LETTER)
    2
    """
    if text.endswith(b"\n"):
        return NOTHING
    classes = text.translate(CLASSES)
    last_letter, last_line_end = classes.rfind(_LETTER), classes.rfind(LINE_END)
    if last_letter < 0 and last_line_end < 0:
        return GAP if state != NOTHING and text else state
    if last_line_end > last_letter:
        return NOTHING
    return LETTER if last_letter == len(text) - 1 else GAP


def state_after_prompt(prompt: str | bytes) -> int:
    """Return what the normalisation of characters has seen where a text follows a prompt.

    >>> state_after_prompt("Who? "), state_after_prompt("")
    (2, 0)
    """
    content = prompt.encode("utf-8", "surrogatepass") if isinstance(prompt, str) else prompt
    return state_after(content, NOTHING)


def clean_prompt(prompt: str) -> str:
    """Return a prompt in normalised characters, with its outer spaces kept.

    >>> clean_prompt("Time  Traveller ")
    'time traveller '
    """
    cleaned = clean_words(prompt)
    if not cleaned:
        return ""
    before = "" if _is_letter(prompt[0]) else " "
    after = "" if _is_letter(prompt[-1]) else " "
    return before + cleaned + after


def clean_segments(segments: Iterable[TextSegment]) -> tuple[str, npt.NDArray[np.int64]]:
    r"""Return the normalised characters of segments, joined, and how many each has.

    Many short texts are normalised in one call, which is much quicker than one by one.

    >>> clean_segments([TextSegment("A b.", NOTHING, ends=True), TextSegment("C", GAP, ends=True)])
    ('a b c', array([3, 2]))
    """
    pieces, lengths = [], []
    for texts, prefix in _group(segments):
        first = prefix + texts[0]
        if len(texts) == 1:
            cleaned = clean_characters(first)
            each = np.array([len(cleaned)], np.int64)
        else:
            contents = list(map(_encode, [first, *texts[1:]]))
            codes = _classify(b"\n".join(contents))
            is_kept = _find_kept(codes)
            cleaned = codes[is_kept].tobytes().decode("ascii")
            each = _count_from(_find_starts(contents), is_kept)
        each[0] -= bool(prefix)
        pieces.append(cleaned[bool(prefix) :])
        lengths.append(each)
    return "".join(pieces), np.concatenate(lengths) if lengths else np.empty(0, np.int64)


def _group(segments: Iterable[TextSegment]) -> Iterator[tuple[list[str], str]]:
    """Yield texts that can be normalised in one call, each list with what comes before it.

    Only a text that is alone in its list is longer than a piece.
    """
    texts: list[str] = []
    prefix, length = "", 0
    for segment in segments:
        text = str(segment.text)
        length += len(text)
        if texts and (segment.state != NOTHING or length > _PIECE):
            yield texts, prefix
            texts, length = [], len(text)
        if not texts:
            prefix = PREFIXES[segment.state]
        texts.append(text)
    if texts:
        yield texts, prefix


def count_words(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return how many normalised words each text has.

    >>> count_words(["To be,", "or"])
    array([2, 1])
    """
    contents = list(map(_encode, texts))
    # Of the example's text a word begins at t, b and o.
    is_letter = _IS_LETTER[np.frombuffer(b"\n".join(contents), np.uint8)]
    is_start = is_letter.copy()
    is_start[1:] &= ~is_letter[:-1]
    return _count_from(_find_starts(contents), is_start)


def _find_starts(contents: Sequence[bytes]) -> npt.NDArray[np.int64]:
    r"""Return where each of some texts begins after they are joined by line ends.

    >>> _find_starts([b"be", b"", b"or"])
    array([0, 3, 4])
    """
    return np.cumsum([0, *(len(content) + 1 for content in contents)], dtype=np.int64)[:-1]


def _count_from(
    starts: npt.NDArray[np.int64], is_counted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return how many values are True from each start to the next; starts ascend.

    >>> _count_from(np.array([0, 2, 4]), np.array([True, True, False, True]))
    array([2, 1, 0])
    """
    counts = np.zeros(len(starts), np.int64)
    # The last start may lie at the end, where reduceat takes no index.
    inner = starts[starts < len(is_counted)]
    if len(inner):
        counts[: len(inner)] = np.add.reduceat(is_counted, inner, dtype=np.int64)
    return counts


def find_words(text: str, *, normalize: bool) -> npt.NDArray[np.int64]:
    """Return which character of a text each of its words begins with.

    >>> find_words("To be, or", normalize=True).tolist()
    [0, 3, 7]
    """
    if not normalize:
        return np.fromiter((word.start() for word in _WORD.finditer(text)), np.int64)
    content = _encode(text)
    is_letter = _classify(b" " + content) > _SPACE
    return _as_characters(np.flatnonzero(is_letter[1:] > is_letter[:-1]), content)


class Lost(NamedTuple):
    """How many characters of a text normalising deletes or replaces by spaces.

    White space is not counted as lost, although line ends vanish from characters.

    Attributes
    ----------
    num_characters : int
        Of the text.
    num_spaces : int
        White space of ASCII among them.
    num_letters : int
        Lost letters, and all other characters beyond ASCII that are no punctuation.
    num_digits : int
        Lost digits 0 to 9.
    num_signs : int
        Lost punctuation and other signs.
    """

    num_characters: int = 0
    num_spaces: int = 0
    num_letters: int = 0
    num_digits: int = 0
    num_signs: int = 0

    @property
    def num_lost(self) -> int:
        """Characters of any kind that are lost."""
        return self.num_letters + self.num_digits + self.num_signs

    @property
    def is_much(self) -> bool:
        """Whether more is lost than the punctuation of English prose."""
        num_visible = self.num_characters - self.num_spaces
        return (
            self.num_letters > _MOST_LETTERS * num_visible
            or self.num_digits > _MOST_DIGITS * num_visible
            or self.num_lost > _MOST * num_visible
        )

    def describe(self) -> str:
        """Return how much is lost, as a sentence.

        >>> print(count_lost("no, no!").describe())
        2 of 7 characters (29 %) are not in a-z and were dropped or replaced by spaces
        """
        kinds = [
            count(number, *noun)
            for number, noun in (
                (self.num_digits, ("digit",)),
                (self.num_letters, ("letter of other alphabets", "letters of other alphabets")),
            )
            if number
        ]
        among = f", among them {' and '.join(kinds)}" if kinds else ""
        percent = round(100 * self.num_lost / max(self.num_characters, 1))
        return (
            f"{self.num_lost:,} of {count(self.num_characters, 'character')} ({percent} %) are not "
            "in a-z and were dropped or replaced by spaces" + among
        )


def report_lost(lost: Lost, *, name: str, is_learned: bool) -> None:
    """Log how much of a text was lost, where it is more than the punctuation of English.

    Parameters
    ----------
    lost : Lost
    name : str
        What messages call the text.
    is_learned : bool
        Whether the tokenizer was made for the text, and so could keep all of it.
    """
    if lost.is_much:
        _logger.warning("%s: %s; %s", name, lost.describe(), _CURES[is_learned])


def why_empty(lost: Lost, *, is_learned: bool) -> str:
    """Return why a text has no token, and what to do."""
    if lost.num_lost:
        return (
            "nothing but letters a-z survives normalising, and none is among the "
            f"{count(lost.num_characters, 'character')}; {_CURES[is_learned]}"
        )
    return "the tokenizer found none in it"


def count_lost(text: str) -> Lost:
    """Return how many characters of a text normalising would delete or replace.

    >>> tuple(count_lost("Caf\u00e9 \u201cMars\u201d, 1898"))
    (17, 2, 1, 4, 3)
    """
    if text.isascii():
        return _count_lost(text.encode("ascii"), num_characters=len(text))
    content = _encode(text)
    lost = _count_lost(content, num_characters=len(text))
    # No byte of a character beyond ASCII is below 0x80, so that those bytes stay together.
    codes = np.frombuffer(content, np.uint8)
    beyond = codes[codes >= 0x80].tobytes()
    num_beyond = len(text) - (len(content) - len(beyond))
    num_signs = min(sum(map(beyond.count, _SIGNS)), num_beyond)
    return lost._replace(
        num_letters=num_beyond - num_signs, num_signs=lost.num_signs - num_beyond + num_signs
    )


def _count_lost(content: bytes, *, num_characters: int) -> Lost:
    """Count bytes as ASCII; bytes beyond it count as signs."""
    num_letters = num_digits = num_spaces = 0
    for start in range(0, len(content), _PIECE):
        codes = np.frombuffer(content, np.uint8)[start : start + _PIECE]
        # Differences of unsigned integers wrap: what is too small becomes large.
        num_letters += int(np.count_nonzero((codes | 0x20) - np.uint8(ord("a")) < 26))
        num_digits += int(np.count_nonzero(codes - np.uint8(ord("0")) < 10))
        num_spaces += int(np.count_nonzero(codes - np.uint8(ord("\t")) < 5))
        num_spaces += int(np.count_nonzero(codes == _SPACE))
    num_signs = num_characters - num_letters - num_digits - num_spaces
    return Lost(num_characters, num_spaces, 0, num_digits, num_signs)


def _is_letter(character: str) -> bool:
    return character in string.ascii_letters


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _as_characters(places: npt.NDArray[np.int64], content: bytes) -> npt.NDArray[np.int64]:
    """Return which characters of a text in UTF-8 begin at some of its bytes."""
    if content.isascii():
        return places
    is_first_byte = np.frombuffer(content, np.uint8) & 0xC0 != 0x80
    return (np.cumsum(is_first_byte, dtype=np.int64) - 1)[places]


def _cut(text: AnyStr, boundary: "re.Pattern[AnyStr]", size: int) -> Iterator[AnyStr]:
    """Yield pieces of a text, each but the first beginning with what ``boundary`` matches."""
    start = 0
    while start < len(text):
        found = boundary.search(text, start + size)
        stop = len(text) if found is None else found.start()
        yield text[start:stop]
        start = stop


def _clean_lines(piece: bytes) -> bytes:
    """Keep letters, and one space per run of others between two that has no line end."""
    codes = _classify(piece)
    return codes[_find_kept(codes)].tobytes()


def _classify(text: bytes) -> npt.NDArray[np.uint8]:
    r"""Return each byte as a small letter, a line end or a space.

    >>> _classify(b"Be, \rb").tobytes()
    b'be  \nb'
    """
    return np.frombuffer(text.translate(_LINES), np.uint8)


def _find_kept(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    r"""Return which of some classified bytes stay: letters, and the first of each inner gap.

    >>> codes = np.frombuffer(b"be  or\n not ", np.uint8)
    >>> codes[_find_kept(codes)].tobytes()
    b'be ornot'
    """
    # In the comments on the example 1 is True and - is False.
    is_letter = codes > _SPACE  # 11--11--111-
    # The first byte of a run stands for it; a run at the very start has no letter before it.
    run_starts = np.flatnonzero(is_letter[:-1] > is_letter[1:]) + 1  # 2, 6, 11
    keep = is_letter.copy()
    keep[run_starts] = True  # 111-111-1111
    newlines = np.flatnonzero(codes == _NEWLINE)  # 6
    runs = np.searchsorted(run_starts, newlines, side="right") - 1  # 1: in the run from 6 on
    keep[run_starts[runs[runs >= 0]]] = False  # 111-11--1111
    if run_starts.size and not is_letter[-1]:
        keep[run_starts[-1]] = False  # 111-11--111-
    return keep
