"""Warehouses, statements, saved queries, and their rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from millpond.identity.access import Securable
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument

STARTER_ID = "starter"
"""The warehouse that exists from the start, made by the migration; everybody was granted CAN_USE."""

MAX_QUEUED = 200
"""Statements that wait in one warehouse; more are refused."""
MAX_TEXT = 1_000_000
MAX_INLINE_BYTES = 25 << 20
"""Source: Statement Execution API, limits of the INLINE disposition."""
MAX_TAGS = 20

_MAX_CLUSTERS = 40
_SIZES = ("2X-Small", "X-Small", "Small", "Medium", "Large", "X-Large", "2X-Large", "3X-Large", "4X-Large", "5X-Large")
_CONCURRENCY = (2, 4, 8, 12, 16, 24, 32, 40, 48, 64)
_MAX_NAME = 100
_MIN_AUTO_STOP_MINS = 10


# Warehouses


class WarehouseState(StrEnum):
    """A warehouse starts and stops at once: there is no machine to wait for."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    DELETED = "DELETED"


@dataclass(frozen=True, kw_only=True)
class WarehouseSpec:
    """What somebody may choose about a warehouse."""

    name: str
    cluster_size: str = "Small"
    max_clusters: int = 1
    auto_stop_mins: int = 120
    """Minutes without a statement after which it stops; 0 for never."""
    statement_timeout_s: int = 0
    """A statement that takes longer is cancelled; 0 for no limit."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What clients set and read back and we do not act on: channel, tags, photon, ..."""

    @property
    def max_running(self) -> int:
        """Statements that run at the same time."""
        return _CONCURRENCY[_SIZES.index(self.cluster_size)] * self.max_clusters


@dataclass(frozen=True, kw_only=True)
class Warehouse:
    """A named pool in which statements run."""

    id: str
    creator: str
    state: WarehouseState
    spec: WarehouseSpec
    created_at: datetime

    @property
    def securable(self) -> Securable:
        """This warehouse under permission. It goes by its id: a refusal must not tell the name."""
        return Securable(kind="warehouse", name=self.id, owners=(self.creator,), ids=(f"warehouse {self.id}",))


def checked_spec(spec: WarehouseSpec) -> WarehouseSpec:
    """The specification. Raises InvalidArgument naming what is wrong."""
    if not spec.name.strip() or len(spec.name) > _MAX_NAME or not spec.name.isprintable():
        raise InvalidArgument(f"A warehouse's name has 1 to {_MAX_NAME} printable characters.")
    if spec.cluster_size not in _SIZES:
        raise InvalidArgument(f"cluster_size '{spec.cluster_size[:40]}' is unknown; choose one of {', '.join(_SIZES)}.")
    if not 1 <= spec.max_clusters <= _MAX_CLUSTERS:
        raise InvalidArgument(f"max_num_clusters is {spec.max_clusters}; give 1 to {_MAX_CLUSTERS}.")
    if spec.auto_stop_mins != 0 and spec.auto_stop_mins < _MIN_AUTO_STOP_MINS:
        raise InvalidArgument(
            f"auto_stop_mins is {spec.auto_stop_mins}; give 0 (never) or {_MIN_AUTO_STOP_MINS} and up."
        )
    if spec.statement_timeout_s < 0:
        raise InvalidArgument(f"statement_timeout is {spec.statement_timeout_s}; give 0 (none) or seconds.")
    return spec


# Statements


class StatementState(StrEnum):
    """Where a statement is. Source: Statement Execution API, StatementState."""

    PENDING = "PENDING"
    """It waits for its warehouse."""
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    CLOSED = "CLOSED"
    """It succeeded, and its result is gone."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self not in {StatementState.PENDING, StatementState.RUNNING}


QUERY_STATUS: Mapping[StatementState, str] = {
    StatementState.PENDING: "QUEUED",
    StatementState.RUNNING: "RUNNING",
    StatementState.SUCCEEDED: "FINISHED",
    StatementState.CLOSED: "FINISHED",
    StatementState.FAILED: "FAILED",
    StatementState.CANCELED: "CANCELED",
}
"""What the query history calls the states."""


class Disposition(StrEnum):
    """How a result travels."""

    INLINE = "INLINE"
    EXTERNAL_LINKS = "EXTERNAL_LINKS"
    HYBRID = "INLINE_OR_EXTERNAL_LINKS"
    """Inline when it is one small chunk; databricks-sql-connector asks for it."""


class Format(StrEnum):
    """How a result is written."""

    JSON_ARRAY = "JSON_ARRAY"
    ARROW_STREAM = "ARROW_STREAM"
    CSV = "CSV"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A value for a marker in the text: `:name`, or the `ordinal`-th `?` (from 1)."""

    value: str | None
    type: str = "STRING"
    name: str | None = None
    ordinal: int | None = None


