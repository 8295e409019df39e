"""The line to a context's process, whose other end the user's code has."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from millpond.compute.contexts import ContextProcess
from millpond.compute.domain import Command, CommandState, Context, ContextState
from millpond.kernel.clock import utc_now
from millpond.kernel.process import ChildSpec, spawn
from tests.compute import FINDS_TESTS
from tests.servers import wait_until

_NOW = utc_now()
CONTEXT = Context(
    id="c", cluster_id="k", owner="ann", language="python", state=ContextState.RUNNING, created_at=_NOW, used_at=_NOW
)


def command(text: str) -> Command:
    """A command that is to be sent."""
    return Command(
        id="m", context_id="c", cluster_id="k", language="python", text=text, state=CommandState.RUNNING,
        created_at=_NOW,
    )  # fmt: skip


@dataclass
class Seen:
    """A process, and what was told of it."""

    process: ContextProcess
    told: list[tuple[str, str, Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Seen]]:
    made = []

    def open_one(told: Callable[..., None] | None = None) -> Seen:
        ours, theirs = socket.socketpair()
        with theirs:
            args = ("", str(theirs.fileno()))
            child = spawn(
                ChildSpec(
                    module="tests.compute.context_process", args=args, env=FINDS_TESTS, pass_fds=(theirs.fileno(),)
                )
            )
        child.wait_ready(30)
        heard: list[tuple[str, str, Any]] = []
        ended = threading.Event()
        directory = tmp_path / "c"
        directory.mkdir()
        tell = told or (lambda *each: heard.append(each))
        process = ContextProcess(CONTEXT, child, ours, ExitStack(), directory, tell, lambda _: ended.set())
        made.append(process)
        return Seen(process, heard, ended)

    yield open_one
    for process in made:
        process.close()
        wait_until(lambda each=process: not each.child.running, timeout_s=30)  # type: ignore[misc]


def test_a_process_that_stands_still_holds_nobody_up(opened: Callable[..., Seen], tmp_path: Path) -> None:
    seen = opened()
    seen.process.send(command("os.kill(os.getpid(), signal.SIGSTOP)"))
    began = time.monotonic()
    seen.process.send(command("x" * (1 << 20)))  # more than fits into the line
    assert time.monotonic() - began < 5
    seen.process.close()
    assert seen.ended.wait(30)
    assert not seen.process.child.running
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "said",
    [
        b"[]\n", b"not JSON\n", b'{"id": "m", "results": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", b"\xff\n",
        b"1" * 10_000 + b"\n",
    ],
    ids=["list", "text", "deep", "bytes", "number"],
)  # fmt: skip
def test_a_process_that_says_something_else_is_ended(opened: Callable[..., Seen], said: bytes) -> None:
    seen = opened()
    seen.process.send(command(f"line.sendall({said!r})"))
    assert seen.ended.wait(30)
    assert seen.told == []
    assert not seen.process.child.running


def test_a_line_without_end_is_not_read_to_its_end(
    opened: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millpond.compute.contexts._LONGEST_ANSWER", 1 << 20)
    seen = opened()
    seen.process.send(command("while True: line.sendall(b'x' * 65536)"))
    assert seen.ended.wait(30)


def test_what_databases_do_not_take_is_replaced(opened: Callable[..., Seen]) -> None:
    said = rb'{"id": "m", "state": "Finished", "results": {"data": "a\u0000b\ud800", "x": NaN}}'
    seen = opened()
    seen.process.send(command(f"line.sendall({said!r} + b'\\n')"))
    wait_until(lambda: seen.told, timeout_s=30)
    assert seen.told == [("m", "Finished", {"data": "a\ufffdb?", "x": "nan"})]
    assert seen.process.running is None
    assert seen.process.child.running


def test_a_context_whose_answer_cannot_be_kept_is_ended(opened: Callable[..., Seen]) -> None:
    def told(*_told: object) -> None:
        raise RuntimeError("the database is gone")

    seen = opened(told)
    seen.process.send(command('line.sendall(b\'{"id": "m", "state": "Finished", "results": []}\\n\')'))
    assert seen.ended.wait(30)
    assert not seen.process.child.running
