"""What serving asks of the rooms below."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.lineage.domain import ColumnFlow
from millpond.serving.domain import Endpoint, ModelVersion, ServedEntity
from millpond.serving.references import Reference

DESCRIPTION = "MLmodel"
MAX_DESCRIPTION_BYTES = 4 << 20


class ModelSource(Protocol):
    """Where model versions come from: MLflow's registry here, folders in tests."""

    def find_version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        """The version that a principal may read; the feature spec of a name where the version is empty.

        Raises NotFound without it, or without the right to read it.
        """

    def find_referenced(self, principal: Principal, name: str, reference: Reference) -> ModelVersion:
        """The version that an alias or a stage names now, and that a principal may read.

        Raises NotFound where it names none, or without the right to read it.
        """

    def heads(self, asked: "Collection[Named]") -> "Mapping[Named, str]":
        """The numbers of what models and references name now, of those that name something. A quick look, without
        rights: nobody is told."""

    def moved_by(self, name: "Named", version: str) -> str | None:
        """Who let a reference name a version; None where that is not on record. Blocks."""

    def find_spec(self, principal: Principal, model: ModelVersion) -> str | None:
        """The text of the feature spec that a version travels with, if it has one."""

    def describe(self, principal: Principal, model: ModelVersion) -> str:
        """The text of a version's MLmodel file. Raises NotFound, InvalidArgument where it is too large."""

    def download(self, model: ModelVersion, destination: Path) -> None:
        """Copy the model's files (MLmodel at the top) into an existing empty directory.

        Called in the background, for an endpoint whose creator could read the version. Raises NotFound when the files
        are gone.
        """


Named = tuple[str, Reference]
"""A model and what names one of its versions."""

Served = Callable[[Connection, str, str, Sequence[tuple[str, str]]], None]
"""Keeps which endpoint (id, name) answers with exactly which models and versions from now on; in the transaction that
decides it."""


def nobody_listens(
    _connection: Connection, _endpoint_id: str, _endpoint: str, _models: Sequence[tuple[str, str]]
) -> None:
    """Where nobody keeps it."""


Deployed = Callable[[Connection, Principal, Endpoint, Sequence[ServedEntity], Sequence[ColumnFlow]], None]
"""Told, in the transaction of the change, which entities an endpoint is to serve from now on, and what of feature
tables they read."""
