"""Nodes, edges and observations: what came from what, how that is known, and which of it matters."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from millpond.identity.domain import Work

TABLES_NAME = "system.access.table_lineage"
COLUMNS_NAME = "system.access.column_lineage"


class NodeKind(StrEnum):
    """What data is in, or made of it."""

    TABLE = "table"
    """A table or view of the catalog, by its id, which survives renames."""
    PATH = "path"
    """Files, by their location."""
    RUN = "run"
    """A run of MLflow, by its id."""
    MODEL_VERSION = "model_version"
    """A version of a registered model, as `name/version`."""
    ENDPOINT = "endpoint"
    """A serving endpoint, by its id."""
    ONLINE_TABLE = "online_table"
    """A table that is published into an online store, by its id."""
    EXTERNAL = "external"
    """Something outside that was described through the API of external metadata, by its id."""
    DATASET = "dataset"
    """A data set of an OpenLineage event that is no table here, as `namespace/name`."""


class Known(StrEnum):
    """How an edge is known."""

    OBSERVED = "observed"
    """The gateway carried the statement out."""
    PARSED = "parsed"
    """Read out of a definition: a view."""
    DECLARED = "declared"
    """A client said so."""


class Use(StrEnum):
    """What a column's edge means."""

    VALUE = "value"
    """The source column is in the target column's values."""
    ROWS = "rows"
    """The source column was looked at to make the target: a condition, a key, an order. Names no target column."""


class Way(StrEnum):
    """What was done with a node."""

    READ = "read"
    WRITE = "write"


class Direction(StrEnum):
    """Which way along the edges."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


@dataclass(frozen=True, kw_only=True)
class Node:
    """Something that data comes from or goes to."""

    kind: NodeKind
    key: str
    """Which one, for good."""
    name: str
    """What it was called when it was last told of; the catalog knows what a table is called now."""

    @property
    def id(self) -> str:
        """The same for the same thing, whoever tells of it."""
        return digest(self.kind.value, self.key)


@dataclass(frozen=True, kw_only=True)
class Entity:
    """What ran: a query of the SQL page, a run, a job."""

    type: str = ""
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class Act:
    """Who did it, when and in what."""

    actor: str
    time: datetime
    operation: str
    """What it was: INSERT, CREATE TABLE AS, MERGE, READ, ..."""
    known: Known
    session: str = ""
    statement: str = ""
    entity: Entity = field(default_factory=Entity)
    """As the client says, or the server's own client."""
    work: Work | None = None
    """The task of a job that did it, as its credential says."""


@dataclass(frozen=True, kw_only=True)
class ColumnFlow:
    """One column of a source in the target."""

    source: Node
    source_column: str
    target_column: str
    """Empty where `use` is ROWS."""
    use: Use = Use.VALUE


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One act in which data flowed. Recorded once, however often it is told: `id` says which it is."""

    id: str
    act: Act
    sources: tuple[Node, ...]
    target: Node | None
    """None for what was only read."""
    columns: tuple[ColumnFlow, ...] = ()
    inexact: tuple[str, ...] = ()
    """Columns of the target of which only the tables behind them are known."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What whoever declared it said besides."""
    replaces: bool = False
    """Whether all that was known of the target's columns before holds no longer: a view was defined anew."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """What flowed from one node to another, put together over time."""

    source_id: str
    target_id: str
    known: Known
    first_seen: datetime
    last_seen: datetime
    count: int
    """How many acts it was."""
    operation: str
    actor: str
    session: str
    statement: str
    entity: Entity
    job_id: int | None
    """Of the last act, as its credential says; None too for a run without a job."""
    job_run_id: int | None
    inexact: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ColumnEdge:
    """The same between columns."""

    source_id: str
    source_column: str
    target_id: str
    target_column: str
    use: Use
    known: Known
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, kw_only=True)
class SeenNode:
    """A node that somebody may see, as it is called now."""

    id: str
    kind: NodeKind
    key: str
    name: str
    details: Mapping[str, Any] = field(default_factory=dict)
    """`type`, `columns` and the like, as far as its kind has them."""
    columns: tuple[str, ...] = ()


def digest(*parts: str) -> str:
    """A short key for several texts of any length."""
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:32]
