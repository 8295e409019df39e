"""kill -9 of the publisher, the server or Redis in mid-publish: afterwards, what is online is what the table says.

Five times in each run, a hundred with MILLPOND_TEST_ALL=1.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from pyspark.sql import SparkSession

from millpond.features import FeatureLookup
from millpond.features.spec import FeatureSpec
from millpond.features.specs import LANGUAGE
from tests.redis_server import free_port, running_redis
from tests.servers import Server, running_server, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")

ROWS = 20_000
READ = "/api/millpond/online-tables"
STORES = {"embedded": "main.kills.in_files", "fast": "main.kills.in_redis"}


class Redis:
    """A Redis that can be killed and comes back with its log."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port = str(directory), free_port()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._context.__exit__(None, None, None)

    def _start(self) -> None:
        self._context = running_redis(self._directory, self.port)
        self.url, self._process = self._context.__enter__()

    def kill(self) -> None:
        """With SIGKILL; it is back afterwards."""
        with self.away():
            pass

    @contextmanager
    def away(self) -> Iterator[None]:
        """Killed with SIGKILL, and back after the block."""
        self._process.kill()
        self._context.__exit__(None, None, None)
        try:
            yield
        finally:
            self._start()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    redis = Redis(tmp_path / "redis")
    with redis.running():
        yield redis


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_online_and_offline_agree_whatever_is_killed(tmp_path: Path, redis: Redis, kills: int) -> None:
    chance = random.Random(int(os.environ.get("MILLPOND_TEST_SEED", "0")) or time.time_ns())
    env = {"MILLPOND_ONLINE__STORES__FAST__URL": redis.url}
    with running_server(tmp_path / "data", env=env) as server:
        source = _published(server)
        for kill in range(kills):
            _commit(source, chance, kill)
            _ask(server, chance)
            time.sleep(chance.random() * 1.2)  # the point at which it is killed, not a wait for something
            _kill(chance.choice(("publisher", "server", "redis")), server, redis)
        for store, name in STORES.items():
            wait_until(lambda s=store: _follows(server, s), timeout_s=120, what=f"{name} being asked to follow")
            wait_until(lambda n=name: _is_current(server, n), timeout_s=180, what=f"{name} being current")
            assert _online(server, name, ROWS + 100 * kills) == _truth(source)
        _redis_goes_and_comes_back(server, redis)
        spec = _make_spec(server)
        checked = {_parity_of_one_copy(server, spec, redis) for _ in STORES}
        assert checked == set(STORES.values())


def _redis_goes_and_comes_back(server: Server, redis: Redis) -> None:
    """Whoever reads is told, and served again as soon as it is back."""
    path, asked = f"{READ}/{STORES['fast']}/read", {"keys": [{"id": 0}]}
    status, found = server.call("POST", path, asked)
    assert status == 200, found
    with redis.away():
        for _ in range(3):
            status, told = server.call("POST", path, asked)
            assert (status, told["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert told["message"] == "The online store in Redis does not answer: ConnectionError."
    assert server.call("POST", path, asked) == (200, found)


def _make_spec(server: Server) -> str:
    """A feature spec of the table; its name."""
    spec = FeatureSpec(wanted=(FeatureLookup("main.kills.t", "id"),))
    info = {
        "name": "spec", "catalog_name": "main", "schema_name": "kills", "data_type": "STRUCT",
        "full_data_type": "STRUCT", "input_params": {"parameters": []}, "routine_body": "EXTERNAL",
        "external_language": LANGUAGE, "routine_definition": spec.to_yaml(), "parameter_style": "S",
        "is_deterministic": False, "sql_data_access": "READS_SQL_DATA", "is_null_call": True,
        "security_type": "DEFINER", "specific_name": "spec",
    }  # fmt: skip
    assert server.call("POST", "/api/2.1/unity-catalog/functions", {"function_info": info})[0] == 200
    return "main.kills.spec"


def _parity_of_one_copy(server: Server, spec: str, redis: Redis) -> str:
    """Check the online table that serving reads, which has to hold, then remove it: its name.

    The check is carried out although the server is killed as soon as it is asked for.
    """
    path = "/api/millpond/parity-checks"
    status, body = server.call("POST", path, {"subject": spec, "sample": 1000})
    assert status == 200, body
    place = f"{path}/{body['check']['id']}"
    _kill("server", server, redis)
    check = wait_until(lambda: _ended(server, place), timeout_s=120, what="the parity check")
    assert check["state"] == "passed", check
    assert check["report"]["rows"] > 1000
    (source,) = check["report"]["sources"]
    name = str(source["online_table"])
    assert server.call("DELETE", f"/api/2.0/feature-store/online-tables/{name}")[0] == 200
    return name


def _ended(server: Server, place: str) -> Any:
    """A check that has ended, once the server answers."""
    try:
        status, body = server.call("GET", place)
    except OSError:
        return None
    return body["check"] if status == 200 and body["check"]["ended_at"] else None


def _published(server: Server) -> str:
    """A table that is published into both stores, in continuous mode; its place."""
    spark = SparkSession.builder.remote(server.spark_remote).create()
    spark.sql("CREATE SCHEMA main.kills").collect()
    spark.sql("CREATE TABLE main.kills.t (id BIGINT NOT NULL, v BIGINT, CONSTRAINT pk PRIMARY KEY (id))").collect()
    spark.stop()
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat", config_file="/nowhere")
    location = str(w.tables.get("main.kills.t").storage_location)
    deltalake.write_deltalake(location, _rows(range(ROWS), 0), mode="append")
    for store in STORES:
        assert (
            server.call("POST", "/api/2.0/feature-store/online-stores", {"name": store, "capacity": "CU_1"})[0] == 200
        )
        assert _publish(server, store, "CONTINUOUS") == 200
    return location


def _rows(ids: Any, value: int) -> pa.Table:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.int64())])
    return pa.table({"id": list(ids), "v": [value] * len(ids)}, schema=schema)


