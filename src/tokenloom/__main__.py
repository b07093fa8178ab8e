"""``python -m tokenloom`` is the command ``tokenloom``."""

import sys


def main() -> int:
    """Run the command line; see `tokenloom.cli.main`."""
    # Processes that start afresh import this module again, and need none of the command.
    from tokenloom.cli import main as run  # noqa: PLC0415

    return run()


if __name__ == "__main__":
    sys.exit(main())
