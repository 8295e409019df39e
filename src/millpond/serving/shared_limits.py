"""What the servers of one database tell each other of the calls that they have let through.

Once a second each writes its own counts and reads what the others have written. So together they let through at most
what a limit allows and what comes to all but one of them within that second (and the time of the two transactions): a
server that has heard nothing of a burst elsewhere takes its part of it for the first. No request waits for any of this.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from millpond.kernel.database import Database, metadata
from millpond.kernel.ids import new_id
from millpond.serving.limits import Calls, Counted, RateLimiter

_PERIOD_S = 60
_KEPT_MINUTES = 10

rate_counts = Table(
    "serving_rate_counts",
    metadata,
    Column("server", String(36), primary_key=True),
    Column("endpoint_id", String(36), primary_key=True),
    Column("limit_key", String(20), primary_key=True),
    Column("counted_as", String(255), primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("calls", Integer, nullable=False),
)
"""Calls of a minute since 1970 that a server has let through, under the id that it has while it runs."""


class SharedLimits:
    """Keeps a limiter informed. All of it blocks, and only one thread does it."""

    def __init__(self, database: Database, limiter: RateLimiter) -> None:
        self._database = database
        self._limiter = limiter
        self._server = new_id()
        self._written: dict[Counted, Calls] = {}
        self._pruned = 0
        """The minute in which old counts were dropped last."""

    def look(self) -> list[str]:
        """One round; nothing where this server counts nothing, or is alone: SQLite has one server.

        Returns no endpoints: none of them has changed.
        """
        minute = int(time.time() // _PERIOD_S)
        if not self._database.is_sqlite:
            self._tell(minute)
        return []

    def _tell(self, minute: int) -> None:
        if counted := self._limiter.counted(minute):
            if news := list(self._news(counted)):
                with self._database.write() as connection:
                    _write(connection, self._server, news)
            self._written = counted
            with self._database.read() as connection:
                self._limiter.learn(_others(connection, self._server, minute), minute)
        if minute != self._pruned:
            with self._database.write() as connection:
                connection.execute(delete(rate_counts).where(rate_counts.c.minute < minute - _KEPT_MINUTES))
            self._pruned = minute

    def _news(self, counted: Mapping[Counted, Calls]) -> Iterator[tuple[Counted, int, int]]:
        """What is counted together, a minute, and its calls, where they are not written yet."""
        for key, calls in counted.items():
            if self._written.get(key) != calls:
                yield from ((key, at, number) for at, number in _by_minute(calls) if number)


def _by_minute(calls: Calls) -> tuple[tuple[int, int], tuple[int, int]]:
    return (calls.minute, calls.now), (calls.minute - 1, calls.before)


def _write(connection: Connection, server: str, news: Sequence[tuple[Counted, int, int]]) -> None:
    rows = [
        {"server": server, "endpoint_id": endpoint_id, "limit_key": key, "counted_as": who, "minute": minute,
         "calls": calls}
        for (endpoint_id, key, who), minute, calls in news
    ]  # fmt: skip
    made = insert(rate_counts)
    key = [column.name for column in rate_counts.primary_key]
    connection.execute(made.on_conflict_do_update(index_elements=key, set_={"calls": made.excluded.calls}), rows)


def _others(connection: Connection, server: str, minute: int) -> dict[Counted, Calls]:
    """What all but one server have counted in a minute and the one before it."""
    counts = rate_counts.c
    together = (counts.endpoint_id, counts.limit_key, counts.counted_as)
    query = select(
        *together,
        func.sum(case((counts.minute == minute, counts.calls), else_=0)),
        func.sum(case((counts.minute == minute - 1, counts.calls), else_=0)),
    ).where(counts.server != server, counts.minute.in_([minute, minute - 1]))
    rows = connection.execute(query.group_by(*together))
    return {(endpoint_id, key, who): Calls(minute=minute, now=int(now), before=int(before))
            for endpoint_id, key, who, now, before in rows}  # fmt: skip
