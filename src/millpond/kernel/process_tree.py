"""The processes below another. Standard library only: it runs in tasks too."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def kill_below(root: int) -> None:
    """Kill all processes below one that adopts orphans, until there are none; what they start meanwhile too."""
    while below := _descendants(root):
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """Kill all below a process that adopts orphans; it stands still meanwhile, so that it starts no more of them, and
    is to be killed then."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    kill_below(pid)


def _descendants(root: int) -> list[int]:
    """Processes below one that still live; none where the system does not tell."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = place.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(place.parent.name))
    found: list[int] = []
    above = [root]
    while above:
        above = [pid for parent in above for pid in children.get(parent, ())]
        found += above
    return found
