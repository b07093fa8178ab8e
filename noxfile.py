"""What there is to run: ``nox -s NAME``, or ``nox`` for all that CI runs."""

import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "tests_all",
    "lint",
    "typecheck",
    "docs",
    "examples",
    "notebooks",
    "downstream",
    "build",
]

PYPROJECT = nox.project.load_toml("pyproject.toml")
HERE = Path(__file__).parent
# PyTorch is large: the sessions that need it work in the environment of one.
PROGRAMS = HERE / ".nox" / "shared" / ("Scripts" if sys.platform == "win32" else "bin")

# As many tests at once as there are cores, up to four.
SIDE_BY_SIDE = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")


def run_shared(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of the shared environment."""
    session.run(str(PROGRAMS / program), *arguments, external=True)


def install_shared(session: nox.Session, group: str) -> None:
    """Add a dependency group to the shared environment."""
    needed = nox.project.dependency_groups(PYPROJECT, group)
    run_shared(session, "python", "-m", "pip", "install", "-q", "-c", "constraints.txt", *needed)


def install_wheels(session: nox.Session, *projects: Path) -> Path:
    """Install wheels of projects beside what the shared environment has; return a new folder.

    The folder is outside the checkout, so that no file of it is used by chance.
    """
    folder = Path(tempfile.mkdtemp(prefix="tokenloom-"))
    session.run("pip", "wheel", "-q", "--no-deps", "-w", str(folder), *map(str, projects))
    wheels = sorted(map(str, folder.glob("*.whl")))
    session.install("--no-deps", "--force-reinstall", *wheels)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    others = session.run(str(PROGRAMS / "python"), "-c", where, external=True, silent=True)
    own = session.run("python", "-c", where, silent=True)
    Path(str(own).strip(), "shared.pth").write_text(str(others), encoding="utf-8")
    return folder


@nox.session(default=False)
def shared(session: nox.Session) -> None:
    """Install the package as it is here; other sessions work in this environment."""
    session.install("-c", "constraints.txt", "-e", ".[plot]")


@nox.session(default=False, venv_backend="none", requires=["shared"])
def demo(session: nox.Session) -> None:
    """Train the textbook's model on the text that this Python carries: about a minute."""
    run_shared(session, "tokenloom", "train", *session.posargs)


@nox.session(venv_backend="none", requires=["shared"])
def tests(session: nox.Session) -> None:
    """Run the tests that a change must pass, and the doctests: about four minutes on two cores."""
    install_shared(session, "test")
    run_shared(session, "pytest", *(session.posargs or (*SIDE_BY_SIDE, "-m", "not slow")))


@nox.session(venv_backend="none", requires=["shared"])
def tests_all(session: nox.Session) -> None:
    """Run all tests, also whole matrices, kills and ranks: about twelve minutes on two cores."""
    install_shared(session, "integration")
    # A package of the group that is missing fails its tests rather than skips them.
    session.env["TOKENLOOM_TESTS_REQUIRE"] = "integration"
    run_shared(session, "pytest", *SIDE_BY_SIDE, *session.posargs)


@nox.session(default=False, python=nox.project.python_versions(PYPROJECT)[1:])
def torch_free(session: nox.Session) -> None:
    """Run the lower half without PyTorch, on newer Pythons than the oldest: a minute or two."""
    session.install("numpy", "requests", "tqdm")
    session.install("--no-deps", "-e", ".")
    session.install(*nox.project.dependency_groups(PYPROJECT, "test"))
    rooms = ("_io", "text", "plan", "store", "corpus", "hub", "preparation")
    tests = [f"tests/{room}" for room in rooms]
    session.run("pytest", *SIDE_BY_SIDE, "-m", "not slow", *(session.posargs or tests))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and with import-linter that imports point down."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", env={"PYTHONPATH": "src"})


@nox.session(venv_backend="none", requires=["shared"])
def typecheck(session: nox.Session) -> None:
    """Check the types with mypy, strictly, and those of the pages with pyright as well."""
    install_shared(session, "types")
    run_shared(session, "mypy")
    run_shared(session, "pytest", "-q", "tests/typing")


@nox.session(venv_backend="none", requires=["shared"])
def docs(session: nox.Session) -> None:
    """Build the documentation, warnings are errors, and run its Python blocks."""
    install_shared(session, "docs")
    strictly = ("-n", "-T", "-W", "--keep-going")
    run_shared(session, "sphinx-build", *strictly, "docs", "docs/_build/html")
    run_shared(session, "pytest", "docs", "README.md", "README.zh.md", *session.posargs)


@nox.session(default=False, venv_backend="none", requires=["shared"])
def pages(session: nox.Session) -> None:
    """Look at every page of the documentation in Chromium, which the system must have."""
    install_shared(session, "docs")
    install_shared(session, "pages")
    run_shared(session, "sphinx-build", "-q", "docs", "docs/_build/html")
    run_shared(session, "python", "docs/look_at_pages.py", *session.posargs)


