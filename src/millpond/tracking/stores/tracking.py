"""MLflow's tracking store with owners: what one may see and change, and whose name stands on it."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mlflow.entities import ExperimentTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlLoggedModel,
    SqlRun,
    SqlTraceInfo,
)
from mlflow.utils.mlflow_tags import MLFLOW_USER
from sqlalchemy import Connection, Integer, and_, cast, or_
from sqlalchemy.orm import Session, with_loader_criteria

from millpond.identity.access import WORKSPACE, Act, allows, require
from millpond.identity.domain import Principal
from millpond.identity.privileges import Privilege
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from millpond.tracking import store
from millpond.tracking.domain import (
    ARTIFACT_SCHEME,
    DEFAULT_EXPERIMENT_ID,
    Owned,
    check_experiment_name,
    experiment_securable,
    granted_experiments,
    item_securable,
)
from millpond.tracking.lineage import ModelLineage
from millpond.tracking.stores.runs import RunStore
from millpond.tracking.stores.session import KEPT_LIMITS, SessionMaker, mlflow_errors

OWNER_TAG = "mlflow.ownerEmail"  # as Databricks names it
_STAMPED_TAGS = {MLFLOW_USER, OWNER_TAG}


def experiment_owner(database: Database, experiment_id: str) -> str | None:
    """The owner's name of an experiment."""
    with database.read() as connection:
        return store.find_owner(connection, Owned.EXPERIMENT, experiment_id)


