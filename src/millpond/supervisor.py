"""The root of the process tree: starts the server and the gateway, restarts what dies, ends all of it.

`python -m millpond.supervisor`, configured by `MILLPOND_*` variables that `millpond up` has checked. Standard library
only: it stays small (about 15 MB), and nothing that a user sends reaches it.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from millpond import __version__
from millpond.home import Home, ServerState, load_state
from millpond.kernel.errors import MillpondError, Unavailable
from millpond.kernel.process import Child, ChildSpec, spawn

_PR_SET_CHILD_SUBREAPER = 36
_START_TIMEOUT_S = 120.0
_DRAIN_S = 30.0
_MAX_BACKOFF_S = 30.0
_STABLE_S = 60.0
_LOG_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run and where to listen."""

    home: Home
    host: str
    port: int
    spark_port: int
    public_url: str | None
    certificate: str | None
    ready: "ReadyLine"


class ReadyLine:
    """Where `up --detach` waits for one JSON line, that it is ready or why not; nowhere in the foreground."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.foreground = descriptor is None

    def tell(self, message: dict[str, Any]) -> None:
        """Say it; only the first time counts."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            os.write(descriptor, json.dumps(message).encode() + b"\n")
            os.close(descriptor)
        except OSError:
            pass  # `up --detach` was interrupted; nobody listens


class Refused(Exception):
    """The server cannot start; the message says why and what to do."""


def main() -> None:
    """Run until SIGTERM or SIGINT; exit code 1 when it cannot start."""
    plan = _plan_from_environment()
    try:
        Supervisor(plan).run()
    except (Refused, MillpondError) as error:
        plan.ready.tell({"error": str(error)})
        if plan.ready.foreground:
            print(f"millpond: {error}", file=sys.stderr)
        sys.exit(1)


class Supervisor:
    """Holds the lock on the data directory and the two children."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stopping = threading.Event()
        self._children: dict[str, Child] = {}

    def run(self) -> None:
        """Start, tell that it is ready, watch until told to stop, drain, end."""
        home = self._plan.home
        home.prepare()
        lock = _take_lock(home)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stopping.set())
        _adopt_orphans()
        end_tree(home, spare=os.getpid())
        for stale in (home.run / "metrics").glob("*.db"):
            stale.unlink()
        with _listen(self._plan.host, self._plan.port, "--port") as listener:
            plan = replace(self._plan, port=listener.getsockname()[1], spark_port=self._spark_port())
            specs = _specs(plan, listener.fileno())
            try:
                self._start_all(specs)
                self._announce(plan)
                self._watch(specs)
            finally:
                self._end_all()
                home.state_file.unlink(missing_ok=True)
        lock.close()

    def _spark_port(self) -> int:
        with _listen(self._plan.host, self._plan.spark_port, "--spark-port") as probe:
            port: int = probe.getsockname()[1]
        return port

    def _start_all(self, specs: dict[str, ChildSpec]) -> None:
        for name, spec in specs.items():
            self._children[name] = spawn(spec)
        with ThreadPoolExecutor(len(specs)) as pool:
            waits = [pool.submit(child.wait_ready, _START_TIMEOUT_S) for child in self._children.values()]
            for wait in waits:
                wait.result()

    def _announce(self, plan: Plan) -> None:
        host = "127.0.0.1" if plan.host in {"0.0.0.0", "::"} else plan.host  # noqa: S104 - compared, not bound
        scheme = "https" if plan.certificate else "http"
        named = urlsplit(plan.public_url).hostname if plan.public_url and plan.certificate else None
        state = ServerState(
            pid=os.getpid(),
            url=plan.public_url or f"{scheme}://{host}:{plan.port}",
            # PySpark sends a token over a plaintext channel to the name "localhost" only
            spark_host=named or ("localhost" if host == "127.0.0.1" else host),
            spark_port=plan.spark_port,
            certificate=plan.certificate,
            started_ms=time.time_ns() // 1_000_000,
            version=__version__,
        )
        state.save(plan.home)
        if plan.ready.foreground:
            print(banner(plan.home, state), flush=True)
        plan.ready.tell({"ready": True})

    def _watch(self, specs: dict[str, ChildSpec]) -> None:
        backoff_s = dict.fromkeys(specs, 0.5)
        started = dict.fromkeys(specs, time.monotonic())
        while not self._stopping.wait(0.2):
            for name, spec in specs.items():
                child = self._children[name]
                if child.running:
                    continue
                _log(self._plan.home, f"{name} ended with code {child.process.returncode}; starting it again")
                child.kill()
                _end_adopted({other.pid for other in self._children.values()})
                if time.monotonic() - started[name] > _STABLE_S:
                    backoff_s[name] = 0.5
                if self._stopping.wait(backoff_s[name]):
                    return
                backoff_s[name] = min(_MAX_BACKOFF_S, backoff_s[name] * 2)
                started[name] = time.monotonic()
                self._restart(name, spec)

    def _restart(self, name: str, spec: ChildSpec) -> None:
        self._children[name] = child = spawn(spec)
        try:
            child.wait_ready(_START_TIMEOUT_S)
        except Unavailable as error:
            _log(self._plan.home, str(error))

    def _end_all(self) -> None:
        for child in self._children.values():
            if child.running:
                child.process.terminate()
        deadline = time.monotonic() + _DRAIN_S
        for child in self._children.values():
            child.terminate(max(0.1, deadline - time.monotonic()))
        _end_adopted(set())
        end_tree(self._plan.home, spare=os.getpid())


def banner(home: Home, state: ServerState) -> str:
    """What a person needs to know when the server is ready."""
    return f"""
  Millpond {state.version} is ready.

  UI             {state.url}
  API            {state.url}/api
  Spark Connect  {state.spark_url}

  Sign in with the name and password in {home.credentials_file}
  Connect:       eval "$(millpond env --data-dir {home.root})"
  Stop:          millpond down --data-dir {home.root}
