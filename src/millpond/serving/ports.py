"""What serving asks of the rooms below."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.serving.domain import Endpoint, ModelVersion, ServedEntity


class ModelSource(Protocol):
    """Where model versions come from: MLflow's registry here, folders in tests."""

    def find_version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        """The version that a principal may read. Raises NotFound without it, or without the right to read it."""

    def download(self, model: ModelVersion, destination: Path) -> None:
        """Copy the model's files (MLmodel at the top) into an existing empty directory.

        Called in the background, for an endpoint whose creator could read the version. Raises NotFound when the files
        are gone.
        """


Served = Callable[[Connection, str, str, Sequence[tuple[str, str]]], None]
"""Keeps which endpoint (id, name) answers with exactly which models and versions from now on; in the transaction that
decides it."""


def nobody_listens(
    _connection: Connection, _endpoint_id: str, _endpoint: str, _models: Sequence[tuple[str, str]]
) -> None:
    """Where nobody keeps it."""


class FeatureLookup(Protocol):
    """Adds the feature values that a model needs and a request does not bring."""

    async def complete(self, entity: ServedEntity, content_type: str, body: bytes) -> bytes:
        """The request's body with the features looked up; the same body for a model without features."""


class NoFeatures:
    """For models that get all they need in the request."""

    async def complete(self, entity: ServedEntity, content_type: str, body: bytes) -> bytes:
        """The body as it came."""
        return body


Deployed = Callable[[Connection, Principal, Endpoint, Sequence[ServedEntity]], None]
"""Told, in the transaction of the change, which entities an endpoint is to serve from now on."""
