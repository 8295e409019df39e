"""One contender of `bench_windows.py` in a process of its own: aggregates windows of events and says what it cost.

    python windows_peers.py NAME DIRECTORY

`DIRECTORY` has `labels.parquet` (k, ts) and `events.parquet` (k, ts, x). Prints a line of JSON: rows, checksums of the
features, seconds, CPU seconds (both without imports) and the peak of memory. It imports nothing of this repository but
for `ours`, as the peers run in an environment of their own.
"""

import datetime
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MONTH = datetime.timedelta(days=30)
NAMES = ("sum", "count", "mean", "max", "std")


def ours(place: Path) -> Any:
    """Our kernel, with the sample that a certificate checks."""
    import polars as pl
    import pyarrow.parquet as pq

    from millpond.features import Avg, Count, Max, RollingWindow, StddevSamp, Sum
    from millpond.features.certificate import sample_of
    from millpond.features.joining import Means, look_up
    from millpond.features.planning import Aggregate, Aggregation

    span = RollingWindow(window_duration=MONTH).span
    functions = dict(zip(NAMES, (Sum("x"), Count("x"), Avg("x"), Max("x"), StddevSamp("x")), strict=True))
    step = Aggregation(
        table="t",
        keys=(("k", "k"),),
        time=("ts", "ts"),
        aggregates=tuple(Aggregate(output=name, function=each, span=span) for name, each in functions.items()),
    )
    labels = pl.read_parquet(place / "labels.parquet")
    batches = map(pl.from_arrow, pq.ParquetFile(place / "events.parquet").iter_batches(1 << 20))
    made = look_up(labels, batches, step, Means(memory_limit_bytes=1 << 34), sample_of(labels.height))
    assert made.evidence.wrong == 0
    return made.columns.to_arrow()


def polars(place: Path) -> Any:
    """`rolling` over events and labels together, of which the labels are kept, in order."""
    import polars as pl

    labels = pl.read_parquet(place / "labels.parquet").with_row_index("row")
    both = pl.concat([pl.read_parquet(place / "events.parquet"), labels], how="diagonal").sort("k", "ts")
    x = pl.col("x")
    found = both.rolling("ts", period=MONTH, closed="left", group_by="k").agg(
        x.sum().alias("sum"), x.count().alias("count"), x.mean().alias("mean"), x.max().alias("max"),
        x.std().alias("std"),
    )  # fmt: skip
    return found.with_columns(both["row"]).drop_nulls("row").sort("row").select(NAMES).to_arrow()


def duckdb(place: Path) -> Any:
    """Window functions over events and labels together, of which the labels are kept, in order."""
    import duckdb

    query = f"""
        WITH labels AS (SELECT k, ts, NULL::DOUBLE AS x, file_row_number AS n
                        FROM read_parquet('{place}/labels.parquet', file_row_number = true)),
             events AS (SELECT k, ts, x, NULL AS n FROM read_parquet('{place}/events.parquet')),
             everything AS (FROM events UNION ALL FROM labels),
             found AS (SELECT n, sum(x) OVER w AS sum, count(x) OVER w AS count, avg(x) OVER w AS mean,
                              max(x) OVER w AS max, stddev_samp(x) OVER w AS std
                       FROM everything WINDOW w AS (PARTITION BY k ORDER BY ts
                            RANGE BETWEEN INTERVAL 30 DAY PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING))
        SELECT {", ".join(NAMES)} FROM found WHERE n IS NOT NULL ORDER BY n
    """
    return duckdb.connect().execute(query).to_arrow_table()


CONTENDERS: dict[str, Callable[[Path], Any]] = {"ours": ours, "polars": polars, "duckdb": duckdb}
NEEDED = {
    "ours": ["polars", "pyarrow.parquet", "millpond.features.joining"],
    "polars": ["polars"],
    "duckdb": ["duckdb"],
}


def main() -> None:
    """Aggregate and tell."""
    import pyarrow.compute as pc

    for module in NEEDED[sys.argv[1]]:
        importlib.import_module(module)
    began, cpu = time.perf_counter(), time.process_time()
    found = CONTENDERS[sys.argv[1]](Path(sys.argv[2]))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    sums = [pc.sum(found[name]).as_py() for name in NAMES]
    print(json.dumps({"rows": found.num_rows, "sums": sums, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