"""


def end_tree(home: Home, *, spare: int) -> None:
    """Kill what an earlier tree on this data directory left when it was killed itself; wait until it is gone."""
    if platform.system() != "Linux":
        return
    mark = f"MILLPOND_TREE={home.root}".encode()
    victims = [pid for pid in _processes() if pid != spare and mark in _environment_of(pid)]
    _kill_and_wait(victims)


def _kill_and_wait(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # if it is ours, its end is noted here
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _adopt_orphans() -> None:
    """Processes that a dead child leaves become ours, so that we can end them."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_adopted(known: set[int]) -> None:
    me = os.getpid()
    if platform.system() == "Linux":
        _kill_and_wait([pid for pid in _processes() if pid not in known and _parent_of(pid) == me])


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _take_lock(home: Home) -> TextIO:
    lock = home.lock_file.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        state = load_state(home)
        where = f" (process {state.pid}, {state.url})" if state else ""
        raise Refused(
            f"Another Millpond serves {home.root} already{where}. "
            f"Stop it with 'millpond down --data-dir {home.root}', or choose another --data-dir."
        ) from None
    return lock


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Refused(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with {flag}.") from error
    listener.listen(2048)
    return listener


def _specs(plan: Plan, listener_fd: int) -> dict[str, ChildSpec]:
    env = {
        "MILLPOND_TREE": str(plan.home.root),
        "MILLPOND_PORT": str(plan.port),
        "MILLPOND_SPARK_PORT": str(plan.spark_port),
        "PROMETHEUS_MULTIPROC_DIR": str(plan.home.run / "metrics"),
    }
    specs = {}
    for name, module, descriptors in (
        ("gateway", "millpond.gateway_process", ()),
        ("server", "millpond.server_process", (listener_fd,)),
    ):
        log_path = plan.home.logs / f"{name}.log"
        if log_path.exists() and log_path.stat().st_size > _LOG_LIMIT_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))
        specs[name] = ChildSpec(
            module=module,
            args=tuple(map(str, descriptors)),
            env=env,
            inherit_env=True,
            log_path=log_path,
            pass_fds=descriptors,
        )
    return specs


def _plan_from_environment() -> Plan:
    ready_fd = os.environ.pop("MILLPOND_READY_FD", None)
    return Plan(
        home=Home(Path(os.environ["MILLPOND_DATA_DIR"])),
        host=os.environ["MILLPOND_HOST"],
        port=int(os.environ["MILLPOND_PORT"]),
        spark_port=int(os.environ["MILLPOND_SPARK_PORT"]),
        public_url=os.environ.get("MILLPOND_PUBLIC_URL"),
        certificate=os.environ.get("MILLPOND_SSL_CERTFILE"),
        ready=ReadyLine(int(ready_fd) if ready_fd else None),
    )


def _log(home: Home, message: str) -> None:
    with (home.logs / "supervisor.log").open("a") as stream:
        stream.write(
            json.dumps({"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": message}) + "\n"
        )


if __name__ == "__main__":
    main()
