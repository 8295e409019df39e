"""Online stores and online tables as users have them: what is published where, how, and how far it has come."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from millpond.catalog.domain import Table, TableType
from millpond.features.tables import KNOWN_AT
from millpond.identity.access import Securable
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.online.domain import Wanted

CAPACITIES = ("CU_1", "CU_2", "CU_4", "CU_8")
TTL_PROPERTY = "features.online_ttl_s"
"""The property of a source table that says for how long after its time a row is served."""
_STORE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class StoreKind(StrEnum):
    """Where an online store keeps its rows."""

    EMBEDDED = "embedded"
    REDIS = "redis"
    POSTGRESQL = "postgresql"


class Mode(StrEnum):
    """When an online table follows its source."""

    SNAPSHOT = "SNAPSHOT"
    """When told to, all rows anew."""
    TRIGGERED = "TRIGGERED"
    """When told to, what changed."""
    CONTINUOUS = "CONTINUOUS"
    """After each commit."""


class State(StrEnum):
    """How an online table is doing."""

    PENDING = "PENDING"
    """Nothing is published yet."""
    ONLINE = "ONLINE"
    FAILED = "FAILED"
    """The last round failed; what was published before is still read, and the next round tries again."""


@dataclass(frozen=True, kw_only=True)
class OnlineStore:
    """Somewhere to publish to. Everybody signed in sees and may use it; its maker and administrators change it."""

    name: str
    kind: StoreKind
    capacity: str
    """Kept and given back: what bounds a store here is its disk, or its server."""
    read_replica_count: int
    usage_policy_id: str
    creator: str
    created_at: datetime

    @property
    def securable(self) -> Securable:
        """This store under permission."""
        return Securable(kind="online store", name=self.name, owners=(self.creator,), public=True)


@dataclass(frozen=True, kw_only=True)
class OnlineTable:
    """A table that is published, and how far."""

    id: str
    name: str
    source_id: str
    store: str
    kind: StoreKind
    mode: Mode
    creator: str
    created_at: datetime
    state: State
    error: str
    version: int | None
    """Of the source; None while nothing is published."""
    committed_at: datetime | None
    """When the source had that version."""
    published_at: datetime | None
    asked: int
    """How often it was told to follow; a round that began later answers all."""
    answered: int
    anew: bool
    """Whether the next round writes all rows."""
    failures: int
    """Rounds that began since the last that came to its end."""
    removed: bool
    """Whether its rows only wait to be taken away; it has no name any more."""


def check_store_name(name: str) -> str:
    """The name. Raises InvalidArgument."""
    if not _STORE_NAME.fullmatch(name):
        raise InvalidArgument(
            f"Online store name '{name[:80]}' is not valid: use up to 63 lower-case letters, digits, dashes and "
            "underscores, beginning with a letter or digit."
        )
    return name


def check_capacity(capacity: str) -> str:
    """The capacity. Raises InvalidArgument."""
    if capacity not in CAPACITIES:
        raise InvalidArgument(f"Capacity '{capacity[:40]}' is not known; one of {', '.join(CAPACITIES)}.")
    return capacity


def wanted_of(table: Table) -> Wanted:
    """What is published of a table: the rows of its primary key, the newest of each where the key has a time.

    Raises FailedPrecondition for a table that cannot be published, and says why.
    """
    if table.table_type is TableType.VIEW or table.data_source_format != "DELTA":
        raise FailedPrecondition(f"'{table.name}' is no Delta table; only Delta tables are published.")
    if table.guards:
        raise FailedPrecondition(guarded_text(table))
    key = table.primary_key
    if key is None:
        raise FailedPrecondition(
            f"Table '{table.name}' has no primary key, by which its rows would be found; "
            "ALTER TABLE ... ADD CONSTRAINT ... PRIMARY KEY declares one."
        )
    names = {column.name.lower(): column.name for column in table.columns}
    times = [names.get(each.lower(), each) for each in key.timeseries_columns]
    keys = tuple(name for each in key.columns if (name := names.get(each.lower(), each)) not in times)
    if not keys:
        raise FailedPrecondition(f"The primary key of '{table.name}' is a time alone; nothing says whose a row is.")
    known = names.get(table.properties.get(KNOWN_AT, "").lower()) if times else None
    return Wanted(keys=keys, time=times[0] if times else None, known=known, ttl_s=_ttl_s(table))


def guarded_text(table: Table) -> str:
    """Why a table of which something may be kept from somebody is not read online."""
    return (
        f"Table '{table.name}' has a row filter or column masks, or a policy sets them for you, and they would not "
        "hold online, where rows are the same for all. Publish a table of what everybody who may read it may see."
    )


def _ttl_s(table: Table) -> float | None:
    text = table.properties.get(TTL_PROPERTY)
    try:
        ttl_s = None if text is None else float(text)
    except ValueError:
        ttl_s = -1.0
    if ttl_s is not None and not 0 < ttl_s < float("inf"):
        raise FailedPrecondition(f"Property '{TTL_PROPERTY}' of '{table.name}' is '{text}'; give a number of seconds.")
    return ttl_s
