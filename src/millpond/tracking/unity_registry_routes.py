"""The registry as MLflow's client calls it under `databricks-uc`: Unity Catalog's, of three-level models only.

It is MLflow's own registry API at other addresses and with aliases in another shape, so MLflow's handlers answer. Only
versions are made otherwise: the client brings their files (`version_uploads.py`).
Source: MLflow 3.17, `protos/databricks_uc_registry_service.proto`. Import only after `loading.load_mlflow`.
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request
from mlflow.protos.databricks_uc_registry_messages_pb2 import CreateModelVersionRequest
from mlflow.server import handlers
from orjson import loads

from millpond.catalog.credentials import TTL
from millpond.catalog.domain import ObjectName
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.errors import InvalidArgument, NotFound, NotImplementedHere
from millpond.tracking.domain import is_three_level
from millpond.tracking.flask_json import answer, count, json_of, required, token_of
from millpond.tracking.version_uploads import VersionUploads, origin_of

_ONLY_UNITY = "name LIKE '%.%.%'"
"""As much as MLflow's filters can say of names with three levels."""
_NOT_UNITYS = frozenset({"latest_versions", "current_stage", "run_link"})
_DEFAULT_STORAGE = "DEFAULT_STORAGE"

View = Callable[[], Response]


def unity_registry_routes(uploads: VersionUploads) -> Blueprint:
    """The routes, on MLflow's stores."""
    routes = Blueprint("unity", __name__, url_prefix="/api/2.0/mlflow/unity-catalog")

    def add(method: str, path: str, view: View) -> None:
        routes.add_url_rule(path, f"{method} {path}", view, methods=[method])

    for method, path, handler in (
        ("GET", "/registered-models/get", handlers._get_registered_model),
        ("DELETE", "/registered-models/delete", handlers._delete_registered_model),
        ("POST", "/registered-models/alias", handlers._set_registered_model_alias),
        ("DELETE", "/registered-models/alias", handlers._delete_registered_model_alias),
        ("POST", "/registered-models/set-tag", handlers._set_registered_model_tag),
        ("DELETE", "/registered-models/delete-tag", handlers._delete_registered_model_tag),
        ("GET", "/model-versions/get", handlers._get_model_version),
        ("PATCH", "/model-versions/update", handlers._update_model_version),
        ("DELETE", "/model-versions/delete", handlers._delete_model_version),
        ("POST", "/model-versions/set-tag", handlers._set_model_version_tag),
        ("DELETE", "/model-versions/delete-tag", handlers._delete_model_version_tag),
    ):
        add(method, path, _as_unity(handler))
    add("POST", "/registered-models/create", _create_model)
    add("PATCH", "/registered-models/update", _update_model)
    add("GET", "/registered-models/search", _search_models)
    add("GET", "/registered-models/alias", _get_version_by_alias)
    add("GET", "/model-versions/search", _search_versions)
    add("GET", "/model-versions/get-download-uri", _download_uri)
    add("GET", "/registered-models:is-databricks-sdk-models-artifact-repository-enabled", _through_files_api)
    _add_uploads(add, uploads)
    return routes


def _add_uploads(add: Callable[[str, str, View], None], uploads: VersionUploads) -> None:
    def create() -> Response:
        asked = handlers._get_request_message(CreateModelVersionRequest())
        made = uploads.begin(
            current_principal(),
            _model_name(),
            source=asked.source,
            run_id=asked.run_id or None,
            comment=asked.description if asked.HasField("description") else None,
            tags={tag.key: tag.value for tag in asked.tags},
        )
        return _version_answer(made)

    def finalize() -> Response:
        return _version_answer(uploads.finalize(current_principal(), _model_name(), required(_asked(), "version")))

    def credentials() -> Response:
        """None are needed: they would lead past this server, whose Files API has the files."""
        asked = _asked()
        write = asked.get("operation") == "MODEL_VERSION_OPERATION_READ_WRITE"
        uploads.location(current_principal(), _model_name(), required(asked, "version"), write=write)
        until = epoch_ms(utc_now() + TTL)
        return answer({"credentials": {"storage_mode": _DEFAULT_STORAGE, "expiration_time": until}})

    def lineage() -> Response:
        """Notebooks and jobs of Databricks that read a version; there are none here to link it to."""
        uploads.location(current_principal(), _model_name(), required(_asked(), "version"), write=False)
        return answer({})

    add("POST", "/model-versions/create", create)
    add("POST", "/model-versions/finalize", finalize)
    add("POST", "/model-versions/generate-temporary-credentials", credentials)
    add("POST", "/model-versions/emit-lineage", lineage)


