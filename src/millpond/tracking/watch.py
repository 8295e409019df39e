"""What happens to registered models, told to whoever watches in the transaction in which it happens.

The registry room watches: it keeps the history, asks the gates before a version moves, and lets webhooks know. This
module knows neither MLflow nor that room.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Protocol

from sqlalchemy import Connection

from millpond.identity.domain import Principal


class TargetKind(StrEnum):
    """What a version can be moved to."""

    ALIAS = "alias"
    STAGE = "stage"


@dataclass(frozen=True)
class Target:
    """An alias, or a stage as MLflow spells it (`Production`)."""

    kind: TargetKind
    name: str

    def __str__(self) -> str:
        """`alias:champion`, as policies write it."""
        return f"{self.kind.value}:{self.name}"


class Happening(Enum):
    """What can happen."""

    MODEL_CREATED = "model created"
    MODEL_RENAMED = "model renamed"
    MODEL_DELETED = "model deleted"
    VERSION_CREATED = "version created"
    """Ready: its files are all there."""
    STAGE_CHANGED = "stage changed"
    ALIAS_SET = "alias set"
    ALIAS_REMOVED = "alias removed"
    MODEL_TAG_SET = "model tag set"
    MODEL_TAG_DELETED = "model tag deleted"
    VERSION_TAG_SET = "version tag set"
    VERSION_TAG_DELETED = "version tag deleted"


@dataclass(frozen=True, kw_only=True)
class RegistryEvent:
    """One thing that happened to a model or a version."""

    what: Happening
    model: str
    version: int | None = None
    name: str = ""
    """The alias, the new stage, the tag's key, the new name."""
    previous: str = ""
    """The stage before, or the number of the version to which the alias pointed; empty for none."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the webhook of a creation or a tag tells besides."""


@dataclass(frozen=True, kw_only=True)
class Because:
    """Why a version is moved, as far as whoever moves it said."""

    reason: str = ""
    override: bool = False
    """An administrator moves it although a gate says no."""
    rollback: bool = False
    rolled_from: int | None = None
    """The version that a rollback takes out of use."""
    moves: tuple[str, int] | None = None
    """The model and the version that is meant; others that move with it do so as a consequence."""


_because: ContextVar[Because] = ContextVar("millpond_registry_because", default=Because())  # noqa: B039 - frozen


def because() -> Because:
    """Why the version that this context moves is moved."""
    return _because.get()


@contextmanager
def moving(why: Because) -> Iterator[None]:
    """Moves inside the block happen for this reason."""
    reset = _because.set(why)
    try:
        yield
    finally:
        _because.reset(reset)


class RegistryWatch(Protocol):
    """Who is asked before a version moves, and told what happened."""

    def admitted(self, principal: Principal, model: str, version: int, target: Target) -> AbstractContextManager[None]:
        """A block in which the version may be moved there. May take a while; outside of any transaction.

        Raises FailedPrecondition naming what keeps the version from it.
        """

    def happened(self, connection: Connection, principal: Principal, event: RegistryEvent) -> None:
        """Called in the transaction of the event; what is raised undoes it."""

    def open_requests(self, principal: Principal, model: str, version: str) -> Sequence[Mapping[str, Any]]:
        """The open requests to move a version to another stage, as Databricks' Activity."""


class Unwatched:
    """Nobody watches."""

    def admitted(
        self, _principal: Principal, _model: str, _version: int, _target: Target
    ) -> AbstractContextManager[None]:
        """Any version may move anywhere."""
        return nullcontext()

    def happened(self, _connection: Connection, _principal: Principal, _event: RegistryEvent) -> None:
        """Nothing is kept."""

    def open_requests(self, _principal: Principal, _model: str, _version: str) -> Sequence[Mapping[str, Any]]:
        """Nobody asks."""
        return ()
