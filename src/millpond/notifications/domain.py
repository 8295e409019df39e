"""What is sent, and to whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a destination is (`DestinationType`)."""

    EMAIL = "EMAIL"
    WEBHOOK = "WEBHOOK"
    SLACK = "SLACK"


@dataclass(frozen=True, kw_only=True)
class Destination:
    """An address outside, under a name."""

    id: str
    name: str
    kind: Kind
    addresses: tuple[str, ...]
    """Of e-mail."""
    sealed: Mapping[str, str] = field(repr=False)
    """`url`, `username` and `password`, as far as they are set; nobody is shown them."""
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whom a message goes to: a mail address, or a destination by its id."""

    address: str = ""
    destination_id: str = ""

    def __str__(self) -> str:
        """As logs show it."""
        return self.address or self.destination_id


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A message, in the shapes in which it may go out."""

    event: str
    """As `jobs.on_failure`."""
    subject: str
    text: str
    body: Mapping[str, Any]
    """The JSON for webhooks, to which this server adds who it is and where to look."""
    path: str
    """Where to look, on this server."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message on its way."""

    id: str
    about: str
    """What it tells of, as `run 17`."""
    target: str
    event: str
    state: str
    """waiting, delivered, or failed once its last try was."""
    attempts: int
    status_code: int | None
    error: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Sealer:
    """Keeps texts from whoever reads the database: both functions take a text and where it belongs."""

    seal: Callable[[str, str], str]
    open: Callable[[str, str], str]
    """Raises FailedPrecondition where the key is another one now."""
