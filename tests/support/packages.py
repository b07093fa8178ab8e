"""Packages that some tests need, which must be there where all tests are asked for."""

import importlib
import os
from typing import Any

import pytest

# A session that installs a dependency group names it here.
REQUIRED = "TOKENLOOM_TESTS_REQUIRE"


def require_package(name: str) -> Any:
    """Return a module; without it the test is skipped, or fails where it must not be missing.

    Parameters
    ----------
    name : str
        Of a package in the dependency group ``integration``, or of a module in one.
    """
    if os.environ.get(REQUIRED) == "integration":
        return importlib.import_module(name)
    return pytest.importorskip(name)
