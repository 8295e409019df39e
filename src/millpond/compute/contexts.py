"""Contexts that run: interpreters of users, forked from their clusters' drivers."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.compute.domain import Command, Context
from millpond.compute.drivers import Placement
from millpond.identity.domain import Principal
from millpond.kernel.logs import get_logger
from millpond.kernel.process import Child, ChildSpec
from millpond.kernel.process_tree import kill_tree
from millpond.kernel.storable import storable

log = get_logger(__name__)

_READY_S = 120.0
_HEARS_S = 10.0
"""A cell that does not end so long after it was interrupted is ended with its context."""
_LONGEST_ANSWER = 64 << 20
"""Bytes. The process itself sends less than 8 MiB of characters, which redaction may make longer."""
TOKEN_S = 12 * 3600.0
"""A context ends with its user's token."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """How users' code is run: given by the room of jobs, whose notebooks know how."""

    module: str
    preload: Sequence[str]
    """What drivers have imported before the first context."""
    paths: Sequence[str]
    """What a context's token is good for."""
    file_bytes: int
    ways_out: Sequence[str]
    variables: Callable[[str], Mapping[str, str]]
    """What tells clients where to go, with a token."""
    lend: Callable[..., AbstractContextManager[str]]
    """A token of somebody, for so many seconds and `paths`, that ends with the block."""


class ContextProcess:
    """An interpreter, and the line to it."""

    def __init__(
        self, context: Context, child: Child, line: socket.socket, stack: ExitStack, directory: Path,
        told: Callable[[str, str, Mapping[str, Any]], None], ended: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`told` hears of a command's state and results, `ended` that the process is no more."""
        self.context = context
        self.child = child
        self._line = line
        self._stack = stack
        self._directory = directory
        self._told = told
        self._ended = ended
        self.running: str | None = None
        """The command that it works on."""
        self._interrupted_s: float | None = None
        self.opened_s = time.monotonic()
        threading.Thread(target=self._listen, name="context", daemon=True).start()

    def send(self, command: Command) -> None:
        """Have a command run; what comes of it is told later. Does not wait for a process that does not listen."""
        self.running, self._interrupted_s = command.id, None
        asked = {"id": command.id, "text": command.text, "language": command.language}
        data = json.dumps(asked).encode() + b"\n"
        threading.Thread(target=self._write, args=(data,), name="command", daemon=True).start()

    def interrupt(self) -> None:
        """Stop what runs; where it does not hear, the interpreter is ended. May be called again and again."""
        now = time.monotonic()
        if self._interrupted_s is None:
            self._interrupted_s = now
            with suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGINT)
        elif now - self._interrupted_s > _HEARS_S:
            self.close()

    def close(self) -> None:
        """Have it end; who listens sees to it."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # that it is gone is told by who listens
            self._line.sendall(data)

    def _listen(self) -> None:
        try:
            with self._line.makefile("rb") as stream:
                while answer := _answer(stream.readline(_LONGEST_ANSWER)):
                    if answer.get("id") == self.running:  # whatever else the code may write there
                        self.running = None
                        results = answer.get("results")
                        self._told(
                            str(answer["id"]), str(answer.get("state")), results if isinstance(results, dict) else {}
                        )
        except OSError:  # as after its end
            pass
        except Exception as error:  # the boundary of a thread
            log.error("a context was ended, as what it told could not be kept", context=self.context.id, exc_info=error)
        finally:
            self._end()

    def _end(self) -> None:
        try:
            if self.child.running:  # what made a session of its own is below it still
                kill_tree(self.child.pid)
            self.child.kill()
            self._line.close()
            self._stack.close()
            shutil.rmtree(self._directory, ignore_errors=True)
        finally:
            self._ended(self.context.id)


def _answer(line: bytes) -> dict[str, Any]:
    """What a context's process says; nothing where its line has ended, or is not in its hands any more."""
    if not line.endswith(b"\n"):  # it is too long, or the last
        return {}
    try:
        told = storable(json.loads(line))
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def begin(
    runner: Runner, placement: Placement, context: Context, owner: Principal, root: Path, log_path: Path,
    told: Callable[[str, str, Mapping[str, Any]], None], ended: Callable[[str], None],
) -> ContextProcess:  # fmt: skip
    """An interpreter that is ready. Blocks. Raises MillpondError."""
    directory = root / context.id
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    stack = ExitStack()
    ours, theirs = socket.socketpair()
    try:
        packages = stack.enter_context(placement.packages())
        token = stack.enter_context(runner.lend(owner, TOKEN_S, paths=runner.paths))
        _write_order(runner, placement, token, directory, packages.paths)
        with theirs:
            child = placement.spawn(
                ChildSpec(
                    module=runner.module,
                    args=(str(directory), str(theirs.fileno()), *runner.ways_out),
                    env={
                        "HOME": str(directory), "TMPDIR": str(directory), "MPLCONFIGDIR": str(directory),
                        "PYTHONUNBUFFERED": "1", "MILLPOND_CAPTURE": "off",
                    },
                    log_path=log_path, memory_bytes=placement.memory_bytes, sandbox=True, readable=packages.readable,
                    writable=(directory,), own_network=True, unix_sockets=True, python=packages.python, cwd=directory,
                    pass_fds=(theirs.fileno(),), nice=5,
                )
            )  # fmt: skip
        child.wait_ready(_READY_S)
    except BaseException:
        ours.close()
        stack.close()
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return ContextProcess(context, child, ours, stack, directory, told, ended)


def _write_order(runner: Runner, placement: Placement, token: str, directory: Path, paths: Sequence[str]) -> None:
    variables = dict(runner.variables(token))
    variables["SPARK_REMOTE"] = placement.remote(variables["SPARK_REMOTE"])
    order = {
        "token": token, "variables": {**placement.variables, **variables}, "secrets": list(placement.secrets),
        "file_bytes": runner.file_bytes, "paths": list(paths), "wheels": placement.copied_wheels(directory),
    }  # fmt: skip
    with open(directory / "order.json", "w", opener=_for_us) as stream:
        json.dump(order, stream)


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
