"""The house: names, layers, sizes."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import tokenloom

SOURCE = Path(tokenloom.__file__).parent
# The order of imports: a room imports only from rooms that stand further down.
ROOMS = (
    "__main__",
    "cli",
    "training_commands",
    "model_commands",
    "stream_commands",
    "machine_commands",
    "preparation_commands",
    "store_commands",
    "corpus_commands",
    "training_job",
    "arguments",
    "printing",
    "d2l",
    "d2l_training",
    "d2l_batches",
    "d2l_text",
    "d2l_figures",
    "selftest",
    "laws",
    "replay",
    "rereading",
    "inspection",
    "division",
    "training",
    "reports",
    "snapshots",
    "epochs",
    "updates",
    "settings",
    "plotting",
    "measuring",
    "runs",
    "evaluation",
    "generation",
    "stepping",
    "losses",
    "loader",
    "placement",
    "workers",
    "ahead",
    "windows",
    "iteration",
    "blocks",
    "batch",
    "tensors",
    "sharedmemory",
    "ranks",
    "recipe",
    "sharding",
    "checkpoints",
    "checkpoint",
    "model",
    "devices",
    # Below this line: NumPy, requests, tqdm and the standard library only.
    "inventory",
    "foreign",
    "tracing",
    "preparation",
    "finished",
    "assembly",
    "prepare_options",
    "gathering",
    "workfolder",
    "executing",
    "hub",
    "catalogue",
    "reviews",
    "sources",
    "archives",
    "download",
    "transfer",
    "replies",
    "holding",
    "corpus",
    "resets",
    "encoding",
    "numbering",
    "stretches",
    "tasks",
    "streams",
    "cuts",
    "verification",
    "passages",
    "saving",
    "store",
    "documents",
    "manifest",
    "npy",
    "text",
    "identity",
    "tokenizers",
    "counting",
    "vocab",
    "normalize",
    "maps",
    "arrays",
    "positions",
    "plans",
    "permutation",
    "seeds",
    "integers",
    "spikes",
    "records",
    "orphans",
    "interrupts",
    "regular",
    "files",
    "kinds",
    "plainpickle",
    "hashing",
    "wording",
    "errors",
)
LOWER_HALF = ROOMS[ROOMS.index("inventory") :]
# Where each public name comes from.
NAMES: dict[str, str] = vars(tokenloom)["_ROOMS"]
MAX_BODY_LINES = 40


def parse(room: str) -> ast.Module:
    """Return a room's syntax tree."""
    return ast.parse((SOURCE / f"{room}.py").read_text(encoding="utf-8"))


def imports_of(room: str) -> set[str]:
    """Return the rooms that a room imports, wherever in its file."""
    found = set()
    for node in ast.walk(parse(room)):
        if isinstance(node, ast.ImportFrom) and node.module == "tokenloom":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tokenloom."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "tokenloom" and len(name) > 1}
    return found - {"__version__"}


def test_every_file_is_a_room() -> None:
    """The list of rooms is the list of files."""
    assert sorted(ROOMS) == sorted(p.stem for p in SOURCE.glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room: str) -> None:
    """A room imports only from rooms below it."""
    below = set(ROOMS[ROOMS.index(room) + 1 :])
    assert set() == imports_of(room) - below


@pytest.mark.parametrize("room", ROOMS)
def test_functions_are_small(room: str) -> None:
    """Over budget there is a second concept."""
    functions = [node for node in ast.walk(parse(room)) if isinstance(node, ast.FunctionDef)]
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
    program = f"""
import importlib, sys
sys.modules["torch"] = None
for room in {LOWER_HALF!r}:
    importlib.import_module("tokenloom." + room)
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
from tokenloom.cli import main
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
        alias.name: (node.module or "").split(".")[1]
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
