"""What sources declare, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class PipelineFailed(Exception):
    """An update that failed; the text says why, and where in the sources."""


class Kind(StrEnum):
    """Of a dataset, in the event log's words."""

    STREAMING_TABLE = "STREAMING_TABLE"
    MATERIALIZED_VIEW = "MATERIALIZED_VIEW"
    VIEW = "VIEW"
    TABLE = "TABLE"
    """Not yet known: `@dlt.table` is one of the first two, as its query is streaming or not."""


class Action(StrEnum):
    """What becomes of rows that do not meet an expectation."""

    WARN = "ALLOW"
    DROP = "DROP"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where in the sources something is declared."""

    path: str
    line: int | None = None

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path}, line {self.line}"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What rows of a dataset should be."""

    name: str
    condition: Any
    """SQL, or a Column."""
    action: Action = Action.WARN


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset, by its full name; that of a view has one part."""

    name: str
    kind: Kind
    location: Location
    comment: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    partitioned_by: tuple[str, ...] = ()
    clustered_by: tuple[str, ...] = ()
    schema: Any = None
    """A StructType, or columns as in CREATE TABLE; None where the query says."""
    column_comments: Mapping[str, str] = field(default_factory=dict)
    """By lower-case names, where `schema` does not say."""
    expectations: tuple[Expectation, ...] = ()

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How the events of a source of changes are applied to a streaming table (AUTO CDC)."""

    source: str
    keys: tuple[str, ...]
    sequence_by: Any
    """SQL, or a Column."""
    deletes: Any = None
    columns: tuple[str, ...] | None = None
    except_columns: tuple[str, ...] = ()
    scd_type: int = 1
    track: tuple[str, ...] | None = None
    """Columns whose changes make a new row of history; None for all."""
    track_except: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A query, and the dataset that its rows go into."""

    name: str
    target: str
    location: Location
    query: Callable[[], Any] | None
    """Gives a DataFrame. None where `changes` says what is read."""
    settings: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    """Whether it is a batch that goes into the table once, until that is refreshed in full."""
    changes: Changes | None = None


@dataclass(frozen=True, kw_only=True)
class Spec:
    """An update that is to be run."""

    pipeline_id: str
    pipeline_name: str
    update_id: str
    catalog: str
    schema: str
    configuration: Mapping[str, str]
    development: bool
    continuous: bool
    validate_only: bool
    full_refresh: bool
    refresh: tuple[str, ...]
    """Datasets that are refreshed, if not all are."""
    full: tuple[str, ...]
    """Datasets that are refreshed in full."""
    sources: tuple[Mapping[str, str], ...]
    """Each has `path`, `kind` and `text`."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Spec":
        """As the server tells it."""
        values: dict[str, Sequence[str]] = {
            name: [str(each) for each in told.get(key) or ()]
            for name, key in (("refresh", "refresh_selection"), ("full", "full_refresh_selection"))
        }
        given = {**(told.get("configuration") or {}), **(told.get("parameters") or {})}
        return cls(
            pipeline_id=str(told["pipeline_id"]),
            pipeline_name=str(told.get("pipeline_name") or told["pipeline_id"]),
            update_id=str(told["update_id"]),
            catalog=str(told["catalog"]),
            schema=str(told["schema"]),
            configuration={str(key): str(value) for key, value in given.items()},
            development=bool(told.get("development")),
            continuous=bool(told.get("continuous")),
            validate_only=bool(told.get("validate_only")),
            full_refresh=bool(told.get("full_refresh")),
            refresh=tuple(values["refresh"]),
            full=tuple(values["full"]),
            sources=tuple(told["sources"]),
        )
