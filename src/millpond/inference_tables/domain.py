"""The tables' columns, what they are called, and what is known of one inference table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.catalog.domain import ObjectName

ACTIVE, FAILED = "ACTIVE", "FAILED"
LABELS_SUFFIX = ".labels"
"""Of the id of the log in which labels wait."""

PAYLOAD: Sequence[tuple[str, str, str]] = (
    ("client_request_id", "string", "What the client called the request, in its body or in X-Client-Request-Id"),
    ("databricks_request_id", "string", "The id of the request, as its answer says in X-Request-Id"),
    ("date", "date", "Day on which the request came, in UTC"),
    ("timestamp_ms", "bigint", "When the request came, in milliseconds since 1970"),
    ("status_code", "int", "HTTP status of the answer"),
    ("sampling_fraction", "double", "Share of the requests that are here; 1 here"),
    ("execution_time_ms", "bigint", "How long the model had the request"),
    ("request", "string", "Body of the request; in base64 where it is no text"),
    ("response", "string", "Body of the answer"),
    ("request_metadata", "map<string,string>", "endpoint_name, model_name, model_version and the like"),
    ("served_entity_name", "string", "Which served entity answered"),
    ("model_name", "string", "The model"),
    ("model_version", "string", "Its version"),
    ("config_version", "int", "Of the endpoint"),
    ("route", "string", "traffic, or direct where the request named the served entity"),
    ("requester", "string", "Who asked"),
    ("total_ms", "double", "Time from the request's arrival to its answer"),
    ("queue_ms", "double", "Of it: waiting for a process of the model"),
    ("features_ms", "double", "Of it: looking features up"),
    ("model_ms", "double", "Of it: in the model's process"),
    ("router_ms", "double", "Of it: all the rest"),
    ("features", "string", "The rows that the model was given after features were looked up, as JSON"),
    ("request_bytes", "bigint", "Size of the request's body"),
    ("response_bytes", "bigint", "Size of the answer's body"),
    ("inputs", "array<string>", "The rows of the request, each as JSON; null where they cannot be told"),
    ("predictions", "array<string>", "What was predicted for each row, texts as they are, all else as JSON"),
)
"""The first ten are Databricks'. Source: Databricks, "Inference tables for monitoring and debugging models"."""

LABELS: Sequence[tuple[str, str, str]] = (
    ("databricks_request_id", "string", "The request of which it tells"),
    ("row_index", "int", "Which of its rows, from 0"),
    ("label", "string", "What turned out to be true: a text as it is, all else as JSON"),
    ("timestamp_ms", "bigint", "When it was told, in milliseconds since 1970"),
    ("labelled_by", "string", "Who told it"),
)


@dataclass(frozen=True, kw_only=True)
class InferenceTable:
    """Where an endpoint's requests are kept."""

    id: str
    endpoint_id: str
    """Empty once the endpoint is gone."""
    endpoint: str
    payload_id: str
    """Of the table in the catalog."""
    labels_id: str
    name: str
    """What the table was called when it was made."""
    writer: str
    """Who turned it on: with whose rights rows are written."""
    error: str
    """Why nothing can be written; empty while it can."""
    views: str
    """A digest of the views as they were last made."""
    created_at: datetime


def payload_name(catalog: str, schema: str, prefix: str) -> ObjectName:
    """What the table is called."""
    return ObjectName(catalog, schema, f"{prefix}_payload")


def beside(payload: ObjectName, suffix: str) -> ObjectName:
    """What stands beside the table: its labels, its views."""
    return ObjectName(payload.catalog, payload.schema, f"{payload.name}_{suffix}")
