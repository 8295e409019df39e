"""The process tree: refused doubles, clear errors, and nothing acknowledged lost by kill -9 anywhere."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import urllib.error
from collections import Counter
from pathlib import Path

import pytest

from tests.servers import Server, run_cli, running_server, server_of, up, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc")


def test_a_second_server_on_the_same_directory_is_refused(server: Server) -> None:
    """The message names the directory, the process and the way out."""
    done = run_cli(
        "up", "--detach", "--data-dir", str(server.data_dir), "--port", "0", "--spark-port", "0", check=False
    )
    assert done.returncode == 1
    assert f"Another Millpond serves {server.data_dir} already" in done.stderr
    assert str(server.state["pid"]) in done.stderr
    assert server.call("GET", "/health/ready")[0] == 200


@pytest.mark.parametrize("flag", ["--port", "--spark-port"])
def test_a_port_in_use_is_named(tmp_path: Path, flag: str) -> None:
    """The error says which port and which flag; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"--port": "0", "--spark-port": "0"} | {flag: port}
        arguments = [part for pair in ports.items() for part in pair]
        done = run_cli("up", "--detach", "--data-dir", str(tmp_path / "data"), *arguments, check=False)
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert flag in done.stderr
    assert _tree(tmp_path / "data") == []


def test_kill_of_the_whole_tree_under_load_loses_nothing_acknowledged(
    tmp_path: Path, database_flags: list[str]
) -> None:
    """Every schema and metric that was answered with success is there after the restart."""
    data_dir = tmp_path / "data"
    up(data_dir, *database_flags)
    server = server_of(data_dir)
    run_id = _new_run(server)
    acknowledged = _write_until_killed(server, run_id, lambda: [_kill(pid) for pid in _tree(data_dir)])
    wait_until(lambda: _tree(data_dir) == [], what="the end of every process")

    with running_server(data_dir, *database_flags) as again:
        _, listed = again.call("GET", "/api/2.1/unity-catalog/schemas?catalog_name=main&max_results=1000")
        assert {schema["name"] for schema in listed["schemas"]} >= set(acknowledged["schemas"])
        query = f"run_id={run_id}&metric_key=loss&max_results=25000"
        _, history = again.call("GET", f"/api/2.0/mlflow/metrics/get-history?{query}")
        assert {int(metric["step"]) for metric in history["metrics"]} >= set(acknowledged["steps"])
        assert len(acknowledged["steps"]) > 5
        assert len(acknowledged["schemas"]) > 5


@pytest.mark.long
def test_kill_of_the_server_under_load_loses_no_acknowledged_act_from_the_audit(
    tmp_path: Path, database_flags: list[str]
) -> None:
    """Each change, read and refusal that was answered is in the chain, and once; the chain holds."""
    data_dir = tmp_path / "data"
    up(data_dir, *database_flags)
    server = server_of(data_dir)
    acknowledged = _ask_until_killed(server)
    wait_until(lambda: _ready(server), timeout_s=120, what="the server's return")
    run_cli("down", "--data-dir", str(data_dir))
    env = {"MILLPOND_DATABASE_URL": database_flags[1]} if database_flags else {}
    lines = run_cli("audit", "export", "--data-dir", str(data_dir), env=env).stdout.splitlines()
    told = Counter((event["action"], event["name"]) for event in (json.loads(line)["event"] for line in lines))
    assert {action for action, _ in acknowledged} == {"createSchema", "getSchema", "getTable"}
    assert {act: told[act] for act in acknowledged if told[act] != 1} == {}
    assert run_cli("audit", "verify", "--data-dir", str(data_dir), env=env).stdout.startswith("ok: ")


@pytest.mark.long
def test_kill_of_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    """Server, gateway and what they started end with it, and the directory can be served again."""
    data_dir = tmp_path / "data"
    up(data_dir)
    _kill(server_of(data_dir).state["pid"])
    wait_until(lambda: _tree(data_dir) == [], what="the end of every process")
    with running_server(data_dir) as again:
        assert again.call("GET", "/health/ready")[0] == 200


@pytest.mark.parametrize("name", ["server", pytest.param("gateway", marks=pytest.mark.long)])
def test_a_killed_process_comes_back(tmp_path: Path, name: str) -> None:
    """The supervisor starts it again on the same address; requests meanwhile wait instead of failing."""
    with running_server(tmp_path / "data") as server:
        victim = _child(server.state["pid"], f"millpond.{name}_process")
        _kill(victim)
        wait_until(lambda: _child(server.state["pid"], f"millpond.{name}_process") not in {None, victim}, timeout_s=60)
        wait_until(lambda: _ready(server), timeout_s=60, what="readiness")


