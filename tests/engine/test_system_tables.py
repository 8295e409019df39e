"""The audit of Spark Connect, read through Spark Connect, by a gateway that has no server beside it."""

import json
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from tests.engine.gateways import RunningGateway
from tests.servers import wait_until

from millpond.engine.system_tables import SystemTables

FIELDS = "action_name, request_params, response, user_identity, source_ip_address, session_id, service_name"


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[SparkSession]:
    """The administrator, with a table of two rows."""
    session = gateway.spark()
    session.sql("CREATE SCHEMA IF NOT EXISTS main.audited")
    session.sql("CREATE TABLE main.audited.t (a INT, b STRING)")
    session.sql("INSERT INTO main.audited.t VALUES (47110815, 'a row value')")
    yield session
    session.stop()


def told(spark: SparkSession, condition: str) -> list[dict[str, Any]]:
    rows = spark.sql(f"SELECT {FIELDS} FROM system.access.audit WHERE {condition} ORDER BY event_time").collect()
    return [row.asDict(recursive=True) for row in rows]


def test_statements_name_what_they_read_and_write_and_no_value(spark: SparkSession, gateway: RunningGateway) -> None:
    """SQL and DataFrames alike; who, from where and in which session; literals and rows stay out."""
    spark.sql("SELECT * FROM main.audited.t WHERE b = 'a row value' AND a = 47110815").collect()
    spark.table("main.audited.t").filter("a = 47110815").write.saveAsTable("main.audited.copy")
    spark.sql("UPDATE main.audited.t SET b = 'a row value' WHERE a = 47110815")
    events = told(spark, f"session_id = '{spark.client._session_id}' AND action_name = 'executePlan'")
    done = {event["request_params"]["statement"]: event["request_params"] for event in events}
    assert done["Insert"]["writes"] == "table main.audited.t"
    assert done["write_operation"]["reads"] == "table main.audited.t"
    assert done["update"]["writes"] == "table main.audited.t"
    assert any(params.get("reads") == "table main.audited.t" for params in (e["request_params"] for e in events))
    assert {event["user_identity"]["email"] for event in events} == {gateway.principal().name}
    assert {event["source_ip_address"] for event in events} <= {"127.0.0.1", "::1"}
    (created,) = told(spark, "action_name = 'createTable' AND request_params['object_name'] = 'main.audited.copy'")
    assert created["service_name"] == "unityCatalog"
    everything = json.dumps(told(spark, "true"), default=str)
    assert "47110815" not in everything
    assert "a row value" not in everything


