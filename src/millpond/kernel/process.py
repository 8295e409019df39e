"""Child processes: started with limits and a scrubbed environment, never outliving their parent.

Everything that runs a user's code (engine, models, later tasks) and our own server processes start here.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from millpond.kernel.errors import Unavailable

_KERNELS = ("OPENBLAS_CORETYPE", "MKL_CBWR", "ATEN_CPU_CAPABILITY")
"""Which instructions the numeric libraries use: with others, sums are rounded in another way."""
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "MILLPOND_TREE", *_CERTIFICATES,
              *_KERNELS)  # fmt: skip
_LOG_TAIL_BYTES = 2000

# The kernel kills a child when the *thread* that started it ends (PR_SET_PDEATHSIG), so one thread that lives as long
# as this process starts them all.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What to run, and what it may have."""

    module: str
    """Module that runs as `__main__`."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the scrubbed environment; nothing else of ours reaches the child."""
    log_path: Path | None = None
    """Where stdout and stderr are appended; None shares ours."""
    memory_bytes: int | None = None
    """Limit of the data segment (private writable memory); None for none."""
    sandbox: bool = False
    """Confine file access (Landlock) to system libraries, the interpreter, `readable` and `writable`."""
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    own_network: bool = False
    """Give it a network of its own, where the system allows that; the module then sees `--own-network` as its last
    argument."""
    unix_sockets: bool = False
    """Let a confined one make UNIX sockets: its network does not keep it from those that others on this machine open
    to all."""
    gpus: bool = False
    """Let a confined one compute on NVIDIA's GPUs."""
    cwd: Path | None = None
    pass_fds: tuple[int, ...] = ()
    nice: int = 0
    python: Path | None = None
    """Another interpreter than ours for the module. It begins within the confinement: what is installed beside it may
    run code of its own at the start (`.pth` files)."""
    links: bool = False
    """Let it make symbolic links where it may write; never for a user's code."""
    inherit_env: bool = False
    """Give our whole environment; only for our own server processes."""


class Process(Protocol):
    """What `Child` needs of a `subprocess.Popen`."""

    pid: int
    returncode: Any
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...


class Child:
    """A running child; `kill()` ends it and whatever it started."""

    def __init__(self, spec: ChildSpec, process: Process, ready_fd: int) -> None:
        self.spec = spec
        self.process = process
        self._ready_fd: int | None = ready_fd

    @property
    def pid(self) -> int:
        """Process id, also the id of its process group."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def processor_s(self) -> float:
        """Seconds of processor time that it has used; 0 when it has ended, and where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def spent_s(self) -> float:
        """The same of it and those below it that it waited for, once it has ended; 0 where nobody knows."""
        return getattr(self.process, "processor_s", 0.0)

    def wait_ready(self, timeout_s: float) -> dict[str, Any]:
        """The message of the child's `report_ready`. Blocks.

        Raises Unavailable with the end of its log when it dies first, or does not report in time (it is killed then).
        """
        if self._ready_fd is None:
            raise RuntimeError("wait_ready was already called")
        descriptor, self._ready_fd = self._ready_fd, None
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            deadline = time.monotonic() + timeout_s
            data = b""
            while not data.endswith(b"\n"):
                readable, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
                chunk = stream.read(65536) if readable else None
                if chunk is None:
                    self.kill()
                    raise Unavailable(f"{self.spec.module} was not ready within {timeout_s:g} s.{self.log_tail()}")
                if chunk == b"":
                    code = self.process.wait()
                    self.kill()
                    raise Unavailable(
                        f"{self.spec.module} ended with code {code} before it was ready.{self.log_tail()}"
                    )
                data += chunk
        message: dict[str, Any] = json.loads(data)
        return message

    def terminate(self, grace_s: float) -> None:
        """Ask it to end (SIGTERM), wait up to `grace_s` seconds, then kill it and what it started. Blocks."""
        if self.running:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """End it and its process group now, and reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for closable in (self.process.stdin, self.process.stdout):
            if closable is not None:
                closable.close()
        if self._ready_fd is not None:
            os.close(self._ready_fd)
            self._ready_fd = None

    def log_tail(self) -> str:
        """The end of its log as a text to add to an error; empty when it has none."""
        if self.spec.log_path is None or not self.spec.log_path.exists():
            return ""
        return "\n" + end_of(self.spec.log_path, _LOG_TAIL_BYTES)


def end_of(path: Path, most_bytes: int) -> str:
    """The last bytes of a log as a text."""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - most_bytes))
        return stream.read().decode(errors="replace")


def spawn(spec: ChildSpec) -> Child:
    """Start a child; returns at once. Use `wait_ready` to know that it works."""
    return _spawner.submit(_spawn, spec).result()


def _spawn(spec: ChildSpec) -> Child:
    ready_read, ready_write = os.pipe()
    spec_read, spec_write = os.pipe()
    env = environment_of(spec) | {"MILLPOND_CHILD_FD": str(spec_read)}
    output = spec.log_path.open("ab") if spec.log_path else None
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "millpond.kernel.child"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=env,
            cwd=spec.cwd,
            pass_fds=(ready_write, spec_read, *spec.pass_fds),
            start_new_session=True,
        )
        os.write(spec_write, json.dumps(message_of(spec, ready_write)).encode())
    finally:
        for descriptor in (ready_write, spec_read, spec_write):
            os.close(descriptor)
        if output:
            output.close()
    return Child(spec, process, ready_read)


def environment_of(spec: ChildSpec) -> dict[str, str]:
    """The child's whole environment."""
    names = list(os.environ) if spec.inherit_env else [name for name in _INHERITED if name in os.environ]
    return {name: os.environ[name] for name in names} | dict(spec.env)


def message_of(spec: ChildSpec, ready_fd: int) -> dict[str, Any]:
    """What `kernel.child` is told."""
    return {
        "parent_pid": os.getpid(),
        "ready_fd": ready_fd,
        "module": spec.module,
        "args": list(spec.args),
        "memory_bytes": spec.memory_bytes,
        "sandbox": spec.sandbox,
        # this process's certificates; a child's environment may name any file
        "readable": [*map(str, spec.readable), *filter(None, map(os.environ.get, _CERTIFICATES))],
        "writable": [str(path) for path in spec.writable],
        "nice": spec.nice,
        "own_network": spec.own_network,
        "unix_sockets": spec.unix_sockets,
        "gpus": spec.gpus,
        "python": str(spec.python) if spec.python else None,
        "links": spec.links,
    }
