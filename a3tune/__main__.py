"""``python -m a3tune``: the command line."""

import sys

from a3tune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
