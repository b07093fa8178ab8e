"""The page about new sources: what it says is done in a copy of the source tree, and works."""

import io
import re
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub.file_server import Answer, serving
from tests.support.source_copy import PAGES, copy_source, read_named_blocks, run_python

PAGE = PAGES / "add-a-source.md"
BLOCKS = read_named_blocks(PAGE, "python|text")
ADDED = ("dover_beach", "letters", "python_keywords")
POEM = b"The sea is calm to-night.\nThe tide is full, the moon lies fair\n"
CATALOGUE, TEXTS = "src/tokenloom/hub/catalogue.py", "src/tokenloom/hub/texts.py"
# What the page says in words: what to import at the top of which file.
IMPORTS = {
    CATALOGUE: "from tokenloom.hub.texts import read_letters, read_python_keywords\n",
    TEXTS: "import keyword\n"
    "from collections.abc import Iterator\n"
    "from tokenloom.text.documents import Document\n"
    "from tokenloom.text.encode import decode\n",
}


def _letters() -> bytes:
    """Return a zip file of four letters, the same bytes each time."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for year in (1894, 1895):
            for number in (1, 2):
                info = zipfile.ZipInfo(f"letters/{year}/{number}.txt")
                archive.writestr(info, f"Letter {number} of {year}.\n")
    return made.getvalue()


def _add_entry(catalogue: str, entry: str) -> str:
    """Put an entry before the first one whose name is greater, or after the last one."""
    name = re.findall(r'name="(\w+)"', entry)[0]
    starts = list(re.finditer(r'^    Entry\(\n        name="(\w+)"', catalogue, re.MULTILINE))
    end = catalogue.index("\n)\n", starts[-1].start()) + 1
    place = next((start.start() for start in starts if start[1] > name), end)
    return f"{catalogue[:place]}{entry.rstrip()},\n{catalogue[place:]}"


def _import(module: str, imports: str) -> str:
    """Put lines at the top of a module, after its docstring."""
    place = module.index('"""\n', 3) + 4
    return f"{module[:place]}{imports}{module[place:]}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the source, with what the page adds."""
    tree = copy_source(tmp_path_factory.mktemp("tree"))
    for name, imports in IMPORTS.items():
        path = tree / name
        path.write_text(_import(path.read_text("utf-8"), imports), encoding="utf-8")
    for name, code in BLOCKS:
        path = tree / name
        if name == CATALOGUE:
            path.write_text(_add_entry(path.read_text("utf-8"), code), encoding="utf-8")
        elif name == TEXTS:
            path.write_text(f"{path.read_text('utf-8')}\n\n{code}", encoding="utf-8")
        elif name == "pyproject.toml":
            _install(tomllib.loads(code), tree / "src")
        elif name.endswith(".py"):
            (tree / "src" / name).parent.mkdir()
            (tree / "src" / name).write_text(code, encoding="utf-8")
    return tree


def _install(project: dict[str, dict[str, dict[str, dict[str, str]]]], folder: Path) -> None:
    """Write the metadata that an installer writes for a project."""
    info = folder / "my_texts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-texts\nVersion: 1.0\n")
    ((group, points),) = project["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def variables(tree: Path) -> Iterator[dict[str, str]]:
    """Run a server that has the files, and return the environment variables that lead to it."""
    answers = {"/dover-beach.txt": Answer(body=POEM), "/letters.zip": Answer(body=_letters())}
    with serving(answers) as server:
        yield {
            "NO_PROXY": "127.0.0.1",
            "TOKENLOOM_MIRROR": server.url,
            "TOKENLOOM_CACHE": str(tree / "cache"),
        }


def test_page_names_two_files() -> None:
    """A source in the tree takes a change of two files at most."""
    assert {CATALOGUE, TEXTS} == {name for name, _ in BLOCKS if name.startswith("src/")}


def test_new_names_are_listed(tree: Path, variables: dict[str, str]) -> None:
    """The command line lists what was added here, and what another package brings."""
    listed = run_python(tree, "-m", "tokenloom", "datasets", **variables)

    names = [line.split(" ")[0] for line in listed.splitlines()]
    assert {*ADDED, "sonnet"} <= set(names)


def test_new_names_are_loaded_and_prepared(tree: Path, variables: dict[str, str]) -> None:
    """The page's own lines run, with a server that has the files."""
    ((_, code),) = [block for block in BLOCKS if "tl.prepare(" in block[1]]
    assert all(name in code for name in ADDED)
    counted = 'print(tl.load("letters/1895").num_documents, len(tl.load("sonnet")))\n'
    read = 'print([d.metadata for d in tl.read_documents("letters/1895")])\n'

    shown = run_python(tree, "-c", f"{code}{counted}{read}", **variables)

    expected = "2 37\n[{'year': 1895, 'number': 1}, {'year': 1895, 'number': 2}]\n"
    assert expected == shown
