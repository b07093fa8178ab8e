"""What there is to run: ``nox -s NAME``, or ``nox`` for all that CI runs."""

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "typecheck", "docs", "examples", "build"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
# PyTorch is large: the sessions that need it share one environment.
SHARED = ".nox/shared"
HERE = Path(__file__).parent


def install(session: nox.Session, *groups: str) -> None:
    """Install the package as it is here, with what the dependency groups list."""
    needed = nox.project.dependency_groups(PYPROJECT, *groups) if groups else ()
    session.install("-c", "constraints.txt", "-e", ".[plot]", *needed)


@nox.session(venv_location=SHARED)
def demo(session: nox.Session) -> None:
    """Train the textbook's model on the text that this Python carries: about a minute."""
    install(session)
    session.run("tokenloom", "train", *session.posargs)


@nox.session(venv_location=SHARED)
def tests(session: nox.Session) -> None:
    """Run the tests and the doctests."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style and the format with ruff."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_location=SHARED)
def typecheck(session: nox.Session) -> None:
    """Check the types with mypy, strictly."""
    install(session, "types")
    session.run("mypy")


@nox.session(venv_location=SHARED)
def docs(session: nox.Session) -> None:
    """Build the documentation, warnings are errors, and run its Python blocks."""
    install(session, "docs")
    session.run("sphinx-build", "-n", "-T", "-W", "--keep-going", "docs", "docs/_build/html")
    session.run("pytest", "docs", "README.md", *session.posargs)


@nox.session(venv_location=SHARED)
def examples(session: nox.Session) -> None:
    """Run every example."""
    install(session)
    for script in sorted(HERE.glob("examples/*.py")):
        session.run("python", str(script.relative_to(HERE)))


@nox.session
def build(session: nox.Session) -> None:
    """Build the distributions, check them, and use the wheel where there is no torch."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "build"))
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
    files = sorted(map(str, folder.glob("tokenloom-*")))
    session.run("twine", "check", "--strict", *files)
    wheel = next(name for name in files if name.endswith(".whl"))
    session.install("numpy", "requests", "tqdm")
    session.install("--no-deps", "--force-reinstall", wheel)
    session.run("tokenloom", "datasets")


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject admits, but for torch."""
    install(session, "test")
    oldest = [
        requirement.replace(">=", "==")
        for requirement in PYPROJECT["project"]["dependencies"]
        if not requirement.startswith("torch>")
    ]
    session.install("-c", "constraints.txt", *oldest)
    session.run("pytest", *session.posargs)


@nox.session(venv_location=SHARED)
def benchmarks(session: nox.Session) -> None:
    """Time training next to the textbook's loop: about two minutes."""
    install(session)
    session.run("python", "benchmarks/training.py", *session.posargs)
