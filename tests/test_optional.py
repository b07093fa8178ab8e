"""Optional packages, imported when they are needed."""

import importlib
import tomllib
from pathlib import Path

import pytest

from tokenloom._optional import OLDEST, import_optional
from tokenloom.errors import UsageError

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def test_the_oldest_releases_are_those_of_the_extras() -> None:
    """What pip admits is not refused later."""
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]

    assert {name: [f"{name}>={oldest}"] for name, oldest in OLDEST.items()} == {
        name: extras[name] for name in OLDEST
    }


@pytest.mark.parametrize(
    ("version", "is_refused"),
    [("0.9.0", True), ("0.10", True), ("0.11rc1", False), ("0.11.0", False), ("1.0", False)],
)
def test_an_older_release_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, is_refused: bool
) -> None:
    """It would make other ids in silence; the message names both versions and the cure."""
    pytest.importorskip("tiktoken")
    monkeypatch.setattr(importlib.import_module("importlib.metadata"), "version", lambda _: version)

    if not is_refused:
        assert "tiktoken" == import_optional("tiktoken", purpose="it", extra="tiktoken").__name__
        return
    with pytest.raises(UsageError) as caught:
        import_optional("tiktoken.load", purpose="a named encoding", extra="tiktoken")
    assert str(caught.value) == (
        f"a named encoding needs tiktoken (version 0.11 or newer, got {version}): "
        "python -m pip install 'tokenloom[tiktoken]'"
    )


def test_a_package_without_a_version_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in the folder of a program has none."""
    monkeypatch.setitem(OLDEST, "json", "99")

    assert "json" == import_optional("json", purpose="it", extra="json").__name__
