"""A model behind a server, ours or a peer's, and the loads that are put on it.

Each serves the model by one process whose libraries have one thread, as all of them start by default; no peer puts
requests together, as none does unless it is told. What is set beyond that is what its own pages say for such a model:

- `mlflow models serve`: nothing, from an environment that has what the model needs (`--env-manager local`).
- BentoML: nothing; a class with a method that takes a data frame, in one worker with one thread.
- LitServe: no accelerator, one worker beside the server's process.
- MLServer: no pool of processes beside the server's (`parallel_workers` 0), which for one model only adds a hop; no
  debugging.
- Ray Serve: one replica that takes 100 requests at once instead of 5, no dashboard, no line in a log for each request,
  and what its page on performance calls optimized for throughput.
- Ours: as it comes; it asks for a token, checks the right, writes metrics, the audit, and each request and its answer
  to an inference table. A model with torch has an environment of its own, built of its requirements. One that waits
  most of its time has a size of 8 to 16 requests at a time instead of 4, as the page on serving says.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.peers import BIN, Peer, apart, cpu_s, free_port, millpond, process, wait_for
from bench.wheel_index import wheel_index

MODELS = ("lightgbm", "pipeline", "forest", "torch", "slow")
PEERS = ("mlflow", "bentoml", "litserve", "mlserver", "ray")
HERE = Path(__file__).parent
SERVICES = HERE / "serving_peers"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TORCH = "torch==2.13.0"
"""Installed by pip, which may know of a wheel without CUDA; uv would not."""
_PACKAGES = {
    "mlflow": f"mlflow=={version('mlflow')}",
    "bentoml": "bentoml==1.4.40",
    "litserve": "litserve==0.2.19",
    "mlserver": "mlserver==1.7.1",
    "ray": "ray[serve]==2.60.0",
}
_NEEDED = tuple(f"{name}=={version(name)}" for name in ("scikit-learn", "lightgbm", "pandas", "joblib", "numpy"))
_CLIENTS_FOR_MOST = (4, 8, 16, 32)
_WARM_S = 2.0
_START_S = 300
_IDLE_S = 2.0
_STEADY_CORES = 0.03
"""A start has an aftermath: it is over when what is used of a core differs by no more from one time to the next."""
_STEADY_AFTER = 20
_COMMITTED_S = 5.5
"""Within this time requests come into an inference table."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that is served."""

    url: str
    pid: int
    cold_start_s: float = 0.0
    """From the command to the first answer; ours from the order to make the endpoint, in a running server."""
    idle_cores: float = 0.0
    """CPU seconds that its processes use each second when nobody asks."""
    settles_s: float = 0.0
    """How long after a request there is still work to do for it."""
    body: Callable[[Any], Any]
    """The request for rows, which are given as columns and data."""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Overload:
    """What becomes of twice the load that gives the most answers."""

    alone_p99_ms: float
    """Of one client."""
    peak: float
    """Answers in a second, at most."""
    asked: float
    """Requests in a second; fewer than twice the peak where the clients themselves could not ask more."""
    goodput: float
    """Answers in a second."""
    p50_ms: float
    p99_ms: float
    """Of what was answered, from when each request was due."""
    refused: float
    """Requests in a second that were told to come back (429)."""
    errors: dict[str, int]
    error_share: float
    """Of all requests those that failed, or found no connection because 1500 requests waited for their answers."""
    waiting: int
    """Requests that had no answer when all was over."""


def make_models(directory: Path, names: Sequence[str]) -> None:
    """Write models, each to a folder of its own name; that with torch by an interpreter that has it."""
    for name in names:
        python = str(environment("mlflow") / "python") if name == "torch" else sys.executable
        command = [python, "-W", "ignore", str(HERE / "serving_models.py"), str(directory), name]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def request_of(target: Target, place: Path, rows: int) -> bytes:
    """The body of a request for some rows of the model in a folder."""
    return json.dumps(target.body(_rows(place, rows))).encode()


# Loads


def load(target: Target, body: bytes, clients: int, seconds: float) -> Any:
    """What clients see that ask again as soon as they are answered."""
    return _clients(target, body, "http_load.py", clients, seconds)


