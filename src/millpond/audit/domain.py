"""Entries of the chain, and what binds them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from millpond.identity.access import Securable
from millpond.kernel.clock import epoch_us, from_epoch_us

TABLE_NAME = "system.access.audit"
AUDIT = Securable(kind="table", name=TABLE_NAME, owners=())
"""Reading the audit is reading its table, whichever way."""
GENESIS = "0" * 64
"""What the first entry of a chain follows."""
FIRST_FAILURE = 400


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One act as the audit keeps it."""

    id: str
    time: datetime
    service: str
    action: str
    actor_id: str = ""
    actor: str = ""
    caller: str = ""
    """Whoever called, where it was done on another's behalf."""
    address: str = ""
    agent: str = ""
    session: str = ""
    request: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    object_id: str = ""
    name: str = ""
    status: int = 200
    error: str = ""

    def body(self) -> str:
        """The canonical JSON: keys sorted, no spaces, the time in microseconds since 1970."""
        values = vars(self) | {"time": epoch_us(self.time)}
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def entry_of(body: str) -> Entry:
    """The entry of a canonical JSON. Raises ValueError or TypeError for what is none."""
    values: dict[str, Any] = orjson.loads(body)
    return Entry(**values | {"time": from_epoch_us(values["time"])})


@dataclass(frozen=True, kw_only=True)
class Link:
    """An entry in its place in the chain."""

    sequence: int
    previous: str
    """Hash of the link before."""
    body: str
    """The entry's canonical JSON, from which the hash is made."""
    hash: str

    @property
    def entry(self) -> Entry:
        """What happened."""
        return entry_of(self.body)


def digest(sequence: int, previous: str, body: str) -> str:
    """SHA-256 over the number, the hash before and the canonical JSON, a line each."""
    return hashlib.sha256(f"{sequence}\n{previous}\n{body}".encode()).hexdigest()


def link_after(sequence: int, previous: str, body: str) -> Link:
    """The link that holds a body and follows number `sequence`, whose hash is `previous`."""
    number = sequence + 1
    return Link(sequence=number, previous=previous, body=body, hash=digest(number, previous, body))


@dataclass(frozen=True, kw_only=True)
class Head:
    """Both ends of the chain: the newest link, and the last one that retention removed."""

    sequence: int
    hash: str
    anchor_sequence: int
    anchor_hash: str
    cut_before: datetime | None = None
    """What is older was removed, or would have been."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which entries; None does not ask."""

    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""
    actor: str | None = None
    service: str | None = None
    action: str | None = None
    kind: str | None = None
    name: str | None = None
    address: str | None = None
    failed: bool | None = None