@pytest.mark.long
def test_a_request_in_flight_is_answered_when_the_server_is_told_to_stop(tmp_path: Path) -> None:
    """SIGTERM drains: an upload that was being sent completes."""
    with running_server(tmp_path / "data") as server:
        server.call("POST", "/api/2.1/unity-catalog/volumes", {
            "catalog_name": "main", "schema_name": "default", "name": "drain", "volume_type": "MANAGED",
        })  # fmt: skip
        size = 1 << 20
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
            head = (
                f"PUT /api/2.0/fs/files/Volumes/main/default/drain/file HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {server.token}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
            )
            connection.sendall(head.encode() + b"x" * (size // 2))
            wait_until(lambda: list((tmp_path / "data" / "tables").rglob("*")), what="the upload to begin")
            os.kill(server.state["pid"], signal.SIGTERM)
            connection.sendall(b"x" * (size // 2))
            answer = connection.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 20"), answer


def _write_until_killed(server: Server, run_id: str, kill: object) -> dict[str, list]:
    """Two writers send as fast as they can; after enough answers the tree is killed under them."""
    acknowledged: dict[str, list] = {"schemas": [], "steps": []}
    enough = threading.Barrier(3)

    def write(kind: str, send: object) -> None:
        for number in range(10_000):
            try:
                status = send(number)  # type: ignore[operator]
            except (OSError, urllib.error.URLError):
                return
            if status != 200:
                return
            acknowledged[kind].append(f"s{number}" if kind == "schemas" else number)
            if number == 20:
                enough.wait(60)

    def new_schema(number: int) -> int:
        body = {"name": f"s{number}", "catalog_name": "main"}
        return server.call("POST", "/api/2.1/unity-catalog/schemas", body)[0]

    def log_metric(number: int) -> int:
        body = {"run_id": run_id, "key": "loss", "value": 0.5, "timestamp": number, "step": number}
        return server.call("POST", "/api/2.0/mlflow/runs/log-metric", body)[0]

    writers = [
        threading.Thread(target=write, args=("schemas", new_schema)),
        threading.Thread(target=write, args=("steps", log_metric)),
    ]
    for writer in writers:
        writer.start()
    enough.wait(60)
    kill()  # type: ignore[operator]
    for writer in writers:
        writer.join(60)
    return acknowledged


def _ask_until_killed(server: Server) -> list[tuple[str, str]]:
    """A change, a read and a refusal of objects of their own, by several clients, until the server is killed."""
    acknowledged: list[tuple[str, str]] = []
    enough, killed = threading.Event(), threading.Event()

    def ask(client: int) -> None:
        for number in itertools.takewhile(lambda _: not killed.is_set(), itertools.count()):
            name = f"k{client}x{number}"
            full = f"main.{name}"
            try:
                for method, path, body, act in (
                    ("POST", "schemas", {"catalog_name": "main", "name": name}, ("createSchema", full)),
                    ("GET", f"schemas/{full}", None, ("getSchema", full)),
                    ("GET", f"tables/{full}.none", None, ("getTable", f"{full}.none")),
                ):
                    server.call(method, f"/api/2.1/unity-catalog/{path}", body)
                    acknowledged.append(act)
            except (OSError, urllib.error.URLError, http.client.HTTPException):
                return
            if len(acknowledged) > 100:
                enough.set()

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    assert enough.wait(120)
    _kill(_child(server.state["pid"], "millpond.server_process"))
    killed.set()  # who was about to connect is answered by the next server, and would go on
    for client in clients:
        client.join(60)
    return acknowledged


def _new_run(server: Server) -> str:
    _, made = server.call("POST", "/api/2.0/mlflow/experiments/create", {"name": "robust"})
    body = {"experiment_id": made["experiment_id"], "start_time": 0}
    return server.call("POST", "/api/2.0/mlflow/runs/create", body)[1]["run"]["info"]["run_id"]


def _ready(server: Server) -> bool:
    try:
        return server.call("GET", "/health/ready")[0] == 200
    except OSError:
        return False


def _kill(pid: int | None) -> None:
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _child(parent: int, module: str) -> int | None:
    """The child of the supervisor that writes the log of this module's process."""
    log = module.removeprefix("millpond.").removesuffix("_process") + ".log"
    for pid in _pids():
        stat = _read(pid, "stat")
        if stat and int(stat.rpartition(b")")[2].split()[1]) == parent:
            target = os.readlink(f"/proc/{pid}/fd/1") if os.path.exists(f"/proc/{pid}/fd/1") else ""
            if target.endswith(log):
                return pid
    return None


def kill_tree(data_dir: Path) -> None:
    """kill -9 of every process on a data directory; returns when none is left."""
    for pid in _tree(data_dir):
        _kill(pid)
    wait_until(lambda: _tree(data_dir) == [], what="the end of every process")


def _tree(data_dir: Path) -> list[int]:
    """Processes of the tree on a data directory that still run."""
    marks = (f"MILLPOND_TREE={data_dir}".encode(), f"MILLPOND_DATA_DIR={data_dir}".encode())
    return [pid for pid in _pids() if _runs(pid) and any(mark in _read(pid, "environ").split(b"\0") for mark in marks)]


def _runs(pid: int) -> bool:
    stat = _read(pid, "stat")
    return bool(stat) and stat.rpartition(b")")[2].split()[0] != b"Z"


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
