"""Drivers that wait for clusters of instance pools."""

import threading
import time
from collections.abc import Callable, Iterable

from millpond.compute.domain import Pool
from millpond.compute.drivers import Driver
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger

log = get_logger(__name__)


class WarmDrivers:
    """Ready drivers, by pool."""

    def __init__(self, make: Callable[[str], Driver]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, Driver]]] = {}
        self._starting: dict[str, int] = {}

    def count(self, pool_id: str) -> tuple[int, int]:
        """How many wait, and how many are being started."""
        with self._lock:
            return len(self._idle.get(pool_id, ())), self._starting.get(pool_id, 0)

    def any(self) -> bool:
        """Whether some wait."""
        return bool(self._idle)

    def take(self, pool_id: str) -> Driver | None:
        """A driver that answers, if one waits."""
        while True:
            with self._lock:
                waiting = self._idle.get(pool_id)
                if not waiting:
                    return None
                _, driver = waiting.pop()
            if driver.answers():
                return driver
            driver.close()

    def tend(self, pools: Iterable[Pool], used: Callable[[Pool], int]) -> None:
        """Have as many wait as each pool wants, within its capacity. Blocks while they start."""
        known = {pool.id: pool for pool in pools}
        for pool_id in set(self._idle) - set(known):
            self._drop(pool_id, keep=0, after_s=0.0)
        for pool in known.values():
            room = None if pool.max_capacity is None else max(0, pool.max_capacity - used(pool))
            wanted = pool.min_idle if room is None else min(pool.min_idle, room)
            self._drop(
                pool.id,
                keep=wanted,
                after_s=0.0 if room is not None and room < pool.min_idle else 60.0 * pool.idle_minutes,
            )
            while sum(self.count(pool.id)) < wanted:
                if not self._add(pool.id):
                    break

    def close(self) -> None:
        """End them all."""
        for pool_id in list(self._idle):
            self._drop(pool_id, keep=0, after_s=0.0)

    def _add(self, pool_id: str) -> bool:
        with self._lock:
            self._starting[pool_id] = self._starting.get(pool_id, 0) + 1
        driver = self._make(f"pool-{pool_id}")
        try:
            driver.start()
        except MillpondError as error:
            log.error("a driver of an instance pool could not be started", pool=pool_id, error=error.message)
            return False
        finally:
            with self._lock:
                self._starting[pool_id] -= 1
        with self._lock:
            self._idle.setdefault(pool_id, []).append((time.monotonic(), driver))
        return True

    def _drop(self, pool_id: str, *, keep: int, after_s: float) -> None:
        limit = time.monotonic() - after_s
        with self._lock:
            waiting = self._idle.get(pool_id, [])
            spare = [each for each in waiting[: max(0, len(waiting) - keep)] if each[0] <= limit]
            self._idle[pool_id] = [each for each in waiting if each not in spare]
            if not self._idle[pool_id]:
                del self._idle[pool_id]
        for _, driver in spare:
            driver.close()