def overload(target: Target, body: bytes, seconds: float) -> Overload:
    """One client, then as many as it takes for the most answers, then twice that rate whatever becomes of it.

    The server has one half of the cores and the clients the other: a quick model is otherwise slower for nothing but
    what its clients do, which is more the more they ask.
    """
    with apart(target.pid):
        load(target, body, 4, min(2.0, seconds / 2))
        alone = load(target, body, 1, seconds / 2)
        most = max(_CLIENTS_FOR_MOST, key=lambda clients: _per_second(load(target, body, clients, seconds / 4)))
        peak = _per_second(load(target, body, most, seconds))
        if not peak:
            raise TimeoutError("it does not answer any more")
        twice = _clients(target, body, "http_rate.py", 2 * peak, _WARM_S, seconds)
    return Overload(
        alone_p99_ms=alone["p99_ms"] or float("nan"),
        peak=peak,
        asked=twice["asked"] / twice["seconds"],
        goodput=_per_second(twice),
        p50_ms=twice["p50_ms"] or float("nan"),
        p99_ms=twice["p99_ms"] or float("nan"),
        refused=twice["refused"] / twice["seconds"],
        errors=twice["errors"],
        error_share=sum(twice["errors"].values()) / twice["asked"],
        waiting=twice["waiting"],
    )


def _per_second(told: Any) -> float:
    return float(told["answers"] / told["seconds"])


def _clients(target: Target, body: bytes, script: str, *how: float) -> Any:
    address = urlsplit(target.url)
    command = [sys.executable, str(HERE / script), str(address.hostname), str(address.port), address.path]
    command += [*map(str, how), "Content-Type: application/json", *target.headers]
    done = subprocess.run(command, input=body, capture_output=True, check=True)
    return json.loads(done.stdout)


# Ours


@contextmanager
def our_server(directory: Path, names: Sequence[str]) -> Iterator[Peer]:
    """Ours, running, for some models.

    Environments that it builds are kept for the next time; their torch is the wheel that pip takes.
    """
    (_cache() / "ours").mkdir(parents=True, exist_ok=True)
    directory.mkdir()
    (directory / "environments").symlink_to(_cache() / "ours")
    with ExitStack() as stack:
        if "torch" in names:
            os.environ["MILLPOND_ENVIRONMENTS__INDEX_URL"] = stack.enter_context(wheel_index(_wheels()))
        yield stack.enter_context(millpond(directory))


@contextmanager
def ours(server: Peer, place: Path, *, capture: bool = True) -> Iterator[Target]:
    """An endpoint of a running server, which is made and deleted. With `capture` it has an inference table."""
    name = place.name
    _register(server, place, f"main.default.{name}")
    entity = {"name": name, "entity_name": f"main.default.{name}", "entity_version": "1"}
    config: dict[str, Any] = {"served_entities": [entity]}
    if name == "slow":
        entity["workload_size"] = "Medium"
    if name == "torch":  # as peers' packages are, its environment is built before the clock runs
        with _endpoint(server, place, f"{name}-first", config):
            pass
    if capture:
        table = {"catalog_name": "main", "schema_name": "default", "table_name_prefix": name}
        config |= {"auto_capture_config": table}
    with _endpoint(server, place, name, config) as target:
        yield replace(target, settles_s=_COMMITTED_S if capture else 0.0)


@contextmanager
def _endpoint(server: Peer, place: Path, name: str, config: Any) -> Iterator[Target]:
    headers = (f"Authorization: Bearer {server.token}",)
    target = Target(
        url=f"{server.url}/serving-endpoints/{name}/invocations",
        pid=server.pid,
        body=lambda rows: {"dataframe_split": rows},
        headers=headers,
    )
    began = time.perf_counter()
    _call(f"{server.url}/api/2.0/serving-endpoints", {"name": name, "config": config}, headers)
    try:
        yield _when_it_answers(target, place, began)
    finally:
        _call(f"{server.url}/api/2.0/serving-endpoints/{name}", None, headers, method="DELETE")


def _register(server: Peer, place: Path, name: str) -> None:
    os.environ |= {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token}
    command = [sys.executable, "-W", "ignore", str(SERVICES / "register.py"), str(place / "mlflow"), name]
    subprocess.run(command, check=True, capture_output=True)


# Peers


@contextmanager
def peer(name: str, place: Path) -> Iterator[Target]:
    """A peer that serves the model of a folder."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command, path, body = _COMMANDS[name](port, place, Path(directory))
        more = {
            "PATH": f"{environment(name)}:{os.environ['PATH']}",
            "MODEL": str(place),
            "PYTHONPATH": str(SERVICES),
            "BENTOML_DO_NOT_TRACK": "true",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_TMPDIR": directory,
            "RAY_USAGE_STATS_ENABLED": "0",
            "HOME": directory,
        }
        began = time.perf_counter()
        with process([str(environment(name) / command[0]), *command[1:]], Path(directory) / "log", more) as started:
            target = Target(url=f"http://127.0.0.1:{port}{path}", pid=started.pid, body=body)
            yield _when_it_answers(target, place, began)


_Command = tuple[list[str], str, Callable[[Any], Any]]
"""A program of the peer's environment with its arguments, the path of predictions, and their requests."""


