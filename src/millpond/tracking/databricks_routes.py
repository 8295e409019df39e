"""Calls of Databricks' workspace model registry that MLflow's own API lacks, as the Databricks SDK makes them.

Source: the Databricks SDK, `service/ml.py`. Import only after `loading.load_mlflow`.
"""

import posixpath
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from mlflow.entities import ViewType
from mlflow.server import handlers
from orjson import loads

from millpond.kernel.errors import InvalidArgument
from millpond.tracking.domain import check_relative_path
from millpond.tracking.flask_json import answer, count, json_of, required, token_of
from millpond.tracking.model_files import artifact_path_of
from millpond.tracking.watch import Because, moving


def databricks_routes() -> Blueprint:
    """The routes, on MLflow's stores."""
    routes = Blueprint("databricks", __name__, url_prefix="/api/2.0/mlflow")
    routes.add_url_rule("/databricks/registered-models/get", view_func=_get_model, methods=["GET"])
    routes.add_url_rule("/databricks/model-versions/transition-stage", view_func=_transition_stage, methods=["POST"])
    routes.add_url_rule("/model-versions/list-artifacts", view_func=_list_version_artifacts, methods=["GET"])
    routes.add_url_rule("/model-versions/get-signed-download-uri", view_func=_signed_download, methods=["GET"])
    routes.add_url_rule("/registered-models/list", view_func=_list_models, methods=["GET"])
    routes.add_url_rule("/experiments/list", view_func=_list_experiments, methods=["GET"])
    return routes


def _get_model() -> Response:
    store = handlers._get_model_registry_store()
    model = store.get_registered_model(required(request.args, "name"))
    body = json_of(model.to_proto()) | {"id": model.name, "permission_level": store.permission_level(model.name)}
    return answer({"registered_model_databricks": body})


def _transition_stage() -> Response:
    body = loads(request.get_data())
    store = handlers._get_model_registry_store()
    with moving(Because(reason=str(body.get("comment") or ""))):
        version = store.transition_model_version_stage(
            name=required(body, "name"),
            version=required(body, "version"),
            stage=required(body, "stage"),
            archive_existing_versions=bool(body.get("archive_existing_versions", False)),
        )
    told = {
        "permission_level": store.permission_level(version.name),
        "open_requests": store.open_requests(version.name, str(version.version)),
    }
    return answer({"model_version_databricks": json_of(version.to_proto()) | told})


def _list_version_artifacts() -> Response:
    name, version = required(request.args, "name"), required(request.args, "version")
    path = request.args.get("path") or ""
    uri = handlers._get_model_registry_store().get_model_version_download_uri(name, version)
    root = artifact_path_of(uri, handlers._get_tracking_store())
    place = f"{root}/{check_relative_path(path)}" if path else root
    found = handlers._get_artifact_repo_mlflow_artifacts().list_artifacts(place)
    return answer({"files": [_file(info, path) for info in found]})


def _file(info: Any, directory: str) -> dict[str, Any]:
    path = posixpath.join(directory, posixpath.basename(info.path.rstrip("/")))
    return {"path": path, "is_dir": info.is_dir} | ({} if info.is_dir else {"file_size": info.file_size})


def _signed_download() -> Response:
    """Where a version's file is fetched; the caller's own credential opens it, and only to the caller is it told."""
    query = {name: required(request.args, name) for name in ("name", "version", "path")}
    header = {"name": "Authorization", "value": request.headers.get("Authorization", "")}
    address = f"{request.host_url}model-versions/get-artifact?{urlencode(query)}"
    return answer({"signed_uri": address, "headers": [header]})


def _list_models() -> Response:
    found = handlers._get_model_registry_store().search_registered_models(
        max_results=count(100), page_token=request.args.get("page_token") or None
    )
    return answer({"registered_models": [json_of(model.to_proto()) for model in found]} | token_of(found))


def _list_experiments() -> Response:
    views = {"ACTIVE_ONLY": ViewType.ACTIVE_ONLY, "DELETED_ONLY": ViewType.DELETED_ONLY, "ALL": ViewType.ALL}
    view = request.args.get("view_type", "ACTIVE_ONLY")
    if view not in views:
        raise InvalidArgument(f"view_type '{view}' is not one of {', '.join(views)}.")
    found = handlers._get_tracking_store().search_experiments(
        view_type=views[view], max_results=count(1000), page_token=request.args.get("page_token") or None
    )
    return answer({"experiments": [json_of(experiment.to_proto()) for experiment in found]} | token_of(found))