def test_no_function_of_an_administrator_writes_into_them(spark: SparkSession) -> None:
    """Its engine may read the files, and is kept from writing there as from anything that is the server's."""
    place = spark.sql("DESCRIBE DETAIL system.access.audit").first()["location"].removeprefix("file://")

    def spoil(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            seen = len(list(Path(place, "_delta_log").iterdir()))
            try:
                Path(place, "_delta_log", "spoiled").write_text("x")
                said = "written"
            except OSError as error:
                said = type(error).__name__
            yield frame.assign(said=said, seen=seen)

    row = (
        spark.sql("SELECT action_name FROM system.access.audit LIMIT 1")
        .mapInPandas(spoil, "action_name string, said string, seen int")
        .first()
    )
    assert row["said"] == "PermissionError"
    assert row["seen"] > 0


def ask(remote: str) -> None:
    SparkSession.builder.remote(remote).create().range(1).collect()


def test_refusals_are_told(spark: SparkSession, gateway: RunningGateway) -> None:
    """A wrong token, another user's table, a path outside, another's session: each with its status and error class."""
    mallory = gateway.spark("mallory@example.com")
    stolen = spark.client._session_id
    for attack in (
        lambda: mallory.table("main.audited.t").collect(),
        lambda: mallory.sql(f"SELECT * FROM text.`{gateway.home.root}/secret.key`").collect(),
        lambda: ask(f"sc://localhost:{gateway.port}/;token=dapi{'0' * 32}"),
        lambda: ask(f"{gateway.remote('mallory@example.com')};session_id={stolen}"),
    ):
        with pytest.raises(PySparkException):
            attack()
    condition = "user_identity.email = 'mallory@example.com' AND response.status_code >= 400"
    wait_until(lambda: told(spark, condition), what="the table, which is looked at once in a second, to tell of them")
    mine = told(spark, condition)
    assert ("see", 404, "TABLE_OR_VIEW_NOT_FOUND") in [
        (e["request_params"].get("refused"), e["response"]["status_code"], e["response"]["error_message"]) for e in mine
    ]
    reached = [e for e in mine if e["request_params"].get("refused") == "reach"]
    assert [e["request_params"]["object_name"] for e in reached] == [f"{gateway.home.root}/secret.key"]
    assert [e for e in mine if e["session_id"] == stolen and e["response"]["status_code"] == 403]
    assert told(spark, "user_identity.email IS NULL AND response.status_code = 401")
    mallory.stop()


def test_only_administrators_find_it(spark: SparkSession, gateway: RunningGateway) -> None:
    """By name, by schema, by path: for others it is not there."""
    other = gateway.spark("reader@example.com")
    place = spark.sql("DESCRIBE DETAIL system.access.audit").collect()[0].location
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        other.table("system.access.audit").collect()
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        other.sql("DESCRIBE HISTORY system.access.audit").collect()
    with pytest.raises(AnalysisException, match="INSUFFICIENT_PERMISSIONS"):
        other.read.format("delta").load(place).collect()
    schemas = [row[0] for row in other.sql("SHOW SCHEMAS IN system").collect()]
    assert schemas == ["billing", "information_schema", "query"]
    other.stop()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO system.access.audit SELECT * FROM system.access.audit",
        "DELETE FROM system.access.audit",
        "TRUNCATE TABLE system.access.audit",
        "VACUUM system.access.audit RETAIN 0 HOURS",
        "ALTER TABLE system.access.audit RENAME TO system.access.gone",
        "DROP TABLE system.access.audit",
        "DROP SCHEMA system.access CASCADE",
        "CREATE TABLE system.access.mine (a INT)",
        "ALTER TABLE system.access.audit SET TBLPROPERTIES ('delta.appendOnly' = 'true')",
        "ALTER TABLE system.access.audit ADD COLUMN mine INT",
        "ALTER TABLE system.access.audit ADD CONSTRAINT none CHECK (1 = 0)",
        "COMMENT ON TABLE system.access.audit IS 'mine'",
        "CREATE OR REPLACE TABLE system.access.audit (a INT)",
    ],
)
def test_nobody_changes_it(spark: SparkSession, statement: str) -> None:
    """Not even an administrator: the server alone writes there."""
    before = spark.table("system.access.audit").count()
    with pytest.raises(AnalysisException, match=r"kept by the server|built in"):
        spark.sql(statement).collect()
    assert spark.table("system.access.audit").count() >= before


def test_no_command_leaves_a_commit_in_it(spark: SparkSession) -> None:
    """Whatever is refused is refused before the Delta log has it."""
    authors = {row.userName for row in spark.sql("DESCRIBE HISTORY system.access.audit").collect()}
    assert authors <= {"system", None}


class Numbers:
    """A system table of numbers from 1 on, whose first `gone` days are removed."""

    name = "system.access.numbers"
    comment = "Numbers."
    columns = (("n", "bigint", "The number."), ("day", "date", "Its day."))
    day_column = "day"
    origin = "test"

    def __init__(self, count: int) -> None:
        self.count = count
        self.gone: date | None = None

    def catch_up(self) -> None:
        self.count += 1

    def rows_after(self, position: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        last = min(self.count, position + 25, position + limit)
        rows = [{"n": n, "day": date(2026, 1, 1) + timedelta(days=n)} for n in range(position + 1, last + 1)]
        return rows, last

    def first_day(self) -> date | None:
        return self.gone


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where the table of numbers lies."""
    return (tmp_path / "numbers").as_uri()


class FakeCatalog:
    """Knows where a system table lies."""

    def __init__(self, place: str) -> None:
        self.storage_location = place

    def keep_system_table(self, *_: Any) -> "FakeCatalog":
        return self


def rows(place: str) -> list[int]:
    return sorted(DeltaTable(place).to_pyarrow_table()["n"].to_pylist())


def test_processes_that_refresh_at_once_add_each_row_once(place: str) -> None:
    """Four of them, each with a view of its own; the slower ones start again."""
    table = Numbers(100)
    copies = [SystemTables(FakeCatalog(place), [table], {}) for _ in range(4)]
    threads = [threading.Thread(target=copy.refresh_now, args=(place,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    SystemTables(FakeCatalog(place), [table], {}).refresh_now(place)
    assert rows(place) == list(range(1, table.count + 1))


def test_days_that_are_gone_leave_the_table(place: str) -> None:
    """Retention in the database is followed."""
    table = Numbers(10)
    SystemTables(FakeCatalog(place), [table], {}).refresh_now(place)
    table.gone = date(2026, 1, 6)
    SystemTables(FakeCatalog(place), [table], {}).refresh_now(place)
    assert rows(place) == list(range(5, table.count + 1))