def _create_model() -> Response:
    _refuse_deployment_job()
    return _as_unity(handlers._create_registered_model)()


def _update_model() -> Response:
    """Change the description, or the name, as the one call of this API for both."""
    _refuse_deployment_job()
    asked = _asked()
    if "description" in asked or not asked.get("new_name"):
        described = _as_unity(handlers._update_registered_model)()
        if described.status_code != 200 or not asked.get("new_name"):
            return described
    return _as_unity(handlers._rename_registered_model)()


def _search_models() -> Response:
    found = handlers._get_model_registry_store().search_registered_models(
        _ONLY_UNITY, max_results=count(100), page_token=request.args.get("page_token") or None
    )
    models = [_model(json_of(model.to_proto())) for model in found if is_three_level(model.name)]
    return answer({"registered_models": models} | token_of(found))


def _search_versions() -> Response:
    wanted = request.args.get("filter") or ""
    found = handlers._get_model_registry_store().search_model_versions(
        f"{wanted} AND {_ONLY_UNITY}" if wanted else _ONLY_UNITY,
        max_results=count(1000),
        page_token=request.args.get("page_token") or None,
    )
    versions = [_version(json_of(version.to_proto())) for version in found if is_three_level(version.name)]
    return answer({"model_versions": versions} | token_of(found))


def _get_version_by_alias() -> Response:
    name, alias = str(_model_name()), required(request.args, "alias")
    store = handlers._get_model_registry_store()
    number = store.get_registered_model(name).aliases.get(alias)
    if number is None:
        raise NotFound(f"Alias '{alias}' of model '{name}' does not exist.")
    return _version_answer(store.get_model_version(name, number))


def _download_uri() -> Response:
    """Where this client can download from: its name, since the files are reached by it."""
    name, version = str(_model_name()), required(request.args, "version")
    handlers._get_model_registry_store().get_model_version_download_uri(name, version)
    return answer({"artifact_uri": f"models:/{name}/{version}"})


def _through_files_api() -> Response:
    return answer({"is_databricks_sdk_models_artifact_repository_enabled": True})


def _as_unity(handler: View) -> View:
    """MLflow's handler for a model of the catalog, with its answer as Unity Catalog has it."""

    def view() -> Response:
        _model_name()
        answered = handler()
        if answered.status_code != 200:
            return answered
        body = loads(answered.get_data())
        if "registered_model" in body:
            body = {"registered_model": _model(body["registered_model"])}
        if "model_version" in body:
            body = {"model_version": _described(_version(body["model_version"]))}
        return answer(body)

    return view


def _version_answer(version: Any) -> Response:
    return answer({"model_version": _described(_version(json_of(version.to_proto())))})


def _model(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in _NOT_UNITYS}


def _version(body: dict[str, Any]) -> dict[str, Any]:
    aliases = [{"alias": alias, "version": body["version"]} for alias in body.get("aliases") or ()]
    return _model(body) | {"aliases": aliases}


def _described(body: dict[str, Any]) -> dict[str, Any]:
    return body | origin_of(handlers._get_tracking_store(), body.get("source") or "")


def _asked() -> dict[str, Any]:
    body = request.args.to_dict() if request.method == "GET" else loads(request.get_data() or b"{}")
    return body if isinstance(body, dict) else {}


def _model_name() -> ObjectName:
    name = required(_asked(), "name")
    if not is_three_level(name):
        raise InvalidArgument(
            f"'{name[:200]}' is not a name of a model in Unity Catalog; specify all three levels: catalog.schema.model."
        )
    return ObjectName.of_full_name(name)


def _refuse_deployment_job() -> None:
    if _asked().get("deployment_job_id"):
        raise NotImplementedHere("Millpond has no deployment jobs of models; leave deployment_job_id out.")
