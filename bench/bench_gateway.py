"""What the gateway adds to a query and to a gigabyte, against the bare engine."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyspark.sql import SparkSession

from bench.peers import bare_sail, cpu_s, millpond
from bench.report import heading, line, median, row

QUERIES = 200
_TABLES = ("main.default.numbers", "numbers")
ROWS = 16_000_000
"""Of 64 bytes each: 1 GB of Arrow."""


def main() -> None:
    """Run the same calls in turn, one on each side, so that a drift of the machine hits both."""
    heading(f"Gateway against the bare engine (medians of {QUERIES} calls in turn)")
    with (
        tempfile.TemporaryDirectory() as directory,
        bare_sail(Path(directory)) as bare,
        millpond(Path(directory) / "data") as ours,
    ):
        sides = tuple(_Side(SparkSession.builder.remote(peer.spark_remote).create(), peer.pid) for peer in (ours, bare))
        through, direct = (side.spark for side in sides)
        _prepare(through, direct, directory)
        _compare("range(1).collect()", lambda spark, _: spark.range(1).collect(), sides)
        _compare("table, 1000 rows collected", lambda spark, t: spark.table(t).collect(), sides)
        _compare("SQL, 1000 rows collected", lambda spark, t: spark.sql(f"SELECT * FROM {t}").collect(), sides)
        _compare(
            "SQL with a filter and an aggregate",
            lambda spark, t: spark.sql(f"SELECT count(*), max(id) FROM {t} WHERE id > 10").collect(),
            sides,
        )
        _stream(through, direct, ours.pid, bare.pid)
        for side in sides:
            side.spark.stop()  # the client would try for minutes to tell a server that has ended


@dataclass(frozen=True)
class _Side:
    spark: SparkSession
    pid: int


def _prepare(through: SparkSession, direct: SparkSession, directory: str) -> None:
    through.range(1000).write.saveAsTable("main.default.numbers")
    direct.range(1000).write.format("delta").save(f"{directory}/bare")
    direct.sql(f"CREATE TABLE numbers USING delta LOCATION '{directory}/bare'")


def _compare(name: str, act: Callable[[SparkSession, str], Any], sides: Sequence[_Side]) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for side, table in zip(sides, _TABLES, strict=True):
        for _ in range(10):
            act(side.spark, table)
    before = [cpu_s(side.pid) for side in sides]
    for _ in range(QUERIES):
        for side, table, kept in zip(sides, _TABLES, times, strict=True):
            began = time.perf_counter()
            act(side.spark, table)
            kept.append((time.perf_counter() - began) * 1000)
    spent = [(cpu_s(side.pid) - at) * 1000 / QUERIES for side, at in zip(sides, before, strict=True)]
    ours, bare = median(times[0]), median(times[1])
    row(name, ours, bare, "ms")
    line("    added by the gateway", ours - bare, "ms", goal="goal < 5 ms")
    row("    CPU of all server processes", *spent, "ms")


def _stream(through: SparkSession, direct: SparkSession, our_pid: int, bare_pid: int) -> None:
    columns = [f"id * {number} AS c{number}" for number in range(8)]
    ours, bare = [], []
    for _ in range(3):
        for spark, pid, kept in ((through, our_pid, ours), (direct, bare_pid, bare)):
            before, began = cpu_s(pid), time.perf_counter()
            table = spark.range(ROWS).selectExpr(*columns).toArrow()
            kept.append((time.perf_counter() - began, cpu_s(pid) - before, table.nbytes / 1e9))
            del table
    for name, index in (("seconds per GB of Arrow", 0), ("server CPU seconds per GB", 1)):
        row(name, *(median([run[index] / run[2] for run in side]) for side in (ours, bare)), "s")


if __name__ == "__main__":
    main()
