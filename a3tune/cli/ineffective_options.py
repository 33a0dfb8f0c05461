"""Options that would change nothing beside the others that are given: refused by name, never ignored in silence."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from a3tune.errors import RequestError


def given_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> frozenset[str]:
    """Names of the options whose values are not the parser's defaults."""
    return frozenset(name for name, value in vars(options).items() if value != parser.get_default(name))


def refuse_ineffective(options: argparse.Namespace, names: Iterable[str], why: str, expected: str) -> None:
    """Refuse the first of some options that is given.

    Args:
        options: of the command, with "given" (see `given_options`).
        names: as the namespace has them.
        why: completes "--name is given".
        expected: what they need.

    Raises:
        RequestError: one of them is given.
    """
    for name in names:
        if name in options.given:
            option = f"--{name.replace('_', '-')}"
            raise RequestError(
                expected=expected,
                got=f"{option} is given {why}, where it changes nothing",
                remedy=f"Leave {option} out",
            )
