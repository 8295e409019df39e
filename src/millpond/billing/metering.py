"""A meter: it looks at processes again and again, and adds what they used since to the records of the hour.

Its counters are in memory. All that it looks at dies with this process, so a killed server counts nothing twice, and
loses what was used since the last round.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import Connection

from millpond.billing.domain import Resource, Subject, Used
from millpond.billing.store import usage as rows
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.gpus import gpus_in_use
from millpond.kernel.logs import get_logger
from millpond.kernel.process_usage import age_s, memory_mb, seen, with_all_below
from millpond.kernel.rounds import rounds

log = get_logger(__name__)
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Processes whose use is somebody's."""

    key: Hashable
    subject: Subject
    pids: Sequence[int]
    """Of those that stand above the others."""


@dataclass(frozen=True, kw_only=True)
class _Tree:
    processor_s: float
    memory_mb: int
    at_s: float


def record(connection: Connection, at: datetime, used: Iterable[tuple[Subject, Used]]) -> None:
    """Add to the records of an hour, in the transaction of what used it."""
    rows.add(connection, at, used)


class Counts(Generic[K]):
    """How often something was asked, until a round takes it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[K] = Counter()

    def add(self, key: K) -> None:
        """Once more."""
        with self._lock:
            self._counted[key] += 1

    def taken(self) -> Counter[K]:
        """All since the last time."""
        with self._lock:
            taken, self._counted = self._counted, Counter()
        return taken


Trees = Callable[[], Iterable[Tracked]]
Counted = Callable[[], Iterable[tuple[Subject, Used]]]


class Looks:
    """What processes use that are looked at by themselves, until their end. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alone: dict[Hashable, _Tree] = {}
        self._of_alone: dict[Hashable, tuple[Subject, Used]] = {}
        """What they used, and is not told yet."""

    def look(self, tracked: Tracked) -> None:
        """Look at some processes now; `finish` tells their end."""
        for subject, used in self._looked([tracked], self._alone):
            with self._lock:
                before = self._of_alone.get(tracked.key, (subject, {}))[1]
                self._of_alone[tracked.key] = (subject, _added(before, used))

    def finish(self, key: Hashable, processor_s: float) -> Used:
        """What processes have used that is not told yet, and have ended after so much processor time of all."""
        with self._lock:
            tree = self._alone.pop(key, None)
            waiting = self._of_alone.pop(key, (None, {}))[1]
        if tree is None:
            return {Resource.CPU: processor_s}
        gib_s = tree.memory_mb / 1024 * (time.monotonic() - tree.at_s)
        rest = {Resource.CPU: max(0.0, processor_s - tree.processor_s), Resource.MEMORY: gib_s}
        return _added(waiting, rest)

    def _looked(self, tracked: Sequence[Tracked], known: dict[Hashable, _Tree]) -> list[tuple[Subject, Used]]:
        if not tracked:
            return []
        tree, gpus, now_s = seen(), gpus_in_use(), time.monotonic()
        found: list[tuple[Subject, Used]] = []
        for each in tracked:
            roots = [pid for pid in each.pids if pid in tree]
            if not roots:
                continue
            mine = with_all_below(tree, roots)
            now = _Tree(
                processor_s=sum(tree[pid].processor_s + tree[pid].reaped_s for pid in mine),
                memory_mb=sum(memory_mb(pid) for pid in mine),
                at_s=now_s,
            )
            with self._lock:
                before, known[each.key] = known.get(each.key), now
            elapsed_s = now_s - before.at_s if before else max(age_s(tree[pid]) for pid in roots)
            computing = frozenset[str]().union(*(gpus.get(pid, frozenset()) for pid in mine))
            used = {
                Resource.CPU: max(0.0, now.processor_s - (before.processor_s if before else 0.0)),
                Resource.MEMORY: now.memory_mb / 1024 * elapsed_s,
                Resource.GPU: len(computing) * elapsed_s,
            }
            found.append((each.subject, used))
        return found


class Meter(Looks):
    """Adds up what is used, and writes it. Thread-safe."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._trees: dict[Hashable, _Tree] = {}
        """Of what rounds look at."""
        self._waiting: list[tuple[Subject, Used]] = []
        self._sources: list[Trees] = []
        self._counters: list[Counted] = []

    def watch(self, source: Trees) -> None:
        """Look at what a source names, in each round."""
        self._sources.append(source)

    def count(self, source: Counted) -> None:
        """Ask a source in each round what was used since the last."""
        self._counters.append(source)

    def at_work(self, interval_s: float) -> AbstractContextManager[None]:
        """Rounds while the block runs, and one after it."""
        failure = "usage was not metered"
        return rounds(self.round, name="meter", interval_s=interval_s, log=log, failure=failure, last=True)

    def round(self) -> None:
        """Look at all, and write what was used since."""
        tracked = [each for source in self._sources for each in source()]
        counted = [each for source in self._counters for each in source()]
        found = self._looked(tracked, self._trees)
        with self._lock:
            looked_at = {each.key for each in tracked}
            self._trees = {key: tree for key, tree in self._trees.items() if key in looked_at}
            told = [*self._waiting, *self._of_alone.values(), *counted, *found]
            self._waiting, self._of_alone = [], {}
        if not told:
            return
        try:
            with self._database.write() as connection:
                rows.add(connection, utc_now(), told)
        except Exception:
            with self._lock:
                self._waiting = [*told, *self._waiting]
            raise

    def note(self, subject: Subject, used: Used) -> None:
        """Something was used, that is written in the next round."""
        with self._lock:
            self._waiting.append((subject, used))


def _added(one: Used, other: Used) -> Used:
    return {resource: one.get(resource, 0.0) + other.get(resource, 0.0) for resource in {*one, *other}}
