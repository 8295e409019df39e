"""Workers for the tests: processes as a user starts them, and a stand-in that says what a test has it say."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millpond import __version__
from millpond.jobs.workers.domain import PYTHON
from tests.servers import MILLPOND, Server, _clean_environment, run_cli, wait_until

WORKER = "/api/millpond/worker"
READY = "takes tasks of"


@dataclass
class RunningWorker:
    """A worker's process."""

    process: subprocess.Popen[bytes]
    data_dir: Path

    def kill(self) -> None:
        """`kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        """What it has said."""
        return (self.data_dir.with_suffix(".out")).read_text()


def new_worker_token(server: Server, name: str = "workers") -> str:
    """A token as `millpond workers add` prints it."""
    return run_cli("workers", "add", name, "--data-dir", str(server.data_dir)).stdout.strip()


@contextmanager
def running_worker(server: Server, data_dir: Path, *flags: str, token: str, slots: int = 1) -> Iterator[RunningWorker]:
    """`millpond worker` that is ready, killed afterwards where it still runs."""
    data_dir.with_suffix(".out").unlink(missing_ok=True)
    worker = start_worker(server, data_dir, *flags, token=token, slots=slots)
    try:
        wait_until(lambda: READY in worker.output, timeout_s=60, what="the worker to be ready")
        yield worker
    finally:
        worker.kill()


def start_worker(server: Server, data_dir: Path, *flags: str, token: str, slots: int = 1) -> RunningWorker:
    """The same, to be killed by the caller; it need not be ready yet."""
    arguments = ["--url", server.url, "--name", data_dir.name, "--slots", str(slots), "--data-dir", str(data_dir)]
    with data_dir.with_suffix(".out").open("ab") as output:
        process = subprocess.Popen(
            [MILLPOND, "worker", *arguments, *flags], env=_clean_environment() | {"MILLPOND_TOKEN": token},
            stdout=output, stderr=output, cwd=os.path.dirname(data_dir),
        )  # fmt: skip
    return RunningWorker(process, data_dir)


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """Who speaks as a worker does, and runs nothing."""

    server: Server
    token: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def ask(self, act: str, **body: Any) -> tuple[int, Any]:
        """Status and answer of one call."""
        return self.server.call("POST", f"{WORKER}/{act}", {"worker_id": self.id, **body}, token=self.token)

    def register(self, **changes: Any) -> tuple[int, Any]:
        """Say that it is there."""
        about = {"name": "stand-in", "slots": 2, "version": __version__, "python": PYTHON}
        return self.ask("register", **{**about, **changes})

    def claim(self) -> str:
        """The lease of a task, once there is one."""
        lease = str(uuid.uuid4())
        wait_until(lambda: self.ask("claim", lease=lease, wait_s=1)[1]["task"], what="a task to claim")
        return lease
