"""Nouns of the registry's record, and the pure rules about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from millpond.kernel.errors import InvalidArgument
from millpond.tracking.watch import Target, TargetKind

MAX_TEXT = 10_000
"""Characters of a comment."""
_STAGES = {stage.lower(): stage for stage in ("None", "Staging", "Production", "Archived")}
PRODUCTION = "Production"
_ENDED = frozenset({"", "None", "Archived"})


class ActivityType(StrEnum):
    """What was done. The first seven are Databricks' names."""

    APPLIED_TRANSITION = "APPLIED_TRANSITION"
    SYSTEM_TRANSITION = "SYSTEM_TRANSITION"
    """A consequence of something else: archived because another took its stage, or deleted."""
    REQUESTED_TRANSITION = "REQUESTED_TRANSITION"
    APPROVED_REQUEST = "APPROVED_REQUEST"
    REJECTED_REQUEST = "REJECTED_REQUEST"
    CANCELLED_REQUEST = "CANCELLED_REQUEST"
    NEW_COMMENT = "NEW_COMMENT"
    ALIAS_SET = "ALIAS_SET"
    ALIAS_REMOVED = "ALIAS_REMOVED"
    POLICY_CHANGED = "POLICY_CHANGED"


MOVES = (
    ActivityType.APPLIED_TRANSITION,
    ActivityType.SYSTEM_TRANSITION,
    ActivityType.ALIAS_SET,
    ActivityType.ALIAS_REMOVED,
)


@dataclass(frozen=True, kw_only=True)
class Activity:
    """One entry of a model's record."""

    sequence: int
    """Counts all activities of the server, in the order in which they were committed."""
    id: str
    model: str
    """Its name then."""
    version: int | None
    type: ActivityType
    target_kind: str
    """`alias`, `stage`, or empty where nothing was moved."""
    target: str
    previous: str
    """The stage before, or the number of the version that had the alias; empty for none."""
    actor: str
    client: str
    """The program that was used, as it calls itself."""
    comment: str
    system_comment: str
    evidence: Mapping[str, Any]
    """Of a move: `requested_by`, `approved_by`, `gates` (what each policy found), `overridden`, `rollback`."""
    at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Request:
    """Somebody asks for a move."""

    id: str
    version: int
    target: Target
    creator: str
    comment: str
    created_at: datetime
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Served:
    """A version answered behind an endpoint for a time."""

    endpoint: str
    version: int
    since: datetime
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Live:
    """What had an alias or an active stage at a moment: the move that brought it there, and who served it then."""

    move: Activity
    served_by: tuple[Served, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """A model's moves, newest first, and what is or was where."""

    model: str
    at: datetime | None
    live: tuple[Live, ...]
    moves: tuple[Activity, ...] = ()
    next_page_token: str | None = field(default=None)


def target_of(kind: str, name: str) -> Target:
    """An alias or a stage. Raises InvalidArgument for a stage that there is not, or no name."""
    if kind not in {each.value for each in TargetKind}:
        raise InvalidArgument(f"'{kind[:60]}' is no target; give an alias or a stage.")
    if kind == TargetKind.STAGE:
        if name.lower() not in _STAGES:
            raise InvalidArgument(f"'{name[:60]}' is no stage; there are {', '.join(_STAGES.values())}.")
        return Target(TargetKind.STAGE, _STAGES[name.lower()])
    if not name or len(name) > 255:
        raise InvalidArgument("An alias has 1 to 255 characters.")
    return Target(TargetKind.ALIAS, name)


def clean_text(text: object, what: str, *, required: bool = False) -> str:
    """A comment or reason. Raises InvalidArgument when it is too long, missing or no text."""
    if text is not None and not isinstance(text, str):
        raise InvalidArgument(f"The {what} must be a text.")
    clean = (text or "").strip()
    if required and not clean:
        raise InvalidArgument(f"The {what} is empty; say something.")
    if len(clean) > MAX_TEXT or "\0" in clean:
        raise InvalidArgument(f"The {what} has {len(clean)} characters or a NUL; at most {MAX_TEXT} and no NUL.")
    return clean


def live_moves(latest: Sequence[Activity]) -> tuple[Activity, ...]:
    """Of the latest move of each alias and of each version's stage, those that put something in use."""
    return tuple(
        move
        for move in latest
        if (move.target_kind == TargetKind.ALIAS and move.type is ActivityType.ALIAS_SET)
        or (move.target_kind == TargetKind.STAGE and move.target not in _ENDED)
    )


def previous_live(moves: Sequence[Activity], target: Target, exists: frozenset[int]) -> int | None:
    """The version to roll back to: the last other one that had the target, of those that still exist.

    `moves` are the model's, newest first. A rollback skips what was live only before an earlier rollback's goal:
    versions that somebody rolled away from are no goals.
    """
    placed = [move for move in moves if puts(move, target)]
    if not placed:
        return None
    current, abandoned = placed[0].version, set()
    for move in placed:
        if move.evidence.get("rollback") and move.evidence.get("from_version"):
            abandoned.add(int(move.evidence["from_version"]))
    candidates = [m.version for m in placed[1:] if m.version is not None]
    return next((v for v in candidates if v != current and v not in abandoned and v in exists), None)


def puts(move: Activity, target: Target) -> bool:
    """Whether a move let an alias name its version, or brought it into a stage."""
    kinds = {ActivityType.ALIAS_SET, ActivityType.APPLIED_TRANSITION}
    return move.type in kinds and (move.target_kind, move.target) == (target.kind.value, target.name)
