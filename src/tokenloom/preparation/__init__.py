"""Texts of any size to a store, in chunks that any number of processes encode."""

from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.prepare import Prepared, PreparedSplit
from tokenloom.preparation.trace import Trace

__all__ = ["PrepareOptions", "Prepared", "PreparedSplit", "Trace"]
