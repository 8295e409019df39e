"""The server's side of one worker: start it, give it a model, pass it requests, end it."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from millpond.kernel.environments import BuiltEnvironment
from millpond.kernel.metrics import SERVING_WORKERS
from millpond.kernel.process import Child, ChildSpec, end_of, spawn
from millpond.kernel.zygote import Zygote, available
from millpond.serving.chunks import Chunks
from millpond.serving.domain import storable
from millpond.serving.flow import MAX_ANSWER_BYTES, Flow
from millpond.serving.frames import (
    ARROW,
    SMALL_BYTES,
    BrokenFrame,
    Frame,
    Kind,
    encode,
)

T = TypeVar("T")

_MAX_MESSAGE = 8000
MOST_AT_ONCE = 64
"""Requests that a process is given, whatever it asks for."""
_MODULE = "millpond.serving.worker"
_SAME_FOR_ALL = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",  # several requests run at once; each with all cores would only get in the others' way
    "OPENBLAS_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "_MLFLOW_IS_IN_SERVING_ENVIRONMENT": "true",
}
_PRELOAD = ("millpond.serving.worker.scoring", "millpond.serving.worker.preload")
_READ_AT_IMPORT = "_NUM_THREADS"
"""The end of variables that count only in a process that has not imported yet."""


class LoadFailed(Exception):
    """The model is not there to answer; the message is for its owner."""

    def __init__(self, message: str, *, build_log: str = "") -> None:
        super().__init__(message)
        self.message = storable(message)
        self.build_log = storable(build_log)


class WorkerLost(Exception):
    """The worker ended while it was answering."""


class NotSent(Exception):
    """The worker has ended before it got the request."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a worker."""

    kind: Kind
    content_type: str | None = None
    """None where the body is not the request's own."""
    body: bytes
    accept: str | None = None
    """What the answer is to be written as; None for JSON."""
    asked_at: float = field(default_factory=time.perf_counter)

    @property
    def is_small(self) -> bool:
        """Whether a quick model answers it together with others; see `worker.scoring.Scorer.takes`."""
        is_read = self.content_type in {"application/json", None} and self.accept is None
        return self.kind is Kind.PREDICT and is_read and len(self.body) <= SMALL_BYTES

    @property
    def header(self) -> dict[str, Any]:
        """As the frame has it."""
        told = {"content_type": self.content_type, "accept": self.accept}
        return {name: value[:200] for name, value in told.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to one request."""

    status: int
    content_type: str
    body: bytes
    """The predictions in JSON or Arrow; or the error, in the shape that Databricks clients read."""
    queue_s: float = 0.0
    """How long the question waited for a process."""
    model_s: float = 0.0
    """How long the process had it."""
    features_s: float = 0.0
    """How long it took to look features up before."""
    features: bytes = b""
    """What the model was given for them, as columns."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to start."""

    model_dir: Path | None
    """None for functions alone."""
    scratch_dir: Path
    """Its own temporary, working and home directory, made for it and deleted after it."""
    log_path: Path
    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """Values in the environment that its output must not show."""
    threads: int
    memory_bytes: int
    start_timeout_s: float
    own: BuiltEnvironment | None = None
    """Its own environment; None for the server's packages."""
    network: bool = False
    """Whether it may reach others."""
    gpus: bool = False
    """Whether it may compute on GPUs."""


@dataclass(slots=True)
class _Sent:
    """A request that the worker has."""

    question: Question
    answer: "asyncio.Future[Answer]"
    at: float
    """As `time.perf_counter` has it."""
    chunks: Chunks | None = None
    """Of an answer in parts that somebody listens to."""


class WorkerProcess:
    """One child process with a loaded model. Made by `start_worker`."""

    def __init__(self, spec: WorkerSpec, child: Child, flow: Flow, executor: Executor, loaded: Frame) -> None:
        self._spec = spec
        self._child = child
        self._flow = flow
        self._sent: dict[int, _Sent] = {}
        """By number."""
        self._owed: dict[int, float] = {}
        """Since when the worker owes the answer to each, or its next chunk; oldest first, as `time.perf_counter`."""
        self._numbers = itertools.count(1)
        self._executor = executor
        self.build_log = storable(str(loaded.header.get("build_log", "")))
        self.notes = storable(str(loaded.header.get("notes", "")))
        self._small_at_once = max(spec.threads, _at_once(loaded))
        self.on_free: Callable[[], None] = lambda: None
        """Called when a thread of the worker has become free."""
        self.busy = 0
        """Requests that it has, answered in time or not."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """How it ended, when it has."""
        SERVING_WORKERS.inc()
        flow.deliver = self._deliver
        self._ending = asyncio.create_task(self._end())

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def takes(self, question: Question) -> bool:
        """Whether the worker takes another request: one for each thread, or as many as it answers together."""
        limit = self._small_at_once if question.is_small else self._spec.threads
        return self.busy < limit and not self._flow.closed

    def bears(self, others: int) -> bool:
        """Whether a request neither waits for so many others that the worker has, nor is answered with them."""
        return others < (1 if self._small_at_once > self._spec.threads else self._spec.threads)

    @property
    def awaited(self) -> int:
        """Requests that it has and somebody waits for."""
        return self.busy - sum(sent.answer.done() for sent in self._sent.values())

    @property
    def oldest_s(self) -> float:
        """For how long the worker has had the request that it has had longest; 0 without one."""
        oldest = next(iter(self._owed.values()), None)
        return 0.0 if oldest is None else time.perf_counter() - oldest

    async def drained(self) -> None:
        """Return when nobody waits for an answer any more."""
        while pending := [sent.answer for sent in self._sent.values() if not sent.answer.done()]:
            await asyncio.wait(pending)

    def take(self) -> None:
        """Reserve a thread for a request; `give_back` or `ask` frees it."""
        self.busy += 1

    def give_back(self) -> None:
        """Free a reserved thread that was not used."""
        self.busy -= 1
        self.on_free()

    async def ask(self, question: Question, deadline: float) -> Answer:
        """The answer; a thread has been reserved with `take`. `deadline` is in the loop's time.

        A call that is cancelled or too late leaves the thread busy until the worker has answered. Raises NotSent,
        WorkerLost, TimeoutError.
        """
        _, sent = self._send(question)
        too_late = sent.answer.get_loop().call_at(deadline, _give_up, sent.answer)
        try:
            return await sent.answer
        finally:
            too_late.cancel()

    async def stream(self, question: Question) -> AsyncGenerator[bytes | Answer, None]:
        """The parts of the answer as they come, and last an Answer without a body that says how it ended.

        A thread has been reserved with `take`. Closing it tells the worker to end. Raises NotSent, WorkerLost.
        """
        number, sent = self._send(question)
        chunks = sent.chunks = Chunks()
        sent.answer.add_done_callback(lambda _: chunks.end())
        try:
            while (chunk := await chunks.next()) is not None:
                yield chunk
                if more := chunks.more():
                    self._tell(Kind.MORE, number, chunks=more)
            yield sent.answer.result()
        finally:
            sent.chunks = None
            if not sent.answer.done():
                sent.answer.cancel()
                self._tell(Kind.LEAVE, number)
            elif not sent.answer.cancelled():
                sent.answer.exception()  # seen, though nobody listened to the end

    def _send(self, question: Question) -> tuple[int, _Sent]:
        """Its number, and it with the answer to come. Raises NotSent."""
        if self._flow.closed:
            raise NotSent
        number = next(self._numbers) & 0xFFFFFFFF
        now = time.perf_counter()
        sent = self._sent[number] = _Sent(question, asyncio.get_running_loop().create_future(), now)
        self._owed[number] = now
        frame = Frame(kind=question.kind, request_id=number, header=question.header, body=question.body)
        self._flow.transport.writelines((encode(frame), question.body))
        return number, sent

    def _tell(self, kind: Kind, number: int, **told: int) -> None:
        """Say something about a streamed answer; from now on the worker owes its next chunk or its end."""
        if not self._flow.closed:
            self._owe_anew(number)
            self._flow.transport.write(encode(Frame(kind=kind, request_id=number, header=told)))

    def _owe_anew(self, number: int) -> None:
        self._owed.pop(number, None)
        self._owed[number] = time.perf_counter()

    async def stop(self) -> None:
        """End the process and all that it started, now."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        await self._ending

    async def _end(self) -> None:
        """Reap it when the socket is closed."""
        reason = await self._flow.lost
        SERVING_WORKERS.dec()
        code = await asyncio.get_running_loop().run_in_executor(self._executor, _reap, self._child, self._spec)
        self.ended.set_result(_describe_end(code, reason))
        for sent in self._sent.values():
            if not sent.answer.done():
                sent.answer.set_exception(WorkerLost(self.ended.result()))
        self._sent.clear()
        self._owed.clear()
        self.on_free()

    def _deliver(self, frame: Frame) -> None:
        if frame.kind is Kind.CHUNK:
            self._deliver_chunk(frame)
            return
        if frame.kind is not Kind.ANSWER:
            raise BrokenFrame(f"unexpected {frame.kind.name}")
        answer = _answer(frame, self._sent[frame.request_id])  # first: who waits is told when it cannot be read
        sent = self._sent.pop(frame.request_id)
        self._owed.pop(frame.request_id, None)
        self.busy -= 1
        if not sent.answer.done():
            sent.answer.set_result(answer)
        self.on_free()

    def _deliver_chunk(self, frame: Frame) -> None:
        sent = self._sent.get(frame.request_id)
        if sent is None:
            raise BrokenFrame("a chunk of no answer")
        if sent.chunks is None:
            return  # nobody listens any more, which it does not know yet
        sent.chunks.put(frame.body)
        if sent.chunks.is_awaited:
            self._owe_anew(frame.request_id)
        else:
            self._owed.pop(frame.request_id, None)


Spawn = Callable[[ChildSpec], Child]


def open_zygote(log_path: Path) -> Zygote | None:
    """What forks workers that have MLflow already; None where that cannot be."""
    return Zygote(_PRELOAD, env=_SAME_FOR_ALL, log_path=log_path) if available() else None


async def start_worker(spec: WorkerSpec, executor: Executor, zygote: Zygote | None = None) -> WorkerProcess:
    """A worker with its model loaded. Raises LoadFailed."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        transport, flow = await _uncut(loop.create_unix_connection(Flow, sock=ours), _close)
        imports_anew = any(name.endswith(_READ_AT_IMPORT) for name in spec.environment)
        starting = spawn if zygote is None or imports_anew or spec.own is not None else zygote.spawn
        spawning = loop.run_in_executor(executor, _spawn, spec, theirs, starting)
        try:
            child = await _uncut(spawning, lambda child: loop.run_in_executor(executor, _reap, child, spec))
        except BaseException:
            transport.close()
            raise
    try:
        loaded = await _load(spec, flow, child, executor)
    except BaseException:
        transport.close()
        await asyncio.shield(loop.run_in_executor(executor, _reap, child, spec))
        raise
    return WorkerProcess(spec, child, flow, executor, loaded)


async def _close(opened: tuple[asyncio.Transport, Flow]) -> None:
    opened[0].close()


async def _uncut(work: Awaitable[T], undo: Callable[[T], Awaitable[object]]) -> T:
    """The result of some work, which goes on to its end when its caller is cancelled and is undone then."""
    going = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:
        await undo(await going)
        raise


async def _load(spec: WorkerSpec, flow: Flow, child: Child, executor: Executor) -> Frame:
    order = {
        "model_dir": None if spec.model_dir is None else str(spec.model_dir),
        "environment": dict(spec.environment),
        "secrets": list(spec.secrets),
        "threads": spec.threads,
        "max_answer_bytes": MAX_ANSWER_BYTES,
        "network": spec.network,
    }
    flow.transport.write(encode(Frame(kind=Kind.LOAD, header=order)))
    try:
        async with asyncio.timeout(spec.start_timeout_s):
            frame = await asyncio.shield(flow.first)
    except TimeoutError as error:
        raise LoadFailed(f"The model did not load within {spec.start_timeout_s:g} s.") from error
    except BrokenFrame as error:
        raise LoadFailed(f"The worker did not keep to the protocol while loading ({error}).") from error
    except EOFError as error:
        code = await asyncio.get_running_loop().run_in_executor(executor, _reap, child, spec)
        raise LoadFailed(f"While loading the model, {_describe_end(code, '')}.{_last_lines(spec.log_path)}") from error
    if frame.kind is Kind.FAILED:
        message = str(frame.header.get("message", ""))
        raise LoadFailed(_ends(message), build_log=str(frame.header.get("build_log", "")))
    if frame.kind is not Kind.READY:
        raise LoadFailed(f"The worker did not keep to the protocol while loading ({frame.kind.name}).")
    return frame


def _give_up(answer: "asyncio.Future[Answer]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _at_once(loaded: Frame) -> int:
    told = loaded.header.get("at_once")
    return min(told, MOST_AT_ONCE) if isinstance(told, int) else 0


def _answer(frame: Frame, sent: _Sent) -> Answer:
    """The worker is not trusted: only these fields pass, as these types."""
    status, kind, body = int(frame.header["status"]), "application/json", frame.body
    if status != 200:
        code, message = str(frame.header["error_code"])[:100], str(frame.header["message"])
        body = json.dumps({"error_code": code, "message": message, "details": []}).encode()
        status = status if 400 <= status <= 599 else 500
    elif frame.header.get("content_type") == ARROW:
        kind = ARROW
    queue_s, model_s = sent.at - sent.question.asked_at, time.perf_counter() - sent.at
    return Answer(status=status, content_type=kind, body=body, queue_s=queue_s, model_s=model_s)


def _spawn(spec: WorkerSpec, theirs: socket.socket, starting: Spawn) -> Child:
    spec.scratch_dir.mkdir(parents=True, mode=0o700)
    spec.log_path.parent.mkdir(parents=True, exist_ok=True)
    scratch = str(spec.scratch_dir)
    return starting(
        ChildSpec(
            module=_MODULE,
            args=(str(theirs.fileno()),),
            env={**_SAME_FOR_ALL, "HOME": scratch, "TMPDIR": scratch, "MPLCONFIGDIR": scratch},
            log_path=spec.log_path,
            memory_bytes=spec.memory_bytes,
            sandbox=True,
            readable=(*_given(spec.model_dir), *(spec.own.readable if spec.own else ())),
            writable=(spec.scratch_dir,),
            python=spec.own.python if spec.own else None,
            own_network=not spec.network,
            gpus=spec.gpus,
            cwd=spec.scratch_dir,
            pass_fds=(theirs.fileno(),),
        )
    )


def _given(path: Path | None) -> tuple[Path, ...]:
    return () if path is None else (path,)


def _reap(child: Child, spec: WorkerSpec) -> int:
    """Let a child that closed its socket end, end it if it does not, and clean up. Returns its exit code. Blocks."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(1.0)
    child.kill()
    shutil.rmtree(spec.scratch_dir, ignore_errors=True)
    code: int = child.process.returncode
    return code


def _describe_end(code: int, reason: str) -> str:
    if code == -9 and not reason:
        return "the model's process was killed (signal 9), as happens when the machine runs out of memory"
    if code < 0:
        return f"the model's process was killed by signal {-code}" + (f"; {reason}" if reason else "")
    return f"the model's process ended with code {code}"


def _last_lines(log_path: Path) -> str:
    if not log_path.exists():
        return ""
    text = end_of(log_path, 2000).replace("\0", "")
    return f" The end of its log:\n{text}"


def _ends(text: str) -> str:
    """The text, or the beginning and the end of one that is too long."""
    if len(text) <= _MAX_MESSAGE:
        return text
    return f"{text[:1000]}\n...\n{text[-(_MAX_MESSAGE - 1000) :]}"
