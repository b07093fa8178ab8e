"""``python -m tokenloom`` is the command ``tokenloom``."""

import sys

from tokenloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
