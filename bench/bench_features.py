"""What a point-in-time join of three tables costs here, in raw Polars, in raw DuckDB and in Feast (its DuckDB store).

    bench_features.py [LABELS ROWS]...     by default 100000 500000 5000000 20000000

Each contender joins the same files in a process of its own; ours also re-checks its certificate's sample. Feast and
DuckDB are installed into an environment of their own, made once. The last lines of each size join with a tenth of a
table in memory: by way of the disk.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.features_peers import FEATURES, TABLES
from bench.report import heading, line, row

SIZES = (100_000, 500_000, 5_000_000, 20_000_000)
RUN = Path(__file__).with_name("features_peers.py")
YEAR_US = 365 * 86_400_000_000


def main() -> None:
    """Each size with each contender."""
    given = tuple(map(int, sys.argv[1:])) or SIZES
    python = peers_environment()
    for labels, rows in zip(given[::2], given[1::2], strict=True):
        with tempfile.TemporaryDirectory() as directory:
            _compare(Path(directory), labels, rows, python)


def _compare(place: Path, labels: int, rows: int, python: Path) -> None:
    heading(f"Point-in-time join of {labels:,} labels to {TABLES} tables of {rows:,} rows together")
    make_files(place, labels, rows)
    mine = _run(Path(sys.executable), "ours", place)
    peers = {"polars": Path(sys.executable), "duckdb": python, "feast": python}
    for name, interpreter in peers.items():
        told = _run(interpreter, name, place)
        if told is None:
            print(f"  {name}: failed or took more than 15 minutes")
            continue
        for what, unit in (("wall_s", "s"), ("cpu_s", "s"), ("peak_mb", "MB")):
            row(f"ours against {name}, {what.partition('_')[0]}", mine[what], told[what], unit)
        same = np.allclose(mine["sums"], told["sums"])
        line(f"  rows of {name}", told["rows"], "", goal=f"of {labels}; {'same' if same else 'OTHER'} values")
    size = sum(file.stat().st_size for file in place.glob("t*.parquet"))
    told = _run(Path(sys.executable), "ours", place, str(size // TABLES // 10))
    line("ours by way of the disk, wall", told["wall_s"], "s", goal="same" if told["sums"] == mine["sums"] else "OTHER")
    line("ours by way of the disk, peak", told["peak_mb"], "MB")


def make_files(place: Path, labels: int, rows: int) -> None:
    """Labels and tables: keys at random, about twenty rows of each key over a year."""
    chance = np.random.default_rng(7)
    each = rows // TABLES
    keys = max(1, each // 20)

    def times(count: int) -> pa.Array:
        return pa.array(chance.integers(0, YEAR_US, count)).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))

    entities = {f"e{number}": chance.integers(0, keys, labels) for number in range(TABLES)}
    pq.write_table(pa.table({**entities, "at": times(labels), "y": chance.random(labels)}), place / "labels.parquet")
    for number in range(TABLES):
        features = {f"f{number}_{one}": chance.random(each) for one in range(FEATURES)}
        table = pa.table({f"e{number}": chance.integers(0, keys, each), "ts": times(each), **features})
        pq.write_table(table, place / f"t{number}.parquet")


def peers_environment() -> Path:
    """The interpreter of an environment with Feast and DuckDB."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "feast"
    python = cache / "bin" / "python"
    if not (cache / "bin" / "feast").exists():
        subprocess.run([sys.executable, "-m", "venv", str(cache)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "feast[duckdb]", "duckdb<2"], check=True)
    return python


def _run(python: Path, name: str, place: Path, *more: str) -> Any:
    """What a contender tells, or None."""
    command = [str(python), "-W", "ignore", str(RUN), name, str(place), *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(done.stderr[-1500:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
