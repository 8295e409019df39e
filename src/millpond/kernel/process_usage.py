"""What processes of this machine use, and who is below whom. Linux; elsewhere nothing is seen."""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A process as it was seen."""

    parent: int
    processor_s: float
    reaped_s: float = 0.0
    """What its children have used that have ended, and theirs."""
    started: int
    """When, in the system's ticks: tells it from another process that has its id later."""


def seen() -> dict[int, Seen]:
    """All processes that live; none where the system does not tell."""
    found: dict[int, Seen] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = place.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                user, system, reaped_user, reaped_system = map(int, fields[11:15])
                found[int(place.parent.name)] = Seen(
                    parent=int(fields[1]), processor_s=(user + system) / _TICKS,
                    reaped_s=(reaped_user + reaped_system) / _TICKS, started=int(fields[19]),
                )  # fmt: skip
    return found


def with_all_below(tree: Mapping[int, Seen], roots: Collection[int]) -> set[int]:
    """Processes, and all that they have started, directly or not."""
    children: dict[int, list[int]] = {}
    for pid, each in tree.items():
        children.setdefault(each.parent, []).append(pid)
    found: set[int] = set()
    above = [pid for pid in roots if pid in tree]
    while above:
        found.update(above)
        above = [child for pid in above for child in children.get(pid, ()) if child not in found]
    return found


def memory_mb(pid: int) -> int:
    """Memory that a process has for itself, and its part of what it shares with others; 0 for what is gone."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) >> 10
    with suppress(OSError, ValueError, IndexError):
        resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
        return (resident - shared) * _PAGE_KB >> 10
    return 0


def age_s(process: Seen) -> float:
    """For how long a process has run; 0 where the system does not tell."""
    with suppress(OSError, ValueError):
        up_s = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, up_s - process.started / _TICKS)
    return 0.0