def _commit(source: str, chance: random.Random, number: int) -> None:
    """Change a few thousand rows, take some away, add some."""
    table = deltalake.DeltaTable(source)
    start = chance.randrange(ROWS - 5000)
    table.delete(f"id >= {start} and id < {start + 5000}")
    deltalake.write_deltalake(source, _rows(range(start, start + 4000), number + 1), mode="append")
    new = range(ROWS + 100 * number, ROWS + 100 * (number + 1))
    deltalake.write_deltalake(source, _rows(new, number), mode="append")


def _publish(server: Server, store: str, mode: str) -> int:
    spec = {"online_store": store, "online_table_name": STORES[store], "publish_mode": mode}
    path = "/api/2.0/feature-store/tables/main.kills.t/publish"
    return server.call("POST", path, {"publish_spec": spec})[0]


def _ask(server: Server, chance: random.Random) -> None:
    """Now and then have all rows written anew, if the server answers just now."""
    if chance.random() < 0.5:
        for store in STORES:
            try:
                _publish(server, store, "SNAPSHOT")
                _publish(server, store, "CONTINUOUS")
            except OSError:
                return


def _follows(server: Server, store: str) -> bool:
    """Ask for it once more: a server that died between the two calls of `_ask` was never asked for the second."""
    try:
        return _publish(server, store, "CONTINUOUS") == 200
    except OSError:
        return False


def _kill(who: str, server: Server, redis: Redis) -> None:
    if who == "redis":
        redis.kill()
        return
    log = str(server.data_dir / "logs" / f"{who}.log")
    pid = wait_until(
        lambda: _who_writes(log), timeout_s=120, what=f"the {who}"
    )  # a server that often dies is given time
    os.kill(pid, signal.SIGKILL)


def _who_writes(log: str) -> int | None:
    """The process that writes a log; its children write elsewhere."""
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/1") == log:
                return pid
    return None


def _is_current(server: Server, name: str) -> bool:
    try:
        status, told = server.call("GET", f"{READ}/{name}")
    except OSError:
        return False
    return status == 200 and told["state"] == "ONLINE" and not told["is_pending"] and not told["versions_behind"]


def _online(server: Server, name: str, end: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for start in range(0, end, 1000):
        ids = range(start, start + 1000)
        status, body = server.call("POST", f"{READ}/{name}/read", {"keys": [{"id": each} for each in ids]})
        assert status == 200, body
        found |= {each: row["v"] for each, row in zip(ids, body["rows"], strict=True) if row is not None}
    return found


def _truth(source: str) -> dict[int, int]:
    rows = deltalake.DeltaTable(source).to_pyarrow_table()
    return dict(zip(rows["id"].to_pylist(), rows["v"].to_pylist(), strict=True))
