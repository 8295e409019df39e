"""What a row filter and a column mask cost a reader, against the same table without them; a table that changes, too."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyspark.sql import SparkSession
from tests.servers import Server, running_server

from bench.report import heading, median, row

SIZES = {"1,000 rows": 1_000, "5 million rows": 5_000_000}
CALLS = 40
_GUARDS = (
    "CREATE FUNCTION main.default.of_group(g BIGINT) RETURNS BOOLEAN RETURN is_account_group_member('all') OR g < 5",
    "CREATE FUNCTION main.default.hidden(v STRING) RETURNS STRING RETURN concat(left(v, 2), '***')",
    "ALTER TABLE main.default.{name} SET ROW FILTER main.default.of_group ON (g)",
    "ALTER TABLE main.default.{name} ALTER COLUMN name SET MASK main.default.hidden",
)


def main() -> None:
    """As a user who sees part of the one table and all of the other."""
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory) / "data") as server:
        admin, reader = _session(server, server.token), _session(server, server.new_user("reader@example.org"))
        for statement in _GUARDS[:2]:
            admin.sql(statement)
        heading(f"Row filter and mask against none (median ms of {CALLS} calls in turn)")
        for name, count in SIZES.items():
            _measure(name, count, admin, reader)
        for spark in (admin, reader):
            spark.stop()


def _session(server: Server, token: str) -> SparkSession:
    return SparkSession.builder.remote(server.spark_remote.replace(server.token, token)).create()


def _measure(size: str, count: int, admin: SparkSession, reader: SparkSession) -> None:
    tables = tuple(f"{kind}_{count}" for kind in ("guarded", "plain"))
    columns = ("id", "id % 10 AS g", "concat('name ', id) AS name", "id * 0.5 AS a", "id * 0.25 AS b", "id % 7 AS c")
    for name in tables:
        admin.range(count).selectExpr(*columns).write.saveAsTable(f"main.default.{name}")
        admin.sql(f"GRANT SELECT ON TABLE main.default.{name} TO `reader@example.org`")
    for statement in _GUARDS[2:]:
        admin.sql(statement.format(name=tables[0]))
    sums = "SELECT count(*), sum(a), max(name) FROM main.default.{} WHERE c < 3"
    row(f"{size}, first time", *(_once_ms(lambda t=t: reader.sql(sums.format(t)).collect()) for t in tables), "ms")
    row(f"{size}, again", *_in_turn(lambda t: reader.sql(sums.format(t)).collect(), tables), "ms")

    def changed(table: str) -> None:
        admin.sql(f"INSERT INTO main.default.{table} VALUES (0, 0, 'new', 0, 0, 0)")
        reader.sql(sums.format(table)).collect()

    row(f"{size}, after a row came (insert included)", *_in_turn(changed, tables, calls=5), "ms")


def _in_turn(act: Callable[[str], object], tables: tuple[str, str], *, calls: int = CALLS) -> list[float]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for table, kept in zip(tables, times, strict=True):
            kept.append(_once_ms(lambda table=table: act(table)))
    return [median(kept) for kept in times]


def _once_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
