"""What a read of online features and their publication cost here and in Feast (SQLite and Redis), in one run.

    bench_online.py [ROWS [ROUNDS]]     by default 20000 and 1000

1, 10 and 100 keys of 50 and 250 features, inside a process and over HTTP. Ours are read as a user who is no
administrator, grants checked, from the embedded store and from Redis. Feast has an environment of its own, made once.
"""

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.redis_server import running_redis
from tests.servers import Server, running_server

from bench.bench_features import peers_environment
from bench.online_peers import KEYS, timed
from bench.peers import free_port, wait_for
from bench.report import heading, line, row
from millpond.catalog.service import open_catalog
from millpond.identity.credentials import Signer
from millpond.identity.domain import Principal
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.settings import Settings
from millpond.online.reading import OnlineTables
from millpond.online.stores import Backends

WIDTHS = (50, 250)
RUN = Path(__file__).with_name("online_peers.py")
READER = "reader@bench.org"


def main() -> None:
    """Ours and Feast, one after the other, for each width."""
    rows, rounds = (*map(int, sys.argv[1:]), *(20_000, 1000)[len(sys.argv) - 1 :])
    python = peers_environment()
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "feast[redis]"], check=True)
    port = free_port()
    with tempfile.TemporaryDirectory() as directory, running_redis(directory, port) as (url, _process):
        place = Path(directory)
        env = {"MILLPOND_ONLINE__STORES__REDIS__URL": url}
        with running_server(place / "data", env=env) as server:
            token = _prepare(server)
            for width in WIDTHS:
                _make_features(place, rows, width)
                mine = {
                    store: _ours(server, token, place, url, store, width, rounds) for store in ("embedded", "redis")
                }
                peers = {"embedded": "sqlite", "redis": f"127.0.0.1:{port}"}
                _compare(mine, {store: _feast(python, place, peer, width, rounds) for store, peer in peers.items()},
                         rows, width)  # fmt: skip


def _prepare(server: Server) -> str:
    """Stores, a schema, and a user who may read it; their token."""
    token = server.new_user(READER)
    for name in ("embedded", "redis"):
        _done(server.call("POST", "/api/2.0/feature-store/online-stores", {"name": name, "capacity": "CU_1"}))
    for text in ("CREATE SCHEMA main.bench", f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG main TO `{READER}`"):
        _sql(server, text)
    return token


def _make_features(place: Path, rows: int, width: int) -> None:
    chance = np.random.default_rng(7)
    features = {f"f{number}": chance.random(rows) for number in range(width)}
    times = pa.array(np.full(rows, 1_767_225_600_000_000)).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"id": np.arange(rows), "ts": times, **features}), place / "features.parquet")


def _ours(server: Server, token: str, place: Path, redis: str, store: str, width: int, rounds: int) -> dict[str, Any]:
    source, name = f"main.bench.f{width}_{store}", f"main.bench.f{width}_{store}_online"
    columns = ", ".join(f"f{number} DOUBLE" for number in range(width))
    key = f"CONSTRAINT k{width}_{store} PRIMARY KEY (id, ts TIMESERIES)"
    _sql(server, f"CREATE TABLE {source} (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, {columns}, {key})")
    location = _done(server.call("GET", f"/api/2.1/unity-catalog/tables/{source}"))["storage_location"]
    deltalake.write_deltalake(location, pq.read_table(place / "features.parquet"), mode="append")
    spec = {"online_store": store, "online_table_name": name, "publish_mode": "SNAPSHOT"}
    seconds = [_published(server, source, name, spec) for _ in range(2)][1]  # the first starts the publisher
    return {
        "publish_s": seconds,
        "inside": _inside(server, redis, name, rounds),
        "http": _over_http(server, token, name, rounds),
    }


def _published(server: Server, source: str, name: str, spec: dict[str, str]) -> float:
    """Seconds from asking until all rows are online."""
    began = time.perf_counter()
    _done(server.call("POST", f"/api/2.0/feature-store/tables/{source}/publish", {"publish_spec": spec}))
    wait_for(lambda: not _done(server.call("GET", f"/api/millpond/online-tables/{name}"))["is_pending"])
    return time.perf_counter() - began


def _inside(server: Server, redis: str, name: str, rounds: int) -> dict[int, list[float]]:
    """As serving reads it, in this process."""
    settings = Settings(data_dir=server.data_dir, online={"stores": {"redis": {"url": redis}}})  # type: ignore[arg-type]
    database = Database(settings.effective_database_url)
    catalog = open_catalog(database, settings, lambda _name: None)
    backends = Backends(server.data_dir / "online", settings.online.stores)
    tables = OnlineTables(database, catalog, backends)
    principal: Principal = IdentityService(database, Signer(b"0" * 32)).active_principal(READER)

    def read(ids: list[int]) -> None:
        assert tables.rows(principal, name, [{"id": each} for each in ids]).rows[0] is not None

    try:
        return {count: timed(read, count, rounds) for count in KEYS}
    finally:
        backends.close()
        database.dispose()


def _over_http(server: Server, token: str, name: str, rounds: int) -> dict[int, list[float]]:
    """One connection that is kept."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def read(ids: list[int]) -> None:
        body = json.dumps({"keys": [{"id": each} for each in ids]})
        connection.request("POST", f"/api/millpond/online-tables/{name}/read", body, headers)
        answer = connection.getresponse()
        assert len(json.loads(answer.read())["rows"]) == len(ids), answer.status

    try:
        return {count: timed(read, count, rounds) for count in KEYS}
    finally:
        connection.close()


def _feast(python: Path, place: Path, store: str, width: int, rounds: int) -> dict[str, Any]:
    command = [str(python), "-W", "ignore", str(RUN), store, str(place), str(width), str(rounds // 5), str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told = json.loads(done.stdout.splitlines()[-1])
    return {**told, **{way: {int(count): found for count, found in told[way].items()} for way in ("inside", "http")}}


def _compare(mine: dict[str, Any], peers: dict[str, Any], rows: int, width: int) -> None:
    heading(f"Online features: {rows:,} rows of {width} features, against Feast")
    for store, peer in (("embedded", "SQLite"), ("redis", "Redis")):
        for way, words in (("inside", "in a process"), ("http", "over HTTP")):
            for count in KEYS:
                ours, theirs = mine[store][way][count], peers[store][way][count]
                what = f"{store} against {peer}, {count} keys, {words}"
                row(f"{what}, p50", statistics.median(ours), statistics.median(theirs), "us")
                row(f"{what}, p99", _p99(ours), _p99(theirs), "us", goal=_goal(store, way, count))
        row(f"{store} against {peer}, publish all rows", mine[store]["publish_s"], peers[store]["publish_s"], "s")
        line(f"{store}, publish", rows / mine[store]["publish_s"], "rows/s", goal="ratio at most 0.10")


def _goal(store: str, way: str, count: int) -> str:
    if count > 1:
        return ""
    return "goal 3000 us, ratio 0.20" if way == "http" else "goal 100 us" if store == "embedded" else ""


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


def _sql(server: Server, text: str) -> None:
    body = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s"}
    made = _done(server.call("POST", "/api/2.0/sql/statements", body))
    assert made["status"]["state"] == "SUCCEEDED", made


def _done(answer: tuple[int, Any]) -> Any:
    assert answer[0] == 200, answer
    return answer[1]


if __name__ == "__main__":
    main()
