"""Answers that come as the model makes them: server-sent events for whoever asked with `"stream": true`.

Each event is `data: JSON`, the last one `data: [DONE]`. What goes wrong before the first event is an answer like any
other; after it, it is an event with `error`, as OpenAI's clients read it, and with `databricks_output.error`, as
Databricks documents it for agents.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import orjson

from millpond.identity.domain import Principal
from millpond.journal import calls
from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import MillpondError, NotImplementedHere
from millpond.serving import metrics
from millpond.serving.canary.counting import CanaryCounts
from millpond.serving.capture import Captures
from millpond.serving.controller import LiveEndpoint
from millpond.serving.domain import ServedEntity
from millpond.serving.frames import Kind
from millpond.serving.keeping import Keeping, keeping_of, refusal
from millpond.serving.specs import Specs
from millpond.serving.tracing import Trace
from millpond.serving.worker_process import Answer, Question

JSON = "application/json"
MAX_KEPT_BYTES = 16 << 20
"""So much of a streamed answer an inference table has; the rest is counted."""
_FEW_BYTES = 64 << 10
_GONE = Answer(status=499, content_type=JSON, body=b'{"error_code":"CANCELLED","message":"Whoever asked went away."}')
"""The status that nginx made usual for it."""


def may_want_stream(content_type: str, body: bytes) -> bool:
    """Whether it is worth asking `wants_stream`, which costs more."""
    return b'"stream"' in body and content_type.partition(";")[0].strip().lower() in {"", JSON}


async def wants_stream(body: bytes) -> bool:
    """Whether a request asks for its answer in parts."""
    return await aside_unless(len(body) <= _FEW_BYTES, partial(_says_stream, body))


def _says_stream(body: bytes) -> bool:
    try:
        return bytes(_WISH.decode(body).stream) == b"true"
    except (msgspec.DecodeError, RecursionError):  # for MLflow to refuse
        return False


class _Wish(msgspec.Struct):
    """What of a request says how it is to be answered. All else is skipped: no objects are made of 16 MiB."""

    stream: msgspec.Raw = msgspec.Raw(b"")


_WISH = msgspec.json.Decoder(_Wish)


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """What is asked of whom."""

    live: LiveEndpoint
    entity: ServedEntity
    principal: Principal
    body: bytes
    is_direct: bool
    client_id: str | None
    chunk_s: float
    whole_s: float
    trace: Trace | None
    canaries: CanaryCounts
    """Counts what the traffic split has chosen."""


class StreamedAnswer:
    """One answer under way. Made by `open_stream`; `events` is iterated once, and `aclose` called in any case."""

    def __init__(self, asked: StreamRequest, keeping: Keeping | None) -> None:
        self.entity = asked.entity
        self.ends_at = asyncio.get_running_loop().time() + asked.whole_s
        """Until when all of it may take, in the loop's time."""
        self._asked = asked
        self._keeping = keeping
        self._began = time.perf_counter()
        self._held = AsyncExitStack()
        self._first: bytes | None = None
        self._parts: AsyncGenerator[bytes | Answer, None]
        self._kept = _Kept(is_wanted=keeping is not None)
        self._ended = False
        self.is_admitted = False
        """Whether no limit refuses it."""

    async def begin(self) -> Answer | None:
        """Wait for the first part. Returns the model's refusal, where it refuses. Raises as `WorkerPool.stream`."""
        pool = self._asked.live.pools[self.entity.name]
        self._held.enter_context(pool.in_use())
        question = Question(kind=Kind.STREAM, content_type=JSON, body=self._asked.body)
        parts = pool.stream(question, chunk_s=self._asked.chunk_s, ends_at=self.ends_at)
        self._parts = await self._held.enter_async_context(aclosing(parts))
        first = await anext(self._parts)
        if isinstance(first, Answer):
            await self.end(first)
            return None if first.status == 200 else first
        self._first = first
        names = (self._asked.live.name, self.entity.name, self.entity.model.version)
        metrics.FIRST_PART_SECONDS.labels(*names).observe(time.perf_counter() - self._began)
        return None

    async def events(self) -> AsyncIterator[bytes]:
        """The events, until the answer ends well or badly."""
        if self._first is not None:
            yield _event(self._kept.add(self._first))
            try:
                async for part in self._parts:
                    if isinstance(part, Answer):
                        await self.end(part)
                        if part.status != 200:
                            yield _error_event(part)
                    else:
                        yield _event(self._kept.add(part))
            except MillpondError as error:
                await self.end(refusal(error))
                yield _error_event(refusal(error))
        yield _event(b"[DONE]")

    async def end(self, answer: Answer) -> None:
        """Keep it and count it, before its end is told. Raises StorageFull."""
        if self._ended:
            return
        self._ended = True
        asked, seconds = self._asked, time.perf_counter() - self._began
        names = (asked.live.name, self.entity.name, self.entity.model.version)
        metrics.REQUESTS.labels(*names, str(answer.status)).inc()
        metrics.SECONDS.labels(*names).observe(seconds)
        if self.is_admitted and not asked.is_direct and answer is not _GONE:
            asked.canaries.count(asked.live.id, self.entity.name, answer.status, seconds)
        call = calls.current()
        if self._first is not None and answer.status != 200 and answer is not _GONE and call is not None:
            call.end(answer.status, orjson.loads(answer.body)["error_code"])  # after it began as a good one
        if asked.trace is not None:
            asked.trace.end(asked.live.name, self.entity, answer)
        if self._keeping is not None:
            whole = self._kept.whole(answer, began=self._first is not None)
            await self._keeping.end(self.entity, whole, seconds, client_id=asked.client_id, is_direct=asked.is_direct)

    async def aclose(self) -> None:
        """Whoever asked listens no more: the model's generator is closed, unless it has ended."""
        try:
            await self._held.aclose()
        finally:
            await self.end(_GONE)


