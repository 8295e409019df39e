"""Feast as `bench_online.py` measures it, in an environment of its own; imports nothing of this repository.

    python online_peers.py STORE DIRECTORY FEATURES ROUNDS HTTP_PORT

`DIRECTORY` has `features.parquet` (id, ts, f0 ...); STORE is `sqlite` or a Redis as `host:port`. Prints a line of JSON:
seconds of `materialize`, and of reads in this process and over HTTP (`feast serve`) by number of keys.
"""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

KEYS = (1, 10, 100)


def main() -> None:
    """Define, materialize, read."""
    kind, place, features, rounds, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *map(int, sys.argv[4:6])
    repository = place / f"feast-{kind.partition(':')[0]}-{features}"
    repository.mkdir()
    online = f"type: sqlite\n    path: {repository}/online.db"
    if kind != "sqlite":
        online = f'type: redis\n    connection_string: "{kind}"'
    (repository / "feature_store.yaml").write_text(
        f"project: bench{features}\nregistry: {repository}/registry.db\nprovider: local\nonline_store:\n    {online}\n"
        "offline_store:\n    type: dask\nentity_key_serialization_version: 3\n"
    )
    store = _defined(repository, place / "features.parquet", features)
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        store.materialize(datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    told: dict[str, Any] = {"publish_s": time.perf_counter() - began}
    names = [f"v:f{number}" for number in range(features)]

    def read(ids: list[int]) -> None:
        found = store.get_online_features(names, [{"id": each} for each in ids]).to_dict()
        assert found["f0"][0] is not None

    told["inside"] = {count: timed(read, count, rounds) for count in KEYS}
    told["http"] = _over_http(repository, names, port, rounds)
    print(json.dumps(told))


def _defined(repository: Path, file: Path, features: int) -> Any:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64
    from feast.value_type import ValueType

    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    source = FileSource(path=str(file), timestamp_field="ts")
    view = FeatureView(
        name="v", entities=[entity], ttl=timedelta(days=10_000), source=source,
        schema=[Field(name=f"f{number}", dtype=Float64) for number in range(features)],
    )  # fmt: skip
    store = FeatureStore(repo_path=str(repository))
    store.apply([entity, view])
    return store


def _over_http(repository: Path, names: list[str], port: int, rounds: int) -> dict[int, list[float]]:
    command = [
        str(Path(sys.executable).with_name("feast")),
        "-c",
        str(repository),
        "serve",
        "-p",
        str(port),
        "--no-access-log",
    ]
    with (repository / "serve.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:

        def read(ids: list[int]) -> None:
            body = json.dumps({"features": names, "entities": {"id": ids}}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/get-online-features", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert len(json.load(answer)["results"]) > 1

        deadline = time.monotonic() + 90
        while True:
            try:
                read([1])
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        return {count: timed(read, count, max(20, rounds // 4)) for count in KEYS}
    finally:
        process.terminate()
        process.wait()


def timed(read: Callable[[list[int]], None], count: int, rounds: int) -> list[float]:
    """Microseconds of each of so many reads of other keys, without the first few."""
    found = []
    for number in range(rounds + 5):
        ids = [(number * 7919 + each * 104_729) % 1000 for each in range(count)]
        began = time.perf_counter_ns()
        read(ids)
        found.append((time.perf_counter_ns() - began) / 1000)
    return found[5:]


if __name__ == "__main__":
    main()
