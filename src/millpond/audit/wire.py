"""Entries as Databricks shows them: the columns of `system.access.audit`.

Source: Databricks documentation, "Audit log system table reference". `identity_metadata.run_by` is whoever called,
`run_as` the one as whom it was done. `response.error_message` holds the error's code: its text may quote rows.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from millpond.audit.domain import Entry, Link

VERSION = "2.0"
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("account_id", "string", "Id of the account; this installation is one."),
    ("workspace_id", "bigint", "Id of the workspace."),
    ("version", "string", "Version of this schema."),
    ("event_time", "timestamp", "When it happened."),
    ("event_date", "date", "The day on which it happened, in UTC."),
    ("source_ip_address", "string", "Where the request came from."),
    ("user_agent", "string", "The client."),
    ("session_id", "string", "The Spark session."),
    ("user_identity", "struct<email:string,subject_name:string>", "Who did it."),
    ("service_name", "string", "The service, in Databricks' terms where it has one."),
    ("action_name", "string", "The action, in Databricks' terms where it has one."),
    ("request_id", "string", "Id of the request; equal for all events of one request."),
    ("request_params", "map<string,string>", "What was asked, without values of rows, literals or secrets."),
    ("response", "struct<status_code:int,error_message:string,result:string>", "What came of it."),
    ("audit_level", "string", "Account or workspace."),
    ("event_id", "string", "Id of the event."),
    ("identity_metadata", "struct<run_by:string,run_as:string>", "Who called, and as whom it was done."),
)
"""Name, type and meaning of each column."""
PARTITION = "event_date"
_ACCOUNT_SERVICES = frozenset({"accounts", "unityCatalog", "audit"})


def row_of(entry: Entry, workspace_id: int) -> dict[str, Any]:
    """The row of an entry."""
    params = dict(entry.params)
    for key, value in (("object_kind", entry.kind), ("object_id", entry.object_id), ("object_name", entry.name)):
        if value:
            params[key] = value
    return {
        "account_id": str(workspace_id),
        "workspace_id": workspace_id,
        "version": VERSION,
        "event_time": entry.time,
        "event_date": entry.time.date(),
        "source_ip_address": entry.address or None,
        "user_agent": entry.agent or None,
        "session_id": entry.session or None,
        "user_identity": {"email": entry.actor or None, "subject_name": entry.actor_id or None},
        "service_name": entry.service,
        "action_name": entry.action,
        "request_id": entry.request or None,
        "request_params": params,
        "response": {"status_code": entry.status, "error_message": entry.error or None, "result": None},
        "audit_level": "ACCOUNT_LEVEL" if entry.service in _ACCOUNT_SERVICES else "WORKSPACE_LEVEL",
        "event_id": entry.id,
        "identity_metadata": {"run_by": entry.caller or entry.actor or None, "run_as": entry.actor or None},
    }


def json_of(link: Link, workspace_id: int) -> dict[str, Any]:
    """A link for the REST API: the row, and its place in the chain."""
    chain = {"sequence": link.sequence, "previous": link.previous, "hash": link.hash}
    return {key: _plain(value) for key, value in row_of(link.entry, workspace_id).items()} | {"chain": chain}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else value