@dataclass(frozen=True, kw_only=True)
class StatementRequest:
    """What somebody wants to run."""

    text: str
    warehouse_id: str
    session_id: str | None = None
    catalog: str | None = None
    schema: str | None = None
    parameters: tuple[Parameter, ...] = ()
    row_limit: int | None = None
    byte_limit: int | None = None
    disposition: Disposition = Disposition.INLINE
    format: Format = Format.JSON_ARRAY
    tags: Mapping[str, str | None] = field(default_factory=dict)
    client: str = ""
    """The client's User-Agent."""


@dataclass(frozen=True, kw_only=True)
class ResultColumn:
    """A column of a result, as the manifest describes it."""

    name: str
    type_text: str
    type_name: str
    precision: int | None = None
    scale: int | None = None
    interval: str | None = None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A part of a result: one file."""

    rows: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a result consists of."""

    columns: tuple[ResultColumn, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    truncated: bool = False

    @property
    def rows(self) -> int:
        """Rows of all chunks."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def size_bytes(self) -> int:
        """Bytes of all chunks, as Arrow."""
        return sum(chunk.size_bytes for chunk in self.chunks)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a statement failed. `code` is one of the API's ServiceErrorCode."""

    code: str
    message: str
    sql_state: str | None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement that was sent, and how it went."""

    id: str
    principal_id: str
    principal_name: str
    warehouse_id: str
    session_id: str | None
    text: str
    kind: str
    """SELECT, INSERT, ...: one of the API's QueryStatementType."""
    client: str
    tags: Mapping[str, str | None]
    disposition: Disposition
    format: Format
    state: StatementState
    submitted_at: datetime
    started_at: datetime | None = None
    """When its warehouse had room for it."""
    ended_at: datetime | None = None
    failure: Failure | None = None
    manifest: Manifest | None = None
    spent_ms: int | None = None
    """Processor time of its engine, where it was alone on that."""

    @property
    def status(self) -> str:
        """Its state as the query history calls it."""
        return QUERY_STATUS[self.state]

    def securable(self, principal: Principal) -> Securable:
        """This statement under permission: it is its sender's, whatever they are called now."""
        owners = (principal.name,) if principal.id == self.principal_id else ()
        return Securable(kind="statement", name=self.id, owners=owners)


_KINDS = frozenset({
    "ALTER", "ANALYZE", "COPY", "CREATE", "DELETE", "DESCRIBE", "DROP", "EXPLAIN", "GRANT", "INSERT", "MERGE",
    "OPTIMIZE", "REFRESH", "REPLACE", "REVOKE", "SELECT", "SET", "SHOW", "TRUNCATE", "UPDATE", "USE",
})  # fmt: skip
_SAME_KIND = {"DESC": "DESCRIBE", "FROM": "SELECT", "TABLE": "SELECT", "VALUES": "SELECT", "WITH": "SELECT"}
_BEHIND_WITH = re.compile(
    r"""'(?:[^'\\]|\\.?)*+'?|"(?:[^"\\]|\\.?)*+"?|`[^`]*+`?|--[^\n]*|/\*.*?(?:\*/|\Z)"""
    r"|(?P<paren>[()])|(?P<word>\w+)",
    re.DOTALL,
)
"""Quotes and comments, which also end where the text does, so that no text is looked through twice; and the rest."""
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*", re.DOTALL)
_STATELESS = frozenset({"SELECT", "SHOW", "DESCRIBE", "EXPLAIN"})


def statement_kind(text: str) -> str:
    """The kind that a statement's first word says, or the first that matters behind WITH."""
    start = _leading(text)
    word = re.match(r"[A-Za-z]*", text[start:])
    first = word[0].upper() if word else ""
    if first == "WITH":
        first = _change_behind_with(text[start:]) or first
    kind = _SAME_KIND.get(first, first)
    return kind if kind in _KINDS else "OTHER"


def _change_behind_with(text: str) -> str | None:
    """INSERT, UPDATE, DELETE or MERGE, where it stands outside of parentheses, quotes and comments."""
    depth = 0
    for found in _BEHIND_WITH.finditer(text):
        depth += {"(": 1, ")": -1}.get(found["paren"] or "", 0)
        if depth == 0 and (word := (found["word"] or "").upper()) in {*_CHANGES, "SELECT"}:
            return word if word in _CHANGES else None
    return None


def _leading(text: str) -> int:
    found = _COMMENTS.match(text)
    return found.end() if found else 0


def leaves_session_alone(kind: str) -> bool:
    """Whether a statement of this kind neither needs a session of its own nor changes one."""
    return kind in _STATELESS


def checked_request(request: StatementRequest) -> StatementRequest:
    """The request. Raises InvalidArgument naming what is wrong."""
    if not request.text.strip():
        raise InvalidArgument("statement is empty; give the text of one SQL statement.")
    if len(request.text) > MAX_TEXT or "\0" in request.text:
        raise InvalidArgument(f"A statement has at most {MAX_TEXT} characters, none of them NUL.")
    if request.disposition is Disposition.INLINE and request.format is not Format.JSON_ARRAY:
        raise InvalidArgument(f"The format {request.format} needs the disposition EXTERNAL_LINKS.")
    for name, value in (("row_limit", request.row_limit), ("byte_limit", request.byte_limit)):
        if value is not None and not 0 < value < 1 << 62:
            raise InvalidArgument(f"{name} is {value}; give a positive number, or leave it out.")
    if request.session_id is not None and (request.catalog or request.schema):
        raise InvalidArgument("A statement in a session has the session's catalog and schema; leave these out.")
    check_parameters(request.parameters)
    return request


_PARAMETER_TYPE = re.compile(
    r"(?:STRING|BOOLEAN|TINYINT|BYTE|SMALLINT|SHORT|INT|INTEGER|BIGINT|LONG|FLOAT|REAL|DOUBLE|BINARY|DATE|TIMESTAMP"
    r"|TIMESTAMP_NTZ|TIMESTAMP_LTZ|VOID|VARIANT"
    r"|(?:DECIMAL|DEC|NUMERIC)(?:\s*\(\s*\d{1,2}\s*(?:,\s*\d{1,2}\s*)?\))?"
    r"|INTERVAL\s+(?:YEAR|MONTH|DAY|HOUR|MINUTE|SECOND)(?:\s+TO\s+(?:MONTH|HOUR|MINUTE|SECOND))?)",
    re.IGNORECASE,
)
_PARAMETER_NAME = re.compile(r"[A-Za-z_]\w{0,254}")


def check_parameters(parameters: Sequence[Parameter]) -> None:
    """Raise InvalidArgument for a parameter without a place, named twice, or of a type that is none."""
    names = [parameter.name for parameter in parameters if parameter.name is not None]
    if names and len(names) < len(parameters):
        raise InvalidArgument("Give all parameters a name, or all an ordinal.")
    for parameter in parameters:
        if parameter.name is None and parameter.ordinal is None:
            raise InvalidArgument("A parameter needs a name.")
        if parameter.name is not None and not _PARAMETER_NAME.fullmatch(parameter.name):
            raise InvalidArgument(f"'{parameter.name[:80]}' is no name of a parameter.")
        if parameter.name is not None and names.count(parameter.name) > 1:
            raise InvalidArgument(f"The parameter '{parameter.name}' is given twice.")
        if not _PARAMETER_TYPE.fullmatch(parameter.type.strip()):
            raise InvalidArgument(f"'{parameter.type[:80]}' is no type of a parameter; use STRING, INT, DATE, ...")
    ordinals = sorted(parameter.ordinal or 0 for parameter in parameters if parameter.name is None)
    if ordinals != list(range(1, len(ordinals) + 1)):
        raise InvalidArgument("The ordinals of parameters count from 1, each given once.")


# Saved queries


@dataclass(frozen=True, kw_only=True)
class QueryDraft:
    """What somebody may choose about a saved query."""

    name: str
    text: str = ""
    description: str = ""
    catalog: str | None = None
    schema: str | None = None
    warehouse_id: str | None = None
    tags: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """What clients set and read back and we do not act on: parent_path, run_as_mode, apply_auto_limit."""


@dataclass(frozen=True, kw_only=True)
class SavedQuery:
    """Text with a name and an owner."""

    id: str
    owner: str
    modified_by: str
    trashed: bool
    draft: QueryDraft
    created_at: datetime
    updated_at: datetime

    @property
    def securable(self) -> Securable:
        """This query under permission; by its id, because a refusal must not tell the name."""
        return Securable(kind="query", name=self.id, owners=(self.owner,), ids=(query_grant_id(self.id),))


def query_grant_id(query_id: str) -> str:
    """Under which a query has grants."""
    return f"query {query_id}"


def checked_draft(draft: QueryDraft) -> QueryDraft:
    """The draft. Raises InvalidArgument naming what is wrong."""
    if not draft.name.strip() or len(draft.name) > 255 or not draft.name.isprintable():
        raise InvalidArgument("A query's display_name has 1 to 255 printable characters.")
    if len(draft.text) > MAX_TEXT or "\0" in draft.text:
        raise InvalidArgument(f"A query has at most {MAX_TEXT} characters, none of them NUL.")
    return draft


@dataclass(frozen=True, kw_only=True)
class HistoryFilter:
    """Which statements of the history; empty means all."""

    statement_ids: tuple[str, ...] = ()
    states: tuple[StatementState, ...] = ()
    warehouse_ids: tuple[str, ...] = ()
    principal_ids: tuple[str, ...] = ()
    submitted_from: datetime | None = None
    submitted_until: datetime | None = None
    seen_by: str | None = None
    """Only what this principal sent, or what ran in one of `seen_in`; None for all."""
    seen_in: tuple[str, ...] = ()
