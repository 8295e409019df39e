"""Answers that come as the model makes them: server-sent events for whoever asked with `"stream": true`.

Each event is `data: JSON`, the last one `data: [DONE]`. What goes wrong before the first event is an answer like any
other; after it, it is an event with `error`, as OpenAI's clients read it, and with `databricks_output.error`, as
Databricks documents it for agents.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import orjson

from millpond.journal import calls
from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import MillpondError
from millpond.serving import metrics
from millpond.serving.canary.counting import CanaryCounts
from millpond.serving.capture import Captures
from millpond.serving.controller import LiveEndpoint
from millpond.serving.domain import ServedEntity
from millpond.serving.keeping import Keeping, keeping_of, refusal
from millpond.serving.parts import JSON, InParts, PartsQuery, Transcript
from millpond.serving.shadowing import COMPARED_BYTES
from millpond.serving.tracing import Trace
from millpond.serving.worker_process import Answer

MAX_KEPT_BYTES = 16 << 20
"""So much of a streamed answer an inference table has; the rest is counted."""
_FEW_BYTES = 64 << 10
_GONE = Answer(status=499, content_type=JSON, body=b'{"error_code":"CANCELLED","message":"Whoever asked went away."}')
"""The status that nginx made usual for it."""


def may_want_stream(content_type: str, body: bytes) -> bool:
    """Whether it is worth asking `wants_stream`, which costs more."""
    last_text = body.rfind(b'"') + 1  # a look for one byte costs nothing, and rows of numbers have none
    is_named = body.rfind(b'"stream"', 0, last_text) >= 0  # half of the time that `in` takes
    return is_named and content_type.partition(";")[0].strip().lower() in {"", JSON}


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
    query: PartsQuery
    is_direct: bool
    client_id: str | None
    trace: Trace | None
    canaries: CanaryCounts
    """Counts what the traffic split has chosen."""
    copy: Callable[[Answer], None] | None
    """Lets shadows answer, too, once the whole answer is known; None without shadows."""


class StreamedAnswer:
    """One answer under way. Made by `open_stream`; `events` is iterated once, and `aclose` called in any case."""

    def __init__(self, asked: StreamRequest, keeping: Keeping | None, source: InParts) -> None:
        self.entity = asked.entity
        self.ends_at = asyncio.get_running_loop().time() + asked.query.whole_s
        """Until when all of it may take, in the loop's time."""
        self._asked = asked
        self._keeping = keeping
        self._source = source
        self._began = time.perf_counter()
        self._held = AsyncExitStack()
        self._first: bytes | None = None
        self._parts: AsyncGenerator[bytes | Answer, None]
        self._kept = Transcript(MAX_KEPT_BYTES if keeping else 0)
        self._to_compare = None if asked.copy is None else Transcript(COMPARED_BYTES, has_digest=True)
        self._ended = False
        self.is_admitted = False
        """Whether no limit refuses it."""

    async def begin(self) -> Answer | None:
        """Wait for the first part. Returns the model's refusal, where it refuses. Raises as `InParts.ask`."""
        pool = self._asked.live.pools.get(self.entity.name)
        if pool is not None:
            self._held.enter_context(pool.in_use())
        parts = self._source.ask(self._asked.query, self.entity, pool, ends_at=self.ends_at)
        self._parts = await self._held.enter_async_context(aclosing(parts))
        first = await anext(self._parts)
        if isinstance(first, Answer):
            await self._end_as_told(first)
            return None if first.status == 200 else first
        self._first = first
        names = (self._asked.live.name, self.entity.name, self.entity.model.version)
        metrics.FIRST_PART_SECONDS.labels(*names).observe(time.perf_counter() - self._began)
        return None

    async def events(self) -> AsyncIterator[bytes]:
        """The events, until the answer ends well or badly."""
        if self._first is not None:
            yield self._told(self._first)
            try:
                async for part in self._parts:
                    if isinstance(part, Answer):
                        await self._end_as_told(part)
                        if part.status != 200:
                            yield _error_event(part)
                    else:
                        yield self._told(part)
            except MillpondError as error:
                await self.end(refusal(error))
                yield _error_event(refusal(error))
        yield _event(b"[DONE]")

    def _told(self, part: bytes) -> bytes:
        """The event of a part, which is noted."""
        self._kept.add(part)
        if self._to_compare is not None:
            self._to_compare.add(part)
        return _event(part)

    async def _end_as_told(self, answer: Answer) -> None:
        """The served entity has told how it ended: shadows are asked the same now."""
        await self.end(answer)
        if self._asked.copy is not None and self._to_compare is not None:
            self._asked.copy(self._to_compare.whole(answer))

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
            whole = self._kept.whole(answer)
            await self._keeping.end(self.entity, whole, seconds, client_id=asked.client_id, is_direct=asked.is_direct)

    async def aclose(self) -> None:
        """Whoever asked listens no more: the model's generator is closed, unless it has ended."""
        try:
            await self._held.aclose()
        finally:
            await self.end(_GONE)


async def open_stream(
    asked: StreamRequest, captures: Captures, source: InParts, admit: Callable[[], None]
) -> StreamedAnswer | Answer:
    """The answer when its first part is there, or the model's refusal. Raises as `admit` and `InParts.ask`."""
    query = asked.query
    stream = StreamedAnswer(asked, keeping_of(captures, asked.live, query.principal, JSON, query.body), source)
    try:
        admit()
        stream.is_admitted = True
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


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _error_event(answer: Answer) -> bytes:
    told: dict[str, Any] = orjson.loads(answer.body)
    code, message = told["error_code"], told["message"]
    output = {"error": {"error_code": code, "message": message}}
    error = {"message": message, "type": "server_error", "code": code}
    return _event(orjson.dumps({"error": error, "databricks_output": output}))
