"""Pages for contributors: what their blocks say is done in a copy of the source, and run there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "contributing"


def copy_source(folder: Path, *names: str) -> Path:
    """Copy folders of the checkout, by default the source, into a new folder."""
    for name in names or ("src",):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def read_blocks(page: Path, kind: str) -> list[str]:
    """Return the blocks of a page that are of a kind, which may be a pattern."""
    pattern = rf"^```(?:{kind})\n(.*?)^```$"
    return re.findall(pattern, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def read_named_blocks(page: Path, kind: str) -> list[tuple[str, str]]:
    """Return the file that the first line of each block names, which may be none, and the rest."""
    pattern = re.compile(r"(?:# (\S+\.\w+)[^\n]*\n)?(.*)", re.DOTALL)
    named = [pattern.fullmatch(block) for block in read_blocks(page, kind)]
    return [(match[1] or "", match[2]) for match in named if match is not None]


def run_python(folder: Path, *arguments: str, **variables: str) -> str:
    """Return what Python prints, with the source of a folder and more environment variables."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout
