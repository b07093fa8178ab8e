"""The textbook's names in one place."""

import subprocess
import sys

import pytest

import tokenloom as tl
from tokenloom import d2l

# What shared code of the textbook's chapters uses.
NAMES = """
    DATA_HUB DATA_URL download read_time_machine timemachine tokenize count_corpus Vocab
    load_corpus_time_machine seq_data_iter_random seq_data_iter_sequential SeqDataLoader
    load_data_time_machine RNNModel RNNModelScratch predict_ch8 train_epoch_ch8 train_ch8
    grad_clipping sgd try_gpu Timer Accumulator Animator plot set_axes use_svg_display
    set_figsize plt
"""


def test_every_name_is_there() -> None:
    """And listed, so that a star imports it."""
    assert sorted(NAMES.split()) == sorted(d2l.__all__)
    assert all(hasattr(d2l, name) for name in d2l.__all__)


def test_the_model_is_the_packages() -> None:
    """There is no second one."""
    assert tl.RNNModel is d2l.RNNModel


def test_plt_is_pyplot() -> None:
    """Imported when it is first asked for."""
    assert "matplotlib.pyplot" == d2l.plt.__name__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match=r"'tokenloom\.d2l' has no attribute 'mxnet'"):
        _ = d2l.mxnet


def test_names_come_in_each_way() -> None:
    """As an attribute, as a module, one by one, or all of them."""
    program = """
import tokenloom as tl
print(tl.d2l.__name__)
from tokenloom import d2l as d2l
from tokenloom.d2l.data import Vocab
from tokenloom.d2l import plt
from tokenloom.d2l import *
print(Vocab is d2l.Vocab, plt is d2l.plt, len(train_ch8.__name__))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "tokenloom.d2l\nTrue True 9\n" == result.stdout