@nox.session(venv_backend="none", requires=["shared"])
def examples(session: nox.Session) -> None:
    """Run every example."""
    for script in sorted(HERE.glob("examples/*.py")):
        run_shared(session, "python", str(script.relative_to(HERE)))


@nox.session(venv_backend="none", requires=["shared"])
def notebooks(session: nox.Session) -> None:
    """Run every notebook, a few minutes; ``-- --inplace`` keeps what they show."""
    install_shared(session, "notebook")
    for notebook in sorted(HERE.glob("examples/*.ipynb")):
        name = str(notebook.relative_to(HERE))
        run_shared(session, "jupyter-execute", *session.posargs, name)


@nox.session(requires=["shared"])
def downstream(session: nox.Session) -> None:
    """Check the package in examples/downstream, which builds on the wheel, outside the checkout."""
    install_shared(session, "types")
    project = HERE / "examples" / "downstream"
    folder = install_wheels(session, HERE, project)
    copy = shutil.copytree(project, folder / "downstream", ignore=shutil.ignore_patterns("src"))
    session.chdir(copy)
    session.run("python", "-m", "pytest", "-q", "tests", *session.posargs)
    session.run("python", "-m", "mypy", "--strict", "-p", "tokenloom_fables")
    session.run("python", "-m", "mypy", "--strict", "tests")
    session.chdir(HERE)
    shutil.rmtree(folder)


@nox.session(requires=["shared"])
def build(session: nox.Session) -> None:
    """Build the distributions, check them, and use the wheel, first where there is no torch."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "build"))
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
    files = sorted(map(str, folder.glob("tokenloom-*")))
    session.run("twine", "check", "--strict", *files)
    wheel = next(name for name in files if name.endswith(".whl"))
    session.install("numpy", "requests", "tqdm")
    session.install("--no-deps", "--force-reinstall", wheel)
    session.run("tokenloom", "datasets")
    # Then with torch: what README and the pages say is run against the wheel.
    install_shared(session, "test")
    copy = install_wheels(session, HERE)
    for name in ("README.md", "README.zh.md", "conftest.py", "pyproject.toml"):
        shutil.copy(HERE / name, copy)
    for name in ("docs", "examples"):
        shutil.copytree(HERE / name, copy / name, ignore=shutil.ignore_patterns("_build"))
    session.chdir(copy)
    session.run("python", "-m", "pytest", "-q", "docs", "README.md", "README.zh.md")


@nox.session(default=False, python=nox.project.python_versions(PYPROJECT)[0])
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject admits; PyTorch's may take 6 GB."""
    project = PYPROJECT["project"]
    needed = [project["dependencies"], *project["optional-dependencies"].values()]
    oldest = (requirement.replace(">=", "==") for group in needed for requirement in group)
    # The oldest matplotlib calls what newer releases of pyparsing deprecate.
    session.install("pyparsing<3.3", *oldest)
    session.install("--no-deps", "-e", ".")
    session.install(*nox.project.dependency_groups(PYPROJECT, "test"))
    session.run("pytest", *SIDE_BY_SIDE, "-m", "not slow", *session.posargs)


@nox.session(default=False)
def trainers(session: nox.Session) -> None:
    """Feed Lightning and Accelerate, which get an environment of their own."""
    session.install("-c", "constraints.txt", "-e", ".")
    needed = nox.project.dependency_groups(PYPROJECT, "trainers")
    session.install("-c", "constraints.txt", *needed)
    session.run("pytest", "tests/trainers", *session.posargs)


@nox.session(default=False)
def peers(session: nox.Session) -> None:
    """Time loaders and stores next to other libraries, which get an environment of their own."""
    session.install("-c", "constraints.txt", "-e", ".[plot]")
    needed = nox.project.dependency_groups(PYPROJECT, "peers")
    session.install("-c", "constraints.txt", *needed)
    session.run("python", "benchmarks/loading.py", *session.posargs)
    session.run("python", "benchmarks/mixture_peers.py")
    session.run("python", "benchmarks/whole_way.py")


@nox.session(default=False, venv_backend="none", requires=["shared"])
def benchmarks(session: nox.Session) -> None:
    """Time training, workers and loaders next to other ways: about fifteen minutes."""
    run_shared(session, "python", "benchmarks/training.py", *session.posargs)
    run_shared(session, "python", "benchmarks/generation.py")
    run_shared(session, "python", "benchmarks/memory.py")
    run_shared(session, "python", "benchmarks/texts.py", "python_docs")
    # It calls the packages that tokenloom does not depend on.
    install_shared(session, "test")
    run_shared(session, "python", "benchmarks/subwords.py", "--megabytes", "100")
    run_shared(session, "python", "benchmarks/transport.py")
    run_shared(session, "python", "benchmarks/loading.py", "--repetitions", "3")
