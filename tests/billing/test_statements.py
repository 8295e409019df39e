"""A statement of Spark Connect counts once, however often it is delivered."""

from pathlib import Path

from millpond.billing.store import usage as rows
from millpond.billing.store.usage import Wanted
from millpond.engine.history import Executed
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.sql.history import HistoryTable, SparkHistory

ADMIN = Principal(id="1", name="root", kind=PrincipalKind.USER, is_admin=True)


def executed(text: str, spent_ms: int | None) -> Executed:
    return Executed(
        principal_id="2", principal_name="ann", session="s", client="c", text=text, began_us=1, ended_us=2, rows=1,
        size_bytes=1, spent_ms=spent_ms,
    )  # fmt: skip


def test_a_statement_that_is_delivered_twice_is_one_request(database: Database, tmp_path: Path) -> None:
    history = SparkHistory(database, tmp_path)
    history.note(executed("SELECT 1", 7))
    history.drain()
    history = SparkHistory(database, tmp_path)  # another process does not know what the first has read
    history.note(executed("SELECT 2", None))
    history.drain()
    with database.read() as connection:
        [found] = rows.newest(connection, Wanted(), 10)
    assert (found.sku, found.quantity, found.subject.run_as) == ("SQL_REQUEST", 2.0, "ann")
    names = [column.name for column in HistoryTable.columns]
    spent = {
        row[names.index("statement_text")]: row[names.index("total_task_duration_ms")]
        for row in HistoryTable(database, history).rows(ADMIN)
    }
    assert spent == {"SELECT 1": 7, "SELECT 2": None}
