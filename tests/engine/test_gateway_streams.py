"""Structured Streaming through the gateway, with an unmodified PySpark."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import AnalysisException, StreamingQueryException
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway

from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, PrincipalKind

USER = "streamer@example.com"
OTHER = "onlooker@example.com"


@pytest.fixture(scope="module")
def spark(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(USER)
    for text in ("CATALOG", "SCHEMA", "VOLUME"):
        session.sql(f"CREATE {text} {'streamed' + {'CATALOG': '', 'SCHEMA': '.s', 'VOLUME': '.s.points'}[text]}")
    session.sql("USE streamed.s")
    yield session
    session.stop()


@pytest.fixture
def names(request: pytest.FixtureRequest) -> "Names":
    return Names(f"t{time.monotonic_ns():x}")


class Names:
    """Names that are one test's own."""

    def __init__(self, start: str) -> None:
        self.source = f"streamed.s.{start}_from"
        self.target = f"streamed.s.{start}_to"
        self.checkpoint = f"/Volumes/streamed/s/points/{start}"


@pytest.fixture
def source(spark: Any, names: Names) -> str:
    """A table of user_id 1 and 2, one of them with an amount below 0."""
    spark.sql(f"CREATE TABLE {names.source} (user_id BIGINT, amount DOUBLE)")
    add(spark, names.source, (1, 5.0), (2, -1.0))
    return names.source


def add(spark: Any, table: str, *rows: tuple[int, float]) -> None:
    """One commit with some rows."""
    spark.sql(f"INSERT INTO {table} VALUES {', '.join(map(str, rows))}")


def started(frame: Any, names: Names, *, available: bool = True, **options: Any) -> Any:
    """A query that adds to the target what is there now, or goes on."""
    writer = frame.writeStream.option("checkpointLocation", names.checkpoint).options(**options)
    if available:
        writer = writer.trigger(availableNow=True)
    query = writer.toTable(names.target)
    if available:
        query.awaitTermination()
    return query


def ids(spark: Any, table: str) -> list[int]:
    return sorted(row.user_id for row in spark.table(table).select("user_id").collect())


