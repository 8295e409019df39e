"""What clients read most of runs and models, answered before Flask: the way through protobuf and entities takes longer.

A request is plain when a strict reader takes it, which leaves it one meaning, and what it names is there. All others
are MLflow's to answer, and to refuse. Import only after `loading.load_mlflow`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import parse_qs

import msgspec
from mlflow.entities import ViewType
from orjson import dumps

from millpond.tracking.bridge import WsgiApp
from millpond.tracking.mlflow_routes import mlflow_error
from millpond.tracking.stores.model_records import model_json, version_json
from millpond.tracking.stores.run_records import json_of

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class ModelAsked(msgspec.Struct):
    """Parameters of `registered-models/get`."""

    name: _Text


class VersionAsked(msgspec.Struct):
    """Parameters of `model-versions/get`."""

    name: _Text
    version: _Text


class AliasAsked(msgspec.Struct):
    """Parameters of `registered-models/alias`."""

    name: _Text
    alias: _Text


class VersionsAsked(msgspec.Struct):
    """Parameters of `model-versions/search`."""

    filter: str = ""
    max_results: Annotated[int, msgspec.Meta(ge=1, le=200_000)] = 200_000
    order_by: list[str] = []
    page_token: str = ""


class ModelsAsked(msgspec.Struct):
    """Parameters of `registered-models/search`."""

    filter: str = ""
    max_results: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    order_by: list[str] = []
    page_token: str = ""


class RunAsked(msgspec.Struct):
    """Parameters of `runs/get`."""

    run_id: _Text


class RunsAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `runs/search`."""

    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"] = "ACTIVE_ONLY"
    max_results: Annotated[int, msgspec.Meta(ge=1, le=50_000)] = 1000
    order_by: list[str] = []
    page_token: str | None = None


class _Read(NamedTuple):
    asked: type[msgspec.Struct]
    answer: Callable[[Any], dict[str, Any] | None]
    """JSON; None for what is not there."""


class PlainReads:
    """A WSGI application before MLflow's."""

    def __init__(self, app: WsgiApp, stores: "Stores") -> None:
        self._app = app
        self._reads = {
            (method, f"/{prefix}/2.0/mlflow/{path}"): read
            for (method, path), read in _reads(stores).items()
            for prefix in ("api", "ajax-api")
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, or let MLflow."""
        read = self._reads.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        asked = read and _asked(read.asked, environ)
        if not read or not asked:
            return self._app(environ, start_response)
        status, body = "200 OK", None
        try:
            found = read.answer(asked)
            body = None if found is None else dumps(found)
        except Exception as raised:  # the boundary of a request
            error = mlflow_error(raised, environ["PATH_INFO"])
            status, body = f"{error.get_http_status_code()} Error", error.serialize_as_json().encode()
        if body is None:
            return self._app(environ, start_response)
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def _asked(kind: type[msgspec.Struct], environ: Mapping[str, Any]) -> msgspec.Struct | None:
    """What a request asks for; None when it is not plain."""
    try:
        if environ["REQUEST_METHOD"] == "POST":
            is_json = environ.get("CONTENT_TYPE", "").split(";")[0] == "application/json"
            return msgspec.json.decode(environ["wsgi.input"].getvalue(), type=kind) if is_json else None
        if not environ["QUERY_STRING"] and environ["CONTENT_LENGTH"] != "0":
            return None  # MLflow looks for parameters in the body then
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True, errors="strict")
        values = {name: given if name == "order_by" else given[0] for name, given in query.items()}
        is_plain = re.fullmatch(r"[0-9]+", str(values.get("max_results", "1")))  # not 1e2, which msgspec takes
        return msgspec.convert(values, kind, strict=False) if is_plain else None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None


def _reads(stores: "Stores") -> dict[tuple[str, str], _Read]:
    runs, registry = stores.tracking, stores.registry

    def model(asked: ModelAsked) -> dict[str, Any] | None:
        record = registry.model_record(asked.name)
        return {"registered_model": model_json(record)} if record else None

    def version(asked: VersionAsked) -> dict[str, Any] | None:
        record = registry.version_record(asked.name, asked.version)
        return {"model_version": version_json(record)} if record else None

    def aliased(asked: AliasAsked) -> dict[str, Any] | None:
        record = registry.alias_record(asked.name, asked.alias)
        return {"model_version": version_json(record)} if record else None

    def versions(asked: VersionsAsked) -> dict[str, Any]:
        found, token = registry.search_version_records(
            asked.filter, asked.max_results, asked.order_by, asked.page_token or None
        )
        return _listed("model_versions", [version_json(record) for record in found], token)

    def models(asked: ModelsAsked) -> dict[str, Any]:
        found, token = registry.search_model_records(
            asked.filter, asked.max_results, asked.order_by, asked.page_token or None
        )
        return _listed("registered_models", [model_json(record) for record in found], token)

    def run(asked: RunAsked) -> dict[str, Any]:
        return {"run": json_of(runs.run_record(asked.run_id))}

    def search(asked: RunsAsked) -> dict[str, Any]:
        found, token = runs.search_records(
            asked.experiment_ids, asked.filter, ViewType.from_string(asked.run_view_type.lower()), asked.max_results,
            asked.order_by, asked.page_token or None,
        )  # fmt: skip
        return _listed("runs", [json_of(record) for record in found], token.decode() if token else None)

    return {
        ("GET", "registered-models/get"): _Read(ModelAsked, model),
        ("GET", "model-versions/get"): _Read(VersionAsked, version),
        ("GET", "registered-models/alias"): _Read(AliasAsked, aliased),
        ("GET", "model-versions/search"): _Read(VersionsAsked, versions),
        ("GET", "registered-models/search"): _Read(ModelsAsked, models),
        ("GET", "runs/get"): _Read(RunAsked, run),
        ("POST", "runs/search"): _Read(RunsAsked, search),
    }


def _listed(name: str, items: Sequence[dict[str, Any]], token: str | None) -> dict[str, Any]:
    return ({name: items} if items else {}) | ({"next_page_token": token} if token else {})
