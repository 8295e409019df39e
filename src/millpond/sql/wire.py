"""The JSON of the Databricks SQL APIs.

Source: databricks-sdk 0.156, `databricks/sdk/service/sql.py`; databricks-sql-connector 4.9,
`databricks/sql/backend/sea/models`. Fields that we do not know are passed over.
"""

import re
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from millpond.kernel.clock import epoch_ms, rfc3339
from millpond.kernel.errors import InvalidArgument
from millpond.sql.domain import (
    MAX_TAGS,
    QUERY_STATUS,
    Disposition,
    Format,
    Manifest,
    Parameter,
    QueryDraft,
    SavedQuery,
    Statement,
    StatementRequest,
    StatementState,
    Warehouse,
    WarehouseSpec,
    WarehouseState,
)
from millpond.sql.results import chunk_info

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""What PostgreSQL can keep."""


def _has_nul(value: Any) -> bool:
    """Whether a text somewhere in a JSON value holds NUL."""
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


# Warehouses

_KEPT_DETAILS = (
    "channel", "enable_photon", "enable_serverless_compute", "instance_profile_arn", "min_num_clusters",
    "spot_instance_policy", "tags", "warehouse_type",
)  # fmt: skip
_DEFAULT_DETAILS = {
    "channel": {"name": "CHANNEL_NAME_CURRENT"},
    "enable_photon": False,
    "enable_serverless_compute": False,
    "min_num_clusters": 1,
    "spot_instance_policy": "POLICY_UNSPECIFIED",
    "tags": {"custom_tags": []},
    "warehouse_type": "PRO",
}
_MAX_DETAILS_BYTES = 64 << 10


class WarehouseInput(BaseModel):
    """The body of create and edit; None leaves as it is."""

    name: str | None = None
    cluster_size: str | None = None
    max_num_clusters: int | None = None
    min_num_clusters: int | None = None
    auto_stop_mins: int | None = None
    statement_timeout: int | None = None
    channel: dict[str, Any] | None = None
    enable_photon: bool | None = None
    enable_serverless_compute: bool | None = None
    instance_profile_arn: Text | None = None
    spot_instance_policy: Text | None = None
    tags: dict[str, Any] | None = None
    warehouse_type: Text | None = None

    def spec(self) -> WarehouseSpec:
        """The specification of a new warehouse. Raises InvalidArgument without a name."""
        if self.name is None:
            raise InvalidArgument("name is missing.")
        return self.change(WarehouseSpec(name=self.name))

    def change(self, spec: WarehouseSpec) -> WarehouseSpec:
        """A specification with what is given here."""
        given = {name: getattr(self, name) for name in _KEPT_DETAILS if getattr(self, name) is not None}
        if len(str(given)) > _MAX_DETAILS_BYTES or _has_nul(given):
            raise InvalidArgument("tags and channel are too large, or hold NUL.")
        values: dict[str, Any] = {
            "name": self.name,
            "cluster_size": self.cluster_size,
            "max_clusters": self.max_num_clusters,
            "auto_stop_mins": self.auto_stop_mins,
            "statement_timeout_s": self.statement_timeout,
        }
        changed = {name: value for name, value in values.items() if value is not None}
        return replace(spec, **changed, details={**spec.details, **given})


def warehouse_json(warehouse: Warehouse, sessions: int, base_url: str) -> dict[str, Any]:
    """EndpointInfo."""
    address = urlsplit(base_url)
    path = f"/sql/1.0/warehouses/{warehouse.id}"
    port = address.port or (443 if address.scheme == "https" else 80)
    running = warehouse.state is WarehouseState.RUNNING
    spec = warehouse.spec
    return _DEFAULT_DETAILS | dict(spec.details) | {
        "id": warehouse.id,
        "name": spec.name,
        "cluster_size": spec.cluster_size,
        "max_num_clusters": spec.max_clusters,
        "auto_stop_mins": spec.auto_stop_mins,
        "statement_timeout": spec.statement_timeout_s,
        "creator_name": warehouse.creator,
        "state": warehouse.state.value,
        "num_clusters": int(running),
        "num_active_sessions": sessions,
        "health": {"status": "HEALTHY"} if running else {},
        "jdbc_url": f"jdbc:databricks://{address.hostname}:{port}/default;httpPath={path}",
        "odbc_params": {"hostname": address.hostname, "path": path, "port": port, "protocol": address.scheme},
    }  # fmt: skip


def data_source_json(warehouse: Warehouse) -> dict[str, Any]:
    """DataSource: a warehouse as older clients see it."""
    return {
        "id": warehouse.id,
        "name": warehouse.spec.name,
        "warehouse_id": warehouse.id,
        "type": "databricks_internal",
        "syntax": "sql",
        "paused": 0,
        "view_only": False,
        "supports_auto_limit": True,
    }


CONFIG = {
    "security_policy": "NONE",
    "enable_serverless_compute": False,
    "data_access_config": [],
    "sql_configuration_parameters": {"configuration_pairs": []},
    "enabled_warehouse_types": [
        {"warehouse_type": "PRO", "enabled": True}, {"warehouse_type": "CLASSIC", "enabled": True},
    ],
}  # fmt: skip
"""GetWorkspaceWarehouseConfigResponse: what is true of this server; nothing of it can be changed."""


# Statements


class ParameterInput(BaseModel):
    """StatementParameterListItem."""

    name: str | None = None
    ordinal: int | None = None
    value: str | None = None
    type: str | None = None


class TagInput(BaseModel):
    """QueryTag."""

    key: Text
    value: Text | None = None


class StatementInput(BaseModel):
    """ExecuteStatementRequest."""

    statement: str
    warehouse_id: str
    session_id: str | None = None
    catalog: str | None = None
    schema_: str | None = Field(default=None, alias="schema")
    parameters: list[ParameterInput] | None = None
    row_limit: int | None = None
    byte_limit: int | None = None
    disposition: Disposition = Disposition.INLINE
    format: Format = Format.JSON_ARRAY
    query_tags: list[TagInput] | None = None
    wait_timeout: str = "10s"
    on_wait_timeout: str = Field(default="CONTINUE", pattern="^(CONTINUE|CANCEL)$")

    @property
    def wait_s(self) -> int:
        """Seconds to wait for the end. Raises InvalidArgument."""
        found = re.fullmatch(r"(\d{1,3})s", self.wait_timeout)
        seconds = int(found[1]) if found else -1
        if seconds != 0 and not 5 <= seconds <= 50:
            raise InvalidArgument(f"wait_timeout is '{self.wait_timeout[:40]}'; give 0s, or 5s to 50s.")
        return seconds

    def request(self, client: str) -> StatementRequest:
        """What the service is asked to run."""
        parameters = [
            Parameter(name=one.name, ordinal=one.ordinal, value=one.value, type=one.type or "STRING")
            for one in self.parameters or []
        ]
        return StatementRequest(
            text=self.statement,
            warehouse_id=self.warehouse_id,
            session_id=self.session_id or None,
            catalog=self.catalog or None,
            schema=self.schema_ or None,
            parameters=tuple(parameters),
            row_limit=self.row_limit,
            byte_limit=self.byte_limit,
            disposition=self.disposition,
            format=self.format,
            tags={tag.key: tag.value for tag in (self.query_tags or [])[:MAX_TAGS]},
            client=client.replace("\0", ""),
        )


class SessionInput(BaseModel):
    """What databricks-sql-connector sends to open a session."""

    warehouse_id: str
    catalog: str | None = None
    schema_: str | None = Field(default=None, alias="schema")
    session_confs: dict[str, str] = {}


def status_json(statement: Statement) -> dict[str, Any]:
    """StatementStatus."""
    status: dict[str, Any] = {"state": statement.state.value}
    if statement.failure is not None:
        status["error"] = {"error_code": statement.failure.code, "message": statement.failure.message}
        if statement.failure.sql_state:
            status["sql_state"] = statement.failure.sql_state
    return status


def manifest_json(manifest: Manifest, form: Format) -> dict[str, Any]:
    """ResultManifest."""
    columns = []
    for position, column in enumerate(manifest.columns):
        shown: dict[str, Any] = {
            "name": column.name, "position": position, "type_name": column.type_name, "type_text": column.type_text,
        }  # fmt: skip
        if column.precision is not None:
            shown |= {"type_precision": column.precision, "type_scale": column.scale}
        if column.interval is not None:
            shown["type_interval_type"] = column.interval
        columns.append(shown)
    return {
        "format": form.value,
        "schema": {"column_count": len(columns), "columns": columns},
        "total_chunk_count": len(manifest.chunks),
        "chunks": list(chunk_info(manifest)),
        "total_row_count": manifest.rows,
        "total_byte_count": manifest.size_bytes,
        "truncated": manifest.truncated,
    }


def chunk_path(statement_id: str, index: int) -> str:
    """Where a chunk is described."""
    return f"/api/2.0/sql/statements/{statement_id}/result/chunks/{index}"


def chunk_json(statement: Statement, index: int) -> dict[str, Any]:
    """A chunk without its rows: where they stand, and which chunk is next."""
    manifest = statement.manifest or Manifest()
    found = next((info for info in chunk_info(manifest) if info["chunk_index"] == index), None)
    if found is None:
        return {}
    if index + 1 < len(manifest.chunks):
        following = {"next_chunk_index": index + 1, "next_chunk_internal_link": chunk_path(statement.id, index + 1)}
        return found | following
    return found


# Saved queries

_DRAFT_FIELDS = {
    "display_name": "name", "query_text": "text", "description": "description", "catalog": "catalog",
    "schema": "schema", "warehouse_id": "warehouse_id", "tags": "tags", "parameters": "parameters",
}  # fmt: skip
_DETAILS = ("parent_path", "run_as_mode", "apply_auto_limit")
_UPDATED_ALONE = "owner_user_name"


class QueryInput(BaseModel):
    """CreateQueryRequestQuery and UpdateQueryRequestQuery."""

    display_name: Text | None = None
    query_text: Text | None = None
    description: Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")] | None = None
    catalog: Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")] | None = None
    schema_: Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")] | None = Field(default=None, alias="schema")
    warehouse_id: Annotated[str, Field(max_length=36, pattern=r"^[^\x00]*$")] | None = None
    tags: list[Text] | None = Field(default=None, max_length=100)
    parameters: list[dict[str, Any]] | None = Field(default=None, max_length=100)
    parent_path: Text | None = None
    run_as_mode: str | None = Field(default=None, pattern="^(OWNER|VIEWER)$")
    apply_auto_limit: bool | None = None
    owner_user_name: str | None = None

    def draft(self) -> QueryDraft:
        """A new query. Raises InvalidArgument."""
        return self.change(QueryDraft(name=self.display_name or "New query"), "*")

    def change(self, draft: QueryDraft, mask: str) -> QueryDraft:
        """The query with the fields that the mask names. Raises InvalidArgument for one that is none."""
        names = set(mask.split(",")) if mask != "*" else {*_DRAFT_FIELDS, *_DETAILS} - self._absent()
        unknown = names - {*_DRAFT_FIELDS, *_DETAILS, _UPDATED_ALONE}
        if unknown:
            raise InvalidArgument(f"update_mask names '{', '.join(sorted(unknown))[:200]}', which no query has.")
        values = {_DRAFT_FIELDS[name]: self._value(name) for name in names if name in _DRAFT_FIELDS}
        details = {name: getattr(self, name) for name in names if name in _DETAILS}
        if _has_nul(values):
            raise InvalidArgument("A query cannot hold NUL.")
        return replace(draft, **values, details={**draft.details, **details})

    def owner(self, mask: str) -> str | None:
        """Who shall own the query, where the mask says so."""
        return self.owner_user_name if _UPDATED_ALONE in mask.split(",") else None

    def _absent(self) -> set[str]:
        return {name for name in (*_DRAFT_FIELDS, *_DETAILS) if self._value(name) is None}

    def _value(self, name: str) -> Any:
        value = getattr(self, "schema_" if name == "schema" else name)
        if name in {"tags", "parameters"}:
            return tuple(value or ())
        return (value or "") if name in {"display_name", "query_text", "description"} else value


class QueryBody(BaseModel):
    """The body of create and update."""

    query: QueryInput
    update_mask: str = "*"


def query_json(query: SavedQuery) -> dict[str, Any]:
    """Query."""
    draft = query.draft
    return {
        "id": query.id,
        "display_name": draft.name,
        "query_text": draft.text,
        "description": draft.description,
        "owner_user_name": query.owner,
        "last_modifier_user_name": query.modified_by,
        "lifecycle_state": "TRASHED" if query.trashed else "ACTIVE",
        "create_time": rfc3339(query.created_at),
        "update_time": rfc3339(query.updated_at),
        "tags": list(draft.tags),
        "parameters": list(draft.parameters),
        **{
            name: value
            for name, value in (
                ("catalog", draft.catalog), ("schema", draft.schema), ("warehouse_id", draft.warehouse_id),
                *draft.details.items(),
            )
            if value is not None
        },
    }  # fmt: skip


# History

_ALSO_RUNNING = frozenset({"STARTED", "COMPILING", "COMPILED"})


def states_of(status: str) -> list[StatementState]:
    """The states that a QueryStatus means. Raises InvalidArgument."""
    wanted = "RUNNING" if status in _ALSO_RUNNING else status
    found = [state for state, name in QUERY_STATUS.items() if name == wanted]
    if not found:
        known = ", ".join(QUERY_STATUS.values())
        raise InvalidArgument(f"filter_by.statuses: '{status[:40]}' is unknown; use {known}.")
    return found


def history_json(statement: Statement, *, metrics: bool) -> dict[str, Any]:
    """QueryInfo."""
    ended = epoch_ms(statement.ended_at) if statement.ended_at else None
    began = epoch_ms(statement.submitted_at)
    manifest = statement.manifest or Manifest()
    found: dict[str, Any] = {
        "query_id": statement.id,
        "query_text": statement.text,
        "statement_type": statement.kind,
        "status": statement.status,
        "is_final": statement.state.is_final,
        "user_id": int(statement.principal_id),
        "user_name": statement.principal_name,
        "executed_as_user_id": int(statement.principal_id),
        "executed_as_user_name": statement.principal_name,
        "client_application": statement.client,
        "query_start_time_ms": began,
        "rows_produced": manifest.rows,
        "query_tags": [{"key": key, "value": value} for key, value in statement.tags.items()],
    }
    if statement.warehouse_id:  # else it came through Spark Connect
        found |= {"warehouse_id": statement.warehouse_id, "endpoint_id": statement.warehouse_id}
    if statement.session_id:
        found["session_id"] = statement.session_id
    if ended is not None:
        found |= {"query_end_time_ms": ended, "execution_end_time_ms": ended, "duration": ended - began}
    if statement.failure is not None:
        found["error_message"] = statement.failure.message
    if metrics and ended is not None:
        started = epoch_ms(statement.started_at) if statement.started_at else ended
        found["metrics"] = {
            "total_time_ms": ended - began,
            "execution_time_ms": ended - started,
            "rows_produced_count": manifest.rows,
            **({} if statement.spent_ms is None else {"task_total_time_ms": statement.spent_ms}),
            "network_sent_bytes": manifest.size_bytes,
        }
    return found
