"""``python -m tokenloom`` is the command ``tokenloom``."""

import os
import signal
import sys

# What shells report of a command that Ctrl-C ended.
_INTERRUPTED = 130


def main() -> int:
    """Run the command line; see `tokenloom.cli.main.main`."""
    try:
        # Processes that start afresh import this module again, and need none of the command.
        from tokenloom.cli.main import main as run  # noqa: PLC0415

        code = run()
        # What is left to do is Python's, which would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED or "TORCHELASTIC_RUN_ID" in os.environ:
        # The end of the interpreter may abort where threads of a process group are
        # still there, and torchrun would take that for the death of a rank. After a
        # Ctrl-C amid imports it may print a traceback, or end by the signal again.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
