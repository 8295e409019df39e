"""Work that waits in the database: put there in the transaction of what makes it necessary, done at least once.

A worker has an item for as long as it renews its lease; whoever dies with an item leaves it to the next. So a handler
may see an item twice, and must be harmless then. A handler that raises is tried again, later each time, until its
attempts end.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, String, Table, Text, delete, insert, select, update

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database, Json, UtcDateTime, metadata
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds

QUEUED, DONE, FAILED = "queued", "done", "failed"
_POLL_S = 0.5
_LONGEST_PAUSE_S = 3600.0
_TIDY_EVERY_S = 3600.0
_KEPT = timedelta(days=30)
"""What has ended stays so long, to be looked at."""

log = get_logger(__name__)

items = Table(
    "work_items",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("payload", Json, nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_work_items_state_kind_due_at", "state", "kind", "due_at"),
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something to do."""

    id: str
    kind: str
    payload: Mapping[str, Any]
    attempt: int
    """1 for the first."""
    is_last: bool
    """Whether it is not tried again when it fails."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """How items of a kind are done."""

    run: Callable[[Item], None]
    attempts: int = 1
    pause_s: float = 1.0
    """After the first failure; three times as long after each further one."""
    threads: int = 1
    """As many items are done at once."""
    lease_s: float = 20.0
    """Renewed while an item is done; after it, whoever had the item is taken for dead."""


def enqueue(connection: Connection, kind: str, payload: Mapping[str, Any]) -> str:
    """Put something to be done there, in the caller's transaction; returns the item's id."""
    now, item_id = utc_now(), new_id()
    values = {"id": item_id, "kind": kind, "payload": dict(payload), "state": QUEUED, "attempts": 0, "due_at": now,
              "error": "", "created_at": now}  # fmt: skip
    connection.execute(insert(items).values(values))
    return item_id


class Worker:
    """Does what waits. Several processes may have one on the same PostgreSQL."""

    def __init__(self, database: Database, handlers: Mapping[str, Handler]) -> None:
        self._database = database
        self._handlers = handlers
        self._tidied = -_TIDY_EVERY_S

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Work while the block runs. One look for all kinds wakes the threads of those that have something to do."""
        stopped, due = threading.Event(), {kind: threading.Event() for kind in self._handlers}
        with ExitStack() as stack:
            self._reclaim()
            for kind in (kind for kind, handler in self._handlers.items() for _ in range(handler.threads)):
                arguments = (kind, due[kind], stopped)
                thread = threading.Thread(target=self._run, args=arguments, name=f"work-{kind}", daemon=True)
                thread.start()
                stack.callback(thread.join, 10)
            for each in due.values():
                each.set()
                stack.callback(each.set)
            stack.callback(stopped.set)
            look = partial(self._look, due)
            failure = "work cannot be looked for"
            stack.enter_context(rounds(look, name="work", interval_s=_POLL_S, log=log, failure=failure))
            yield

    def run_due(self, kind: str) -> bool:
        """Do the next item of a kind that is due; whether there was one."""
        item = self._claim(kind)
        if item is None:
            return False
        handler = self._handlers[kind]
        try:
            with self._leased(item, handler):
                handler.run(item)
        except Exception as error:  # the boundary of a work item
            self._failed(item, handler, error)
        else:
            self._write(item.id, state=DONE, ended_at=utc_now(), error="")
        return True

    def _run(self, kind: str, due: threading.Event, stopped: threading.Event) -> None:
        while due.wait() and not stopped.is_set():
            due.clear()
            try:
                while not stopped.is_set() and self.run_due(kind):
                    pass
            except Exception as error:  # the database is away: the next look tries again
                log.error("work cannot be taken on", kind=kind, exc_info=error)

    def _look(self, due: Mapping[str, threading.Event]) -> None:
        """Wake the threads of the kinds of which something is due."""
        if time.monotonic() - self._tidied > _TIDY_EVERY_S:
            self._tidied = time.monotonic()
            self._tidy()
        waiting = (items.c.state == QUEUED, items.c.kind.in_(due), items.c.due_at <= utc_now())
        with self._database.read() as connection:
            kinds = connection.execute(select(items.c.kind).where(*waiting).distinct()).scalars().all()
        for kind in kinds:
            due[kind].set()

    def _reclaim(self) -> None:
        """On SQLite there is one server: what an earlier one had begun is nobody's any more."""
        if self._database.is_sqlite:
            begun = (items.c.state == QUEUED, items.c.kind.in_(self._handlers))
            with self._database.write() as connection:
                connection.execute(update(items).where(*begun).values(due_at=utc_now()))

    def _tidy(self) -> None:
        old = items.c.ended_at < utc_now() - _KEPT
        with self._database.write() as connection:
            connection.execute(delete(items).where(items.c.kind.in_(self._handlers), old))

    def _claim(self, kind: str) -> Item | None:
        """The next item, leased: due again when the lease ends. A look without a lock comes first."""
        handler, now = self._handlers[kind], utc_now()
        due = (items.c.state == QUEUED, items.c.kind == kind, items.c.due_at <= now)
        query = select(items).where(*due).order_by(items.c.due_at).limit(1)
        with self._database.read() as connection:
            if connection.execute(query).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            leased = {"attempts": row.attempts + 1, "due_at": now + timedelta(seconds=handler.lease_s)}
            connection.execute(update(items).where(items.c.id == row.id).values(leased))
        attempt = row.attempts + 1
        return Item(id=row.id, kind=kind, payload=row.payload, attempt=attempt, is_last=attempt >= handler.attempts)

    def _leased(self, item: Item, handler: Handler) -> AbstractContextManager[None]:
        """The item stays ours while the block runs."""

        def renew() -> None:
            self._write(item.id, due_at=utc_now() + timedelta(seconds=handler.lease_s))

        return rounds(
            renew, name=f"lease-{item.kind}", interval_s=handler.lease_s / 4, log=log, failure="a lease was not renewed"
        )

    def _failed(self, item: Item, handler: Handler, error: Exception) -> None:
        log.warning("work failed", kind=item.kind, item=item.id, attempt=item.attempt, error=str(error)[:500])
        told = f"{type(error).__name__}: {error}"[:2000]
        if item.is_last:
            self._write(item.id, state=FAILED, ended_at=utc_now(), error=told)
            return
        pause_s = min(handler.pause_s * 3 ** (item.attempt - 1), _LONGEST_PAUSE_S)
        pause_s *= 1 + random.random() / 10  # noqa: S311 - so that what failed together does not return together
        self._write(item.id, due_at=utc_now() + timedelta(seconds=pause_s), error=told)

    def _write(self, item_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(items).where(items.c.id == item_id).values(values))
