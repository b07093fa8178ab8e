"""Fables, and what a language model reads of them."""

from tokenloom_fables.data import FABLES
from tokenloom_fables.tokenizer import PieceTokenizer

__all__ = ["FABLES", "PieceTokenizer"]