async def open_stream(
    asked: StreamRequest, captures: Captures, specs: Specs, admit: Callable[[], None]
) -> StreamedAnswer | Answer:
    """The answer when its first part is there, or the model's refusal.

    Raises NotImplementedHere for models with features, and as `admit` and `WorkerPool.stream`.
    """
    live, entity = asked.live, asked.entity
    stream = StreamedAnswer(asked, keeping_of(captures, live, asked.principal, JSON, asked.body))
    try:
        admit()
        stream.is_admitted = True
        spec = await aside_unless(specs.knows(entity.model), partial(specs.of, entity.model))
        if spec is not None:
            raise NotImplementedHere(f"'{entity.name}' has features; what has features is not answered in parts.")
        refused = await stream.begin()
    except MillpondError as error:
        try:
            await stream.end(refusal(error))
        finally:
            await stream.aclose()
        raise
    except BaseException:
        await stream.aclose()
        raise
    if refused is not None:
        await stream.aclose()
    return refused or stream


@dataclass
class _Kept:
    """What an inference table will have of an answer."""

    is_wanted: bool
    parts: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    left_out: int = 0

    def add(self, part: bytes) -> bytes:
        """Another part, which is returned."""
        if not self.is_wanted:
            return part
        if self.size_bytes + len(part) <= MAX_KEPT_BYTES and not self.left_out:
            self.parts.append(part)
            self.size_bytes += len(part)
        else:
            self.left_out += 1
        return part

    def whole(self, end: Answer, *, began: bool) -> Answer:
        """The answer with all parts in one: `predictions`, and beside them what went wrong or was left out."""
        if not began and end.status != 200:
            return end
        beside: Sequence[bytes] = [b'"predictions": [' + b", ".join(self.parts) + b"]"]
        if end.status != 200:
            beside = [*beside, b'"error": ' + end.body]
        if self.left_out:
            beside = [*beside, b'"parts_left_out": %d' % self.left_out]
        return Answer(
            status=end.status,
            content_type=JSON,
            body=b"{" + b", ".join(beside) + b"}",
            queue_s=end.queue_s,
            model_s=end.model_s,
        )


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _error_event(answer: Answer) -> bytes:
    told: dict[str, Any] = orjson.loads(answer.body)
    code, message = told["error_code"], told["message"]
    output = {"error": {"error_code": code, "message": message}}
    error = {"message": message, "type": "server_error", "code": code}
    return _event(orjson.dumps({"error": error, "databricks_output": output}))
