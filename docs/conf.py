"""How Sphinx builds the documentation: offline, and with every warning an error."""

import contextlib
import importlib
import io
import os
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from docutils import nodes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import stringify_annotation

import tokenloom
from tokenloom._figures import save_picture
from tokenloom.cli.main import make_parser
from tokenloom.inspection.plots import plot_mixture, plot_orders, plot_packing, plot_plans
from tokenloom.plan.mixture import MixtureOrder, Stage, grid_weights
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import Plan
from tokenloom.text.ids import Ids

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
report = importlib.import_module("report")
results = importlib.import_module("results")

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


def _write_generated_files(app: Sphinx) -> None:
    """Draw and write, anew in each build, what pages take from the package."""
    folder = Path(app.srcdir, "_build", "generated")
    folder.mkdir(parents=True, exist_ok=True)
    small: dict[str, Any] = {"num_tokens": 200, "seq_len": 6, "batch_size": 4, "seed": 1}
    whole: dict[str, Any] = {"num_tokens": 367_504, "seq_len": 35, "batch_size": 32}
    for kind in ("random", "sequential"):
        figures = {"small": plot_plans([Plan(kind=kind, **small)])}
        figures["whole"] = plot_plans([Plan(kind=kind, **whole)])
        for name, figure in figures.items():
            save_picture(figure, folder / f"plan-{kind}-{name}.svg")
    for index, (title, order) in enumerate(_orders().items()):
        save_picture(plot_orders({title: order}), folder / f"permutation-{index}.svg")
    save_picture(_draw_shards(), folder / "shards.svg")
    save_picture(_draw_mixture(), folder / "mixture.svg")
    report.plot(results.Results.read(BENCHMARKS / "results" / "loading.json"), folder)
    save_picture(_draw_packing(), folder / "packed.svg")
    for command in _COMMANDS:
        (folder / f"help-{command or 'tokenloom'}.txt").write_text(_help(command), encoding="utf-8")


def _draw_mixture() -> Any:
    """Return a picture of three parts, whose shares change twice."""
    names, lengths = ("web", "books", "code"), (70_000_000, 14_000_000, 9_000_000)
    weights = ((0.8, 0.15, 0.05), (0.6, 0.25, 0.15), (0.3, 0.3, 0.4))
    order = MixtureOrder(
        names=names,
        part_lengths=lengths,
        stages=tuple(
            Stage(first, grid_weights(each))
            for first, each in zip((0, 40_000_000, 70_000_000), weights, strict=True)
        ),
        num_epoch_tokens=50_000_000,
    )
    plan = Plan.of(order, num_tokens=sum(lengths), seq_len=1024, batch_size=32)
    return plot_mixture(plan, num_epochs=2)


def _orders() -> dict[str, IntArray]:
    """Return the windows of two epochs in their order, and what an affine map would give."""
    plan = Plan(kind="random", num_tokens=2503 * 8, seq_len=8, batch_size=1, seed=0)
    orders = {}
    for epoch in range(2):
        starts = plan.at(epoch).starts(range(plan.num_batches)).ravel()
        orders[f"tokenloom, epoch {epoch}"] = starts // plan.seq_len
    affine = (1031 * np.arange(plan.num_batches) + 7) % plan.num_batches
    return {**orders, f"affine: (1031 x + 7) mod {plan.num_batches}": affine}


def _draw_packing() -> Figure:
    """Draw packed rows of documents whose lengths are drawn as those of web pages are."""
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(6.2, 1.2, 20_000)).astype(np.int64) + 2
    documents = np.concatenate(([0], np.cumsum(lengths)))
    tokens = np.zeros(documents[-1], np.uint8)
    corpus = tokenloom.Corpus.from_tokens(tokens, documents=documents)
    plan = tokenloom.PackedWindows(corpus, batch_size=8, seq_len=2048).plan
    return plot_packing(plan, lengths)


def _draw_shards() -> Figure:
    """Draw a plan of five batches, read by two ranks with two workers each."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-1.1, 5.9)
    axes.set_ylim(5, -1)
    for column in range(4):
        rank = column // 2
        for batch in range(5):
            worker = batch % 2
            colour = ("tab:blue", "tab:orange")[rank]
            place = (column + 0.04, batch + 0.08)
            axes.add_patch(Rectangle(place, 0.92, 0.84, color=colour, alpha=(0.45, 0.8)[worker]))
            axes.text(column + 0.5, batch + 0.5, f"s{batch}{column}", ha="center", va="center")
    for rank in range(2):
        columns = f"rank {rank}\ncolumns {2 * rank} and {2 * rank + 1}"
        axes.text(2 * rank + 1, -0.1, columns, ha="center", va="bottom")
    for batch in range(5):
        axes.text(-0.1, batch + 0.5, f"batch {batch}", ha="right", va="center")
        axes.text(4.1, batch + 0.5, f"worker {batch % 2}", va="center")
    axes.plot([-1.1, 5.9], [3, 3], color="tab:red", linestyle="--", linewidth=1.5)
    axes.text(5.85, 2.93, "resume", color="tab:red", ha="right", va="bottom")
    return figure


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
    app.connect("builder-inited", _write_generated_files)
    app.connect("html-page-context", _mark_breaks)
    app.connect("autodoc-process-signature", _shorten_signature)
    # Napoleon reads docstrings at the default priority, 500.
    app.connect("autodoc-process-docstring", _prepare_docstring, priority=400)
    app.connect("autodoc-process-docstring", _finish_docstring, priority=600)
