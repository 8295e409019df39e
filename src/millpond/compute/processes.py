"""Processes of this machine: who is below whom, what they use, and on which cores they run. Linux."""

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from millpond.compute.machine import Machine
from millpond.kernel.settings import ComputeSettings

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A process as it was seen."""

    parent: int
    processor_s: float
    started: int
    """When, in the system's ticks: tells it from another process that has its id later."""


def seen() -> dict[int, Seen]:
    """All processes that live; none where the system does not tell."""
    found: dict[int, Seen] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = place.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(place.parent.name)] = Seen(
                    parent=int(fields[1]), processor_s=(int(fields[11]) + int(fields[12])) / _TICKS,
                    started=int(fields[19]),
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


def keep_on(pids: Iterable[int], cores: Collection[int]) -> None:
    """Have processes run on some cores alone, with all their threads; nothing where the system cannot."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        return
    wanted = set(cores)
    for pid in pids:
        with suppress(OSError):
            threads = [int(each) for each in os.listdir(f"/proc/{pid}/task")]
            for thread in threads:
                if os.sched_getaffinity(thread) != wanted:
                    os.sched_setaffinity(thread, wanted)


def cores_here() -> tuple[int, ...]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def machine_memory_mb() -> int:
    """Memory of this machine, or of the control group that this process is in."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(limit).read_text()))
    return total >> 20


def machine_of(settings: ComputeSettings) -> Machine:
    """This machine, as clusters may use it."""
    return Machine(
        cores=len(cores_here()), memory_mb=int(machine_memory_mb() * settings.memory_share),
        cores_factor=settings.cores_factor,
    )  # fmt: skip
