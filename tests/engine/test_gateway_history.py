"""Who made which commit: the engine's commits name their author, whoever else writes at the same time."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F
from tests.engine.gateways import ADMIN, RunningGateway

OWNER = "o'wner@example.com"
FORGED = "millpond.commit=1&userId=7&userName=boss@example.com&userMetadata=x"


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(OWNER)
    session.sql("CREATE CATALOG IF NOT EXISTS signed")
    session.sql("CREATE SCHEMA IF NOT EXISTS signed.s")
    session.sql("USE signed.s")
    yield session
    session.stop()


def history(session: Any, table: str) -> list[dict[str, Any]]:
    return [row.asDict() for row in session.sql(f"DESCRIBE HISTORY {table}").collect()]


def test_each_kind_of_write_names_its_author(spark: Any, gateway: RunningGateway) -> None:
    spark.sql("CREATE TABLE kinds PARTITIONED BY (k) AS SELECT id, id % 2 AS k FROM range(4)")
    spark.sql("INSERT INTO kinds VALUES (9, 1)")
    spark.range(1).selectExpr("id", "id AS k").write.mode("append").saveAsTable("kinds")
    spark.sql("INSERT OVERWRITE kinds PARTITION (k = 0) SELECT 7L")
    spark.sql("UPDATE kinds SET id = 10")
    spark.sql("UPDATE kinds SET id = 11 WHERE k = 0 -- a comment\n")
    spark.sql("MERGE INTO kinds AS t USING (SELECT 11L AS id, 1L AS k) AS s ON t.id = s.id OR CASE WHEN t.k = 1 THEN "
              "false END WHEN MATCHED AND t.k = 5 THEN DELETE WHEN NOT MATCHED BY SOURCE THEN DELETE")  # fmt: skip
    spark.sql("DELETE FROM kinds WHERE id = 11;")
    spark.range(3).selectExpr("id", "id AS k").write.mode("overwrite").option("overwriteSchema", "true").saveAsTable(
        "kinds"
    )
    spark.sql("DELETE FROM kinds")
    found = history(spark, "kinds")
    assert {row["userName"] for row in found} == {OWNER}
    assert {row["userId"] for row in found} == {gateway.principal(OWNER).id}
    assert [row["operation"] for row in found if row["operation"] in {"UPDATE", "DELETE", "MERGE"}] == [
        "DELETE", "DELETE", "MERGE", "UPDATE", "UPDATE",
    ]  # fmt: skip


def test_the_history_shows_conditions_and_metadata_as_the_user_gave_them(spark: Any) -> None:
    spark.range(9).write.option("userMetadata", "first & 'best'").saveAsTable("shown")
    spark.sql("UPDATE shown SET id = id + 100 WHERE id = 1 OR id = 2")
    spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", "of the session")
    spark.sql("DELETE FROM shown WHERE id = 3")
    spark.sql("INSERT INTO shown VALUES (4)")
    spark.conf.unset("spark.databricks.delta.commitInfo.userMetadata")
    spark.sql("DELETE FROM shown")
    rows = [(row["operation"], row["operationParameters"].get("predicate"), row["userMetadata"])
            for row in history(spark, "shown")]  # fmt: skip
    assert rows == [
        ("DELETE", None, None),
        ("WRITE", None, "of the session"),
        ("DELETE", "id = 3", "of the session"),
        ("UPDATE", "id = 1 OR id = 2", None),
        ("CREATE TABLE", None, "first & 'best'"),
    ]


def test_nobody_can_write_in_the_name_of_another_through_the_gateway(spark: Any) -> None:
    spark.sql("CREATE TABLE claimed (Id BIGINT, CONSTRAINT positive CHECK (Id >= 0))")  # delta-rs appends to this one
    spark.range(3).withColumnRenamed("id", "Id").write.mode("append").option("userMetadata", FORGED).saveAsTable(
        "claimed"
    )
    spark.range(3).write.option("userMetadata", FORGED).saveAsTable("forged")
    spark.range(3).write.mode("append").option("user_metadata", FORGED).saveAsTable("forged")
    spark.sql(f"UPDATE forged SET id = 5 WHERE (id = 1) AND '{FORGED}' IS NOT NULL")
    spark.sql(f"DELETE FROM forged WHERE id = 5 AND '{FORGED}' IS NOT NULL")
    for table in ("claimed", "forged"):
        assert {row["userName"] for row in history(spark, table)} == {OWNER}
    assert history(spark, "claimed")[0]["userMetadata"] == FORGED


def test_two_users_who_write_one_table_at_once_are_never_taken_for_each_other(
    spark: Any, gateway: RunningGateway
) -> None:
    spark.sql("CREATE TABLE shared AS SELECT 'nobody' AS who, -1L AS n")
    errors: list[BaseException] = []
    counts: list[int] = []

    def write(who: str, tag: str) -> None:
        session = gateway.spark(who)
        try:
            for n in range(4):
                mine = session.range(2).select(F.lit(tag).alias("who"), F.lit(n).cast("long").alias("n"))
                mine.write.mode("append").option("userMetadata", tag).saveAsTable("signed.s.shared")
                updated = session.sql(f"UPDATE signed.s.shared SET n = 100 WHERE who = '{tag}' AND n = {n}")
                counts.append(updated.collect()[0][0])
                session.sql(f"DELETE FROM signed.s.shared WHERE who = '{tag}' AND n = 100")
        except BaseException as error:
            errors.append(error)
        finally:
            session.stop()

    workers = [threading.Thread(target=write, args=each) for each in ((OWNER, "the owner"), (ADMIN, "the other"))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not errors
    assert counts == [2] * 8
    tagged = [(row["userName"], row["userMetadata"] or row["operationParameters"]["predicate"])
              for row in history(spark, "shared")[:-1]]  # fmt: skip
    assert len(tagged) == 24
    assert {name for name, tag in tagged if "the owner" in tag} == {OWNER}
    assert {name for name, tag in tagged if "the other" in tag} == {ADMIN}


def test_the_author_stands_in_the_log_itself(spark: Any, gateway: RunningGateway) -> None:
    """So it lasts as long as the commit, and goes wherever the table goes."""
    spark.range(1).write.saveAsTable("kept")
    place = spark.sql("DESCRIBE DETAIL kept").collect()[0]["location"].removeprefix("file://")
    first = json.loads((Path(place) / "_delta_log" / f"{0:020d}.json").read_text().splitlines()[0])
    assert f"userId={gateway.principal(OWNER).id}&userName=o%27wner@example.com" in first["commitInfo"]["userMetadata"]
