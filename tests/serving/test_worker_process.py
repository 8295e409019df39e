"""A worker is not trusted: whatever it sends, whoever waits for it is told, and it is ended."""

import asyncio
import json
import math
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millpond.kernel.process import Child, ChildSpec
from millpond.serving.flow import Flow
from millpond.serving.frames import ARROW, Frame, Kind, encode
from millpond.serving.worker_process import Question, WorkerLost, WorkerProcess, WorkerSpec


async def worker(
    spec: WorkerSpec, executor: ThreadPoolExecutor, ours: socket.socket, at_once: int = 0
) -> WorkerProcess:
    """A worker process of which the test is the other end of the socket."""
    _, flow = await asyncio.get_running_loop().create_unix_connection(Flow, sock=ours)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    child = Child(ChildSpec(module="none"), process, os.open(os.devnull, os.O_RDONLY))
    return WorkerProcess(spec, child, flow, executor, Frame(kind=Kind.READY, header={"at_once": at_once}))


def spec_in(directory: Path) -> WorkerSpec:
    return WorkerSpec(
        model_dir=None, scratch_dir=directory / "scratch", log_path=directory / "log", environment={}, secrets=(),
        threads=2, memory_bytes=1 << 30, start_timeout_s=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [b'{"status": null}', b'{"status": 1e999}', b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", b"[]", b"{}"],
    ids=["no number", "infinite", "deep", "no object", "empty"],
)
def test_an_answer_that_cannot_be_read_ends_the_worker_and_is_told(tmp_path: Path, header: bytes) -> None:
    async def ask() -> None:
        ours, theirs = socket.socketpair()
        with theirs, ThreadPoolExecutor(1) as executor:
            asked = await worker(spec_in(tmp_path), executor, ours)
            asked.take()
            answer = asyncio.ensure_future(asked.ask(Question(kind=Kind.PREDICT, body=b"{}"), math.inf))
            await asyncio.sleep(0)
            made = encode(Frame(kind=Kind.ANSWER, request_id=1, header={"x": "y" * (len(header) - 8)}))
            assert len(json.dumps({"x": "y" * (len(header) - 8)}, separators=(",", ":"))) == max(len(header), 8)
            theirs.sendall(made[: -max(len(header), 8)] + header.ljust(8))
            with pytest.raises(WorkerLost, match="did not keep to the protocol"):
                await asyncio.wait_for(answer, 20)
            await asyncio.wait_for(asked.stop(), 20)
            assert asked.ended.done()

    asyncio.run(ask())


def asked(body: bytes = b"{}", content_type: str | None = "application/json", accept: str | None = None) -> Question:
    return Question(kind=Kind.PREDICT, content_type=content_type, body=body, accept=accept)


def test_only_what_is_answered_together_comes_in_large_numbers(tmp_path: Path) -> None:
    async def take() -> None:
        ours, theirs = socket.socketpair()
        with theirs, ThreadPoolExecutor(1) as executor:
            quick = await worker(spec_in(tmp_path), executor, ours, at_once=64)
            others = [
                asked(b"x" * 65_537),
                asked(content_type="text/csv"),
                asked(accept=ARROW),
            ]
            assert all(quick.takes(each) for each in (asked(), *others))
            quick.take()
            quick.take()
            small = [asked(), asked(b"x" * 65_536), asked(content_type=None)]  # the last is columns, with features
            assert [quick.takes(each) for each in (*small, *others)] == [*[True] * 3, *[False] * 3]
            for _ in range(62):
                quick.take()
            assert not quick.takes(asked())
            theirs.close()  # as it does when the process ends
            await asyncio.wait_for(quick.stop(), 20)

    asyncio.run(take())
