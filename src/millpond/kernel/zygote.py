"""Children that are there at once: a process that has imported what they need, and forks them.

A start of Python with MLflow takes some three seconds of processor time, a fork a few milliseconds, and what was
imported is shared memory. The zygote runs no code but ours and its imports; the child takes on its limits after the
fork, as every child does (`kernel.child`). Linux only: `available` says so.
"""

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from millpond.kernel.errors import Unavailable
from millpond.kernel.process import Child, ChildSpec, environment_of, message_of, spawn
from millpond.kernel.process_tree import kill_tree

_START_TIMEOUT_S = 120.0
_MESSAGE_BYTES = 1 << 20
_LOST = -signal.SIGKILL


def available() -> bool:
    """Whether children can be forked here and watched."""
    return platform.system() == "Linux" and hasattr(os, "pidfd_open")


class Zygote:
    """Forks children; starts with the first one, and again when it has died. Its methods block."""

    def __init__(self, preload: Sequence[str], *, env: Mapping[str, str], log_path: Path) -> None:
        self._preload = tuple(preload)
        self._env = env
        self._log_path = log_path
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._over = False

    def spawn(self, spec: ChildSpec) -> Child:
        """A child as `process.spawn` starts it, but forked. Raises Unavailable."""
        with self._lock:
            if self._over:
                raise Unavailable("The process that starts others was ended.")
            if self._line is None or self._line.closed:
                self._line = self._start()
            line = self._line
        return line.fork(spec)

    def start(self) -> int:
        """Have it ready before the first child; its process id. Raises Unavailable."""
        with self._lock:
            if self._line is None or self._line.closed:
                self._line = self._start()
            return self._line.pid

    def answers(self, within_s: float) -> bool:
        """Whether it was started, lives and answers within a time."""
        with self._lock:
            line = self._line
        return line is not None and line.answers(within_s)

    def close(self) -> None:
        """End it, and with it its children."""
        with self._lock:
            if self._line is not None:
                self._line.close()

    def close_for_good(self) -> None:
        """End it and all below it, whatever has a session of its own; it does not start again."""
        with self._lock:
            self._over = True
            if self._line is not None and not self._line.closed:
                kill_tree(self._line.pid)
                self._line.close()

    def _start(self) -> "_Line":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            child = spawn(
                ChildSpec(
                    module="millpond.kernel.zygote_process",
                    args=(str(theirs.fileno()), *self._preload),
                    env=self._env,
                    log_path=self._log_path,
                    pass_fds=(theirs.fileno(),),
                )
            )
        try:
            child.wait_ready(_START_TIMEOUT_S)
        except Unavailable:
            ours.close()
            raise
        return _Line(ours, child)


class ForkedProcess:
    """What `subprocess.Popen` says of a process, of one that the zygote is the parent of."""

    def __init__(self, pid: int, stdin: IO[bytes]) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = stdin
        self.stdout: IO[bytes] | None = None
        self.returncode: int | None = None
        self.processor_s = 0.0
        """What it and those below it that it waited for have used, once it has ended."""
        self._ended = threading.Event()

    def end(self, code: int, processor_s: float = 0.0) -> None:
        """Its end was told."""
        self.processor_s = processor_s
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """Its exit code, when it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return self.returncode or 0

    def terminate(self) -> None:
        """Ask it to end."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


class _Line:
    """The connection to a running zygote. A thread reads what it tells: who was forked, and who has ended how."""

    def __init__(self, connection: socket.socket, child: Child) -> None:
        self._connection = connection
        self._child = child
        self._lock = threading.Lock()
        self._asked: list[tuple[Future[ForkedProcess], IO[bytes]]] = []
        self._pinged: list[threading.Event] = []
        self._running: dict[int, ForkedProcess] = {}
        self.closed = False
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._child.pid

    def answers(self, within_s: float) -> bool:
        """Whether it says something within a time."""
        heard = threading.Event()
        with self._lock:
            if self.closed:
                return False
            self._pinged.append(heard)
            try:
                self._connection.send(b"{}", socket.MSG_DONTWAIT)
            except OSError:  # it has gone, or has not read for so long that nothing more fits
                self._pinged.remove(heard)
                return False
        return heard.wait(within_s) and not self.closed

    def fork(self, spec: ChildSpec) -> Child:
        """Ask for a child, and return when it is there."""
        ready_read, ready_write = os.pipe()
        stdin_read, stdin_write = os.pipe()
        stdin = os.fdopen(stdin_write, "wb", 0)
        log = spec.log_path.open("ab") if spec.log_path else None
        output = log.fileno() if log else 2
        try:
            asked = self._ask(spec, [ready_write, stdin_read, output, *spec.pass_fds], stdin)
            process = asked.result(_START_TIMEOUT_S)
        except BaseException:
            os.close(ready_read)
            stdin.close()
            raise
        finally:
            for descriptor in (ready_write, stdin_read):
                os.close(descriptor)
            if log:
                log.close()
        return Child(spec, process, ready_read)

    def close(self) -> None:
        """End the zygote."""
        self._child.kill()

    def _ask(self, spec: ChildSpec, descriptors: list[int], stdin: IO[bytes]) -> "Future[ForkedProcess]":
        future: Future[ForkedProcess] = Future()
        order = {
            "spec": message_of(spec, 0),
            "env": environment_of(spec),
            "cwd": str(spec.cwd) if spec.cwd else None,
            "pass_fds": list(spec.pass_fds),
        }
        with self._lock:
            if self.closed:
                raise Unavailable(f"The process that starts others has ended; see {self._child.spec.log_path}.")
            self._asked.append((future, stdin))  # answered in this order
            socket.send_fds(self._connection, [json.dumps(order).encode()], descriptors)
        return future

    def _listen(self) -> None:
        while data := _received(self._connection):
            told = json.loads(data)
            with self._lock:
                if "forked" in told:
                    future, stdin = self._asked.pop(0)
                    process = self._running[told["forked"]] = ForkedProcess(told["forked"], stdin)
                    future.set_result(process)
                elif "ended" not in told:
                    self._pinged.pop(0).set()
                else:
                    self._running.pop(told["ended"]).end(told["code"], told["processor_s"])
        self._child.kill()
        self._connection.close()
        with self._lock:
            self.closed = True
            for process in self._running.values():
                process.end(_LOST)
            for future, _ in self._asked:
                future.set_exception(Unavailable("The process that starts others ended while it was asked for one."))
            for heard in self._pinged:
                heard.set()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_MESSAGE_BYTES)
    except OSError:
        return b""
