"""The JSON of replays: all our own."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.kernel.clock import epoch_ms
from millpond.replay.domain import Asked, Replay
from millpond.replay.service import Seen
from millpond.serving.references import Asked as AskedModel
from millpond.serving.references import read_asked


class BeginBody(BaseModel):
    """Which version answers, and which requests."""

    model_config = ConfigDict(extra="forbid")

    entity_version: str
    """A number, `@ALIAS` or a stage, as in a configuration."""
    entity_name: str = ""
    """The model; the endpoint's own where it is left out."""
    requests: int = Asked.requests
    start_ms: int | None = None
    end_ms: int | None = None
    served_entity: str | None = None
    tolerance: float = Asked.tolerance

    @property
    def model(self) -> AskedModel:
        """The version."""
        return read_asked(self.entity_name, self.entity_version)

    @property
    def asked(self) -> Asked:
        """The requests. Raises InvalidArgument."""
        return Asked(**self.model_dump(exclude={"entity_name", "entity_version"}))


def seen_json(seen: Seen) -> dict[str, Any]:
    """A replay with what it found."""
    return {**replay_json(seen.replay), "report": dict(seen.replay.report) or None, "has_values": seen.has_values}


def replay_json(replay: Replay) -> dict[str, Any]:
    """A replay without it."""
    return {
        "id": replay.id,
        "endpoint": replay.endpoint,
        "model": replay.model,
        "version": str(replay.version),
        "state": replay.state.value,
        "message": replay.message,
        "requester": replay.requester,
        "asked": dict(replay.asked),
        "done": replay.done,
        "total": replay.total,
        "created_at": epoch_ms(replay.created_at),
        "ended_at": None if replay.ended_at is None else epoch_ms(replay.ended_at),
    }
