"""What a worker is."""

import sys
from dataclasses import dataclass
from datetime import datetime

PYTHON = "{}.{}".format(*sys.version_info)
"""Of servers and workers, which are alike."""
LONGEST_PART = 1 << 20
"""Bytes of an output that are told at once."""
LOG = "log"
COMES = "~"
"""Behind the name of what has not come whole."""
MOST_LOG_BYTES = 16 << 20
"""Of what a task on a worker prints; the rest is left out."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that runs tasks on some machine."""

    id: str
    name: str
    account: str
    """Whose credential it has."""
    slots: int
    """Tasks at once."""
    version: str
    address: str
    """Where it was seen."""
    draining: bool
    """Whether it finishes what it has, and takes no more."""
    came_at: datetime
    seen_at: datetime
