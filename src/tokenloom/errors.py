"""Every error that tokenloom raises on purpose.

Each leaf also inherits the builtin that a caller would catch.
A message says what was expected, what was got and what to do.
"""


class TokenloomError(Exception):
    """The base of all errors raised by tokenloom."""


class ArchiveError(TokenloomError, OSError):
    """An archive cannot be unpacked, or not safely."""


class ArgumentError(TokenloomError, ValueError):
    """An argument has a value that cannot work."""


class ChecksumError(TokenloomError, OSError):
    """A file's bytes are not the expected ones."""


class CorpusError(TokenloomError, ValueError):
    """A text, a vocabulary or a token array cannot be used as it is."""


class DownloadError(TokenloomError, OSError):
    """A file could not be fetched."""


class LawError(TokenloomError, AssertionError):
    """A stream of batches breaks a law that it must keep."""


class RunError(TokenloomError, OSError):
    """A run's folder or one of its files cannot be used."""


class StateMismatchError(TokenloomError, ValueError):
    """A saved position, or a run, belongs to something else than what it is loaded into."""


class StoreError(TokenloomError, OSError):
    """A store's folder or one of its files cannot be used."""


class UsageError(TokenloomError, RuntimeError):
    """Objects were put together, or called, in a way that cannot work."""


class WorkerError(TokenloomError, RuntimeError):
    """A worker of a preparation, or another rank, died or cannot do its part."""


# What an object lacks that others of its class have. As an AttributeError it makes ``hasattr`` and
# ``getattr`` with a default work, and with them ``inspect.getmembers`` and debuggers. That base
# comes first since it takes ``name=``: Python proposes no attribute of a like name, such as a
# private one, where the name is given.
class AbsentError(AttributeError, UsageError):
    """The object has no such attribute, as it was made without what it needs."""


class AbsentFromCorpusError(AttributeError, CorpusError):
    """The corpus has no such attribute, as it was made without what it needs."""


class UnknownKeyError(ArgumentError, KeyError):
    """A batch, taken for a mapping, has no such key."""

    # That of a KeyError is the repr of its message.
    __str__ = Exception.__str__


class EndlessError(AttributeError, TypeError, TokenloomError):
    """An endless loader has no length, nor a number of batches that remain."""
