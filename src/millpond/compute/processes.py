"""On which cores processes run, and what there is of this machine. Linux."""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from millpond.compute.machine import Machine
from millpond.kernel.settings import ComputeSettings


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
