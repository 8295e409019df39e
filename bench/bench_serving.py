"""What a prediction costs here, behind `mlflow models serve`, and in BentoML, LitServe, MLServer and Ray Serve.

    bench_serving.py [--models NAME...] [--peers NAME...] [--clients N...] [--rows N...] [--seconds S]

The figure that counts is answers for each second of CPU of all the server's processes, beyond what they use when nobody
asks, as others may use the machine. Libraries have one thread, and the model one process, as each server starts by
default; ours asks for a token, checks the right, writes metrics and the audit. Peers are installed into environments of
their own, made once. Cold start is from the command to the first answer; ours from the order to make the endpoint, in
a running server, whose whole platform counts for its memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peers import BIN, Peer, cpu_s, free_port, memory_mb, millpond, process, wait_for
from bench.report import heading

MODELS = ("lightgbm", "pipeline", "forest", "slow")
HERE = Path(__file__).parent
SERVICES = HERE / "serving_peers"
PACKAGES = {"bentoml": "bentoml", "litserve": "litserve", "mlserver": "mlserver", "ray": "ray[serve]"}
NEEDED = ("scikit-learn", "lightgbm", "pandas<3", "joblib")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
START_S = 300
IDLE_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that is served."""

    url: str
    pid: int
    cold_start_s: float = 0.0
    idle_cores: float = 0.0
    """CPU seconds that its processes use each second when nobody asks."""
    body: Callable[[Any], Any]
    """The request for rows, which are given as columns and data."""
    headers: tuple[str, ...] = ()


