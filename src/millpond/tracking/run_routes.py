"""Answers with runs, written straight from rows: MLflow's way through entities and protobuf takes most of the time.

Requests are parsed by MLflow's own code. Import only after `loading.load_mlflow`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from mlflow.entities import ViewType
from mlflow.protos.service_pb2 import GetRun, SearchRuns
from mlflow.server import handlers

from millpond.tracking.flask_json import answer
from millpond.tracking.stores.run_records import json_of

_MOST_RUNS = 50_000


@handlers.catch_mlflow_exception  # type: ignore[untyped-decorator]  # MLflow ships no types
def _get_run() -> Response:
    schema = {"run_id": [handlers._assert_required, handlers._assert_string]}
    asked = handlers._get_request_message(GetRun(), schema=schema)
    record = handlers._get_tracking_store().run_record(asked.run_id or asked.run_uuid)
    return answer({"run": json_of(record)})


@handlers.catch_mlflow_exception  # type: ignore[untyped-decorator]  # MLflow ships no types
def _search_runs() -> Response:
    schema = {
        "experiment_ids": [handlers._assert_array],
        "filter": [handlers._assert_string],
        "max_results": [
            handlers._assert_intlike,
            lambda count: handlers._assert_less_than_or_equal(int(count), _MOST_RUNS),
        ],
        "order_by": [handlers._assert_array, handlers._assert_item_type_string],
    }
    asked = handlers._get_request_message(SearchRuns(), schema=schema)
    view = ViewType.from_proto(asked.run_view_type) if asked.HasField("run_view_type") else ViewType.ACTIVE_ONLY
    records, token = handlers._get_tracking_store().search_records(
        list(asked.experiment_ids), asked.filter, view, asked.max_results, asked.order_by, asked.page_token or None
    )
    body: dict[str, Any] = {"runs": [json_of(record) for record in records]} if records else {}
    return answer(body | ({"next_page_token": token.decode()} if token else {}))


RUN_HANDLERS: Mapping[str, Callable[..., Any]] = {"_get_run": _get_run, "_search_runs": _search_runs}
"""Ours in the place of MLflow's, by name."""
