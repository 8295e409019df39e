"""What time takes away: results after their hour, idle warehouses, old history. On both databases."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from millpond.engine.client import GatewayClient
from millpond.identity.domain import SYSTEM
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from millpond.kernel.settings import Settings
from millpond.sql.domain import STARTER_ID, HistoryFilter, StatementState, WarehouseState
from millpond.sql.results import Limits, ResultWriter
from millpond.sql.room import SqlRoom, open_sql
from millpond.sql.store import statements as rows
from tests.billing.free import quotas_of
from tests.sql.test_results import statement


@pytest.fixture
def room(database: Database, tmp_path: Path) -> SqlRoom:
    """SQL without a gateway behind it: nothing runs here."""
    gateway = GatewayClient(tmp_path / "gateway.sock", lambda _principal, _ttl_s, paths: "")
    return open_sql(
        database, gateway, Settings(data_dir=tmp_path), find_name=lambda name: name,
        principal_named=lambda _name: SYSTEM, check_target=lambda _who, _target: None, quotas=quotas_of(database),
    )  # fmt: skip


def ended(room: SqlRoom, database: Database, number: int, *, ago: timedelta) -> str:
    """A statement that succeeded some time ago, with a result of one row."""
    at = utc_now() - ago
    one = replace(statement(number), submitted_at=at)
    with database.write() as connection:
        rows.add(connection, one)
    writer = ResultWriter(room.runtime.results, one, Limits())
    writer.add(pa.RecordBatch.from_pydict({"n": [number]}))
    manifest = writer.finish(pa.schema([("n", pa.int64())]))
    done = replace(one, state=StatementState.SUCCEEDED, started_at=at, ended_at=at, manifest=manifest)
    with database.write() as connection:
        rows.end(connection, done)
    room.runtime.results.room.keep(done)
    return one.id


def test_results_go_after_an_hour_and_statements_after_the_days_of_the_history(
    room: SqlRoom, database: Database
) -> None:
    with room.at_work():
        fresh = ended(room, database, 1, ago=timedelta(minutes=59))
        stale = ended(room, database, 2, ago=timedelta(minutes=61))
        old = ended(room, database, 3, ago=timedelta(days=31))
        room.runtime.keep_house()
        assert room.statements.chunk(SYSTEM, fresh, 0).to_pydict() == {"n": [1]}
        assert room.statements.get(SYSTEM, stale).state is StatementState.CLOSED
        with pytest.raises(NotFound):
            room.statements.chunk(SYSTEM, stale, 0)
        with pytest.raises(NotFound):
            room.statements.get(SYSTEM, old)
        assert [one.id for one in room.queries.history(SYSTEM, HistoryFilter()).items] == [stale, fresh]


def test_a_warehouse_that_nobody_uses_stops(room: SqlRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    with room.at_work():
        room.warehouses.stop_idle()
        assert room.warehouses.get(SYSTEM, STARTER_ID).state is WarehouseState.RUNNING
        monkeypatch.setattr(room.runtime, "idle_s", lambda _id, *, since: since + 121 * 60)
        room.warehouses.stop_idle()
        assert room.warehouses.get(SYSTEM, STARTER_ID).state is WarehouseState.STOPPED
