"""The house: names, layers, sizes."""

import ast
import hashlib
import importlib
import importlib.metadata
import os
import re
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
# Where each name of every day comes from, and where the others are now.
NAMES: dict[str, str] = vars(tokenloom)["_NAMES"]
MOVED: dict[str, str] = vars(tokenloom)["_MOVED"]
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
    ("command", "unneeded"),
    [
        ("--help", {"numpy", "torch", "requests"}),
        ("--version", {"numpy", "torch", "requests"}),
        ("train --help", {"torch", "requests"}),
        ("datasets", {"torch", "requests"}),
        ("fetch python_docs", {"torch", "requests"}),
        ("fetch cached", {"torch", "requests"}),
        ("info STORE", {"torch", "requests"}),
        ("verify STORE", {"torch", "requests"}),
        ("plan cached.txt --batch-size 1 --seq-len 2", {"torch", "requests"}),
        ("plan a=1:STORE b=1:STORE --batch-size 1 --seq-len 2 --json", {"torch", "requests"}),
        ("prepare cached.txt --output NEW --quiet", {"torch", "requests"}),
    ],
)
def test_commands_import_only_what_they_use(
    command: str, unneeded: set[str], tmp_path: Path
) -> None:
    """PyTorch is for training and batches, requests for downloads, NumPy for no help."""
    content = b"the time machine"
    (tmp_path / "cached.txt").write_bytes(content)
    tokenloom.Corpus.from_text("the time machine").save(tmp_path / "STORE")
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    program = f"""
import sys
from tokenloom.cli.main import main
if {command!r} == "fetch cached":
    from tokenloom.hub import Entry, RemoteFile, register
    file = RemoteFile(filename="cached.txt", urls=("http://localhost/",), digest={digest!r})
    register(Entry(name="cached", description="text", licence="none", source=file))
code = main({command!r}.split())
unneeded = {unneeded!r} & set(sys.modules)
sys.exit(f"imported {{unneeded}}" if unneeded else code)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TOKENLOOM_CACHE": str(tmp_path)},
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
    """The stub has the same names from the same files, the rooms, and where the others are now."""
    stub = ast.parse((SOURCE / "__init__.pyi").read_text(encoding="utf-8"))
    listed = {
        alias.asname: (node.module or "").removeprefix("tokenloom.")
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    moved = {
        ast.unparse(node.targets[0]): ast.unparse(node.value)
        for node in stub.body
        if isinstance(node, ast.Assign)
    }
    assert {**NAMES, **dict.fromkeys(vars(tokenloom)["_ROOMS"], "tokenloom")} == listed
    assert {name: f"{room}.{name}" for name, room in MOVED.items()} == moved


@pytest.mark.parametrize("name", MOVED)
def test_an_old_name_warns_of_its_new_place(name: str) -> None:
    """It is not listed, and is the same object."""
    place = f"tokenloom.{MOVED[name]}"
    with pytest.warns(
        DeprecationWarning, match=f"^tokenloom.{name} is now {place}.{name}, "
    ) as seen:
        value = getattr(tokenloom, name)
    assert getattr(importlib.import_module(place), name) is value
    assert __file__ == seen[0].filename
    assert name not in tokenloom.__all__


def test_each_line_with_an_old_name_is_warned_of_once() -> None:
    """One line says it once, another one again."""
    program = """
import warnings
warnings.simplefilter("default")
import tokenloom as tl
for _ in range(3):
    tl.ArgumentError
from tokenloom import CorpusError
from tokenloom.laws import check_length
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    warned = re.findall(r"<string>:(\d+): DeprecationWarning: tokenloom.(\w+) is", result.stderr)
    assert [("6", "ArgumentError"), ("7", "CorpusError"), ("8", "laws")] == warned


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
    names = {*tokenloom.__all__, "corpus", "d2l", "errors", "hub", "model", "plan"}
    assert {*names, "preparation", "testing", "text", "training"} == set(dir(tokenloom))


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
        error = getattr(tokenloom.errors, name)
        assert issubclass(error, tokenloom.TokenloomError)
        assert issubclass(error, builtin)
