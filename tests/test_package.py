"""The house: names, layers, sizes."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tokenloom

SOURCE = Path(tokenloom.__file__).parent
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
ROOMS = sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists())
PYPROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
# Where each public name comes from.
NAMES: dict[str, str] = vars(tokenloom)["_ROOMS"]
MAX_BODY_LINES = 40


def _contract(name: str) -> dict[str, list[str]]:
    """Return a contract that import-linter holds."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["name"] == name)
    return contract  # type: ignore[no-any-return]  # TOML has no types


@pytest.mark.parametrize("file", FILES)
def test_functions_are_small(file: str) -> None:
    """Over budget there is a second concept."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    bodies = {
        function.name: function.body[1:] if ast.get_docstring(function) else function.body
        for function in functions
    }
    lengths = {
        name: (body[-1].end_lineno or 0) - body[0].lineno + 1
        for name, body in bodies.items()
        if body
    }
    assert {} == {name: length for name, length in lengths.items() if length > MAX_BODY_LINES}


def test_the_lower_half_runs_without_torch() -> None:
    """Text is tokenised and plans are made where torch cannot be imported."""
    lower_half = _contract("No torch below the line")["source_modules"]
    program = f"""
import importlib, pkgutil, sys
sys.modules["torch"] = None
for name in {lower_half!r}:
    room = importlib.import_module(name)
    for file in pkgutil.iter_modules(getattr(room, "__path__", [])):
        importlib.import_module(name + "." + file.name)
import tokenloom as tl
corpus = tl.Corpus.from_text("the time machine")
print(len(corpus), tl.Plan(kind="random", num_tokens=100, seq_len=3, batch_size=2).num_batches)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert ("16 16\n", "") == (result.stdout, result.stderr)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["datasets"], ["--version"]]
)
def test_answers_that_need_no_torch_do_not_wait_for_it(arguments: list[str]) -> None:
    """Help and lists come at once."""
    program = f"""
import sys
from tokenloom.cli.main import main
code = main({arguments!r})
sys.exit(code or ("torch" in sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (0, "") == (result.returncode, result.stderr)


def test_all_is_sorted_and_complete() -> None:
    """Each public name resolves, and the table of rooms holds no other."""
    assert sorted(tokenloom.__all__) == tokenloom.__all__
    assert set(tokenloom.__all__) == {"__version__", *NAMES}
    for name, room in NAMES.items():
        assert getattr(tokenloom, name) is getattr(
            importlib.import_module(f"tokenloom.{room}"), name
        )


def test_types_are_known_of_every_public_name() -> None:
    """The stub lists the same names from the same rooms."""
    stub = ast.parse((SOURCE / "__init__.pyi").read_text(encoding="utf-8"))
    listed = {
        alias.name: (node.module or "").removeprefix("tokenloom.")
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert NAMES == listed
    assert (
        ast.literal_eval(next(node.value for node in stub.body if isinstance(node, ast.Assign)))
        == tokenloom.__all__
    )


def test_no_room_has_the_name_of_a_function() -> None:
    """tokenloom.train must not turn into a module once somebody imports it."""
    assert set() == set(tokenloom.__all__) & set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_has_the_name_of_a_function_of_its_room(room: str) -> None:
    """Nor tokenloom.hub.load into a function, once somebody imports the room."""
    door = importlib.import_module(f"tokenloom.{room}")
    files = {path.stem for path in (SOURCE / room).glob("*.py")}

    assert set() == set(getattr(door, "__all__", [])) & files


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'tokenloom' has no attribute 'weave'"):
        _ = tokenloom.weave  # type: ignore[attr-defined]  # on purpose


def test_dir_lists_the_public_names() -> None:
    """Completion in a shell finds them before they are imported."""
    assert set(tokenloom.__all__) <= set(dir(tokenloom))


def test_the_version_is_the_distributions() -> None:
    """There is one place for it."""
    assert importlib.metadata.version("tokenloom") == tokenloom.__version__


def test_errors_are_also_builtins() -> None:
    """A caller who catches the builtin catches ours."""
    builtins = {
        "ArchiveError": OSError,
        "ArgumentError": ValueError,
        "ChecksumError": OSError,
        "CorpusError": ValueError,
        "DownloadError": OSError,
        "LawError": AssertionError,
        "RunError": OSError,
        "StateMismatchError": ValueError,
        "StoreError": OSError,
        "UsageError": RuntimeError,
        "WorkerError": RuntimeError,
    }
    for name, builtin in builtins.items():
        assert issubclass(getattr(tokenloom, name), (tokenloom.TokenloomError, builtin))
        assert issubclass(getattr(tokenloom, name), builtin)
