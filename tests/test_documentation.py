"""The documentation says what is true, and nothing in it escapes being run."""

import argparse
import ast
import importlib
import inspect
import json
import multiprocessing
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import tokenloom as tl
from tests.support.hub import misbehaving
from tests.test_package import FILES, SOURCE
from tokenloom import d2l
from tokenloom.cli.main import main, make_parser
from tokenloom.plan.plan import Plan
from tokenloom.plan.state import describe_position

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]
PAGES = [
    *READMES,
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]
LOOSE_PAGES = [*READMES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOME = PYPROJECT["project"]["urls"]["Homepage"]
RAW = HOME.replace("github.com", "raw.githubusercontent.com")

PUBLIC_ROOMS = ("corpus", "hub", "model", "plan", "preparation", "testing", "text", "training")

LANGUAGES = {"bash", "diff", "python", "text", "yaml"}
DIRECTIVES = {"eval-rst", "glossary", "include", "toctree"}
SKIP = re.compile(r'<!--- skip: next "[^"]{12,}" --->')


class Block(NamedTuple):
    """A fenced block of a page; its lines are counted from 1, ``stop`` is the closing fence."""

    page: str
    info: str
    start: int
    stop: int


def _blocks(page: Path) -> Iterator[Block]:
    fence, start, info = "", 0, ""
    for number, line in enumerate(_read(page).splitlines(), start=1):
        opening = re.match(r"\s*(`{3,}|~{3,})\s*(.*)", line)
        if not fence and opening:
            fence, start, info = opening[1], number, opening[2].strip()
        elif fence and line.strip() == fence:
            yield Block(page.relative_to(ROOT).as_posix(), info, start, number)
            fence = ""
    assert not fence, f"{page} ends inside the block that begins in line {start}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _shell_lines(page: Path) -> list[str]:
    """Return what the bash blocks of a page say to type."""
    lines = _read(page).splitlines()
    blocks = [block for block in _blocks(page) if block.info == "bash"]
    return [line for block in blocks for line in lines[block.start : block.stop - 1]]


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _room(name: str) -> ModuleType:
    return importlib.import_module(f"tokenloom.{name}")


def _sessions() -> set[str]:
    tree = ast.parse(_read(ROOT / "noxfile.py"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def _commands() -> set[str]:
    actions = make_parser()._actions
    return {
        name
        for action in actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    }


def test_every_python_block_is_collected() -> None:
    """Pytest runs, or skips with a reason, each Python block that a reader can see."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *map(_id, READMES), "docs"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout + collected.stderr
    lines = re.findall(r"^(\S+\.md)::line:(\d+),", collected.stdout, re.MULTILINE)
    starts = {(page, int(line)) for page, line in lines}

    blocks = [block for page in PAGES for block in _blocks(page) if block.info == "python"]
    unseen = [
        block
        for block in blocks
        if not any((block.page, line) in starts for line in range(block.start, block.stop))
    ]

    assert blocks
    assert not unseen


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_blocks_have_a_known_kind(page: Path) -> None:
    """A block in another spelling of Python would be shown as code and never run."""
    kinds = {block.info.partition(" ")[0] for block in _blocks(page)}
    known = LANGUAGES | {f"{{{directive}}}" for directive in DIRECTIVES}

    assert set() == kinds - known


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_pages_are_plain_markdown(page: Path) -> None:
    """A reader of the file itself sees the text of each link, and no roles of Sphinx."""
    assert [] == re.findall(
        r"(?<!!)\[\]\([^)]*\)|\{[\w:]+\}`[^`]*`|^\{[.#].*", _read(page), re.MULTILINE
    )


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_full_names_in_code_exist(page: Path) -> None:
    """What the pages call by its full name, which the built pages make a link, can be imported."""
    for name in re.findall(r"(?<!logger )`(tokenloom(?:\.\w+)+)(?:\(\))?`", _read(page)):
        assert pkgutil.resolve_name(name), name


@pytest.mark.parametrize("page", sorted(DOCS.glob("*/index.md")), ids=_id)
def test_lists_of_pages_have_their_titles(page: Path) -> None:
    """The page of a folder lists each page of it, by its title."""
    listed = dict(re.findall(r"\[([^\]]+)\]\(([\w-]+\.md)\)", _read(page)))
    others = {each for each in page.parent.glob("*.md") if each != page}

    titles = {_read(each).partition("\n")[0].removeprefix("# "): each.name for each in others}
    assert titles == {title: name for title, name in listed.items() if title in titles}


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_opt_outs_carry_a_reason(page: Path) -> None:
    """A block is left out by a comment right before it, which says why."""
    lines = _read(page).splitlines()
    starts = {block.start for block in _blocks(page) if block.info == "python"}
    skips = [number for number, line in enumerate(lines, start=1) if re.search(r"<!--.*skip", line)]

    wrong = [
        lines[number - 1]
        for number in skips
        if not SKIP.fullmatch(lines[number - 1]) or not {number + 1, number + 2} & starts
    ]

    assert not wrong


@pytest.mark.parametrize("example", EXAMPLES, ids=_id)
def test_examples_are_included(example: Path) -> None:
    """The documentation shows each example as it is."""
    shown = f"\n\n[examples/{example.name}](../examples/{example.name})\n"

    assert shown in _read(DOCS / "examples.md")


@pytest.mark.slow
def test_built_pages_show_what_a_line_names() -> None:
    """A program under its link, and the help of a command in place of the command."""
    pytest.importorskip("sphinx")
    page = "[examples/a.py](../examples/a.py)\n\n`tokenloom train --help`\n"
    program = f"import conf; page = [{page!r}]; conf._show_files(None, '', page); print(page[0])"

    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=DOCS, check=True, capture_output=True, text=True)

    link, shown, help_text = result.stdout.strip().split("\n\n")
    assert link == "[examples/a.py](../examples/a.py)"
    assert shown == "```{literalinclude} ../examples/a.py\n:language: python\n```"
    assert help_text.startswith("```{literalinclude} /_build/generated/help-train.txt\n")


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_pictures_of_a_page_are_in_the_checkout(page: Path) -> None:
    """A reader of the plain Markdown sees each picture, so none is made by a build."""
    shown = re.findall(r"!\[[^\]]*\]\((?!https:)([^)]+)\)", _read(page))

    assert all((page.parent / picture).resolve().parent == DOCS / "images" for picture in shown)
    assert all((page.parent / picture).is_file() for picture in shown)


@pytest.mark.slow
def test_pictures_are_as_the_script_draws_them(tmp_path: Path) -> None:
    """``docs/images/draw.py`` was run after the last change of what it draws."""
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(DOCS / "images" / "draw.py"), str(tmp_path)]
    subprocess.run(command, check=True)
    number, release = re.compile(r"-?\d+\.?\d*"), re.compile(r"Matplotlib v[\d.]+")
    # The names of parts of a picture are hashes of their places.
    name = re.compile(r"""(?<=url\(\#)\w+|(?<=href="\#)\w+|(?<=id=")\w+""")

    drawn = sorted(tmp_path.glob("*.svg"))
    assert [path.name for path in drawn] == sorted(
        path.name for path in (DOCS / "images").glob("*.svg")
    )
    for path in drawn:
        new, kept = (name.sub("", _read(one)) for one in (path, DOCS / "images" / path.name))
        if release.findall(new) != release.findall(kept):
            pytest.skip("the pictures were drawn by another release of matplotlib")
        assert number.sub("", new) == number.sub("", kept), path.name
        # Another processor may round the last digit differently.
        numbers = [list(map(float, number.findall(text))) for text in (new, kept)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.01), path.name


@pytest.mark.parametrize("example", EXAMPLES, ids=_id)
def test_examples_are_short_scripts(example: Path) -> None:
    """An example has fewer than 80 lines, a docstring, and a main that it calls."""
    source = _read(example)
    tree = ast.parse(source)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert len(source.splitlines()) < 80
    assert ast.get_docstring(tree)
    assert "main" in functions
    assert source.endswith('if __name__ == "__main__":\n    main()\n')


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=_id)
def test_notebooks_were_run(notebook: Path) -> None:
    """A notebook is linked, small, and shows what its cells gave, from top to bottom."""
    cells = [cell for cell in json.loads(_read(notebook))["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    kinds = {kind for output in outputs for kind in output.get("data", {})}

    assert f"(../examples/{notebook.name})" in _read(DOCS / "examples.md")
    assert notebook.stat().st_size < 300_000
    assert list(range(1, len(cells) + 1)) == [cell["execution_count"] for cell in cells]
    assert "error" not in {output["output_type"] for output in outputs}
    assert {"image/png", "image/svg+xml"} & kinds


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=_id)
def test_notebooks_name_no_machine(notebook: Path) -> None:
    """No path of the machine that ran it, and no time of day, is left in a notebook."""
    content = _read(notebook)

    assert not re.findall(r"/(?:home|root|tmp|work|Users)/|[A-Z]:\\\\|iopub", content)


@pytest.mark.parametrize("page", sorted({*PAGES, *LOOSE_PAGES}), ids=_id)
def test_no_page_has_marks_of_a_merge(page: Path) -> None:
    """Both sides of a conflict would be shown, with the marks as text and headings."""
    assert [] == re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", _read(page), re.MULTILINE)


def test_how_to_guides_are_grouped_alike() -> None:
    """The sidebar and the page of all guides have the same guides in the same groups."""
    trees = re.findall(r":caption: (.+)\n((?:\n?howto/.+)+)", _read(DOCS / "index.md"))
    sidebar = {caption: re.findall(r"howto/(.+)", names) for caption, names in trees}
    sections = _read(DOCS / "howto/index.md").split("\n## ")[1:]
    page = {
        section.partition("\n")[0]: re.findall(r"^- \[[^\]]+\]\((.+)\.md\)", section, re.MULTILINE)
        for section in sections
    }

    assert sidebar == page


@pytest.mark.parametrize("inventory", sorted(DOCS.glob("inventories/*.txt")), ids=_id)
def test_linked_names_of_other_projects_exist(inventory: Path) -> None:
    """Each line of an inventory is a name that can be imported, with the page that has it."""
    short = {"np.": "numpy.", "npt.": "numpy.typing."}
    for line in _read(inventory).splitlines():
        name, role, _, page, shown = line.split()
        for alias, module in short.items():
            name = re.sub(f"^{re.escape(alias)}", module, name)
        assert role in {"py:class", "py:module"}
        assert ".html#" in page
        assert shown == "-"
        assert pkgutil.resolve_name(name), name


@pytest.mark.parametrize("readme", READMES, ids=_id)
def test_readme_begins_with_two_commands(readme: Path) -> None:
    """A reader can copy one line that shows the package, and one that tests it."""
    commands = _shell_lines(readme)

    expected = [
        f"python -m pip install nox && python -m nox -s {name}" for name in ("demo", "tests")
    ]
    assert expected == commands[:2]


def test_nox_sessions_exist() -> None:
    """Each session that a page names is one that nox knows."""
    text = "\n".join(map(_read, {*PAGES, *LOOSE_PAGES}))
    table = re.findall(r"^\| `(\w+)` \|", _read(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    named = {*re.findall(r"nox -s ([a-z_]+)", text), *table}

    assert {"demo", "tests", "docs"} <= named
    assert set() == named - _sessions()


def test_command_lines_parse() -> None:
    """Each tokenloom command in a bash block is one that the parser takes."""
    lines = [line for page in PAGES for line in _shell_lines(page)]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("tokenloom ")]

    parsed = {make_parser().parse_args(command).command for command in commands}

    assert _commands() == parsed


def test_every_command_has_its_help_on_the_page() -> None:
    """The command line page shows the help text of each subcommand."""
    page = _read(DOCS / "reference" / "command-line.md")

    shown = set(re.findall(r"^`(?:tokenloom )?(\w+) --help`$", page, re.MULTILINE))

    assert _commands() | {"tokenloom"} == shown


@pytest.mark.parametrize("page", LOOSE_PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    """Links of the pages that Sphinx does not check lead to files of the project.

    An index of packages shows README.md, so its links are absolute.
    """
    links = re.findall(r"\]\(([^)#]+)", _read(page))
    own = re.compile(rf"{re.escape(HOME)}/(?:blob|tree)/main/|{re.escape(RAW)}/main/")
    inside = [own.sub("", link) for link in links]

    relative = [link for link in links if "://" not in link]
    missing = [link for link in inside if "://" not in link and not (ROOT / link).exists()]

    assert not missing
    assert not relative or page not in READMES


def test_readme_prints_what_it_shows() -> None:
    """The first program of the README, run where the text of this Python is the one it shows."""
    blocks = [block for block in _blocks(READMES[0]) if block.info in {"python", "text"}]
    lines = _read(READMES[0]).splitlines()
    program, shown = ("\n".join(lines[block.start : block.stop - 1]) for block in blocks[:2])
    hashes = re.findall(r"sha256:\w+", shown)
    if hashes != [tl.load("python_docs").hash]:
        pytest.skip("this release of Python has another text")

    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert (f"{shown}\n", "") == (result.stdout, result.stderr)


def test_every_public_name_is_in_the_reference() -> None:
    """Nothing public is undocumented, and nothing else is called public."""
    text = "\n".join(_read(page) for page in (DOCS / "reference").glob("*.md"))
    everyday = set(tl.__all__) - {"__version__"}
    leaves = {name for name, value in vars(tl.errors).items() if isinstance(value, type)}
    names = {"errors": leaves, **{room: set(_room(room).__all__) for room in PUBLIC_ROOMS}}

    directives = r"\.\. auto(?:class|data|exception|function):: tokenloom\.([\w.]+)"
    documented = re.findall(directives, text)

    under_nouns = [f"{room}.{name}" for room in names for name in names[room] - everyday]
    assert sorted([*everyday, *under_nouns]) == sorted(
        name for name in documented if name.count(".") < 2
    )


def test_table_of_the_textbooks_names() -> None:
    """The page for readers of the textbook maps each name to the package's own."""
    page = _read(DOCS / "howto/coming-from-d2l.md")
    table = page.partition("| in `d2l` |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]

    assert sorted(d2l.__all__) == sorted(re.findall(r"`(\w+)`", " ".join(rows)))


def test_table_of_errors() -> None:
    """The table names every leaf, with the builtins and other leaves that it inherits."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", _read(DOCS / "reference/errors.md"), re.MULTILINE)
    leaves = {leaf for leaf in vars(tl.errors).values() if isinstance(leaf, type)}
    bases = {
        leaf.__name__: {base.__name__ for base in leaf.__bases__} - {"TokenloomError"}
        for leaf in leaves - {tl.TokenloomError}
    }

    assert bases == {leaf: set(re.findall(r"\w+", also)) for leaf, also in rows}


def test_table_of_misbehaviour() -> None:
    """The page shows row by row what the tests try, with what they see."""
    page = _read(DOCS / "explanation/downloads.md")

    assert misbehaving.table() in page


def test_table_of_misbehaviour_is_counted() -> None:
    """The page says how many rows there are."""
    (counted,) = re.findall(r"(\d+) ways to misbehave", _read(DOCS / "explanation/downloads.md"))

    assert len(misbehaving.ROWS) + len(misbehaving.TESTED_ROWS) == int(counted)


def test_table_of_state_fields() -> None:
    """The page about the saved position lists each field."""
    plan = Plan(kind="random", num_tokens=9, seq_len=2, batch_size=2, tail="pad")
    plan = plan.at(0, first_window=1)
    state = describe_position(
        plan, proof={"corpus": "sha256:"}, next_batch=0, num_skipped=1, worker=(0, 2)
    )

    listed = re.findall(r"^\| `(\w+)` \|", _read(DOCS / "reference/state.md"), re.MULTILINE)

    assert sorted(state) == sorted(listed)


@pytest.mark.slow
def test_table_of_json_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that prints facts prints JSON, with the keys that the page lists."""
    run, store = str(tmp_path / "run"), str(tmp_path / "store")
    tl.Corpus.from_text("the time machine").save(store)
    shape = ["--batch-size", "2", "--seq-len", "3"]
    quick = ["--max-tokens", "500", "--hidden", "4", "--epochs", "1", "--device", "cpu"]
    selftest = ["--workers", "1", "--start-methods", multiprocessing.get_all_start_methods()[0]]
    commands = {
        "train": ["python_docs", *shape, *quick, "--run", run, "--quiet"],
        "generate": [run, "--prompt", "the", "--num-tokens", "3"],
        "evaluate": [run, "python_docs", "--split", "held-out", *shape, "--quiet"],
        "plan": ["python_docs", *shape],
        "show CORPUS": ["python_docs", *shape],
        "show RUN --step": [run, "--step", "1"],
        "show RUN --spikes": [run, "--spikes"],
        "selftest": ["python_docs", *shape, *selftest, "--quiet"],
        "bench": ["python_docs", "--workers", "0", "--seconds", "0.01", "--quiet"],
        "datasets": [],
        "prepare": ["python_docs", "-o", str(tmp_path / "prepared"), "--quiet"],
        "verify": [store, "--quiet"],
        "info": [store],
        "fetch": ["python_docs"],
    }
    section = _read(DOCS / "reference/command-line.md").partition("## JSON")[2]
    table = dict(re.findall(r"^\| `([\w -]+)` \| (.*) \|$", section, re.MULTILINE))
    listed = {name: re.findall(r"`(\w+)`", keys) for name, keys in table.items()}
    listed["show RUN --step"] += listed["show CORPUS"]

    printed = {}
    for name, arguments in commands.items():
        assert main([name.split()[0], *arguments, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        printed[name] = list(found[0] if isinstance(found, list) else found)

    assert printed == listed
    assert {name.split()[0] for name in commands} == _commands()


@pytest.mark.parametrize("page", sorted((DOCS / "contributing").glob("*-*.md")), ids=_id)
def test_pages_for_contributors_are_followed(page: Path) -> None:
    """A test that a change must pass makes what the page says in a copy of the source, or fits it.

    The files that the page names are there, but for those that it says are new.
    """
    module = importlib.import_module(f"tests.integration.pages.test_{page.stem.replace('-', '_')}")
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    needed = {
        name
        for name, test in tests.items()
        if {"tree", "folder"} & {*inspect.signature(test).parameters} or name.endswith("_source")
        if "slow" not in {mark.name for mark in getattr(test, "pytestmark", ())}
    }
    assert page == module.PAGE
    assert needed
    for name, what in re.findall(r"^- `((?:src|tests)/\S+)` ([^\n]+)", _read(page), re.MULTILINE):
        assert (ROOT / name).is_file() != what.startswith("is new"), name


def test_design_note_of_the_house() -> None:
    """The design note has the whole tree, each file with the first line of its docstring."""
    note = _read(DOCS / "design/0004-house.md")
    house = re.search(r"```text\n(.*?)```", note, re.DOTALL)
    assert house
    listed, room = {}, ""
    for line in house[1].splitlines():
        name, _, says = line.strip().partition(" ")
        if name.endswith("/"):
            room = name
        if name.endswith(("/", ".py")):
            listed[(room if line.startswith(" ") else "") + name] = says.strip()
    files = {
        file.removesuffix("__init__.py") or file: (ast.get_docstring(tree) or "").partition("\n")[0]
        for file in FILES
        for tree in [ast.parse((SOURCE / file).read_text(encoding="utf-8"))]
    }

    assert set(files) == set(listed)
    for file, says in files.items():
        if "/" in file:
            assert (file, says.rstrip(".")) == (file, listed[file])
