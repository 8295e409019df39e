"""Experiments of the tracking store read without ORM entities: every script of a client begins with one."""

from collections.abc import Callable
from typing import Any

from mlflow.entities import Experiment, ExperimentTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.tracking import sqlalchemy_store as mlflow_store
from sqlalchemy import Connection

from millpond.identity.access import Act, admits, require
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.tracking.domain import DEFAULT_EXPERIMENT_ID, experiment_securable
from millpond.tracking.stores import run_sql
from millpond.tracking.stores.session import translated_errors


class ExperimentStore(mlflow_store.SqlAlchemyStore):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's SQL store with single experiments on plain SQL."""

    _database: Database
    _principal: Callable[[], Principal]

    def get_experiment(self, experiment_id: str) -> Experiment:
        """An experiment that the principal may see."""
        number = mlflow_store._parse_experiment_id(experiment_id or DEFAULT_EXPERIMENT_ID)
        with translated_errors(), self._database.read() as connection:
            row = run_sql.find_experiment(connection, number)
            if row is None or not self._may_see(row):
                raise MlflowException(f"No Experiment with id={number} exists", RESOURCE_DOES_NOT_EXIST)
            if self.ManagedSessionMaker.is_writing:  # MLflow asks for it before it writes something into it
                require(self._principal(), Act.CREATE_IN, experiment_securable(str(number), row.owner))
            return _entity(connection, row)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """The experiment with a name, if the principal may see it."""
        with translated_errors(), self._database.read() as connection:
            row = run_sql.find_experiment_by_name(connection, experiment_name)
            return _entity(connection, row) if row is not None and self._may_see(row) else None

    def _may_see(self, row: Any) -> bool:
        return admits(self._principal(), Act.SEE, experiment_securable(str(row.experiment_id), row.owner))


def _entity(connection: Connection, row: Any) -> Experiment:
    tags = run_sql.tags_of_experiment(connection, row.experiment_id)
    return Experiment(
        experiment_id=str(row.experiment_id),
        name=row.name,
        artifact_location=row.artifact_location,
        lifecycle_stage=row.lifecycle_stage,
        tags=[ExperimentTag(tag.key, tag.value) for tag in tags],
        creation_time=row.creation_time,
        last_update_time=row.last_update_time,
        workspace=row.workspace,
    )