class OwnedTrackingStore(RunStore):
    """MLflow's SQL store on our engine, limited to what the current principal may reach."""

    def __init__(
        self, database: Database, principal: Callable[[], Principal], lineage: ModelLineage | None = None
    ) -> None:
        AbstractStore.__init__(self)  # not the SQL store's own: it would make an engine and run migrations
        self.db_uri = database.url
        self.db_type = "sqlite" if database.is_sqlite else "postgresql"
        self.artifact_root_uri = f"{ARTIFACT_SCHEME}:/"
        self.engine = database.engine
        self.read_engine = None
        self._principal = principal
        self._database = database
        self._lineage = lineage
        self._limits = lru_cache(maxsize=KEPT_LIMITS)(self._limits_of)
        self.ManagedSessionMaker = SessionMaker(database, self._criteria)

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Note what a run reads; lineage is told which tables and files it is."""
        super().log_inputs(run_id, datasets, models)
        if self._lineage is not None:
            self._lineage.inputs_logged(self._principal(), run_id, datasets or [])

    # What one may reach

    def _criteria(self, writes: bool) -> Sequence[Any]:
        principal = self._principal()
        return () if principal.is_admin else self._limits(principal, writes)

    def _limits_of(self, principal: Principal, writes: bool) -> Sequence[Any]:
        owned = store.owned_ids(Owned.EXPERIMENT, principal)
        mine = owned.with_only_columns(cast(store.owners.c.object_id, Integer))
        shared = int(DEFAULT_EXPERIMENT_ID)
        visible = granted_experiments(principal, Privilege.CAN_READ)
        granted = granted_experiments(principal, Privilege.CAN_EDIT) if writes else visible
        seen = SqlExperiment.experiment_id
        criteria = [
            with_loader_criteria(
                SqlExperiment, or_(seen == shared, seen.in_(mine), seen.in_(visible)), include_aliases=True
            )
        ]
        for model, own_item in (
            (SqlRun, SqlRun.user_id == principal.name),
            (SqlLoggedModel, SqlLoggedModel.model_id.in_(store.owned_ids(Owned.LOGGED_MODEL, principal))),
            (SqlTraceInfo, SqlTraceInfo.request_id.in_(store.owned_ids(Owned.TRACE, principal))),
        ):
            in_shared = model.experiment_id == shared
            here = and_(in_shared, own_item) if writes else in_shared
            reach = or_(here, model.experiment_id.in_(mine), model.experiment_id.in_(granted))
            criteria.append(with_loader_criteria(model, reach, include_aliases=True))
        return criteria

    def _get_experiment(self, session: Session, experiment_id: str, view_type: str, eager: bool = False) -> Any:
        experiment = super()._get_experiment(session, experiment_id, view_type, eager=eager)
        if self._is_writing(session):
            self._require_experiment(session.connection(), Act.WRITE, str(experiment.experiment_id))
        return experiment

    def _get_run(self, session: Session, run_uuid: str, eager: bool = False) -> Any:
        if self._is_writing(session):
            self._require_run(session.connection(), run_uuid)
        return super()._get_run(session, run_uuid, eager=eager)

    def _require_experiment(self, connection: Connection, act: Act, experiment_id: str) -> None:
        with mlflow_errors():
            owner = store.find_owner(connection, Owned.EXPERIMENT, experiment_id)
            require(self._principal(), act, experiment_securable(experiment_id, owner))

    def _managing(self, experiment_id: str) -> None:
        """Pass for who may rename or delete an experiment; CAN_EDIT lets one only change what is in it."""
        with self._database.read() as connection:
            self._require_experiment(connection, Act.MANAGE, str(experiment_id or DEFAULT_EXPERIMENT_ID))

    def delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment that the principal manages."""
        self._managing(experiment_id)
        super().delete_experiment(experiment_id)

    def restore_experiment(self, experiment_id: str) -> None:
        """Restore an experiment that the principal manages."""
        self._managing(experiment_id)
        super().restore_experiment(experiment_id)

    def _is_writing(self, session: Session) -> bool:
        return session is getattr(self.ManagedSessionMaker._active, "session", None)

    def _validate_run_accessible(self, session: Session, run_id: str) -> None:
        _must_find(session.query(SqlRun.run_uuid).filter(SqlRun.run_uuid == run_id), f"Run with id={run_id} not found")

    def _validate_trace_accessible(self, session: Session, trace_id: str) -> None:
        query = session.query(SqlTraceInfo.request_id).filter(SqlTraceInfo.request_id == trace_id)
        _must_find(query, f"Trace with ID '{trace_id}' not found.")

    def _filter_experiment_ids(
        self, session: Session, experiment_ids: list[Any], lifecycle_stage: str | None = None
    ) -> list[int]:
        ids = [int(experiment_id) for experiment_id in experiment_ids]
        query = session.query(SqlExperiment.experiment_id).filter(SqlExperiment.experiment_id.in_(ids))
        if lifecycle_stage is not None:
            query = query.filter(SqlExperiment.lifecycle_stage == lifecycle_stage)
        return [row[0] for row in query.all()]

    def search_experiments(self, view_type: str = ViewType.ACTIVE_ONLY, max_results: int = 0, **values: Any) -> Any:
        """Search; without a number of results, as the Databricks SDK asks, up to a page."""
        return super().search_experiments(view_type, max_results or SEARCH_MAX_RESULTS_DEFAULT, **values)

    def get_metric_history_bulk(self, run_ids: Sequence[str], metric_key: str, max_results: int) -> Any:
        """Metric histories of several runs; MLflow's own reads them of any."""
        with self.ManagedSessionMaker() as session:
            for run_id in run_ids:
                self._validate_run_accessible(session, run_id)
        return super().get_metric_history_bulk(run_ids, metric_key, max_results)

    # Whose name stands on it

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        """Create an experiment of the current principal."""
        principal = self._principal()
        with mlflow_errors():
            require(principal, Act.CREATE_IN, WORKSPACE)
            check_experiment_name(principal, name or "")
            if artifact_location:
                raise InvalidArgument(
                    f"Artifact location '{artifact_location[:200]}' cannot be chosen; leave artifact_location out, and "
                    "the artifacts are kept under the server's own root."
                )
        tags = [tag for tag in tags or [] if tag.key not in _STAMPED_TAGS]
        tags.append(ExperimentTag(OWNER_TAG, principal.name))
        with self.ManagedSessionMaker(read_only=False) as session:
            experiment_id = super().create_experiment(name, None, tags)
            store.record_owner(session.connection(), Owned.EXPERIMENT, experiment_id, principal.name)
        return str(experiment_id)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Rename an experiment of the current principal."""
        self._managing(experiment_id)
        with mlflow_errors():
            check_experiment_name(self._principal(), new_name or "")
        super().rename_experiment(experiment_id, new_name)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Set a tag; the owner's is kept as it is."""
        if tag.key not in _STAMPED_TAGS:
            super().set_experiment_tag(experiment_id, tag)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Delete a tag; the owner's cannot be."""
        if key in _STAMPED_TAGS:
            with mlflow_errors():
                raise InvalidArgument(f"Tag '{key}' is set by the server and cannot be deleted.")
        super().delete_experiment_tag(experiment_id, key)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag of a run; the user's cannot be."""
        if key == MLFLOW_USER:
            with mlflow_errors():
                raise InvalidArgument(f"Tag '{key}' is set by the server and cannot be deleted.")
        super().delete_tag(run_id, key)

    def create_logged_model(self, experiment_id: str = DEFAULT_EXPERIMENT_ID, **values: Any) -> Any:
        """Create a logged model; in the default experiment it belongs to the current principal."""
        with self.ManagedSessionMaker(read_only=False) as session:
            model = super().create_logged_model(experiment_id=experiment_id, **values)
            if str(experiment_id) == DEFAULT_EXPERIMENT_ID:
                store.record_owner(session.connection(), Owned.LOGGED_MODEL, model.model_id, self._principal().name)
        return model

    def _log_model_metrics(
        self, run_id: str, metrics: Any, experiment_id: str, dataset_uuid: str | None = None
    ) -> None:
        with self.ManagedSessionMaker(read_only=False) as session:
            for model_id in {metric.model_id for metric in metrics if metric.model_id}:
                self._get_logged_model_record(session, model_id)  # raises for another's model
        super()._log_model_metrics(run_id, metrics, experiment_id, dataset_uuid)

    # Traces

    def start_trace(self, trace_info: Any) -> Any:
        """Record a trace; in the default experiment it belongs to the current principal."""
        self._claim_traces(str(trace_info.experiment_id), [trace_info.trace_id])
        return super().start_trace(trace_info)

    def log_spans(self, location: str, spans: Any, tracking_uri: str | None = None) -> Any:
        """Record spans, of traces that are new or one's own."""
        self._claim_traces(str(location), sorted({span.trace_id for span in spans}))
        return super().log_spans(location, spans, tracking_uri)

    def _claim_traces(self, experiment_id: str, trace_ids: Sequence[str]) -> None:
        principal = self._principal()
        with mlflow_errors(), self._database.write() as connection:
            owner = store.find_owner(connection, Owned.EXPERIMENT, experiment_id)
            require(principal, Act.CREATE_IN, experiment_securable(experiment_id, owner))
            for trace_id in trace_ids:
                place = _trace_experiment(connection, trace_id)
                if place is not None and place != experiment_id:
                    raise PermissionDenied(f"Trace '{trace_id}' is in another experiment.")
                if experiment_id == DEFAULT_EXPERIMENT_ID:
                    _claim(connection, principal, trace_id, exists=place is not None)

    def deprecated_start_trace_v2(self, experiment_id: str, *args: Any, **values: Any) -> Any:
        """Record a trace as MLflow 2 does; in the default experiment it belongs to the current principal."""
        with self.ManagedSessionMaker(read_only=False) as session:
            self.get_experiment(experiment_id)  # raises for another's
            info = super().deprecated_start_trace_v2(experiment_id, *args, **values)
            if str(experiment_id) == DEFAULT_EXPERIMENT_ID:
                store.record_owner(session.connection(), Owned.TRACE, info.request_id, self._principal().name)
        return info

    # The doors of the artifact proxy

    def require_artifact(self, act: Act, experiment_id: str, kind: str, item_id: str) -> None:
        """Pass if the principal may read or write the artifacts of a run, logged model or trace.

        Raises NotFound or PermissionDenied of ours.
        """
        principal = self._principal()
        with self._database.read() as connection:
            experiment = connection.execute(
                SqlExperiment.__table__.select().where(SqlExperiment.experiment_id == int(experiment_id))
            ).first()
            if experiment is None:
                raise NotFound(f"Experiment '{experiment_id}' does not exist.")
            owner = store.find_owner(connection, Owned.EXPERIMENT, experiment_id)
            securable = experiment_securable(experiment_id, owner)
            if experiment_id == DEFAULT_EXPERIMENT_ID and item_id:
                owners = _item_owners(connection, kind, item_id)
                securable = item_securable(kind, item_id, experiment_id=experiment_id, owners=owners)
        require(principal, act, securable)

    def may_write_run(self, run: Any) -> bool:
        """Whether the principal may change this run (an MLflow entity)."""
        owner = experiment_owner(self._database, run.info.experiment_id)
        owners = tuple(name for name in (run.info.user_id, owner) if name)
        securable = item_securable("run", run.info.run_id, experiment_id=run.info.experiment_id, owners=owners)
        return allows(self._principal(), Act.WRITE, securable)


