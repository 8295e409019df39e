"""Answers with models and versions, written straight from rows: MLflow's way goes through entities and protobuf.

Requests are parsed by MLflow's own code, and what is not found is left to it. Import only after
`loading.load_mlflow`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from mlflow.protos.model_registry_pb2 import (
    GetModelVersion,
    GetModelVersionByAlias,
    GetRegisteredModel,
    SearchModelVersions,
    SearchRegisteredModels,
)
from mlflow.server import handlers

from millpond.tracking.flask_json import answer
from millpond.tracking.stores.model_records import model_json, version_json

_TEXT, _NEEDED = handlers._assert_string, handlers._assert_required


def _search_model_versions() -> Response:
    records, token = handlers._get_model_registry_store().search_version_records(
        *_asked(SearchModelVersions(), 200_000)
    )
    return _listed("model_versions", [version_json(record) for record in records], token)


def _search_registered_models() -> Response:
    records, token = handlers._get_model_registry_store().search_model_records(*_asked(SearchRegisteredModels(), 1000))
    return _listed("registered_models", [model_json(record) for record in records], token)


def _asked(message: Any, most: int) -> tuple[str, int, Any, str | None]:
    schema = {
        "filter": [_TEXT],
        "max_results": [
            handlers._assert_intlike,
            lambda count: handlers._assert_less_than_or_equal(int(count), most),
        ],
        "order_by": [handlers._assert_array, handlers._assert_item_type_string],
        "page_token": [_TEXT],
    }
    asked = handlers._get_request_message(message, schema=schema)
    return asked.filter, asked.max_results, asked.order_by, asked.page_token or None


def _listed(name: str, items: list[dict[str, Any]], token: str | None) -> Response:
    return answer(({name: items} if items else {}) | ({"next_page_token": token} if token else {}))


def _get_registered_model() -> Response:
    asked = handlers._get_request_message(GetRegisteredModel(), schema={"name": [_TEXT, _NEEDED]})
    record = handlers._get_model_registry_store().model_record(asked.name)
    return answer({"registered_model": model_json(record)}) if record else handlers._get_registered_model()


def _get_model_version() -> Response:
    asked = handlers._get_request_message(
        GetModelVersion(), schema={"name": [_TEXT, _NEEDED], "version": [_TEXT, _NEEDED]}
    )
    record = handlers._get_model_registry_store().version_record(asked.name, asked.version)
    return answer({"model_version": version_json(record)}) if record else handlers._get_model_version()


def _get_model_version_by_alias() -> Response:
    asked = handlers._get_request_message(
        GetModelVersionByAlias(), schema={"name": [_TEXT, _NEEDED], "alias": [_TEXT, _NEEDED]}
    )
    record = handlers._get_model_registry_store().alias_record(asked.name, asked.alias)
    return answer({"model_version": version_json(record)}) if record else handlers._get_model_version_by_alias()


MODEL_HANDLERS: Mapping[str, Callable[..., Any]] = {
    handler.__name__: handlers.catch_mlflow_exception(handler)
    for handler in (
        _search_model_versions,
        _search_registered_models,
        _get_registered_model,
        _get_model_version,
        _get_model_version_by_alias,
    )
}
"""Ours in the place of MLflow's, by name."""
