"""How a benchmark says what it measured: medians, and ratios between what ran in the same run."""

import os
import platform
import statistics
from collections.abc import Sequence


def heading(title: str) -> None:
    """What is measured, on what machine, under what load."""
    load = os.getloadavg()[0]
    print(
        f"\n{title}\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}"
    )
    if load > 1:
        print("The machine is busy: read the ratios, not the times.")


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def row(name: str, ours: float, peer: float, unit: str, *, goal: str = "") -> None:
    """One line: our figure, the peer's, and ours divided by the peer's."""
    print(f"  {name:<44} {ours:>10.2f} {unit:<3} peer {peer:>10.2f} {unit:<3} ratio {ours / peer:>6.2f}  {goal}")


def line(name: str, value: float, unit: str, *, goal: str = "") -> None:
    """One line with a figure that has no peer."""
    print(f"  {name:<44} {value:>10.2f} {unit:<3} {'':<32}{goal}")
