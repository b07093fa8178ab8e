"""How Sphinx builds the documentation: offline, and with every warning an error."""

import contextlib
import io
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy.typing as npt
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import stringify_annotation

import tokenloom
from tokenloom.cli.main import make_parser
from tokenloom.plan.order import IntArray
from tokenloom.text.ids import Ids

project = "tokenloom"
author = "The tokenloom developers"
release = tokenloom.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"tokenloom {release}"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 3

# What is copied is what to type: no prompts, and nothing of what is printed.
copybutton_selector = "div:not(.highlight-text):not(.highlight-diff) > div.highlight > pre"
copybutton_exclude = ".gp, .go, .gt, .linenos"

# A name in single backticks of a docstring is a link to that name.
default_role = "py:obj"
add_module_names = False
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
# What the docstrings call shapes and types is prose, and no link.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# The names of other projects that are links, from the files of docs/inventories: no build needs
# the network. To link another name, add its line.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "_build/generated/python.inv"),
    "numpy": ("https://numpy.org/doc/stable", "_build/generated/numpy.inv"),
    "torch": ("https://docs.pytorch.org/docs/stable", "_build/generated/torch.inv"),
}

nitpicky = True
nitpick_ignore_regex = [
    # What other projects document, and no inventory has.
    (
        r"py:.*",
        r"(argparse|collections|concurrent|multiprocessing|np|npt|numpy|os|pathlib|torch|typing)\b.*",
    ),
    (r"py:.*", r"Path"),
    # What only a file of a room has is not public.
    (r"py:.*", r"tokenloom(\.\w+){3,}"),
    (r"py:.*", r"Axes|BlockResets|Checkpoint|Figure|Identity|Manifest|Source"),
    # The types of attributes are cut at a comma.
    (r"py:class", r".*\[str"),
    # What an attribute's section says of an array is prose, not a type.
    (r"py:class", r"\w+ array|shape|num_\w+|seq_len( \+ 1)?|callable|mapping"),
    (r"py:class", r"\"\w+\"|sequence|str to .*"),
]

_COMMANDS = (
    "",
    *("train", "generate", "evaluate", "plan", "show", "selftest", "bench"),
    *("prepare", "verify", "info", "datasets", "fetch"),
)
_ALIASES = {
    "npt.ArrayLike": npt.ArrayLike,
    "npt.NDArray[np.integer]": Ids,
    "npt.NDArray[np.int64]": IntArray,
}
# A character of the private use area, which no docstring has.
_COLON = "\ue000"


def _write_inventories(app: Sphinx, *_: Any) -> None:
    """Write the inventories of other projects in the form that intersphinx reads."""
    folder = Path(app.srcdir, "_build", "generated")
    folder.mkdir(parents=True, exist_ok=True)
    for file in Path(app.srcdir, "inventories").glob("*.txt"):
        header = f"# Sphinx inventory version 2\n# Project: {file.stem}\n# Version: \n"
        header += "# The remainder of this file is compressed using zlib.\n"
        names = zlib.compress(file.read_bytes())
        (folder / f"{file.stem}.inv").write_bytes(header.encode() + names)


def _write_help(app: Sphinx) -> None:
    """Write, anew in each build, what the commands print with ``--help``."""
    folder = Path(app.srcdir, "_build", "generated")
    folder.mkdir(parents=True, exist_ok=True)
    for command in _COMMANDS:
        (folder / f"help-{command or 'tokenloom'}.txt").write_text(_help(command), encoding="utf-8")


def _help(command: str) -> str:
    """Return what ``tokenloom COMMAND --help`` prints."""
    os.environ["COLUMNS"] = "80"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        make_parser().parse_args([*command.split(), "--help"])
    return printed.getvalue()


def _shorten_signature(*arguments: Any) -> tuple[str, str]:
    """Write NumPy's aliases by name; autodoc sees what they stand for."""
    *_, signature, returns = arguments
    for name, alias in _ALIASES.items():
        long = stringify_annotation(alias, mode="smart")
        signature, returns = (text and text.replace(long, name) for text in (signature, returns))
    return signature, returns


def _prepare_docstring(_: Sphinx, what: str, *arguments: Any) -> None:
    """Make plain to napoleon what a reader of the source sees at once."""
    lines: list[str] = arguments[-1]
    if what == "property":
        # It would take the words before a colon for the type.
        lines[0] = lines[0].replace(":", _COLON)
    # Without a heading, examples would belong to the section above them.
    starts = [index for index, line in enumerate(lines) if line.startswith(">>>")]
    if starts:
        lines[starts[0] : starts[0]] = ["Examples", "--------"]


def _finish_docstring(_: Sphinx, what: str, *arguments: Any) -> None:
    """Undo what napoleon needed and a reader does not."""
    lines: list[str] = arguments[-1]
    if what == "property":
        lines[:] = [line.replace(_COLON, ":") for line in lines]


def _mark_breaks(_: Sphinx, page: str, template: str, context: dict[str, Any], *__: Any) -> None:
    """Let the names in the text break after an underscore, a dot or a slash."""
    del page, template
    code = re.compile(r'(?<=<span class="pre">)[^<]+')
    mark = re.compile(r"(?<=[_./])(?=\w)")
    body = context.get("body", "")
    context["body"] = code.sub(lambda name: mark.sub("<wbr>", name[0]), body)


def _show_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Show the program, or the help, that a line only names: so the pages are plain Markdown."""
    del app, page
    show = "```{{literalinclude}} {}\n:language: {}\n```".format
    program = re.compile(r"^\[[^\]]+\]\((\S+\.py)\)$", re.MULTILINE)
    text = program.sub(lambda line: f"{line[0]}\n\n{show(line[1], 'python')}", source[0])
    command = re.compile(r"^`(?:tokenloom )?(\w+) --help`$", re.MULTILINE)
    help_text = "/_build/generated/help-{}.txt".format
    source[0] = command.sub(lambda line: show(help_text(line[1]), "text"), text)


class _LinkNames(SphinxPostTransform):
    """Makes links of the full names in code, such as `tokenloom.Loader`, before links are found."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Link those of this project's reference, and those of the inventories."""
        known = set(self.env.get_domain("py").objects)
        known.update(*self.env.intersphinx_inventory.values())
        for code in list(self.document.findall(nodes.literal)):
            name = code.astext()
            if name not in known or isinstance(code.parent, nodes.title | nodes.reference):
                continue
            if not isinstance(code.parent, pending_xref):
                target = {"refdomain": "py", "reftype": "obj", "reftarget": name}
                link = pending_xref("", refdoc=self.env.docname, refexplicit=False, **target)
                code.replace_self(link)
                link += code


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.add_post_transform(_LinkNames)
    app.connect("source-read", _show_files)
    app.connect("config-inited", _write_inventories)
    app.connect("builder-inited", _write_help)
    app.connect("html-page-context", _mark_breaks)
    app.connect("autodoc-process-signature", _shorten_signature)
    # Napoleon reads docstrings at the default priority, 500.
    app.connect("autodoc-process-docstring", _prepare_docstring, priority=400)
    app.connect("autodoc-process-docstring", _finish_docstring, priority=600)