def main() -> None:
    """Each model in each server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--peers", nargs="*", default=("mlflow", *PACKAGES))
    parser.add_argument("--clients", nargs="*", type=int, default=(1, 8, 64))
    parser.add_argument("--rows", nargs="*", type=int, default=(1, 100))
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    os.environ |= ONE_THREAD
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        subprocess.run([sys.executable, "-W", "ignore", str(HERE / "serving_models.py"), str(models)], check=True)
        with millpond(Path(directory) / "data") as server:
            for name in asked.models:
                heading(f"Model '{name}'")
                print(_COLUMNS)
                _compare(server, models / name, asked)


def _compare(server: Peer, place: Path, asked: argparse.Namespace) -> None:
    ours: dict[tuple[int, int], float] = {}
    for name in ("millpond", *asked.peers):
        served = _ours(server, place) if name == "millpond" else _peer(name, place)
        try:
            with served as target:
                for rows in asked.rows:
                    for clients in asked.clients:
                        rate = _measure(name, target, place, rows, clients, asked.seconds, ours.get((rows, clients)))
                        if name == "millpond" and rate:
                            ours[rows, clients] = rate
        except (TimeoutError, subprocess.CalledProcessError) as error:
            print(f"  {name}: {error}")


_COLUMNS = (
    f"  {'':<10} {'rows':>4} {'clients':>7} {'answers/CPU-s':>13} {'CPU-ms':>8} {'p50 ms':>8} {'p99 ms':>8} "
    f"{'answers/s':>9} {'errors':>6} {'MB':>6} {'start s':>7}  ours is"
)


def _measure(
    name: str, target: Target, place: Path, rows: int, clients: int, seconds: float, ours: float | None
) -> float | None:
    """One line; the answers for each second of CPU."""
    given = json.loads((place / "rows.json").read_text())
    body = json.dumps(target.body({"columns": given["columns"], "data": given["data"][:rows]})).encode()
    _load(target, body, clients, min(1.0, seconds))
    before = cpu_s(target.pid)
    told = _load(target, body, clients, seconds)
    spent = cpu_s(target.pid) - before - target.idle_cores * told["seconds"]
    answers, errors = told["answers"], sum(told["errors"].values())
    if not answers:
        print(f"  {name:<10} {rows:>4} {clients:>7} no answer: {told['errors']}")
        return None
    rate: float = answers / spent
    ratio = f"{ours / rate:.1f} times it" if ours else ""
    print(
        f"  {name:<10} {rows:>4} {clients:>7} {rate:>13.0f} {spent / answers * 1000:>8.2f} {told['p50_ms']:>8.1f} "
        f"{told['p99_ms']:>8.1f} {answers / told['seconds']:>9.0f} {errors:>6} {memory_mb(target.pid):>6.0f} "
        f"{target.cold_start_s:>7.1f}  {ratio}",
        flush=True,
    )
    return rate


def _load(target: Target, body: bytes, clients: int, seconds: float) -> Any:
    address = urlsplit(target.url)
    command = [sys.executable, str(HERE / "http_load.py"), str(address.hostname), str(address.port), address.path]
    command += [str(clients), str(seconds), "Content-Type: application/json", *target.headers]
    done = subprocess.run(command, input=body, capture_output=True, check=True)
    return json.loads(done.stdout)


# Ours


@contextmanager
def _ours(server: Peer, place: Path) -> Iterator[Target]:
    """An endpoint of a running server, which is made and deleted."""
    os.environ |= {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token}
    name = place.name
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(SERVICES / "register.py"),
        str(place / "mlflow"),
        f"main.default.{name}",
    ]
    subprocess.run(command, check=True, capture_output=True)
    config = {"served_entities": [{"name": name, "entity_name": f"main.default.{name}", "entity_version": "1"}]}
    headers = (f"Authorization: Bearer {server.token}",)
    target = Target(
        url=f"{server.url}/serving-endpoints/{name}/invocations",
        pid=server.pid,
        body=lambda rows: {"dataframe_split": rows},
        headers=headers,
    )
    began = time.perf_counter()
    _call(f"{server.url}/api/2.0/serving-endpoints", {"name": name, "config": config}, headers)
    yield _when_it_answers(target, place, began)
    _call(f"{server.url}/api/2.0/serving-endpoints/{name}", None, headers, method="DELETE")


# Peers


@contextmanager
def _peer(name: str, place: Path) -> Iterator[Target]:
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command, path, body = _COMMANDS[name](port, place, Path(directory))
        programs = f"{Path(command[0]).parent}:{os.environ['PATH']}"
        more = {
            "PATH": programs,
            "MODEL": str(place),
            "PYTHONPATH": str(SERVICES),
            "BENTOML_DO_NOT_TRACK": "true",
            "HOME": directory,
        }
        began = time.perf_counter()
        with process(command, Path(directory) / "log", more, Path(directory)) as started:
            target = Target(url=f"http://127.0.0.1:{port}{path}", pid=started.pid, body=body)
            yield _when_it_answers(target, place, began)


def _mlflow(port: int, place: Path, _directory: Path) -> tuple[list[str], str, Callable[[Any], Any]]:
    command = [str(BIN / "mlflow"), "models", "serve", "-m", str(place / "mlflow"), "--env-manager", "local"]
    return [*command, "--port", str(port)], "/invocations", lambda rows: {"dataframe_split": rows}


def _bentoml(port: int, _place: Path, _directory: Path) -> tuple[list[str], str, Callable[[Any], Any]]:
    command = [str(_environment("bentoml") / "bentoml"), "serve", "bentoml_service:Service", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--working-dir", str(SERVICES)]
    return (
        command,
        "/predict",
        lambda rows: {"rows": [dict(zip(rows["columns"], r, strict=True)) for r in rows["data"]]},
    )


def _litserve(port: int, _place: Path, _directory: Path) -> tuple[list[str], str, Callable[[Any], Any]]:
    command = [str(_environment("litserve") / "python"), str(SERVICES / "litserve_service.py"), str(port)]
    return command, "/predict", lambda rows: rows


def _ray(port: int, _place: Path, _directory: Path) -> tuple[list[str], str, Callable[[Any], Any]]:
    command = [str(_environment("ray") / "python"), str(SERVICES / "ray_service.py"), str(port)]
    return command, "/", lambda rows: rows


def _mlserver(port: int, _place: Path, directory: Path) -> tuple[list[str], str, Callable[[Any], Any]]:
    others = {f"{kind}_port": free_port() for kind in ("grpc", "metrics")}
    settings = {"http_port": port, "host": "127.0.0.1", "parallel_workers": 0, **others}
    (directory / "settings.json").write_text(json.dumps(settings))
    (directory / "model-settings.json").write_text(
        json.dumps({"name": "model", "implementation": "mlserver_model.Service"})
    )
    return [str(_environment("mlserver") / "mlserver"), "start", str(directory)], "/v2/models/model/infer", _columns


def _columns(rows: Any) -> Any:
    """The V2 protocol: each column by itself."""
    inputs = []
    for number, name in enumerate(rows["columns"]):
        data = [row[number] for row in rows["data"]]
        kind = "BYTES" if isinstance(data[0], str) else "INT64" if isinstance(data[0], int) else "FP64"
        typed = {"parameters": {"content_type": "str"}} if kind == "BYTES" else {}
        inputs.append({"name": name, "shape": [len(data), 1], "datatype": kind, "data": data, **typed})
    return {"inputs": inputs, "parameters": {"content_type": "pd"}}


_COMMANDS = {"mlflow": _mlflow, "bentoml": _bentoml, "litserve": _litserve, "mlserver": _mlserver, "ray": _ray}


def _environment(name: str) -> Path:
    """The programs of an environment with a peer, made once."""
    place = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "serving" / name
    if not (place / "made").exists():
        uv = str(BIN / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], check=True)
        python = str(place / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, PACKAGES[name], *NEEDED], check=True)
        (place / "made").touch()
    return place / "bin"


def _when_it_answers(target: Target, place: Path, began: float) -> Target:
    given = json.loads((place / "rows.json").read_text())
    body = target.body({"columns": given["columns"], "data": given["data"][:1]})
    wait_for(lambda: _answers(target, body), timeout_s=START_S)
    took_s = time.perf_counter() - began
    before = cpu_s(target.pid)
    time.sleep(IDLE_S)
    return replace(target, cold_start_s=took_s, idle_cores=(cpu_s(target.pid) - before) / IDLE_S)


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


if __name__ == "__main__":
    main()
