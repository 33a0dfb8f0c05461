"""The command line: ``python -m a3tune <command>``. Each command prints a short summary and exits non-zero on bad
input with one clear line.

A command is a module with ``HELP``, ``add_arguments(parser)`` and ``run(options)``; ``options.given`` names those that
are not the defaults. Its options, and all that can be
told before a model is needed, come without torch, which takes seconds to load.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from a3tune import __version__
from a3tune.cli import app, demo, dicomweb, doctor, eval, export, inspect, labels, parity, tune
from a3tune.cli.ineffective_options import given_options
from a3tune.errors import A3TuneError, NotEnoughMemoryError, is_lack_of_memory, lack_in_words
from a3tune.memory_advice import TO_GO_ON
from a3tune.process import RUN, prepare_process

COMMANDS = {
    "app": app,
    "inspect": inspect,
    "labels": labels,
    "tune": tune,
    "eval": eval,
    "export": export,
    "dicomweb": dicomweb,
    "demo": demo,
    "parity": parity,
    "doctor": doctor,
}
BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a check that failed, 2 for bad input."""
    parser, parsers = _parser()
    options = parser.parse_args(arguments)
    options.given = given_options(options, parsers[options.command])
    prepare_process(RUN)
    try:
        return COMMANDS[options.command].run(options)
    except A3TuneError as error:
        print(f"a3tune {options.command}: {error}", file=sys.stderr)
    except (OSError, RuntimeError, MemoryError) as error:
        if is_lack_of_memory(error):
            told = str(_lack_of_memory(error))
        elif isinstance(error, OSError):
            told = _system_error(error)
        else:
            raise
        print(f"a3tune {options.command}: {told}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"a3tune {options.command}: stopped.", file=sys.stderr)
        return 130
    return BAD_INPUT


def _lack_of_memory(error: BaseException) -> NotEnoughMemoryError:
    return NotEnoughMemoryError(expected="enough memory for this command", got=lack_in_words(error), remedy=TO_GO_ON)


def _system_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}. Check the path, its permissions and the free space."


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and that of each command."""
    parser = argparse.ArgumentParser(prog="python -m a3tune", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=f"a3tune {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    parsers = {name: commands.add_parser(name, help=command.HELP) for name, command in COMMANDS.items()}
    for name, command in COMMANDS.items():
        command.add_arguments(parsers[name])
    return parser, parsers
