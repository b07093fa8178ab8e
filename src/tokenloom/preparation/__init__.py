"""Texts of any size to a store, in chunks that any number of processes encode."""

from tokenloom.preparation.finished import Prepared
from tokenloom.preparation.options import PrepareOptions
from tokenloom.preparation.trace import Trace

__all__ = ["PrepareOptions", "Prepared", "Trace"]
