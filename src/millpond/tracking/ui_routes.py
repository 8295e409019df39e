"""What MLflow's pages ask of parts of MLflow that we do not serve: answered as by a server where they are empty.

Without these answers the pages work, but each asks in vain and says so in the browser's console.
"""

from flask import Blueprint, Response, jsonify


def ui_routes() -> Blueprint:
    """The routes of the pages."""
    routes = Blueprint("ui", __name__, url_prefix="/ajax-api")
    routes.add_url_rule("/2.0/mlflow/users/current", view_func=_no_mlflow_account, methods=["GET"])
    routes.add_url_rule("/2.0/mlflow/gateway-proxy", view_func=_no_endpoints, methods=["GET"])
    routes.add_url_rule("/3.0/mlflow/assistant/config", view_func=_no_assistant, methods=["GET"])
    routes.add_url_rule("/3.0/mlflow/assistant/providers", view_func=_no_providers, methods=["GET"])
    routes.add_url_rule("/3.0/mlflow/datasets/search", view_func=_no_datasets, methods=["POST"])
    return routes


def _no_mlflow_account() -> Response:
    """People sign in to Millpond; MLflow has no accounts of its own here."""
    return jsonify({"user": None, "is_basic_auth": False})


def _no_endpoints() -> Response:
    return jsonify({"endpoints": []})


def _no_assistant() -> Response:
    return jsonify({"providers": {}, "projects": {}})


def _no_providers() -> Response:
    return jsonify({"providers": []})


def _no_datasets() -> Response:
    """Evaluation datasets are not served; they would belong to nobody."""
    return jsonify({"datasets": []})
