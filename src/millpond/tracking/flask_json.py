"""JSON of routes that stand beside MLflow's own on the Flask application."""

from typing import Any

from flask import Response, request
from mlflow.utils.proto_json_utils import message_to_json
from orjson import dumps, loads

from millpond.kernel.errors import InvalidArgument


def required(values: Any, name: str) -> str:
    """A text of a query or a JSON body. Raises InvalidArgument without it."""
    value = values.get(name) if isinstance(values, dict) or hasattr(values, "getlist") else None
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"Missing value for required parameter '{name}'.")
    return value


def count(default: int) -> int:
    """The query's max_results, at most 1000. Raises InvalidArgument."""
    raw = request.args.get("max_results") or str(default)
    if not raw.isdigit():
        raise InvalidArgument(f"max_results '{raw[:20]}' is not a number.")
    return min(int(raw) or default, 1000)


def json_of(message: Any) -> dict[str, Any]:
    """A protobuf message as MLflow writes it."""
    return dict(loads(message_to_json(message)))


def token_of(page: Any) -> dict[str, str]:
    """The token of MLflow's page, where more follows; in memory some of its tokens are bytes."""
    token = page.token.decode() if isinstance(page.token, bytes) else page.token
    return {"next_page_token": token} if token else {}


def answer(body: dict[str, Any]) -> Response:
    """A JSON answer."""
    return Response(dumps(body), mimetype="application/json")