def _mlflow(port: int, place: Path, _directory: Path) -> _Command:
    command = ["mlflow", "models", "serve", "-m", str(place / "mlflow"), "--env-manager", "local", "--port", str(port)]
    return command, "/invocations", lambda rows: {"dataframe_split": rows}


def _bentoml(port: int, _place: Path, _directory: Path) -> _Command:
    command = ["bentoml", "serve", "bentoml_service:Service", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--working-dir", str(SERVICES)]
    return command, "/predict", lambda rows: {"rows": _records(rows)}


def _litserve(port: int, _place: Path, _directory: Path) -> _Command:
    return ["python", str(SERVICES / "litserve_service.py"), str(port)], "/predict", lambda rows: rows


def _ray(port: int, _place: Path, _directory: Path) -> _Command:
    return ["python", str(SERVICES / "ray_service.py"), str(port)], "/", lambda rows: rows


def _mlserver(port: int, _place: Path, directory: Path) -> _Command:
    others = {f"{kind}_port": free_port() for kind in ("grpc", "metrics")}
    settings = {"http_port": port, "host": "127.0.0.1", "parallel_workers": 0, "debug": False, **others}
    (directory / "settings.json").write_text(json.dumps(settings))
    (directory / "model-settings.json").write_text(
        json.dumps({"name": "model", "implementation": "mlserver_model.Service"})
    )
    return ["mlserver", "start", str(directory)], "/v2/models/model/infer", _columns


_COMMANDS = {"mlflow": _mlflow, "bentoml": _bentoml, "litserve": _litserve, "mlserver": _mlserver, "ray": _ray}


def _records(rows: Any) -> Any:
    return [dict(zip(rows["columns"], row, strict=True)) for row in rows["data"]]


def _columns(rows: Any) -> Any:
    """The V2 protocol: each column by itself."""
    inputs = []
    for number, name in enumerate(rows["columns"]):
        data = [row[number] for row in rows["data"]]
        kind = "BYTES" if isinstance(data[0], str) else "INT64" if isinstance(data[0], int) else "FP64"
        typed = {"parameters": {"content_type": "str"}} if kind == "BYTES" else {}
        inputs.append({"name": name, "shape": [len(data), 1], "datatype": kind, "data": data, **typed})
    return {"inputs": inputs, "parameters": {"content_type": "pd"}}


def environment(name: str) -> Path:
    """The programs of an environment with a peer and what all models need, made once."""
    place, packages = _cache() / name, [_PACKAGES[name], *_NEEDED]
    made, whole = place / "made", "\n".join([TORCH, *packages])
    if not made.exists() or made.read_text() != whole:
        uv, python = str(BIN / "uv"), str(place / "bin" / "python")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, str(place)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH], check=True, stderr=subprocess.DEVNULL)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
        made.write_text(whole)
    return place / "bin"


def _wheels() -> Path:
    """A directory with the wheel of torch that pip takes, for an index."""
    place = _cache() / "wheels"
    if not any(place.glob("torch-*.whl")):
        command = [str(environment("mlflow") / "python"), "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(place), TORCH], check=True, stderr=subprocess.DEVNULL)
    return place


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "serving"


# Asking


def _rows(place: Path, count: int) -> Any:
    given = json.loads((place / "rows.json").read_text())
    return {"columns": given["columns"], "data": given["data"][:count]}


def _when_it_answers(target: Target, place: Path, began: float) -> Target:
    body = target.body(_rows(place, 1))
    wait_for(lambda: _answers(target, body), timeout_s=_START_S)
    took_s = time.perf_counter() - began
    return replace(target, cold_start_s=took_s, idle_cores=_idle_cores(target.pid))


def _idle_cores(pid: int) -> float:
    """What is used while nobody asks, once that is steady."""
    last = used = math.inf
    for _ in range(_STEADY_AFTER):
        before = cpu_s(pid)
        time.sleep(_IDLE_S)
        last, used = used, (cpu_s(pid) - before) / _IDLE_S
        if abs(last - used) <= _STEADY_CORES:
            break
    return min(last, used)


def _answers(target: Target, body: Any) -> bool:
    try:
        _call(target.url, body, target.headers)
    except OSError:
        return False
    return True


def _call(url: str, body: Any, headers: tuple[str, ...], method: str = "POST") -> None:
    """A call that is answered 200. Raises OSError."""
    given = {"Content-Type": "application/json"} | dict(header.split(": ", 1) for header in headers)
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, given, method=method), timeout=60):
        pass
