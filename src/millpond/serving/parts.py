"""What is asked of a served entity whose answer shall come in parts, and all that the parts have said."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from millpond.identity.domain import Principal
from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import InvalidArgument
from millpond.serving.domain import ServedEntity
from millpond.serving.features import Exchange, LookedUp, Refused, ServedFeatures
from millpond.serving.frames import Kind
from millpond.serving.pool import WorkerPool
from millpond.serving.shadowing import COMPARED_BYTES
from millpond.serving.specs import Specs
from millpond.serving.worker_process import Answer, Question

JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class PartsQuery:
    """A request in JSON that asks for parts."""

    principal: Principal
    body: bytes
    chunk_s: float
    """In this time each part has to come, and before the first one the features."""
    whole_s: float
    """In this time all of it."""


class InParts:
    """Asks served entities, those with features too."""

    def __init__(self, specs: Specs, features: ServedFeatures | None) -> None:
        self._specs = specs
        self._features = features

    async def ask(
        self, query: PartsQuery, entity: ServedEntity, pool: WorkerPool | None, *, ends_at: float
    ) -> AsyncGenerator[bytes | Answer, None]:
        """The parts as they come, and last how it ended; all by `ends_at` in the loop's time.

        Raises InvalidArgument for features alone, and as `ServedFeatures.answer` and `WorkerPool.stream`.
        """
        if entity.model.is_spec or pool is None:
            raise InvalidArgument(f"'{entity.name}' is features alone, which come as a whole; ask it without stream.")
        try:
            found = await self._looked_up(query, entity, pool)
        except Refused as refused:
            yield refused.answer
            return
        question = (
            Question(kind=Kind.STREAM, content_type=JSON, body=query.body)
            if found is None
            else Question(kind=Kind.STREAM, body=found.columns)
        )
        async with aclosing(pool.stream(question, chunk_s=query.chunk_s, ends_at=ends_at)) as parts:
            async for part in parts:
                yield found.told(part) if found is not None and isinstance(part, Answer) else part

    async def ask_whole(self, query: PartsQuery, entity: ServedEntity, pool: WorkerPool | None) -> Answer:
        """All parts in one answer, to be compared with another one. Raises as `ask`."""
        said = Transcript(COMPARED_BYTES, has_digest=True)
        end: bytes | Answer = b""
        ends_at = asyncio.get_running_loop().time() + query.whole_s
        async with aclosing(self.ask(query, entity, pool, ends_at=ends_at)) as parts:
            async for end in parts:
                if isinstance(end, bytes):
                    said.add(end)
        assert isinstance(end, Answer), "it says how it ended"
        return said.whole(end)

    async def _looked_up(self, query: PartsQuery, entity: ServedEntity, pool: WorkerPool) -> LookedUp | None:
        """What the model is to be given; None where that is the request itself."""
        spec = await aside_unless(self._specs.knows(entity.model), partial(self._specs.of, entity.model))
        if spec is None or self._features is None:
            return None
        deadline = asyncio.get_running_loop().time() + query.chunk_s
        exchange = Exchange(content_type=JSON, body=query.body, pool=pool, deadline=deadline)
        return await self._features.look_up(query.principal, entity, spec, exchange)


class Transcript:
    """What an answer in parts has said: so much of it, and of all a digest where two are to be compared."""

    def __init__(self, most_bytes: int, *, has_digest: bool = False) -> None:
        self._most_bytes = most_bytes
        self._digest = hashlib.blake2b(digest_size=16) if has_digest else None
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._left_out = 0

    def add(self, part: bytes) -> None:
        """Another part, one line of JSON."""
        if self._digest is not None:
            self._digest.update(part + b"\n")
        if self._size_bytes + len(part) <= self._most_bytes and not self._left_out:
            self._parts.append(part)
            self._size_bytes += len(part)
        else:
            self._left_out += 1

    def whole(self, end: Answer) -> Answer:
        """All in one: the parts as `predictions`, and beside them what went wrong or was left out.

        An answer without parts that went wrong is `end` itself.
        """
        if end.status != 200 and not self._parts and not self._left_out:
            return end
        beside: Sequence[bytes] = [b'"predictions": [' + b", ".join(self._parts) + b"]"]
        if end.status != 200:
            beside = [*beside, b'"error": ' + end.body]
        if self._left_out:
            beside = [*beside, b'"parts_left_out": %d' % self._left_out]
        if self._left_out and self._digest is not None:
            beside = [*beside, b'"digest": "%s"' % self._digest.hexdigest().encode()]
        return Answer(
            status=end.status,
            content_type=JSON,
            body=b"{" + b", ".join(beside) + b"}",
            queue_s=end.queue_s,
            model_s=end.model_s,
            features_s=end.features_s,
            features=end.features,
        )
