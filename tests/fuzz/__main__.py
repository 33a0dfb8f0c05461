"""Read thousands of spoilt files and print what came of them: ``make fuzz``."""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.harness import Finding, Tally, Target, keep, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs in all, shared out by the targets' weights")
    parser.add_argument("--seed", type=int, default=0, help="another number, other inputs")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one; may be given several times")
    parser.add_argument("--number", type=int, help="only this input of the target")
    parser.add_argument("--keep", type=Path, help="folder for one input of each kind of finding")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    targets = {name: target for name, target in TARGETS.items() if not chosen.target or name in chosen.target}
    whole = sum(target.weight for target in targets.values())

    def read(target: Target) -> Tally:
        count = math.ceil(chosen.inputs * target.weight / whole)
        number = chosen.number
        return run(target, chosen.seed, range(count) if number is None else range(number, number + 1))

    with ThreadPoolExecutor(chosen.processes) as pool:
        tallies = dict(zip(targets, pool.map(read, targets.values()), strict=True))
    print_table(tallies)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    print_findings(findings)
    if chosen.keep:
        keep(findings, targets, chosen.seed, chosen.keep)
    return bool(findings)


def print_table(tallies: dict[str, Tally]) -> None:
    print(f"{'target':<16}{'inputs':>8}{'read':>8}{'refused':>9}{'findings':>10}{'seconds':>9}  slowest (input)")
    for name, tally in tallies.items():
        seconds, number = tally.slowest
        print(
            f"{name:<16}{tally.inputs:>8}{tally.read:>8}{tally.refused:>9}{len(tally.findings):>10}{tally.seconds:>9.0f}"
            f"  {seconds:.2f} s ({number})"
        )
    print(f"{'in all':<16}{sum(tally.inputs for tally in tallies.values()):>8}")


def print_findings(findings: list[Finding]) -> None:
    for key in dict.fromkeys(finding.key for finding in findings):
        same = [finding for finding in findings if finding.key == key]
        first = same[0]
        print(f"{first.target} {first.number}: {first.kind} at {first.place}, {len(same)} x: {first.words}")


if __name__ == "__main__":
    raise SystemExit(main())
