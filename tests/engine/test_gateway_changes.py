"""What changed between two versions of a table, writes that happen once, and merges by key, through PySpark."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.errors.exceptions.base import PySparkException
from tests.engine.gateways import RunningGateway

_RUN = uuid.uuid4().hex[:8]
ANN, BOB = (f"{name}-changes-{_RUN}@example.com" for name in ("ann", "bob"))
C = f"changes_{_RUN}"
T = f"{C}.default.t"


def run(session: Any, *statements: str) -> None:
    for statement in statements:
        session.sql(statement).collect()


@pytest.fixture(scope="module")
def ann(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(ANN)
    gateway.token(BOB)
    run(
        session,
        f"CREATE CATALOG {C}",
        f"USE {C}.default",
        "CREATE TABLE t (id BIGINT, name STRING)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO t VALUES (3, 'c')",
        "UPDATE t SET name = 'B' WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "OPTIMIZE t",
    )
    yield session
    session.stop()


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def changes(session: Any, kind: str, **options: Any) -> Any:
    return session.read.option("millpond.changes", kind).options(**options).table(T)


def test_rows_that_came_and_went_between_two_versions(ann: Any, gateway: RunningGateway) -> None:
    assert rows(changes(ann, "added", endingVersion=1)) == [(1, "a"), (2, "b")]
    assert rows(changes(ann, "added", startingVersion=1, endingVersion=2)) == [(3, "c")]
    assert rows(changes(ann, "removed", startingVersion=1, endingVersion=2)) == []
    newest = ann.sql(f"DESCRIBE HISTORY {T} LIMIT 1").first()["version"]
    added, removed = (changes(ann, kind, startingVersion=2, endingVersion=newest) for kind in ("added", "removed"))
    assert rows(added.exceptAll(removed)) == [(2, "B")]
    assert rows(removed.exceptAll(added)) == [(2, "b"), (3, "c")]
    del added, removed
    assert not list(gateway.home.run.rglob("stream-*"))
    for options, message in (
        ({}, "endingVersion"),
        ({"endingVersion": "x"}, "numbers"),
        ({"endingVersion": 1, "versionAsOf": 1}, "versionasof"),
    ):
        with pytest.raises(PySparkException, match=message):
            changes(ann, "added", **options).collect()
    with pytest.raises(PySparkException, match="'removed' or 'appended'"):
        changes(ann, "both", endingVersion=1).collect()
    with pytest.raises(PySparkException, match=r"millpond\.changes in a view"):
        changes(ann, "added", endingVersion=1).createOrReplaceTempView("v")


def test_what_was_appended_is_what_a_stream_gets(ann: Any) -> None:
    newest = ann.sql(f"DESCRIBE HISTORY {T} LIMIT 1").first()["version"]
    assert rows(changes(ann, "appended", startingVersion=0, endingVersion=2)) == [(1, "a"), (2, "b"), (3, "c")]
    assert rows(changes(ann, "appended", startingVersion=2, endingVersion=2)) == []
    assert rows(changes(ann, "appended", endingVersion=newest)) == [(1, "a"), (2, "B")]
    with pytest.raises(PySparkException, match="skipChangeCommits"):
        changes(ann, "appended", startingVersion=1, endingVersion=newest).collect()
    passing = changes(ann, "appended", startingVersion=1, endingVersion=newest, skipChangeCommits=True)
    assert rows(passing) == [(3, "c")]


def test_a_filter_holds_for_changes_too(ann: Any, gateway: RunningGateway) -> None:
    run(
        ann,
        "CREATE FUNCTION only_low(id BIGINT) RETURNS BOOLEAN RETURN id < 2 OR is_account_group_member('admins')",
        "CREATE TABLE guarded (id BIGINT)",
        "INSERT INTO guarded VALUES (1), (2), (3)",
        "ALTER TABLE guarded SET ROW FILTER only_low ON (id)",
        f"GRANT USE CATALOG, USE SCHEMA, SELECT, EXECUTE ON CATALOG {C} TO `{BOB}`",
    )
    bob = gateway.spark(BOB)
    read = bob.read.option("millpond.changes", "added").option("endingVersion", 1)
    assert rows(read.table(f"{C}.default.guarded")) == [(1,)]
    with pytest.raises(PySparkException, match="TABLE_OR_VIEW_NOT_FOUND"):
        read.table(f"{C}.default.none").collect()
    bob.stop()


def test_a_transaction_is_written_once_and_merges_follow_keys(ann: Any) -> None:
    run(ann, "CREATE TABLE once (id BIGINT, name STRING)")

    def write(values: str, number: int, **options: Any) -> None:
        frame = ann.sql(f"SELECT * FROM VALUES {values}")
        writer = frame.write.format("delta").mode("append").option("txnAppId", "app").option("txnVersion", number)
        writer.options(**options).saveAsTable(f"{C}.default.once")

    write("(1L, 'a'), (2L, 'b') AS t(id, name)", 1)
    write("(1L, 'a'), (2L, 'b') AS t(id, name)", 1)
    assert rows(ann.table("once")) == [(1, "a"), (2, "b")]
    merging = {"millpond.mergeOn": "id", "millpond.deleteWhen": "gone"}
    for _ in range(2):
        write("(2L, 'B', false), (3L, 'c', false), (1L, '', true), (9L, '', true) AS t(id, name, gone)", 2, **merging)
    assert rows(ann.table("once")) == [(2, "B"), (3, "c")]
    assert [row["operation"] for row in ann.sql("DESCRIBE HISTORY once").collect()][:2] == ["MERGE", "WRITE"]
    for options, message in (
        ({"txnAppId": "x"}, "txnVersion a number"),
        ({"millpond.mergeOn": "nothing"}, "nothing"),
        ({"millpond.other": "x"}, "millpond.mergeOn"),
        ({"txnAppId": "x", "txnVersion": "1"}, "none_yet"),
    ):
        writer = ann.range(1).write.format("delta").mode("append").options(**options)
        with pytest.raises(PySparkException, match=message):
            writer.saveAsTable(f"{C}.default.{'none_yet' if message == 'none_yet' else 'once'}")