def eventually(what: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


# -- what is read -------------------------------------------------------------------------------------------------


def test_a_stream_has_columns_and_says_that_it_is_one(spark: Any, source: str) -> None:
    events = spark.readStream.format("delta").table(source)
    assert events.isStreaming
    assert events.select("amount").isStreaming
    assert not spark.table(source).isStreaming
    assert events.columns == ["user_id", "amount"]
    events.createOrReplaceTempView("events_now")
    assert spark.table("events_now").isStreaming
    with pytest.raises(AnalysisException, match=r"must be executed with writeStream\.start"):
        events.collect()


def test_what_is_there_and_then_what_is_added_comes_once(spark: Any, names: Names, source: str) -> None:
    kept = spark.readStream.table(source).filter("amount > 0").select("user_id", (F.col("amount") * 2).alias("double"))
    first = started(kept, names)
    assert [tuple(row) for row in spark.table(names.target).collect()] == [(1, 10.0)]
    add(spark, source, (3, 1.0))
    add(spark, source, (4, -1.0), (5, 1.0))
    again = started(kept, names)
    assert ids(spark, names.target) == [1, 3, 5]
    assert again.id == first.id
    assert again.runId != first.runId
    started(kept, names)
    assert ids(spark, names.target) == [1, 3, 5]


def test_another_checkpoint_begins_anew(spark: Any, names: Names, source: str) -> None:
    events = spark.readStream.table(source)
    started(events, names)
    names.checkpoint += "/another"
    started(events, names)
    assert ids(spark, names.target) == [1, 1, 2, 2]


def test_a_query_that_goes_on_is_told_of_and_stopped(
    spark: Any, names: Names, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = spark.readStream.table(source).writeStream.option("checkpointLocation", names.checkpoint)
    query = writer.queryName("going on").toTable(names.target)
    query.processAllAvailable()
    query.processAllAvailable()  # there is nothing
    assert query.isActive
    assert query.status == {
        "message": "Waiting for data to arrive", "isDataAvailable": False, "isTriggerActive": False,
    }  # fmt: skip
    assert [(each.id, each.name) for each in spark.streams.active] == [(query.id, "going on")]
    assert spark.streams.get(query.id).runId == query.runId
    assert query.awaitTermination(0.2) is False
    add(spark, source, (3, 1.0))
    eventually(lambda: ids(spark, names.target) == [1, 2, 3])
    query.stop()
    assert not query.isActive
    assert query.exception() is None
    query.explain()
    assert source in capsys.readouterr().out
    assert query.awaitTermination(5) is True
    assert spark.streams.get(query.id) is None
    assert spark.streams.awaitAnyTermination(5) is True
    spark.streams.resetTerminated()
    assert spark.streams.awaitAnyTermination(0.2) is False


def test_progress_has_sparks_shape(spark: Any, names: Names, source: str) -> None:
    query = started(spark.readStream.table(source).filter("amount > 0"), names)
    last = query.lastProgress
    assert (last.batchId, last.numInputRows, str(last.id)) == (0, 2, query.id)
    assert last.sources[0].description == f"DeltaSource[{source}]"
    assert json.loads(last.sources[0].startOffset)["isStartingVersion"] is True
    assert json.loads(last.sources[0].endOffset)["reservoirVersion"] == 2
    assert last.durationMs["triggerExecution"] >= last.durationMs["addBatch"]
    assert last.sink.description == f"DeltaSink[{names.target}]"
    assert [each.batchId for each in query.recentProgress] == [0]


def test_limits_make_several_batches(spark: Any, names: Names, source: str) -> None:
    for number in range(3, 6):
        add(spark, source, (number, 1.0))
    wanted = list(range(1, 6))
    limits = {"maxFilesPerTrigger": (1, 4), "maxBytesPerTrigger": ("1b", 4), "MAXFILESPERTRIGGER": (3, 2)}
    for name, (limit, batches) in limits.items():
        query = started(spark.readStream.option("startingVersion", 1).option(name, limit).table(source), names)
        assert [each.batchId for each in query.recentProgress] == list(range(batches))
        assert ids(spark, names.target) == wanted
        names.checkpoint += "_"
        names.target += "_"
    events = spark.readStream.option("startingVersion", 1).option("maxFilesPerTrigger", 1).table(source)
    names.checkpoint += "/once"
    names.target += "_once"
    query = events.writeStream.option("checkpointLocation", names.checkpoint).trigger(once=True).toTable(names.target)
    query.awaitTermination()
    assert [each.batchId for each in query.recentProgress] == [0]
    assert ids(spark, names.target) == wanted


def test_it_begins_at_a_version_or_with_what_comes(spark: Any, names: Names, source: str) -> None:
    add(spark, source, (3, 1.0))
    started(spark.readStream.option("startingVersion", "2").table(source), names)
    assert ids(spark, names.target) == [3]
    names.checkpoint += "/latest"
    latest = spark.readStream.option("startingVersion", "latest").table(source)
    started(latest, names)
    add(spark, source, (4, 1.0))
    started(latest, names)
    assert ids(spark, names.target) == [3, 4]
    names.checkpoint += "/none"
    with pytest.raises(StreamingQueryException, match="its newest version is"):
        started(spark.readStream.option("startingVersion", 99).table(source), names)


def test_partitioned_tables_are_read_and_made(spark: Any, names: Names) -> None:
    spark.sql(
        f"CREATE TABLE {names.source} (user_id BIGINT, city STRING, day DATE, at TIMESTAMP) "
        "PARTITIONED BY (city, day, at)"
    )
    insert = (
        f"INSERT INTO {names.source} VALUES ({{}}, {{}}, DATE '2026-01-02', TIMESTAMP '2026-01-02 03:04:05.000006')"
    )
    spark.sql(insert.format(1, "'a b/c'"))
    events = spark.readStream.table(names.source)
    writer = events.writeStream.option("checkpointLocation", names.checkpoint).trigger(availableNow=True)
    writer.partitionBy("city").toTable(names.target).awaitTermination()
    spark.sql(insert.format(2, "NULL"))
    started(events, names)
    wanted = sorted(map(str, spark.table(names.source).collect()))
    assert sorted(map(str, spark.table(names.target).collect())) == wanted
    assert spark.sql(f"DESCRIBE DETAIL {names.target}").first().partitionColumns == ["city"]


@pytest.mark.parametrize(
    ("change", "option", "error"),
    [
        ("UPDATE {} SET amount = 9 WHERE user_id = 1", "skipChangeCommits", "DELTA_SOURCE_TABLE_IGNORE_CHANGES"),
        ("DELETE FROM {}", "ignoreDeletes", "DELTA_SOURCE_IGNORE_DELETE"),
    ],
)
def test_commits_that_change_rows_end_the_query_unless_told(
    spark: Any, names: Names, source: str, change: str, option: str, error: str
) -> None:
    started(spark.readStream.table(source), names)
    spark.sql(change.format(source))
    add(spark, source, (3, 1.0))
    with pytest.raises(StreamingQueryException, match=error):
        started(spark.readStream.table(source), names)
    assert ids(spark, names.target) == [1, 2]
    started(spark.readStream.option(option, True).table(source), names)
    assert ids(spark, names.target) == [1, 2, 3]


def test_what_optimize_writes_anew_does_not_come_again(spark: Any, names: Names, source: str) -> None:
    add(spark, source, (3, 1.0))
    started(spark.readStream.table(source), names)
    spark.sql(f"OPTIMIZE {source}")
    add(spark, source, (4, 1.0))
    started(spark.readStream.table(source), names)
    assert ids(spark, names.target) == [1, 2, 3, 4]


def test_a_new_column_ends_the_query_which_has_it_when_restarted(spark: Any, names: Names, source: str) -> None:
    query = started(spark.readStream.table(source), names, available=False, mergeSchema=True)
    query.processAllAvailable()
    spark.sql(f"ALTER TABLE {source} ADD COLUMNS (city STRING)")
    spark.sql(f"INSERT INTO {source} VALUES (3, 1.0, 'Oslo')")
    with pytest.raises(StreamingQueryException, match="Detected schema change"):
        query.awaitTermination(20)
    assert query.exception() is not None
    assert "Terminated with exception" in query.status["message"]
    started(spark.readStream.table(source), names, mergeSchema=True)
    rows = spark.table(names.target).orderBy("user_id").collect()
    assert [(row.user_id, row.city) for row in rows] == [(1, None), (2, None), (3, "Oslo")]


# -- what is done with it -----------------------------------------------------------------------------------------


def test_rows_meet_tables_other_streams_and_functions(spark: Any, names: Names, source: str) -> None:
    spark.sql(f"CREATE TABLE {names.source}_users AS SELECT 1L AS user_id, 'Ada' AS name")
    spark.sql(f"CREATE TABLE {names.source}_more AS SELECT 7L AS user_id, 1.0D AS amount")
    shout = F.udf(lambda name: f"{name}!", "string")
    events = spark.readStream.table(source).union(spark.readStream.table(f"{names.source}_more"))
    people = spark.table(f"{names.source}_users").groupBy("user_id").agg(F.max("name").alias("name"))
    joined = events.join(people, "user_id", "left").withColumn("name", shout(F.coalesce("name", F.lit("?"))))
    started(joined, names)
    assert [tuple(row) for row in spark.table(names.target).orderBy("user_id").collect()] == [
        (1, 5.0, "Ada!"), (2, -1.0, "?!"), (7, 1.0, "?!"),
    ]  # fmt: skip
    add(spark, f"{names.source}_more", (8, 1.0))
    started(joined, names)
    assert ids(spark, names.target) == [1, 2, 7, 8]


REFUSED: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("Aggregations", lambda events, _: events.groupBy("user_id").count()),
    ("aggregate function", lambda events, _: events.select(F.sum("amount").alias("s"))),
    ("aggregate function", lambda events, _: events.selectExpr("max(amount) AS m")),
    ("dropDuplicates", lambda events, _: events.distinct()),
    ("dropDuplicates", lambda events, _: events.dropDuplicates(["user_id"])),
    ("Sorting", lambda events, _: events.orderBy("user_id")),
    ("limit", lambda events, _: events.limit(1)),
    ("two streams", lambda events, _: events.join(events.select("user_id"), "user_id")),
    ("outer join", lambda events, table: table.join(events, "user_id", "left_outer")),
    ("union of a stream and a table", lambda events, table: events.union(table)),
    ("except", lambda events, _: events.subtract(events)),
    ("Window functions", lambda events, _: events.selectExpr("row_number() OVER (ORDER BY user_id) AS n")),
    ("applyInPandas", lambda events, _: events.groupBy("user_id").applyInPandas(lambda frame: frame, "user_id long")),
]


@pytest.mark.parametrize(("what", "made"), REFUSED)
def test_what_needs_more_than_a_row_is_refused_by_name(
    spark: Any, names: Names, source: str, what: str, made: Callable[[Any, Any], Any]
) -> None:
    frame = made(spark.readStream.table(source), spark.table(source))
    with pytest.raises(AnalysisException, match=f"Not supported on a stream: .*{what}"):
        started(frame, names)
    assert not spark.catalog.tableExists(names.target)


def test_other_sinks_modes_and_triggers_are_refused_by_name(spark: Any, names: Names, source: str) -> None:
    events = spark.readStream.table(source)

    def writer() -> Any:
        return events.writeStream.option("checkpointLocation", names.checkpoint)

    for what, start in {
        "foreachBatch": lambda: writer().foreachBatch(lambda _frame, _number: None).start(),
        "foreach of": lambda: writer().foreach(lambda _row: None).start(),
        "sink 'memory'": lambda: writer().format("memory").queryName("m").start(),
        "sink 'console'": lambda: writer().format("console").start(),
        "a path": lambda: writer().format("delta").start("/Volumes/streamed/s/points/t"),
        "output mode: complete": lambda: writer().outputMode("complete").toTable(names.target),
        "output mode: update": lambda: writer().outputMode("update").toTable(names.target),
        "trigger continuous": lambda: writer().trigger(continuous="1 second").toTable(names.target),
        "option 'txnAppId'": lambda: writer().option("txnAppId", "x").toTable(names.target),
        "checkpointLocation must be": lambda: events.writeStream.toTable(names.target),
        "Error parsing 'soon'": lambda: writer().trigger(processingTime="soon").toTable(names.target),
        "option 'readChangeFeed'": lambda: started(
            spark.readStream.option("readChangeFeed", True).table(source), names
        ),
        "Streams of format rate": lambda: started(spark.readStream.format("rate").load(), names),
        "SQL over a stream": lambda: started(
            spark.sql("SELECT * FROM {events}", events=events), names
        ),
        "streaming Dataset": lambda: started(spark.table(source), names),
    }.items():  # fmt: skip
        with pytest.raises(PySparkException, match=what):
            start()
    assert not spark.catalog.tableExists(names.target)


def test_batches_wait_for_the_next_multiple_of_the_interval(spark: Any, names: Names, source: str) -> None:
    writer = spark.readStream.table(source).writeStream.option("checkpointLocation", names.checkpoint)
    query = writer.trigger(processingTime="1 second").toTable(names.target)
    query.processAllAvailable()
    add(spark, source, (3, 1.0))
    eventually(lambda: len(query.recentProgress) == 2)
    query.stop()
    second = query.recentProgress[1].timestamp
    assert float("0" + second[19:23]) < 0.6, f"it began at {second}, not at the second"


# -- rights -------------------------------------------------------------------------------------------------------


def let_stream(spark: Any, user: str, source: str) -> None:
    """Let somebody read the source, make tables of their own and write to the volume."""
    for right, what in (
        ("USE CATALOG", "CATALOG streamed"), ("USE SCHEMA", "SCHEMA streamed.s"), ("CREATE TABLE", "SCHEMA streamed.s"),
        ("READ VOLUME", "VOLUME streamed.s.points"), ("WRITE VOLUME", "VOLUME streamed.s.points"),
        ("SELECT", f"TABLE {source}"),
    ):  # fmt: skip
        spark.sql(f"GRANT {right} ON {what} TO `{user}`")


@pytest.fixture
def other(gateway: RunningGateway, spark: Any, names: Names, source: str) -> Iterator[Any]:
    """Somebody who may read the source, make tables of their own and write to the volume."""
    session = gateway.spark(OTHER)
    let_stream(spark, OTHER, source)
    yield session
    session.stop()


def test_a_query_ends_when_its_user_may_not_read_any_more(spark: Any, other: Any, names: Names, source: str) -> None:
    query = started(other.readStream.table(source), names, available=False)
    query.processAllAvailable()
    spark.sql(f"REVOKE SELECT ON TABLE {source} FROM `{OTHER}`")
    add(spark, source, (3, 1.0))
    with pytest.raises(StreamingQueryException, match="TABLE_OR_VIEW_NOT_FOUND"):  # nor see that it is there
        query.awaitTermination(20)
    assert ids(other, names.target) == [1, 2]


def test_a_query_ends_with_its_users_account(gateway: RunningGateway, spark: Any, names: Names, source: str) -> None:
    leaver = f"leaver-{time.monotonic_ns()}@example.com"
    session = gateway.spark(leaver)
    let_stream(spark, leaver, source)
    query = started(session.readStream.table(source), names, available=False)
    query.processAllAvailable()
    account = gateway.principal(leaver)
    directory, admin = DirectoryService(gateway.database), gateway.principal()
    gone = Draft(name=leaver, display_name=leaver, active=False)
    directory.update(admin, PrincipalKind.USER, account.id, lambda _entry: gone)
    add(spark, source, (3, 1.0))
    eventually(lambda: not homes(gateway, query))
    assert ids(spark, names.target) == [1, 2]
    session.stop()


def homes(gateway: RunningGateway, query: Any) -> list[Path]:
    """What a run that has not ended keeps for its batches."""
    return list((gateway.home.run / "gateway" / "spools").rglob(f"stream-{query.runId}"))


def test_who_may_not_write_or_read_is_refused_at_the_start(spark: Any, other: Any, names: Names, source: str) -> None:
    spark.sql(f"CREATE TABLE {names.target} (user_id BIGINT, amount DOUBLE)")
    spark.sql(f"GRANT SELECT ON TABLE {names.target} TO `{OTHER}`")
    events = other.readStream.table(source)
    with pytest.raises(AnalysisException, match="INSUFFICIENT_PERMISSIONS"):
        started(events, names)
    spark.sql(f"GRANT MODIFY ON TABLE {names.target} TO `{OTHER}`")
    spark.sql(f"REVOKE WRITE VOLUME ON VOLUME streamed.s.points FROM `{OTHER}`")
    with pytest.raises(AnalysisException, match="INSUFFICIENT_PERMISSIONS"):
        started(events, names)
    spark.sql(f"REVOKE SELECT ON TABLE {source} FROM `{OTHER}`")
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        started(events, names)


def test_filters_and_masks_hold_in_each_batch(spark: Any, other: Any, names: Names, source: str) -> None:
    spark.sql("CREATE OR REPLACE FUNCTION few(a DOUBLE) RETURNS BOOLEAN RETURN a > 0")
    spark.sql("CREATE OR REPLACE FUNCTION hidden(u BIGINT) RETURNS BIGINT RETURN u + 100")
    spark.sql(f"ALTER TABLE {source} SET ROW FILTER few ON (amount)")
    spark.sql(f"ALTER TABLE {source} ALTER COLUMN user_id SET MASK hidden")
    events = other.readStream.table(source)
    started(events, names)
    assert ids(other, names.target) == [101]
    add(spark, source, (3, 1.0), (4, -1.0))
    spark.sql(f"ALTER TABLE {source} ALTER COLUMN user_id DROP MASK")
    started(events, names)
    assert ids(other, names.target) == [3, 101]


def test_nobody_sees_or_stops_anothers_query(
    gateway: RunningGateway, spark: Any, other: Any, names: Names, source: str, tmp_path: Path
) -> None:
    query = started(spark.readStream.table(source), names, available=False)
    assert other.streams.active == []
    assert other.streams.get(query.id) is None
    theirs = type(query)(other, query.id, query.runId)
    with pytest.raises(AnalysisException, match="has no streaming query"):
        theirs.stop()
    spark.sql(f"GRANT MODIFY, SELECT ON TABLE {names.target} TO `{OTHER}`")
    other.addArtifacts(str(uploaded(tmp_path)), pyfile=True)
    kept = set(uploads(gateway))
    with pytest.raises(PySparkException, match="CONCURRENT_QUERY"):
        started(other.readStream.table(source), names, available=False)
    assert set(uploads(gateway)) == kept
    assert query.isActive
    query.stop()


def test_a_query_keeps_a_copy_of_its_sessions_files_until_it_ends(
    gateway: RunningGateway, spark: Any, names: Names, source: str, tmp_path: Path
) -> None:
    spark.addArtifacts(str(uploaded(tmp_path)), pyfile=True)
    kept = set(uploads(gateway))
    query = started(spark.readStream.table(source), names, available=False)
    query.processAllAvailable()
    [copied] = set(uploads(gateway)) - kept
    assert list(copied.iterdir())
    query.stop()
    eventually(lambda: set(uploads(gateway)) == kept)


def test_who_says_that_their_query_is_anothers_does_not_keep_it_from_starting(
    gateway: RunningGateway, spark: Any, other: Any, names: Names, source: str
) -> None:
    query = started(spark.readStream.table(source), names)
    [metadata] = gateway.home.root.rglob(f"{names.checkpoint.rpartition('/')[2]}/metadata")
    copied = metadata.parent.with_name(f"{metadata.parent.name}-copied") / "metadata"
    copied.parent.mkdir()
    copied.write_bytes(metadata.read_bytes())
    theirs = Names(f"copied{time.monotonic_ns():x}")
    theirs.checkpoint = f"{names.checkpoint}-copied"
    copy = started(other.readStream.table(source), theirs, available=False)
    assert copy.id == query.id
    again = started(spark.readStream.table(source), names, available=False)
    again.processAllAvailable()
    assert (copy.isActive, again.isActive) == (True, True)
    copy.stop()
    again.stop()


def uploaded(directory: Path) -> Path:
    """A module to upload."""
    path = directory / f"module_{time.monotonic_ns():x}.py"
    path.write_text("A = 1")
    return path


def uploads(gateway: RunningGateway) -> list[Path]:
    """What the gateway keeps for sessions that have uploaded something."""
    return list((gateway.home.run / "gateway" / "uploads").iterdir())


def test_each_batch_is_in_the_audit_and_in_lineage(
    gateway: RunningGateway, spark: Any, names: Names, source: str
) -> None:
    query = started(spark.readStream.table(source), names)
    admin = gateway.spark()
    found = admin.sql(
        "SELECT DISTINCT source_table_full_name FROM system.access.table_lineage "
        f"WHERE target_table_full_name = '{names.target}' AND source_table_full_name IS NOT NULL"
    )
    assert [row[0] for row in found.collect()] == [source]
    acts = admin.sql(
        "SELECT user_identity.email, request_params FROM system.access.audit "
        f"WHERE action_name = 'streamingBatch' AND request_id = '{query.id}'"
    ).collect()
    assert [row.email for row in acts] == [USER]
    assert source in str(acts[0].request_params)
    admin.stop()


def test_a_query_ends_with_its_session(gateway: RunningGateway, spark: Any, names: Names, source: str) -> None:
    session = gateway.spark(USER)
    query = started(session.readStream.table(source), names, available=False)
    query.processAllAvailable()
    session.stop()
    eventually(lambda: not homes(gateway, query))
    add(spark, source, (3, 1.0))
    started(spark.readStream.table(source), names)
    assert ids(spark, names.target) == [1, 2, 3]


def test_a_query_that_is_started_again_takes_the_place_of_its_run(spark: Any, names: Names, source: str) -> None:
    first = started(spark.readStream.table(source), names, available=False)
    second = started(spark.readStream.table(source), names, available=False)
    assert first.id == second.id
    assert not first.isActive
    second.processAllAvailable()
    second.stop()
    assert ids(spark, names.target) == [1, 2]


def test_a_checkpoint_that_is_anothers_or_no_checkpoint_is_refused(spark: Any, names: Names, source: str) -> None:
    started(spark.readStream.table(source), names)
    spark.sql(f"CREATE TABLE {names.source}_other (user_id BIGINT, amount DOUBLE)")
    with pytest.raises(StreamingQueryException, match="DIFFERENT_DELTA_TABLE"):
        started(spark.readStream.table(f"{names.source}_other"), names)
    both = spark.readStream.table(source).union(spark.readStream.table(source))
    with pytest.raises(StreamingQueryException, match="1 sources in the checkpoint"):
        started(both, names)


def test_a_checkpoint_can_lie_only_where_its_user_may_write(
    gateway: RunningGateway, spark: Any, names: Names, source: str
) -> None:
    elsewhere = (
        str(gateway.home.root / "run"), "/tmp/anywhere", "/Volumes/streamed/s/points/../../../x", "s3://lake/x", "here",
        "/Volumes/streamed/s/none/x",
    )  # fmt: skip
    for names.checkpoint in elsewhere:
        with pytest.raises(AnalysisException):
            started(spark.readStream.table(source), names)
    assert not spark.catalog.tableExists(names.target)


def test_the_number_of_a_source_is_the_gateways(spark: Any, names: Names, source: str) -> None:
    """What marks a stream's sources is set anew, whatever a client says."""
    spark.sql(f"CREATE TABLE {names.source}_2 (user_id BIGINT, amount DOUBLE)")
    add(spark, f"{names.source}_2", (7, 1.0))
    forged = spark.readStream.option("__millpond_source", 1)
    started(forged.table(source).union(forged.table(f"{names.source}_2")), names)
    assert ids(spark, names.target) == [1, 2, 7]
