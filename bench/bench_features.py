"""What a point-in-time join of three tables costs here, in raw Polars, in raw DuckDB and in Feast (its DuckDB store).

    bench_features.py [--feast-up-to LABELS] [--beyond-limit] [LABELS ROWS]...

By default 100000 500000 5000000 20000000. Each contender joins the same files in a process of its own; ours also
re-checks its certificate's sample. None may reserve more memory than the machine has, or take 15 minutes. Feast, which
needs minutes where others need seconds, takes part up to 100,000 labels unless more are allowed. Feast and DuckDB are
installed into an environment of their own, made once. The last lines of each size join with a tenth of a table in
memory: by way of the disk. With --beyond-limit, and without sizes, three tables of which each is ten times larger than
what ours may hold.
"""

import argparse
import json
import os
import resource
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
AT_A_TIME = 1 << 21
TIMEOUT_S = 900
MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main() -> None:
    """Each size with each contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--feast-up-to", type=int, default=SIZES[0])
    parser.add_argument("--beyond-limit", action="store_true")
    parser.add_argument("sizes", nargs="*", type=int)
    asked = parser.parse_args()
    given = tuple(asked.sizes) or (() if asked.beyond_limit else SIZES)
    for labels, rows in zip(given[::2], given[1::2], strict=True):
        with tempfile.TemporaryDirectory() as directory:
            _compare(Path(directory), labels, rows, feast=labels <= asked.feast_up_to)
    if asked.beyond_limit:
        with tempfile.TemporaryDirectory() as directory:
            _beyond_limit(Path(directory))


def _compare(place: Path, labels: int, rows: int, *, feast: bool) -> None:
    heading(f"Point-in-time join of {labels:,} labels to {TABLES} tables of {rows:,} rows together")
    make_files(place, labels, rows)
    python = peers_environment()
    mine = run(RUN, Path(sys.executable), "ours", place)
    peers = {"polars": Path(sys.executable), "duckdb": python, **({"feast": python} if feast else {})}
    for name, interpreter in peers.items():
        told = run(RUN, interpreter, name, place)
        if told is None:
            print(f"  {name}: failed, or took more than {TIMEOUT_S / 60:.0f} minutes")
            continue
        for what, unit in (("wall_s", "s"), ("cpu_s", "s"), ("peak_mb", "MB")):
            row(f"ours against {name}, {what.partition('_')[0]}", mine[what], told[what], unit)
        same = np.allclose(mine["sums"], told["sums"])
        line(f"  rows of {name}", told["rows"], "", goal=f"of {labels}; {'same' if same else 'OTHER'} values")
    size = sum(file.stat().st_size for file in place.glob("t*.parquet"))
    told = run(RUN, Path(sys.executable), "ours", place, str(size // TABLES // 10))
    line("ours by way of the disk, wall", told["wall_s"], "s", goal="same" if told["sums"] == mine["sums"] else "OTHER")
    line("ours by way of the disk, peak", told["peak_mb"], "MB")


def _beyond_limit(place: Path) -> None:
    labels, rows, limit_bytes = 100_000, 60_000_000, 100_000_000
    table_mb = rows // TABLES * (FEATURES + 2) * 8 / 1e6
    heading(
        f"{labels:,} labels, {TABLES} tables of {table_mb:,.0f} MB each, {limit_bytes / 1e6:.0f} MB of one in memory"
    )
    make_files(place, labels, rows)
    for name, more in (("ours", [str(limit_bytes)]), ("polars", [])):
        told = run(RUN, Path(sys.executable), name, place, *more)
        if told is None:
            print(f"  {name}: failed")
        else:
            line(f"{name}, wall", told["wall_s"], "s")
            line(f"{name}, peak", told["peak_mb"], "MB", goal=f"{told['rows']} rows")


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
        writer = None
        for done in range(0, each, AT_A_TIME):
            count = min(AT_A_TIME, each - done)
            features = {f"f{number}_{one}": chance.random(count) for one in range(FEATURES)}
            table = pa.table({f"e{number}": chance.integers(0, keys, count), "ts": times(count), **features})
            writer = writer or pq.ParquetWriter(place / f"t{number}.parquet", table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def peers_environment() -> Path:
    """The interpreter of an environment with Feast and DuckDB."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "feast"
    python = cache / "bin" / "python"
    if not (cache / "bin" / "feast").exists():
        subprocess.run([sys.executable, "-m", "venv", str(cache)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "feast[duckdb]", "duckdb<2"], check=True)
    return python


def run(script: Path, python: Path, name: str, place: Path, *more: str) -> Any:
    """What a contender tells, or None."""
    command = [str(python), "-W", "ignore", str(script), name, str(place), *more]

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, preexec_fn=bounded)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(done.stderr[-1500:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
