"""What clusters use, looked at once a second: for their pages, for scaling, and so that none takes more than it has."""

import os
import signal
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from millpond.compute.drivers import Driver
from millpond.compute.machine import Load, over_memory
from millpond.compute.processes import keep_on
from millpond.kernel.clock import utc_now
from millpond.kernel.process_usage import Seen, memory_mb, seen, with_all_below

_KEPT = 300
"""Looks."""
_WAITING_CORES = 0.2
"""Processes that wait for something to do use less."""
ENGINES = "engines"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One look."""

    at: datetime
    used_cores: float
    memory_mb: int
    processes: int


class Monitor:
    """Looks at the processes of clusters."""

    def __init__(self, root: Path) -> None:
        """`root` is where the gateway notes the engines of clusters: `CLUSTER/engines/PID`, with when it began."""
        self._root = root
        self._looks: dict[str, deque[Usage]] = {}
        self._before: dict[str, tuple[float, dict[int, float]]] = {}
        self.loads: dict[str, Load] = {}

    def look(self, drivers: Mapping[str, Driver], limits_mb: Mapping[str, int], now_s: float) -> dict[str, int]:
        """Look at all clusters; those of which a process was ended for want of memory, with that process."""
        for gone in set(self._looks) - set(drivers):
            for kept in (self._looks, self._before, self.loads):
                kept.pop(gone, None)
        if not drivers:
            return {}
        tree, ended = seen(), {}
        for cluster_id, driver in drivers.items():
            mine = with_all_below(tree, [driver.pid, *self.engines(cluster_id, tree)])
            keep_on(mine, driver.cores)
            used_mb = {pid: memory_mb(pid) for pid in mine}
            times = {pid: tree[pid].processor_s for pid in mine}
            before_s, before = self._before.get(cluster_id, (now_s, times))
            spent = sum(time_s - before.get(pid, 0.0) for pid, time_s in times.items())
            used = max(0.0, spent) / (now_s - before_s) if now_s > before_s else 0.0
            self._before[cluster_id] = (now_s, times)
            look = Usage(at=utc_now(), used_cores=used, memory_mb=sum(used_mb.values()), processes=len(mine))
            self._looks.setdefault(cluster_id, deque(maxlen=_KEPT)).append(look)
            largest = over_memory({p: mb for p, mb in used_mb.items() if p != driver.pid}, limits_mb[cluster_id])
            if largest is not None:
                with suppress(ProcessLookupError):
                    os.kill(largest, signal.SIGKILL)
                ended[cluster_id] = largest
        return ended

    def looks(self, cluster_id: str) -> tuple[Usage, ...]:
        """What a cluster has used lately."""
        return tuple(self._looks.get(cluster_id, ()))

    def memory_mb(self, cluster_id: str, driver: Driver) -> int:
        """What a cluster's processes have now."""
        tree = seen()
        mine = with_all_below(tree, [driver.pid, *self.engines(cluster_id, tree)])
        return sum(map(memory_mb, mine))

    def computes(self, cluster_id: str) -> bool:
        """Whether it does more than to wait, as when a query runs that no command sent."""
        looks = self.looks(cluster_id)
        return bool(looks) and looks[-1].used_cores > _WAITING_CORES

    def end_engines(self, cluster_id: str) -> None:
        """End the engines of a cluster, which the gateway has started."""
        if not any((self._root / cluster_id / ENGINES).glob("[0-9]*")):
            return
        for pid in self.engines(cluster_id, seen()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def engines(self, cluster_id: str, tree: Mapping[int, Seen]) -> list[int]:
        """The engines of a cluster that live."""
        found = []
        for place in (self._root / cluster_id / ENGINES).glob("[0-9]*"):
            pid = int(place.name)
            with suppress(OSError, ValueError):
                if pid in tree and tree[pid].started == int(place.read_text()):
                    found.append(pid)
        return found
