"""Sign the official `mlflow` client of this process in to a server."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.tracking import fluent
from mlflow.utils import request_utils
from requests import Session

from tests.servers import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns about its own type hints when these are imported
    import mlflow.pyfunc
    import mlflow.sklearn


SET_BY_CLIENT = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")


@contextmanager
def signed_in(server: Server, token: str | None = None) -> Iterator[MlflowClient]:
    """The client with a user's token (the administrator's by default), as the environment would give it."""
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_TOKEN", token or server.token)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        for name in SET_BY_CLIENT:
            patch.setenv(name, "")  # so that it goes again with the patch
            patch.delenv(name)
        patch.setattr(fluent, "_active_experiment_id", None)
        kept = _keep_connections(patch)
        mlflow.set_tracking_uri(server.url)
        mlflow.set_registry_uri(server.url)
        try:
            yield MlflowClient(server.url)
        finally:
            while mlflow.active_run():
                mlflow.end_run()
            mlflow.set_tracking_uri(before)
            mlflow.set_registry_uri(None)
            for connections in kept:
                connections.close()


def _keep_connections(patch: pytest.MonkeyPatch) -> list[Session]:
    """What MLflow keeps in a cache, to be closed: it lets them be collected unclosed, which pytest takes for a leak."""
    made: list[Session] = []
    make = request_utils._cached_get_request_session.__wrapped__

    @cache
    def kept(*asked: Any, **named: Any) -> Session:
        made.append(make(*asked, **named))
        return made[-1]

    patch.setattr(request_utils, "_cached_get_request_session", kept)
    return made
