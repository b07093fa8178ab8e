"""What surrounds the package: workflows, templates, versions."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.test_documentation import PYPROJECT, ROOT

yaml: Any = pytest.importorskip("yaml")

FILES = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]
SUPPORTED = {
    classifier.rpartition(" ")[2]
    for classifier in PYPROJECT["project"]["classifiers"]
    if re.search(r":: 3\.\d+$", classifier)
}


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _sessions(script: str) -> list[str]:
    """Return what a script asks nox for, with what is passed on."""
    asked = re.findall(r"python -m nox (?:--\S+ )?-s ([^\n&]+)", script)
    return [
        " ".join([name, *passed.split()])
        for words in asked
        for names, _, passed in [words.partition(" -- ")]
        for name in names.split()
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_parses(path: Path) -> None:
    """Nobody notices a workflow that does not."""
    assert _read(path)


def test_numbers_and_sums_name_their_dtype() -> None:
    """Before NumPy 2 the default is 32 bits wide on Windows, too narrow for places of tokens."""
    unnamed = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("np.arange", "np.cumsum")
        and not {"dtype", "out"} & {keyword.arg for keyword in call.keywords}
    ]
    assert [] == unnamed


def test_workflows_run_what_continuous_integration_runs() -> None:
    """The same sessions with the same arguments, whatever the system."""
    jobs = _read(ROOT / ".github/workflows/checks.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]

    expected = _sessions((ROOT / ".ci/run").read_text(encoding="utf-8"))

    assert {"tests", "tests_all -m slow", "lint", "build"} <= set(expected)
    assert sorted(expected) == sorted(_sessions("\n".join(commands)))


def test_workflows_use_the_pythons_that_are_supported() -> None:
    """Each of them on each system."""
    matrix = _read(ROOT / ".github/workflows/checks.yml")["jobs"]["tests"]["strategy"]["matrix"]

    assert set(matrix["python"]) == SUPPORTED
    assert len(matrix["system"]) == 3


def test_dependencies_have_no_upper_bound() -> None:
    """A bound in a library locks out those who need a newer release of something else."""
    groups = [
        PYPROJECT["project"]["dependencies"],
        *PYPROJECT["project"]["optional-dependencies"].values(),
    ]

    assert not [needed for group in groups for needed in group if "<" in needed]
    assert all(">=" in needed for group in groups for needed in group)


def test_the_changelog_has_the_versions() -> None:
    """The newest release is the one before the version in the making."""
    releases = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    version = PYPROJECT["project"]["version"]

    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version)
    assert (releases[0] == "Unreleased") == (".dev" in version)
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", each) for each in releases[1:])


def test_the_downstream_package_needs_what_there_is() -> None:
    """It admits this release, and no older Python."""
    downstream = tomllib.loads((ROOT / "examples/downstream/pyproject.toml").read_text("utf-8"))

    assert downstream["project"]["requires-python"] == PYPROJECT["project"]["requires-python"]
