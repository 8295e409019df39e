"""The API as the engine calls it, on a user's machine or beside the server."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from millpond.kernel.errors import FailedPrecondition, MillpondError, NotFound, Unavailable

_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_PAGE = 25_000
_RUNS = 1000
_READY_PAUSE_S = 0.2


class Server:
    """JSON calls and files, with MLflow's paging followed to the end."""

    def __init__(self, client: httpx.Client) -> None:
        """The client has the server's address and the credentials."""
        self._client = client

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        """The JSON of a GET. Raises MillpondError with what the server said."""
        found: dict[str, Any] = self._call("GET", path, params=query).json()
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a POST. Raises MillpondError with what the server said."""
        found: dict[str, Any] = self._call("POST", path, json=body).json()
        return found

    def download(self, path: str, target: Path, /, **query: Any) -> None:
        """A GET into a file. Raises MillpondError with what the server said."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._client.stream("GET", path, params=query) as answer, target.open("wb") as stream:
            if answer.is_error:
                answer.read()
                raise _error_of(answer)
            for chunk in answer.iter_bytes():
                stream.write(chunk)

    def _call(self, method: str, path: str, **values: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **values)
        except httpx.HTTPError as error:
            raise Unavailable(f"The server does not answer: {error}.") from error
        if answer.is_error:
            raise _error_of(answer)
        return answer

    def wait_ready(self, timeout_s: float) -> None:
        """Until every part of the server answers. Raises Unavailable after the time."""
        deadline = time.monotonic() + timeout_s
        while (reason := self._unready()) is not None:
            if time.monotonic() > deadline:
                raise Unavailable(f"The server is not ready after {timeout_s:g} s: {reason}")
            time.sleep(_READY_PAUSE_S)

    def _unready(self) -> str | None:
        try:
            answer = self._client.get("/health/ready")
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        return None if answer.is_success else answer.text[:500]

    # -- MLflow -------------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as MLflow's API has it."""
        found: dict[str, Any] = self.get("/api/2.0/mlflow/runs/get", run_id=run_id)["run"]
        return found

    def runs_tagged(self, experiment_id: str, key: str, pattern: str) -> list[dict[str, Any]]:
        """Runs of an experiment whose tag is LIKE a pattern, in the order in which they began."""
        asked = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{key}` LIKE '{pattern}'",
            "max_results": _RUNS,
            "order_by": ["attributes.start_time ASC"],
        }
        found: list[dict[str, Any]] = self.post("/api/2.0/mlflow/runs/search", asked).get("runs", [])
        return found

    def metric_history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Steps and values of a metric, in the order in which they were logged."""
        points: list[tuple[int, float]] = []
        query: dict[str, Any] = {"run_id": run_id, "metric_key": key, "max_results": _PAGE}
        while True:
            answer = self.get("/api/2.0/mlflow/metrics/get-history", **query)
            points += [(int(each.get("step", 0)), float(each["value"])) for each in answer.get("metrics", ())]
            if not answer.get("next_page_token"):
                return points
            query["page_token"] = answer["next_page_token"]

    def model_location(self, model_id: str) -> tuple[str, str]:
        """Name and artifact location of a logged model."""
        info = self.get(f"/api/2.0/mlflow/logged-models/{model_id}")["model"]["info"]
        return str(info["name"]), str(info["artifact_uri"])

    def files(self, uri: str) -> Iterator[tuple[str, int]]:
        """Relative paths and sizes of all files below an artifact location."""
        yield from self._files(_place(uri), "")

    def _files(self, place: str, below: str) -> Iterator[tuple[str, int]]:
        listed = self.get(_FILES, path=f"{place}/{below}".rstrip("/")).get("files", ())
        for entry in sorted(listed, key=lambda entry: str(entry["path"])):
            path = f"{below}/{entry['path']}".lstrip("/")
            if entry.get("is_dir"):
                yield from self._files(place, path)
            else:
                yield path, int(entry.get("file_size", 0))

    def fetch(self, uri: str, path: str, target: Path) -> None:
        """A file below an artifact location."""
        self.download(f"{_FILES}/{quote(f'{_place(uri)}/{path}')}", target)

    def keep(self, uri: str, path: str, data: bytes) -> None:
        """Write a file below an artifact location."""
        self._call("PUT", f"{_FILES}/{quote(f'{_place(uri)}/{path}')}", content=data)

    def end_run(self, run_id: str, status: str) -> None:
        """End a run whose program is gone."""
        body = {"run_id": run_id, "status": status, "end_time": int(time.time() * 1000)}
        self.post("/api/2.0/mlflow/runs/update", body)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self.post("/api/2.0/mlflow/runs/set-tag", {"run_id": run_id, "key": key, "value": value})


def _place(uri: str) -> str:
    return urlsplit(uri).path.strip("/").removeprefix("api/2.0/mlflow-artifacts/artifacts/")


def _error_of(answer: httpx.Response) -> MillpondError:
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = f"The server answered {answer.status_code}."
    kinds = {404: NotFound, 400: FailedPrecondition, 503: Unavailable}
    return kinds.get(answer.status_code, MillpondError)(message)
