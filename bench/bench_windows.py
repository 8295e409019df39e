"""What aggregations over windows cost here, in raw Polars (`rolling`) and in raw DuckDB (window functions).

    bench_windows.py [LABELS ROWS KEYS]...     by default 1000000 4000000 200000 200000 1000000 20

Sum, count, mean, maximum and standard deviation over the 30 days before each label, [t - 30 days, t). The second size
has few keys, so that each window is long. Each contender works on the same files in a process of its own; ours also
re-checks its certificate's sample. DuckDB is installed into an environment of its own, made once.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.bench_features import YEAR_US, peers_environment, run
from bench.report import heading, line, row

SIZES = (1_000_000, 4_000_000, 200_000, 200_000, 1_000_000, 20)
RUN = Path(__file__).with_name("windows_peers.py")


def main() -> None:
    """Each size with each contender."""
    given = tuple(map(int, sys.argv[1:])) or SIZES
    python = peers_environment()
    for labels, rows, keys in zip(given[::3], given[1::3], given[2::3], strict=True):
        heading(f"Windows of 30 days of {labels:,} labels over {rows:,} rows of {keys:,} keys")
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            _make_files(place, labels, rows, keys)
            mine = run(RUN, Path(sys.executable), "ours", place)
            for name, interpreter in {"polars": Path(sys.executable), "duckdb": python}.items():
                _compare(name, mine, run(RUN, interpreter, name, place))


def _compare(name: str, mine: Any, told: Any) -> None:
    if mine is None or told is None:
        print(f"  {'ours' if mine is None else name}: failed or took too long")
        return
    for what, unit in (("wall_s", "s"), ("cpu_s", "s"), ("peak_mb", "MB")):
        row(f"ours against {name}, {what.partition('_')[0]}", mine[what], told[what], unit)
    line(f"  values of {name}", told["rows"], "", goal="same" if np.allclose(mine["sums"], told["sums"]) else "OTHER")


def _make_files(place: Path, labels: int, rows: int, keys: int) -> None:
    chance = np.random.default_rng(7)
    for name, count in (("labels", labels), ("events", rows)):
        times = pa.array(chance.integers(0, YEAR_US, count)).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        table = pa.table({"k": chance.integers(0, keys, count), "ts": times})
        if name == "events":
            table = table.append_column("x", pa.array(chance.random(count)))
        pq.write_table(table, place / f"{name}.parquet")


if __name__ == "__main__":
    main()
