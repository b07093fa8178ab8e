"""A contributor who follows the page on tokenizers adds one."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from tests.support.source_copy import PAGES, ROOT, copy_source, read_named_blocks, run_python

PAGE = PAGES / "add-a-tokenizer.md"
CODE, TESTS = "src/tokenloom/text/tokenizers.py", "tests/text/test_tokenizers.py"

TRAIN = "train book.txt --tokenizer line --run run --batch-size 2 --seq-len 4 --epochs 1 --hidden 4"
# What a user does with it then, and how the answers are to be.
PROGRAM = """
import tokenloom as tl

corpus = tl.Corpus.from_text(open("book.txt").read(), tokenizer="line")
small = tl.PrepareOptions(task_bytes=64)
made = tl.prepare("book.txt", "store", tokenizer="line", options=small, num_workers=1)
opened = tl.Corpus.open("store")
print(made.num_tokens, made.vocab_size, opened.vocab.kind, type(opened.tokenizer).__name__)
print(opened.tokens[:].tolist() == corpus.tokens.tolist(), opened.tokenizer == corpus.tokenizer)
print(repr(opened.decode([1, 2])), tl.trace(opened, 150)[:3])
print(tl.Corpus.open("other").hash == opened.hash)
print(tl.Run.open("run").load_tokenizer() == corpus.tokenizer)
"""
ANSWERS = """
200 4 line LineTokenizer
True True
'line a as it is\\nline b as it is' ('book.txt', 0, None)
True
True
"""


def follow_page(folder: Path) -> None:
    """Copy the source, and do in the copy what the blocks of the page say, one by one."""
    copy_source(folder, "src", "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    imports, kind, table, test = (code for _, code in read_named_blocks(PAGE, "python")[:4])
    code = folder / CODE
    lines = code.read_text(encoding="utf-8").splitlines(keepends=True)
    nodes = ast.parse("".join(lines)).body
    old = next(
        node
        for node in nodes
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TOKENIZERS"
    )
    last_import = [node for node in nodes if isinstance(node, ast.ImportFrom)][-1].end_lineno
    # From the end of the file to its beginning, so that line numbers stay right.
    lines[old.lineno - 1 : old.end_lineno] = [kind, "\n\n", table]
    lines.insert(last_import or 0, imports)
    code.write_text("".join(lines), encoding="utf-8")
    with (folder / TESTS).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{test}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the source with the tokenizer of the page."""
    copy = tmp_path_factory.mktemp("source")
    follow_page(copy)
    return copy


def test_the_page_names_two_files() -> None:
    """A new tokenizer needs no others, and each block says in which it stands."""
    page = PAGE.read_text(encoding="utf-8")
    assert [CODE, TESTS] == re.findall(r"^- `(\S+)` has", page, re.MULTILINE)
    assert [CODE, CODE, CODE, TESTS] == re.findall(r"^# (\S+), ", page, re.MULTILINE)


def test_a_tokenizer_of_the_page_works_everywhere(folder: Path) -> None:
    """It prepares, opens, traces and trains."""
    book = "\n".join(f"Line {'abc'[number % 3]}, as it is" for number in range(200))
    (folder / "book.txt").write_text(book, encoding="utf-8")
    for command in (TRAIN, "prepare book.txt --tokenizer line --output other"):
        run_python(folder, "-m", "tokenloom", *command.split(), "--quiet")
    assert ANSWERS.strip() == run_python(folder, "-c", PROGRAM).strip()


@pytest.mark.slow
def test_a_tokenizer_of_the_page_passes_its_tests(folder: Path) -> None:
    """Those of the page, those of every built-in tokenizer, and its doctest."""
    chosen = ["tests/laws/test_tokenizers.py", TESTS, "--doctest-modules", CODE]
    run_python(folder, "-m", "pytest", "-q", "-k", "line or Line", "-p", "no:xdist", *chosen)
