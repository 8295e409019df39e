"""What the audit costs: on the caller's path of a request and of a change, and how fast the drain chains.

The peer of a request is the same application without the audit's door; of a change, the same transaction without the
outbox. The request is measured in CPU time of the process, system calls included, which a busy machine blurs little.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import text
from tests.postgres import fresh_database, postgres_server

from bench.report import heading, line, median, row
from millpond.audit import chain
from millpond.audit.door import AuditDoor
from millpond.audit.drain import Drain
from millpond.identity import acts
from millpond.journal import calls
from millpond.journal.domain import Event
from millpond.journal.spool import Spool
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema

REQUESTS = 3000
ROUNDS = 9
EVENTS = 20_000
SCOPE = {
    "type": "http", "method": "GET", "path": "/api/2.1/unity-catalog/tables/main.default.t", "query_string": b"",
    "client": ("127.0.0.1", 4711), "headers": [(b"host", b"x"), (b"user-agent", b"databricks-sdk-py/0.156 python/3.11"),
                                               (b"authorization", b"Bearer dapi0123456789abcdef")],
}  # fmt: skip


def main() -> None:
    """Each figure in turn."""
    with tempfile.TemporaryDirectory() as directory:
        calls.open_spool(Path(directory) / "spools")
        _requests()
        calls.close_spool()
        database = Database(f"sqlite:///{directory}/millpond.db")
        _on(database, "SQLite", Path(directory) / "drained")
    with postgres_server() as server, fresh_database(server) as url, tempfile.TemporaryDirectory() as directory:
        _on(Database(url), "PostgreSQL", Path(directory) / "drained")


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    calls.identified("7", "ada@example.com")
    calls.reached("see", "table", "main.default.t")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _nowhere(_message: Any) -> None:
    pass


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


async def _serve(app: Any) -> float:
    began = time.process_time()
    for _ in range(REQUESTS):
        await app(dict(SCOPE), _nothing, _nowhere)
    return (time.process_time() - began) / REQUESTS * 1e6


def _requests() -> None:
    heading(f"One request through the audit's door (CPU time, the write included; median of {ROUNDS} x {REQUESTS})")
    door = AuditDoor(_app)
    with_it, without = [], []
    for _ in range(ROUNDS):
        with_it.append(asyncio.run(_serve(door)))
        without.append(asyncio.run(_serve(_app)))
    row("an empty request with and without", median(with_it), median(without), "us")
    line("what the audit adds", median(with_it) - median(without), "us", goal="goal < 100 us")


def _on(database: Database, kind: str, spools: Path) -> None:
    ensure_schema(database)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE bench_changes (n INTEGER)"))
    heading(f"On {kind}")
    _changes(database)
    _drain(database, spools)
    database.dispose()


def _changes(database: Database) -> None:
    def change(told: bool) -> float:
        with database.write() as connection:
            connection.execute(text("INSERT INTO bench_changes VALUES (1)"))
            began = time.perf_counter()
            if told:
                acts.changed(connection, "ada@example.com", "create", "table", "main.default.t")
            return (time.perf_counter() - began) * 1e6

    told, whole, bare = [], [], []
    for _ in range(300):
        told.append(change(told=True))
        whole.append(_timed(lambda: change(told=True)))
        bare.append(_timed(lambda: change(told=False)))
    row("a change with and without, commit included", median(whole), median(bare), "us")
    line("what the outbox adds inside the transaction", median(told), "us")


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6


def _drain(database: Database, spools: Path) -> None:
    drain = Drain(database, spools)
    drain.run_once()
    spool = Spool(spools)
    for number in range(EVENTS):
        event = Event(act="GET", kind="path", name=f"/api/2.1/unity-catalog/tables/main.default.t{number}", door="http")
        spool.append(event.line())
    began = time.perf_counter()
    moved = drain.run_once()
    line(f"drain of {moved} events", moved / (time.perf_counter() - began), "/s")
    began = time.perf_counter()
    checked = chain.verify(database).checked
    line(f"verification of {checked} links", checked / (time.perf_counter() - began), "/s")


if __name__ == "__main__":
    main()
