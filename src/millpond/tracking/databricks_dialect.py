"""The `databricks` tracking address: the same API, with artifacts where a Databricks workspace has them.

MLflow's client takes `mlflow-artifacts:` locations only from an `http` tracking address. Under `databricks` it expects
`dbfs:/databricks/mlflow-tracking/<experiment>/<run>/artifacts` (logged models below `logged_models/`), and moves files
through the Files API at `/WorkspaceInternal/Mlflow/Artifacts/<experiment>/(Runs|LoggedModels)/<id>/...`. Such clients,
which are known by the SDK's user agent, are told the one and served the other.

Source: MLflow 3.17, `store/artifact/databricks_run_artifact_repo.py`, `databricks_logged_model_artifact_repo.py`.
"""

import io
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from millpond.kernel.errors import InvalidArgument

_OURS = re.compile(rb'"mlflow-artifacts:/(\d+)(/models(?=/))?')
_THEIRS = re.compile(r"dbfs:/databricks/mlflow-tracking/(\d+)(/logged_models(?=/))?")
_WORKSPACE_PATH = re.compile(r"/WorkspaceInternal/Mlflow/Artifacts/(\d+)/(Runs|LoggedModels)/([^/]+)(/.*)?", re.DOTALL)

ADDRESSES = tuple(f"/api/2.0/fs/{kind}/WorkspaceInternal/Mlflow/Artifacts/" for kind in ("files", "directories"))
"""What requests of the Files API for artifacts start with."""

_AGENT = "databricks-sdk-py/"


def speaks_databricks(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request comes from the Databricks SDK, through which MLflow talks to a `databricks` address."""
    return any(name == b"user-agent" and _AGENT.encode() in value for name, value in headers)


def to_databricks(body: bytes) -> bytes:
    """A JSON answer with artifact locations as Databricks has them."""
    return _OURS.sub(
        lambda found: b'"dbfs:/databricks/mlflow-tracking/' + found[1] + (b"/logged_models" if found[2] else b""), body
    )


def from_databricks(text: str) -> str:
    """A request with artifact locations as we have them."""
    return _THEIRS.sub(lambda found: f"mlflow-artifacts:/{found[1]}" + ("/models" if found[2] else ""), text)


def artifact_path(workspace_path: str) -> str:
    """The path below our artifact root of a workspace path. Raises InvalidArgument for any other place."""
    found = _WORKSPACE_PATH.fullmatch(workspace_path)
    if found is None:
        raise InvalidArgument(f"'{workspace_path[:200]}' is not a place for artifacts.")
    experiment_id, kind, item_id, rest = found.groups()
    folder = "models/" if kind == "LoggedModels" else ""
    return f"{experiment_id}/{folder}{item_id}{(rest or '').rstrip('/')}"


class DatabricksDialect:
    """A WSGI application around MLflow's handlers that translates locations both ways, and names its workspace."""

    def __init__(self, app: Callable[..., Iterable[bytes]], workspace_id: int) -> None:
        self._app = app
        self._workspace = ("X-Databricks-Org-Id", str(workspace_id))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        body = from_databricks(environ["wsgi.input"].read().decode("utf-8", "surrogateescape"))
        raw = body.encode("utf-8", "surrogateescape")
        query = [(name, from_databricks(value)) for name, value in parse_qsl(environ["QUERY_STRING"], True)]
        translated = {
            **environ,
            "wsgi.input": io.BytesIO(raw),
            "CONTENT_LENGTH": str(len(raw)),
            "QUERY_STRING": urlencode(query),
        }
        started: list[Any] = []
        answer = to_databricks(b"".join(self._app(translated, lambda *arguments: started.extend(arguments[:2]))))
        status, headers = started
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, self._workspace, ("Content-Length", str(len(answer)))])
        return [answer]
