"""MLflow's own handlers on a Flask application of ours: what is listed here is served, everything else is refused.

MLflow answers 215 routes; its AI gateway, jobs, assistant, MCP registry, demo data and workspaces would act in the
server's name or belong to nobody, so they are not listed. Import only after `loading.load_mlflow`.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import orjson
from flask import Flask, Response, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, INVALID_PARAMETER_VALUE, NOT_FOUND
from mlflow.server import handlers
from werkzeug.exceptions import HTTPException

from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger
from millpond.tracking.databricks_routes import databricks_routes
from millpond.tracking.stores.session import to_mlflow_error
from millpond.tracking.ui_routes import ui_routes
from millpond.tracking.unity_registry_routes import unity_registry_routes
from millpond.tracking.version_uploads import VersionUploads

log = get_logger(__name__)

SERVED_HANDLERS = frozenset("""
    _get_experiment_by_name _create_experiment _search_experiments _get_experiment _delete_experiment
    _restore_experiment _update_experiment _set_experiment_tag _delete_experiment_tag
    _create_run _update_run _delete_run _restore_run _get_run _search_runs
    _log_metric _log_param _log_batch _log_model _log_inputs _log_outputs _set_tag _delete_tag
    _get_metric_history get_metric_history_bulk_interval_handler _list_artifacts
    _create_logged_model _finalize_logged_model _get_logged_model _delete_logged_model _search_logged_models
    _set_logged_model_tags _delete_logged_model_tag _list_logged_model_artifacts _log_logged_model_params
    _start_trace_v3 _get_trace_info_v3 _get_trace _batch_get_traces _batch_get_trace_infos _search_traces_v3
    _set_trace_tag _set_trace_tag_v3 _delete_trace_tag _delete_trace_tag_v3 _delete_traces
    _calculate_trace_filter_correlation _query_trace_metrics _link_traces_to_run _link_prompts_to_trace
    _deprecated_start_trace_v2 _deprecated_end_trace_v2 _deprecated_get_trace_info_v2 _deprecated_search_traces_v2
    _get_assessment _create_assessment _update_assessment _delete_assessment
    _create_registered_model _rename_registered_model _update_registered_model _delete_registered_model
    _get_registered_model _search_registered_models _get_latest_versions _create_model_version
    _update_model_version _transition_stage _delete_model_version _get_model_version _search_model_versions
    _get_model_version_download_uri _set_registered_model_tag _set_model_version_tag
    _delete_registered_model_tag _delete_model_version_tag _set_registered_model_alias
    _delete_registered_model_alias _get_model_version_by_alias
    _graphql _get_server_info
""".split())  # fmt: skip  # noqa: SIM905 - 70 quoted names would be harder to read
"""Names of MLflow's handlers that go through our stores, which know who may do what."""

_MORE_ROUTES: tuple[tuple[str, Callable[..., Any], list[str]], ...] = (
    ("/ajax-api/2.0/mlflow/metrics/get-history-bulk", handlers.get_metric_history_bulk_handler, ["GET"]),
    ("/ajax-api/2.0/mlflow/experiments/search-datasets", handlers._search_datasets_handler, ["POST"]),
    ("/ajax-api/2.0/mlflow/get-trace-artifact", handlers.get_trace_artifact_handler, ["GET"]),
    ("/ajax-api/3.0/mlflow/get-trace-artifact", handlers.get_trace_artifact_handler, ["GET"]),
)


def flask_app(uploads: VersionUploads) -> Flask:
    """The application with the served routes."""
    # whoever watches the store puts webhooks' deliveries into the transaction of what happened
    handlers.deliver_webhook = lambda **_values: None
    app = Flask("millpond.tracking.mlflow", static_folder=None)
    app.register_blueprint(databricks_routes())
    app.register_blueprint(unity_registry_routes(uploads))
    app.register_blueprint(ui_routes())
    for path, handler, methods in served_routes():
        app.add_url_rule(path, f"{handler.__name__} {path} {methods[0]}", handler, methods=methods)
    app.wsgi_app = _QueryAsBody(app.wsgi_app)  # type: ignore[method-assign]  # as Flask documents it
    app.before_request(_refuse_malformed_json)
    app.register_error_handler(Exception, _answer_error)
    return app


class _QueryAsBody:
    """The Databricks SDK deletes with a query string where MLflow's handlers read a JSON body."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Pass the request on, the query of a DELETE without a body as its body."""
        query = parse_qs(environ["QUERY_STRING"])
        if environ["REQUEST_METHOD"] == "DELETE" and query and environ["CONTENT_LENGTH"] == "0":
            body = orjson.dumps({name: values[-1] for name, values in query.items()})
            environ |= {
                "wsgi.input": io.BytesIO(body),
                "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": "application/json",
            }
        return self._app(environ, start_response)


def served_routes() -> Iterator[tuple[str, Callable[..., Any], list[str]]]:
    """Path, handler and methods of each served route."""
    for path, handler, methods in handlers.get_endpoints():
        if handler.__name__ in SERVED_HANDLERS:
            mended = re.sub(r"^/(ajax-)?api/2\.0mlflow", r"/\1api/2.0/mlflow", path)
            yield mended, handler, methods
    yield from _MORE_ROUTES


def _refuse_malformed_json() -> Response | None:
    """MLflow takes a body that is not JSON for an empty one."""
    if request.method in {"GET", "HEAD"} or not request.content_length:
        return None
    try:
        value = orjson.loads(request.get_data(cache=True))
    except orjson.JSONDecodeError as error:
        return error_answer(MlflowException(f"The request body is not JSON: {error}.", INVALID_PARAMETER_VALUE))
    if not isinstance(value, dict | str):  # a string is JSON encoded twice, as old clients do
        return error_answer(MlflowException("The request body must be a JSON object.", INVALID_PARAMETER_VALUE))
    return None


def _answer_error(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _http_error(error)
    return error_answer(mlflow_error(error, request.path))


def mlflow_error(error: Exception, path: str) -> MlflowException:
    """What a request has failed with, as MLflow's client is told."""
    if isinstance(error, MlflowException):
        return error
    if isinstance(error, MillpondError):
        return to_mlflow_error(error)
    if isinstance(error, AssertionError | KeyError | TypeError | ValueError | AttributeError):
        log.warning("MLflow refused a request", path=path, error=repr(error))
        return MlflowException(f"The request is not valid: {error}.", INVALID_PARAMETER_VALUE)
    log.error("MLflow failed on a request", path=path, exc_info=error)
    return MlflowException("The server failed on this request; its log has the details.", INTERNAL_ERROR)


def _http_error(error: HTTPException) -> Response:
    if error.code == 404:
        message = f"Millpond does not serve {request.method} {request.path}."
        return error_answer(MlflowException(message, error_code=NOT_FOUND))
    answer = error_answer(MlflowException(f"{request.method} {request.path}: {error.name}.", error_code=BAD_REQUEST))
    answer.status_code = error.code or 400
    return answer


def error_answer(error: MlflowException) -> Response:
    """The answer that MLflow's client turns into this exception."""
    return Response(error.serialize_as_json(), status=error.get_http_status_code(), mimetype="application/json")
