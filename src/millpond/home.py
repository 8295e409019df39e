"""The data directory: where each thing lives in it, and what a running server writes there for others to find.

Standard library only, because the supervisor is.
"""

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The paths below one data directory."""

    root: Path

    @property
    def run(self) -> Path:
        """Locks, sockets, metrics: only of use while the server runs."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.root / "logs"

    @property
    def spools(self) -> Path:
        """Events that wait for the audit's chain, a file for each process that writes some."""
        return self.root / "audit"

    @property
    def history(self) -> Path:
        """What the gateway ran, on its way into the query history."""
        return self.root / "sql" / "history"

    @property
    def lineage(self) -> Path:
        """Notes of what was written out of what, which wait to be read."""
        return self.root / "lineage"

    @property
    def payloads(self) -> Path:
        """Requests and answers that wait to come into inference tables."""
        return self.root / "payloads"

    @property
    def online(self) -> Path:
        """The embedded online stores, a directory for each table."""
        return self.root / "online"

    @property
    def api_socket(self) -> Path:
        """Unix socket on which the server answers HTTP too, for processes without a network."""
        return self.run / "api.sock"

    @property
    def spark_socket(self) -> Path:
        """Unix socket on which the gateway answers the server."""
        return self.run / "spark.sock"

    def server_name(self) -> str:
        """What tells this directory from those of other servers on the same database; made once."""
        path = self.root / "jobs" / "server-name"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private_once(path, secrets.token_hex(16))
        return path.read_text()

    @property
    def credentials_file(self) -> Path:
        """The first administrator's name, password and token (mode 0600)."""
        return self.root / "credentials.json"

    @property
    def keys(self) -> Path:
        """The master keys of secrets (mode 0600), where no other source of them is set."""
        return self.root / "keys"

    @property
    def environments(self) -> Path:
        """Python environments built from the requirements of models."""
        return self.root / "environments"

    @property
    def state_file(self) -> Path:
        """Where the running server says how to reach it."""
        return self.run / "server.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor as long as it lives."""
        return self.run / "supervisor.lock"

    def prepare(self) -> None:
        """Make the directories; what is below is for this user alone (mode 0700)."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in (self.run, self.logs, self.run / "metrics", self.spools, self.lineage):
            directory.mkdir(exist_ok=True, mode=0o700)


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """How to reach a running server."""

    pid: int
    url: str
    spark_host: str
    spark_port: int
    started_ms: int
    version: str
    certificate: str | None = None
    """Path of the certificate, where both ports speak TLS."""

    @property
    def spark_url(self) -> str:
        """The address of Spark Connect, without what follows its port."""
        return f"sc://{self.spark_host}:{self.spark_port}"

    def spark_remote(self, token: str) -> str:
        """What PySpark connects to, as the holder of a token."""
        return f"{self.spark_url}/;{'use_ssl=true;' if self.certificate else ''}token={token}"

    def save(self, home: Home) -> None:
        """Write it where `load_state` finds it."""
        write_private(home.state_file, json.dumps(asdict(self)))


def load_state(home: Home) -> ServerState | None:
    """The state that the last supervisor wrote; None when there is none. It may have died since."""
    try:
        return ServerState(**json.loads(home.state_file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The first administrator."""

    user: str
    password: str
    token: str


def load_credentials(home: Home) -> Credentials | None:
    """The first administrator's credentials; None before the first start."""
    try:
        return Credentials(**json.loads(home.credentials_file.read_text()))
    except FileNotFoundError:
        return None


def make_credentials(home: Home, user: str, token: str) -> Credentials:
    """The credentials in the file, or new ones written to it."""
    existing = load_credentials(home)
    if existing:
        return existing
    credentials = Credentials(user=user, password=secrets.token_urlsafe(12), token=token)
    write_private(home.credentials_file, json.dumps(asdict(credentials), indent=2) + "\n")
    return credentials


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A short spelling of a Unix socket's path, good inside the block: such a path has at most 107 bytes, that of a
    data directory may be longer."""
    if sys.platform != "linux":
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def write_private(path: Path, text: str) -> None:
    """Replace a file with a text in one step, readable by this user alone, on disk when this returns."""
    _private_draft(path, text).replace(path)
    _flush_directory(path.parent)


def write_private_once(path: Path, text: str) -> None:
    """The same for a file that is not there yet; where another process was first, its text stays."""
    draft = _private_draft(path, text)
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    _flush_directory(path.parent)


def _private_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return draft


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
