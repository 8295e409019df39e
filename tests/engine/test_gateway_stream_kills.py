"""kill -9 of the gateway under streaming queries, at lines that matter and at any: no row is lost, none comes twice."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway, running_gateway
from tests.engine.test_gateway_streams import eventually

USER = "killer@example.com"
COMMITS = 12
ROWS = 50


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway of these tests' own, which they may kill."""
    with running_gateway(tmp_path_factory.mktemp("killed") / "data") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def tables(killed: RunningGateway) -> None:
    session = killed.spark(USER)
    session.sql("CREATE CATALOG k")
    session.sql("CREATE SCHEMA k.s")
    session.sql("CREATE VOLUME k.s.v")
    session.sql("CREATE TABLE k.s.source (id BIGINT)")
    for number in range(COMMITS):
        first = number * ROWS
        session.sql(f"INSERT INTO k.s.source SELECT id FROM range({first}, {first + ROWS})")
    session.sql("CREATE TABLE k.s.keyed (id BIGINT NOT NULL, times BIGINT, CONSTRAINT keyed_pk PRIMARY KEY (id))")
    session.stop()


Connect = Callable[[], Any]


@pytest.fixture
def connect(killed: RunningGateway) -> Iterator[Connect]:
    """Makes sessions, which end with the test: one that is left would be the active one of other tests."""
    made: list[Any] = []

    def session() -> Any:
        made.append(killed.spark(USER))
        return made[-1]

    yield session
    for each in made:
        each.stop()


def begun(session: Any, target: str, sink: str) -> Any:
    events = session.readStream.option("startingVersion", 0).option("maxFilesPerTrigger", 1).table("k.s.source")
    frame = events.withColumn("times", F.lit(1).cast("long")) if sink != "delta" else events
    writer = frame.writeStream.format(sink).option("checkpointLocation", f"/Volumes/k/s/v/{target}")
    return writer.trigger(availableNow=True).toTable(f"k.s.{target}")


def kill(gateway: RunningGateway) -> None:
    """End the process at once, and start another on the same data and port."""
    os.kill(gateway.child.pid, signal.SIGKILL)
    gateway.restart()


def checkpoint_of(gateway: RunningGateway, target: str) -> Path | None:
    found = list((gateway.home.root / "tables" / "volumes").rglob(f"{target}/metadata"))
    return found[0].parent if found else None


def counted(session: Any, target: str) -> tuple[int, int]:
    found = session.table(f"k.s.{target}").agg(F.count("id"), F.count_distinct("id")).first()
    return found[0], found[1]


def done(gateway: RunningGateway, target: str) -> int:
    """How many batches of a query are done."""
    place = checkpoint_of(gateway, target)
    commits = place / "commits" if place is not None else None
    return len(list(commits.iterdir())) if commits is not None and commits.exists() else 0


SINKS = {"added": "delta", "keyed": "millpond.merge"}


def test_killed_in_the_midst_both_go_on(killed: RunningGateway, connect: Connect) -> None:
    spark = connect()
    for target, sink in SINKS.items():
        begun(spark, target, sink)
    eventually(lambda: all(done(killed, target) > 0 for target in SINKS))
    kill(killed)
    assert all(done(killed, target) < COMMITS for target in SINKS), "they were too fast to be killed"
    spark = connect()
    for target, sink in SINKS.items():
        begun(spark, target, sink).awaitTermination()
        assert counted(spark, target) == (COMMITS * ROWS, COMMITS * ROWS)


@pytest.mark.long
def test_killed_at_any_moment_they_go_on(killed: RunningGateway, connect: Connect) -> None:
    chance, spark = random.Random(7), connect()
    spark.sql("CREATE TABLE k.s.keyed_2 (id BIGINT NOT NULL, times BIGINT, CONSTRAINT keyed_2_pk PRIMARY KEY (id))")
    sinks = {"added_2": "delta", "keyed_2": "millpond.merge"}
    for _ in range(10):
        for target, sink in sinks.items():
            begun(spark, target, sink)
        threading.Event().wait(chance.uniform(0.0, 0.3))
        kill(killed)
        spark = connect()
    for target, sink in sinks.items():
        begun(spark, target, sink).awaitTermination()
        assert counted(spark, target) == (COMMITS * ROWS, COMMITS * ROWS)


@pytest.mark.parametrize(("target", "sink"), SINKS.items())
def test_a_batch_that_is_in_the_table_is_not_written_again(
    killed: RunningGateway, connect: Connect, target: str, sink: str
) -> None:
    """As if killed after the table's commit and before the checkpoint's."""
    spark = connect()
    begun(spark, target, sink).awaitTermination()
    place = checkpoint_of(killed, target)
    assert place is not None
    last = max(int(path.name) for path in (place / "commits").iterdir())
    (place / "commits" / str(last)).unlink()
    before = spark.sql(f"DESCRIBE HISTORY k.s.{target}").count()
    begun(spark, target, sink).awaitTermination()
    assert (place / "commits" / str(last)).exists()
    assert spark.sql(f"DESCRIBE HISTORY k.s.{target}").count() == before
    assert counted(spark, target) == (COMMITS * ROWS, COMMITS * ROWS)


def test_a_batch_that_is_planned_and_not_in_the_table_reads_what_was_planned(
    killed: RunningGateway, connect: Connect
) -> None:
    """As if killed between the checkpoint's plan and the table's commit; meanwhile more rows came."""
    spark = connect()
    spark.sql("CREATE TABLE k.s.small (id BIGINT)")
    spark.sql("INSERT INTO k.s.small VALUES (1)")

    def run() -> Any:
        writer = spark.readStream.table("k.s.small").writeStream.option("checkpointLocation", "/Volumes/k/s/v/planned")
        query = writer.trigger(availableNow=True).toTable("k.s.planned")
        query.awaitTermination()
        return query

    run()
    place = checkpoint_of(killed, "planned")
    assert place is not None
    spark.sql("INSERT INTO k.s.small VALUES (2)")
    planned = (place / "offsets" / "0").read_text().replace('"reservoirVersion":2', '"reservoirVersion":3')
    (place / "offsets" / "1").write_text(planned)
    spark.sql("INSERT INTO k.s.small VALUES (3)")
    query = run()
    assert [(each.batchId, each.numInputRows) for each in query.recentProgress] == [(1, 1), (2, 1)]
    assert counted(spark, "planned") == (3, 3)
