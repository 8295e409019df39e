"""Replays, and what can be asked of one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from millpond.kernel.errors import InvalidArgument

MOST_REQUESTS = 10_000
_OK = 200
_LATEST_MS = 253_402_300_800_000
"""The end of the calendar."""
_ENTITY_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


class State(StrEnum):
    """How a replay is doing."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"


UNDER_WAY = frozenset({State.QUEUED, State.RUNNING})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which requests are replayed, and what counts as the same. Raises InvalidArgument when it cannot be."""

    requests: int = 1000
    """The newest so many."""
    start_ms: int | None = None
    """Only those since then, in milliseconds since 1970."""
    end_ms: int | None = None
    """Only those before."""
    served_entity: str | None = None
    """Only those that this served entity answered."""
    tolerance: float = 1e-9
    """How far numbers may be apart: absolutely, or as a part of the greater one."""

    @property
    def is_filtered(self) -> bool:
        """Whether they are others than the newest."""
        return (self.start_ms, self.end_ms, self.served_entity) != (None, None, None)

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= MOST_REQUESTS:
            raise InvalidArgument(f"requests is {self.requests}; give 1 to {MOST_REQUESTS}.")
        if not 0 <= self.tolerance < 1:
            raise InvalidArgument(f"tolerance is {self.tolerance:g}; give a number of 0 or more, below 1.")
        for name in ("start_ms", "end_ms"):
            moment = getattr(self, name)
            if moment is not None and not 0 <= moment < _LATEST_MS:
                raise InvalidArgument(f"{name} is {moment}; give milliseconds since 1970.")
        if self.served_entity is not None and not _ENTITY_NAME.fullmatch(self.served_entity):
            raise InvalidArgument(f"served_entity '{self.served_entity[:80]}' is no name of a served entity.")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One replay, and what it found once it is done."""

    id: str
    subject_key: str
    """Of the candidate's model under permission, whatever it is called now."""
    model: str
    version: int
    endpoint_id: str
    endpoint: str
    """Its name then."""
    table_id: str
    """Of the inference table in the catalog."""
    state: State
    requester: str
    asked: Mapping[str, Any]
    done: int
    """So many requests are replayed."""
    total: int
    """Of so many; 0 until it is known."""
    report: Mapping[str, Any]
    """`comparing.Comparison.report`; empty until it is done."""
    message: str
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A request of the table, with its answer."""

    id: str
    content_type: str
    request: bytes
    status: int
    response: bytes
    version: str
    """Of the model that answered."""
    model_ms: float

    @property
    def is_replayable(self) -> bool:
        """Whether another answer can be held against this one: it was JSON, and not asked for in parts."""
        if self.status == _OK and not self.response.startswith((b"{", b"[")):
            return False
        return not (b'"stream"' in self.request and _asks_for_parts(self.request))


def _asks_for_parts(request: bytes) -> bool:
    try:
        asked = orjson.loads(request)
    except orjson.JSONDecodeError:
        return False
    return isinstance(asked, dict) and asked.get("stream") is True


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the candidate said to it."""

    status: int
    body: bytes
    model_ms: float
