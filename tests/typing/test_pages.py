"""The pages' own programs have types, as a user's type checker sees them: ``nox -s typecheck``."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_documentation import PAGES, ROOT

pytestmark = pytest.mark.slow

_BLOCK = re.compile(
    r"(?P<skip><!--- skip: next[^\n]*--->\n\n?)?^```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the Python blocks of each page into a file, in the lines where the page has them."""
    folder = tmp_path_factory.mktemp("pages")
    for page in PAGES:
        text, lines = page.read_text(encoding="utf-8"), list[str]()
        for block in _BLOCK.finditer(text):
            if block["skip"] is None:
                lines += [""] * (text.count("\n", 0, block.start("code")) - len(lines))
                lines += _program(block["code"])
        if lines:
            name = re.sub(r"\W", "_", page.relative_to(ROOT).with_suffix("").as_posix())
            (folder / f"{name}.py").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder


def _program(block: str) -> list[str]:
    """Return the lines of a block, of a session at the prompt without what it prints."""
    lines = block.splitlines()
    if not any(line.startswith(">>>") for line in lines):
        return lines
    return [line[4:] if line.startswith((">>> ", "... ")) else "" for line in lines]


def _check(*command: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, check=False, capture_output=True, text=True
    )
    return result.stdout + result.stderr if result.returncode else ""


def test_the_pages_pass_mypy(programs: Path) -> None:
    """Strictly; only pages may give a name another type further down, and packages have none."""
    pytest.importorskip("mypy")
    options = ["--strict", "--allow-redefinition", "--disable-error-code", "import-untyped"]
    assert len(list(programs.glob("*.py"))) > 20

    assert _check("mypy", *options, ".", folder=programs) == ""


def test_the_pages_pass_pyright(programs: Path) -> None:
    """With the settings that it has by default."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("needs basedpyright, which carries pyright and downloads nothing")
    settings = {
        "typeCheckingMode": "standard",
        # Pyright warns of it; basedpyright makes it an error.
        "reportPossiblyUnboundVariable": False,
        # fsspec's own types.
        "ignore": ["docs_howto_sources.py"],
    }
    (programs / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")

    arguments = ["--level", "error", "--pythonpath", sys.executable]
    assert _check("basedpyright", *arguments, folder=programs) == ""
