"""The tune command alone, as a script that a launcher can start in several processes."""

import argparse
import sys

from a3tune.cli.tune import run
from a3tune.training.options import add_tune_arguments

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_tune_arguments(parser)
    sys.exit(run(parser.parse_args()))
