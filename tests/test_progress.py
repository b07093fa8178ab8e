"""Progress bars."""

import sys
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from tokenloom._progress import is_notebook, open_bar


def test_a_bar_is_drawn_where_somebody_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, in a notebook, and where it is asked for; a file stays clean."""
    assert [0, 1] == list(open_bar(range(2), progress=None))
    assert "" == capsys.readouterr().err
    assert [0, 1] == list(open_bar(range(2), progress=True))
    assert "2/2" in capsys.readouterr().err
    assert not is_notebook()
    kernel = SimpleNamespace(config={"IPKernelApp": {}})
    module = SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert is_notebook()
    assert [0, 1] == list(open_bar(range(2), progress=None))
    assert "2/2" in capsys.readouterr().err
    with open_bar(total=2, progress=False) as bar:
        assert isinstance(bar, tqdm)
    assert "" == capsys.readouterr().err
