"""How pytest runs the Python blocks of both READMEs and of the pages under docs."""

import tempfile
from typing import Any

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# None is a test: they configure Sphinx, draw, are what Sphinx built, and look at that in a browser.
collect_ignore = ["docs/conf.py", "docs/images", "docs/_build", "docs/look_at_pages.py"]


def _enter_page(namespace: dict[str, Any]) -> None:
    """Give each page a folder of its own, an empty cache and no network."""
    folder = tempfile.TemporaryDirectory(prefix="tokenloom-docs-")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder.name)
    patch.setenv("TOKENLOOM_CACHE", folder.name)
    patch.setenv("TOKENLOOM_OFFLINE", "1")
    # Several threads make models as small as those of the pages slower.
    patch.setenv("OMP_NUM_THREADS", "1")
    namespace["_page"] = folder, patch


def _leave_page(namespace: dict[str, Any]) -> None:
    folder, patch = namespace["_page"]
    patch.undo()
    # Open memory maps and tensors of the page must not outlive its folder.
    namespace.clear()
    folder.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the blocks of each page back in order after pytest-randomly shuffled them."""
    blocks = [item for item in items if isinstance(item, SybilItem)]
    in_order = iter(sorted(blocks, key=lambda block: (block.path, block.example.start)))
    for block in blocks:
        # torchdata's StatefulDataLoader calls what newer releases of torch deprecate.
        block.add_marker(pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"))
    items[:] = [next(in_order) if isinstance(item, SybilItem) else item for item in items]


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README*.md", "docs/*.md", "docs/*/*.md"],
    setup=_enter_page,
    teardown=_leave_page,
).pytest()
