"""One contender of `bench_features.py` in a process of its own: joins three tables to labels and says what it cost.

    python features_peers.py NAME DIRECTORY

`DIRECTORY` has `labels.parquet` (e0, e1, e2, at, y) and `t0.parquet` ... (e0, ts, f0_0 ... f0_3). Prints a line of
JSON: rows, a checksum of the features, seconds, CPU seconds (both without imports) and the peak of memory. It imports
nothing of this repository but for `ours`, as the peers run in an environment of their own.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TABLES = 3
FEATURES = 4


def ours(place: Path) -> Any:
    """Our kernel, with the sample that a certificate checks."""
    import polars as pl
    import pyarrow.parquet as pq

    from millpond.features.certificate import sample_of
    from millpond.features.joining import Means, look_up
    from millpond.features.planning import Join

    labels = pl.read_parquet(place / "labels.parquet")
    found = labels
    for number in range(TABLES):
        outputs = {f"f{number}_{each}": f"f{number}_{each}" for each in range(FEATURES)}
        join = Join(table="t", keys=((f"e{number}",) * 2,), time=("at", "ts"), outputs=outputs, defaults={})
        file = pq.ParquetFile(place / f"t{number}.parquet")
        batches = (pl.from_arrow(batch) for batch in file.iter_batches(1 << 20))
        made = look_up(labels, batches, join, Means(memory_limit_bytes=_limit()), sample_of(labels.height))
        assert made.evidence.wrong == 0
        found = found.hstack(made.columns)
    return found.to_arrow()


def polars(place: Path) -> Any:
    """`join_asof`, one after the other."""
    import polars as pl

    found = pl.read_parquet(place / "labels.parquet").with_row_index("row").sort("at")
    for number in range(TABLES):
        features = pl.read_parquet(place / f"t{number}.parquet").sort("ts")
        found = found.join_asof(features, left_on="at", right_on="ts", by=f"e{number}", check_sortedness=False)
        found = found.drop("ts", strict=False)
    return found.sort("row").drop("row").to_arrow()


def duckdb(place: Path) -> Any:
    """One query with three ASOF joins."""
    import duckdb

    chosen = ", ".join(f"t{number}.* EXCLUDE (e{number}, ts)" for number in range(TABLES))
    joins = " ".join(
        f"ASOF LEFT JOIN read_parquet('{place}/t{number}.parquet') t{number} "
        f"ON l.e{number} = t{number}.e{number} AND l.at >= t{number}.ts"
        for number in range(TABLES)
    )
    query = f"SELECT l.* EXCLUDE (file_row_number), {chosen} FROM read_parquet('{place}/labels.parquet', " \
            f"file_row_number = true) l {joins} ORDER BY l.file_row_number"  # fmt: skip
    return duckdb.connect().execute(query).to_arrow_table()


def feast(place: Path) -> Any:
    """Feast's historical features from its DuckDB store."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    store = FeatureStore(
        config=RepoConfig(
            project="bench", provider="local", registry=str(place / "registry.db"), entity_key_serialization_version=3,
            offline_store={"type": "duckdb"}, online_store={"type": "sqlite", "path": str(place / "online.db")},
        )
    )  # fmt: skip
    views, wanted = [], []
    for number in range(TABLES):
        entity = Entity(name=f"e{number}", join_keys=[f"e{number}"], value_type=ValueType.INT64)
        source = FileSource(path=str(place / f"t{number}.parquet"), timestamp_field="ts")
        fields = [Field(name=f"f{number}_{each}", dtype=Float64) for each in range(FEATURES)]
        views += [entity, FeatureView(name=f"t{number}", entities=[entity], schema=fields, source=source, ttl=None)]
        wanted += [f"t{number}:f{number}_{each}" for each in range(FEATURES)]
    store.apply(views)
    labels = pd.read_parquet(place / "labels.parquet").rename(columns={"at": "event_timestamp"})
    return store.get_historical_features(entity_df=labels, features=wanted).to_arrow()


def _limit() -> int:
    return int(sys.argv[3]) if len(sys.argv) > 3 else 1 << 34


CONTENDERS: dict[str, Callable[[Path], Any]] = {"ours": ours, "polars": polars, "duckdb": duckdb, "feast": feast}
NEEDED = {
    "ours": ["polars", "pyarrow.parquet", "millpond.features.joining"],
    "polars": ["polars"],
    "duckdb": ["duckdb"],
    "feast": ["feast", "pandas", "feast.infra.offline_stores.duckdb"],
}


def main() -> None:
    """Join and tell."""
    import pyarrow.compute as pc

    for module in NEEDED[sys.argv[1]]:
        importlib.import_module(module)
    began, cpu = time.perf_counter(), time.process_time()
    found = CONTENDERS[sys.argv[1]](Path(sys.argv[2]))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    sums = [pc.sum(found[f"f{number}_0"]).as_py() for number in range(TABLES)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    told = {"rows": found.num_rows, "sums": sums, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
