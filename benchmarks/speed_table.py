"""What was measured, as a table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

# By the first word of what is timed, and the way.
LIMITS = {
    ("prefill", "critical heads"): 1.02,
    ("prefill", "all heads"): 1.10,
    ("answer", "critical heads"): 1.05,
    ("answer", "all heads"): 1.10,
    ("question", "base, first"): 1.05,
    ("base,", "all three, one batch"): 2.20,
    ("training", "A3Tune"): 1.05,
}


@dataclass
class Figures:
    """What one way cost in each pair of turns: seconds of wall clock and of the thread's processor time for one turn,
    bytes above the shared weights, and the share of the thread's time that was spent in taking in attention."""

    wall: list[float]
    thread: list[float]
    memory: list[int]
    capture: list[float]


@dataclass(frozen=True)
class Row:
    """One line of the table; ``limit`` is the largest ratio that was wanted, for time and for memory, ``spread`` the
    quartiles of the pairs' ratios of time."""

    what: str
    wall: float
    seconds: float
    slower: float
    spread: tuple[float, float]
    peak: float
    larger: float
    limit: float | None
    pairs: int
    capture: float


def tabulate(title: str, figures: dict[str, Figures], weights: int, clock: str) -> list[Row]:
    """Medians, and ratios to the first way."""
    first = next(iter(figures.values()))
    rows = []
    for name, taken in figures.items():
        pairs = zip(getattr(taken, clock), getattr(first, clock), strict=True)
        ratios = [own / plain for own, plain in pairs]
        quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
        peak = weights + statistics.median(taken.memory)
        rows.append(
            Row(
                what=f"{title}: {name}",
                wall=statistics.median(taken.wall),
                seconds=statistics.median(getattr(taken, clock)),
                slower=statistics.median(ratios),
                spread=(quartiles[0], quartiles[2]),
                peak=peak,
                larger=peak / (weights + statistics.median(first.memory)),
                limit=LIMITS.get((title.split()[0], name)),
                pairs=len(taken.wall),
                # A GPU's work is only asked for inside, and with gradients it is done later.
                capture=statistics.median(taken.capture) if clock == "thread" and "training" not in title else 0.0,
            )
        )
    return rows


def markdown(rows: list[Row], peaks: list[tuple[str, str, int, int]]) -> str:
    """Both tables."""
    lines = [
        "| what | time | wall | x time | middle half | capture itself | peak memory | x memory | wanted | pairs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        wanted = "" if row.limit is None else f"at most {row.limit:.2f} x"
        capture = f"{100 * row.capture:.2f} %" if row.capture else ""
        lines.append(
            f"| {row.what} | {1e3 * row.seconds:.0f} ms | {1e3 * row.wall:.0f} ms | {row.slower:.3f} "
            f"| {row.spread[0]:.3f} to {row.spread[1]:.3f} | {capture} "
            f"| {row.peak / 1e9:.3f} GB | {row.larger:.3f} | {wanted} | {row.pairs} |"
        )
    lines += ["", "| loading | weights | peak | above the weights | wanted |", "| --- | ---: | ---: | ---: | ---: |"]
    for stored, loaded, size, peak in peaks:
        more = f"{100 * (peak / size - 1):+.1f} %" if size else ""
        lines.append(
            f"| stored in {stored}, loaded in {loaded} | {size / 1e6:.0f} MB | {peak / 1e6:.0f} MB | {more} | +10 % |"
        )
    return "\n".join(lines)