def _must_find(query: Any, message: str) -> None:
    if query.first() is None:
        raise MlflowException(message, error_code=RESOURCE_DOES_NOT_EXIST)


def _trace_experiment(connection: Any, trace_id: str) -> str | None:
    table = SqlTraceInfo.__table__
    row = connection.execute(table.select().where(table.c.request_id == trace_id)).first()
    return None if row is None else str(row.experiment_id)


def _claim(connection: Any, principal: Principal, trace_id: str, *, exists: bool) -> None:
    owner = store.find_owner(connection, Owned.TRACE, trace_id)
    if owner is None and not exists:
        store.record_owner(connection, Owned.TRACE, trace_id, principal.name)
        return
    owners = (owner,) if owner else ()
    securable = item_securable("trace", trace_id, experiment_id=DEFAULT_EXPERIMENT_ID, owners=owners)
    require(principal, Act.WRITE, securable)


def _item_owners(connection: Any, kind: str, item_id: str) -> tuple[str, ...]:
    if kind == "run":
        table = SqlRun.__table__
        row = connection.execute(table.select().where(table.c.run_uuid == item_id)).first()
        return (row.user_id,) if row is not None and row.user_id else ()
    owned = Owned.LOGGED_MODEL if kind == "logged model" else Owned.TRACE
    owner = store.find_owner(connection, owned, item_id)
    return (owner,) if owner else ()
