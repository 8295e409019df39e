"""What a worker does where its server, its machine or the way between them fails."""

import errno
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from millpond.jobs.carrying import Carrier
from millpond.jobs.domain import Result
from millpond.jobs.workers import process
from millpond.jobs.workers.client import ServerClient
from millpond.jobs.workers.process import Worker, WorkerOptions, _Held
from millpond.kernel.errors import Unavailable
from millpond.kernel.settings import EnvironmentSettings

LEASE_S = 1.0


def worker_of(place: Path, **calls: Any) -> Worker:
    """One whose server does what a test says."""
    options = WorkerOptions(data_dir=place, name="w", slots=1, environments=EnvironmentSettings())
    worker = Worker(cast(ServerClient, SimpleNamespace(**calls)), options)
    worker._id, worker._lease_s = "w", LEASE_S
    return worker


def test_a_log_is_told_whole_though_an_answer_is_lost(tmp_path: Path) -> None:
    server = bytearray()

    def printed(data: bytes) -> None:
        with log.open("ab") as stream:
            stream.write(data)

    def tell(data: bytes, *, start: int, **_: Any) -> int:
        if start < len(server):
            printed(b"C" * 10)  # meanwhile
            return len(server)
        server.extend(data)
        if len(server) == 100:
            raise Unavailable("The answer is lost.")
        return len(server)

    worker = worker_of(tmp_path, tell=tell)
    log = worker._files.log_path(1)
    log.parent.mkdir(parents=True)
    printed(b"A" * 100)
    held = _Held(lease="l", renewed_s=0)
    with pytest.raises(Unavailable):
        worker._tell(1, held)
    printed(b"B" * 50)
    worker._tell(1, held)
    assert bytes(server) == log.read_bytes()


def test_a_worker_whose_disk_is_full_gives_tasks_back_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    def ask(act: str, **_: Any) -> dict[str, Any]:
        asked[act] += 1
        return {"task": {"task_run_id": 7}, "waited_s": 0, "draining": False, "ends": {}}

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(process, "_PAUSE_S", 0.01)
    worker = worker_of(tmp_path, ask=ask)
    monkeypatch.setattr(worker._files, "fresh", full)
    worker._work()
    assert (asked["claim"], asked["give-back"], asked["leave"]) == (5, 5, 1)
    assert "No space left" in str(worker.failure)


def test_a_task_ends_in_time_while_the_server_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over, ended_s = threading.Event(), []

    def hangs(*_: Any, **__: Any) -> int:
        over.wait(5)
        raise Unavailable("No answer.")

    def run(*_: Any, stop: Any, begins: Any, **__: Any) -> None:
        assert begins()
        while stop() is Result.NONE:
            time.sleep(0.02)
        ended_s.append(time.monotonic())
        over.set()

    monkeypatch.setattr(process, "_TELL_S", 0.05)
    monkeypatch.setattr("millpond.jobs.workers.travel.unpacked", lambda *_: None)
    worker = worker_of(tmp_path, ask=lambda *_, **__: {}, download=lambda *_, **__: nullcontext(), tell=hangs)
    worker._carrier = cast(Carrier, SimpleNamespace(run=run))
    log = worker._files.log_path(7)
    log.parent.mkdir(parents=True)
    log.write_text("printed")
    began_s = time.monotonic()
    worker._do(7, _Held(lease="l", renewed_s=began_s))
    assert ended_s[0] - began_s < LEASE_S


def test_a_notebook_that_grows_is_told_at_the_end_and_seldom_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, int]] = []
    worker = worker_of(
        tmp_path, tell=lambda data, *, start, more, **_: told.append((start, min(len(data), 1 << 20), more))
    )
    notebook = worker._files.fresh(7) / "notebook.ipynb"
    held = _Held(lease="l", renewed_s=0)
    for size in range(3):
        notebook.write_bytes(b"x" * ((1 << 20) + size))
        worker._tell(7, held)
    assert told == []
    worker._tell(7, held, last=True)
    assert told == [(0, 1 << 20, 1), (1 << 20, 2, 0)]
    notebook.write_bytes(b"y")
    monkeypatch.setattr(process, "_LEFT_S", 0)
    worker._tell(7, held)
    assert told[2:] == [(0, 1, 0)]
