"""A request on its way into an inference table, from its arrival to its answer."""

import time
from dataclasses import dataclass

from millpond.identity.domain import Principal
from millpond.journal import calls
from millpond.kernel.errors import MillpondError
from millpond.kernel.http import Dialect, error_response
from millpond.kernel.ids import new_id
from millpond.serving.capture import Answered, Asked, AutoCapture, Captures
from millpond.serving.controller import LiveEndpoint
from millpond.serving.domain import ServedEntity
from millpond.serving.worker_process import Answer


@dataclass(frozen=True)
class Keeping:
    """One request that will be kept."""

    captures: Captures
    kept: AutoCapture
    config_version: int
    requester: str
    content_type: str
    body: bytes
    time_ms: int

    async def end(
        self, entity: ServedEntity, answer: Answer, seconds: float, *, client_id: str | None, is_direct: bool
    ) -> None:
        """Keep it with what is about to be answered. Raises StorageFull."""
        asked = Asked(
            id=_request_id(),
            client_id=client_id,
            requester=self.requester,
            content_type=self.content_type,
            body=self.body,
            time_ms=self.time_ms,
            is_direct=is_direct,
        )
        answered = Answered(
            entity=entity.name,
            model=entity.model.name,
            version=entity.model.version,
            config_version=self.config_version,
            status=answer.status,
            body=answer.body,
            seconds=seconds,
            queue_s=answer.queue_s,
            features_s=answer.features_s,
            model_s=answer.model_s,
            features=answer.features,
        )
        await self.captures.record(self.kept, asked, answered)


def keeping_of(
    captures: Captures, live: LiveEndpoint, who: Principal, content_type: str, body: bytes
) -> Keeping | None:
    """What keeps a request that has just come; None where nothing is kept. Raises StorageFull when it cannot be."""
    kept = live.config.capture
    if kept is None or not kept.enabled:
        return None
    captures.check_room(kept)
    return Keeping(captures, kept, live.config.version, who.name, content_type, body, time.time_ns() // 1_000_000)


def refusal(error: MillpondError) -> Answer:
    """The answer that a client gets for an error."""
    response = error_response(error.code, error.message, Dialect.DATABRICKS)
    return Answer(status=response.status_code, content_type="application/json", body=bytes(response.body))


def _request_id() -> str:
    """The id of the call in which this runs, or a new one."""
    call = calls.current()
    return new_id() if call is None else call.request
