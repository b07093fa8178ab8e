"""How Sphinx builds the documentation: offline, and with every warning an error."""

import contextlib
import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

import tokenloom
from tokenloom._figures import save_figure
from tokenloom.cli.main import make_parser
from tokenloom.inspection.plots import plot_orders, plot_plans
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan
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
html_title = f"tokenloom {release}"
html_copy_source = False

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
    # What an attribute's section says of an array is prose, not a type.
    (r"py:class", r"\w+ array|shape|num_\w+|seq_len( \+ 1)?|callable|mapping"),
    (r"py:class", r"\"\w+\"|sequence|str to (int|float|object|tuple)"),
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


def _write_generated_files(app: Sphinx) -> None:
    """Draw and write, anew in each build, what pages take from the package."""
    folder = Path(app.srcdir, "_build", "generated")
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, Any] = {"num_tokens": 200, "seq_len": 6, "batch_size": 4, "seed": 1}
    plans = [Plan(kind="random", **sizes), Plan(kind="sequential", **sizes)]
    save_figure(plot_plans(plans), folder / "plans")
    sizes = {"num_tokens": 367_504, "seq_len": 35, "batch_size": 32}
    plans = [Plan(kind="random", **sizes), Plan(kind="sequential", **sizes)]
    save_figure(plot_plans(plans), folder / "plans-python-docs")
    save_figure(plot_orders(_orders()), folder / "permutation")
    for command in _COMMANDS:
        (folder / f"help-{command or 'tokenloom'}.txt").write_text(_help(command), encoding="utf-8")


def _orders() -> dict[str, IntArray]:
    """Return the windows of two epochs in their order, and what an affine map would give."""
    plan = Plan(kind="random", num_tokens=2503 * 8, seq_len=8, batch_size=1, seed=0)
    orders = {}
    for epoch in range(2):
        starts = plan.at(epoch).starts(range(plan.num_batches)).ravel()
        orders[f"tokenloom, epoch {epoch}"] = starts // plan.seq_len
    affine = (1031 * np.arange(plan.num_batches) + 7) % plan.num_batches
    return {**orders, f"affine: (1031 x + 7) mod {plan.num_batches}": affine}


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


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("config-inited", _write_inventories)
    app.connect("builder-inited", _write_generated_files)
    app.connect("autodoc-process-signature", _shorten_signature)
    # Napoleon reads docstrings at the default priority, 500.
    app.connect("autodoc-process-docstring", _prepare_docstring, priority=400)
    app.connect("autodoc-process-docstring", _finish_docstring, priority=600)
