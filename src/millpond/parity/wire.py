"""The JSON of parity checks: all our own."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.kernel.clock import epoch_ms
from millpond.parity.service import Seen
from millpond.parity.store import Check
from millpond.registry.checks import Replay


class BeginBody(BaseModel):
    """What to check, and how."""

    model_config = ConfigDict(extra="forbid")

    subject: str
    """`models:/NAME/VERSION`, `models:/NAME@ALIAS`, or the full name of a feature spec."""
    keys: str | None = None
    sample: int = Replay.sample
    tolerance: float = Replay.tolerance
    tolerances: dict[str, float] = Field(default_factory=dict)
    max_mismatches: int = Replay.max_mismatches

    @property
    def replay(self) -> Replay:
        """As the service takes it. Raises InvalidArgument."""
        return Replay(**self.model_dump(exclude={"subject"}))


def seen_json(seen: Seen) -> dict[str, Any]:
    """A check with what it found."""
    return {**check_json(seen.check), "report": dict(seen.check.report) or None, "has_values": seen.has_values}


def check_json(check: Check) -> dict[str, Any]:
    """A check without it."""
    return {
        "id": check.id,
        "subject": check.subject,
        "version": check.version,
        "state": check.state.value,
        "message": check.message,
        "requester": check.requester,
        "asked": dict(check.asked),
        "created_at": epoch_ms(check.created_at),
        "ended_at": None if check.ended_at is None else epoch_ms(check.ended_at),
    }
