"""A real Millpond for the tests, started with `millpond up` as a user starts it."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MILLPOND = str(Path(sys.executable).with_name("millpond"))


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server and its first administrator's credentials."""

    data_dir: Path
    url: str
    spark_remote: str
    token: str
    user: str
    password: str

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor wrote about itself."""
        return json.loads((self.data_dir / "run" / "server.json").read_text())

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, basic: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON body of one HTTP call with a token (the administrator's; "" for none) or NAME:PASSWORD."""
        request = urllib.request.Request(self.url + path, method=method)
        token = self.token if token is None else token
        if basic:
            request.add_header("Authorization", "Basic " + base64.b64encode(basic.encode()).decode())
        elif token:
            request.add_header("Authorization", f"Bearer {token}")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data=data, timeout=60) as answer:
                raw, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            raw, status = error.read(), error.code
        try:
            return status, json.loads(raw) if raw else None
        except ValueError:
            return status, raw

    def new_user(self, name: str) -> str:
        """A new user who is no administrator; returns a token of theirs."""
        status, user = self.call("POST", "/api/2.0/preview/scim/v2/Users", {"userName": name})
        assert status == 201, user
        status, issued = self.call("POST", "/api/millpond/users/token", {"user_name": name, "comment": "test"})
        assert status == 200, issued
        return issued["token_value"]

    def client_env(self, *, token: str | None = None) -> dict[str, str]:
        """The variables that `millpond env` prints, over a clean environment."""
        token = token or self.token
        return _clean_environment() | {
            "DATABRICKS_HOST": self.url,
            "DATABRICKS_TOKEN": token,
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_TOKEN": token,
            "SPARK_REMOTE": self.spark_remote.replace(self.token, token),
        }


def _clean_environment() -> dict[str, str]:
    """What a user's shell has; what tests of this process set, like MLflow's addresses, stays with them."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "MLFLOW_UV_AUTO_DETECT")
    return {name: os.environ[name] for name in kept if name in os.environ}


@contextmanager
def running_server(data_dir: Path, *flags: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """`millpond up --detach` on a data directory, and `millpond down` afterwards."""
    up(data_dir, *flags, env=env)
    try:
        yield server_of(data_dir)
    finally:
        run_cli("down", "--data-dir", str(data_dir), check=False)


def up(data_dir: Path, *flags: str, env: dict[str, str] | None = None) -> None:
    """Start a server on free ports and return when it is ready."""
    ports = [] if "--port" in flags else ["--port", "0", "--spark-port", "0"]
    run_cli("up", "--detach", "--data-dir", str(data_dir), *ports, *flags, env=env)


def server_of(data_dir: Path) -> Server:
    """The running server of a data directory, read as `millpond env` prints it."""
    lines = run_cli("env", "--data-dir", str(data_dir)).stdout.splitlines()
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    credentials = json.loads((data_dir / "credentials.json").read_text())
    return Server(
        data_dir=data_dir,
        url=variables["DATABRICKS_HOST"].strip("'"),
        spark_remote=variables["SPARK_REMOTE"].strip("'"),
        token=variables["DATABRICKS_TOKEN"].strip("'"),
        user=credentials["user"],
        password=credentials["password"],
    )


def run_cli(
    *args: str, check: bool = True, env: dict[str, str] | None = None, timeout_s: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run the `millpond` command; a failure raises with what it printed."""
    done = subprocess.run([MILLPOND, *args], capture_output=True, text=True, env=_clean_environment() | (env or {}),
                          timeout=timeout_s)  # fmt: skip
    if check and done.returncode:
        raise AssertionError(f"millpond {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def wait_until(condition: Callable[[], Any], *, timeout_s: float = 30, what: str = "the condition") -> Any:
    """The first true value of a condition; fails after the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {timeout_s:g} s")
        time.sleep(0.02)


def java_available() -> bool:
    """Whether a JVM is on the PATH."""
    return shutil.which("java") is not None
