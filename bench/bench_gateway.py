"""What the gateway adds to a query and to a gigabyte, against the bare engine."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyspark.sql import SparkSession

from bench.peers import bare_sail, cpu_s, millpond
from bench.report import heading, line, median, row

QUERIES = 200
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
        through = SparkSession.builder.remote(ours.spark_remote).create()
        direct = SparkSession.builder.remote(bare.spark_remote).create()
        _prepare(through, direct, directory)
        _compare("range(1).collect()", lambda spark, _: spark.range(1).collect(), through, direct)
        _compare("table, 1000 rows collected", lambda spark, t: spark.table(t).collect(), through, direct)
        _compare(
            "SQL with a filter and an aggregate",
            lambda spark, t: spark.sql(f"SELECT count(*), max(id) FROM {t} WHERE id > 10").collect(),
            through,
            direct,
        )
        _stream(through, direct, ours.pid, bare.pid)


def _prepare(through: SparkSession, direct: SparkSession, directory: str) -> None:
    through.range(1000).write.saveAsTable("main.default.numbers")
    direct.range(1000).write.format("delta").save(f"{directory}/bare")
    direct.sql(f"CREATE TABLE numbers USING delta LOCATION '{directory}/bare'")


def _compare(name: str, act: Callable[[SparkSession, str], Any], through: SparkSession, direct: SparkSession) -> None:
    sides = ((through, "main.default.numbers"), (direct, "numbers"))
    times: tuple[list[float], list[float]] = ([], [])
    for round_number in range(QUERIES + 10):
        for (spark, table), kept in zip(sides, times, strict=True):
            began = time.perf_counter()
            act(spark, table)
            if round_number >= 10:
                kept.append((time.perf_counter() - began) * 1000)
    ours, bare = median(times[0]), median(times[1])
    row(name, ours, bare, "ms")
    line("    added by the gateway", ours - bare, "ms", goal="goal < 5 ms")


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
