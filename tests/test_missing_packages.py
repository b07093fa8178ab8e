"""Packages that some tests need."""

import pytest

from tests.support.packages import REQUIRED, require_package


@pytest.mark.parametrize(
    ("required", "error"), [(None, pytest.skip.Exception), ("integration", ModuleNotFoundError)]
)
def test_a_missing_package(
    monkeypatch: pytest.MonkeyPatch, required: str | None, error: type[BaseException]
) -> None:
    """Skips a test by default, and fails it where all tests are asked for."""
    monkeypatch.delenv(REQUIRED, raising=False)
    if required is not None:
        monkeypatch.setenv(REQUIRED, required)
    with pytest.raises(error):
        require_package("tokenloom_has_no_such_package")
