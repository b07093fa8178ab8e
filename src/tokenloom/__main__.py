"""``python -m tokenloom`` is the command ``tokenloom``."""

import os
import sys


def main() -> int:
    """Run the command line; see `tokenloom.cli.main`."""
    # Processes that start afresh import this module again, and need none of the command.
    from tokenloom.cli import main as run  # noqa: PLC0415

    code = run()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # The end of the interpreter may abort where threads of a process group are
        # still there, and torchrun would take that for the death of a rank.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
