"""Runs of the tracking store without ORM entities: the same answers as MLflow's store, for a fraction of its CPU."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

from mlflow.entities import LifecycleStage, Run, RunInfo, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.tracking import sqlalchemy_store as mlflow_store
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
from mlflow.utils import validation
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy import Connection, Select, false, func, literal_column, select
from sqlalchemy.orm import Session

from millpond.identity.access import Act, admits, allows, require
from millpond.identity.domain import Principal
from millpond.tracking.domain import DEFAULT_EXPERIMENT_ID, experiment_securable, run_securable
from millpond.tracking.mlflow_schema import LONGEST_INDEXED
from millpond.tracking.stores import run_sql
from millpond.tracking.stores.experiments import ExperimentStore
from millpond.tracking.stores.run_records import RunRecord, entity_of, info_of, records_of
from millpond.tracking.stores.session import mlflow_errors, translated_errors

_MOST_BEST, _LOOKED_AT = 2000, 32
"""PostgreSQL looks for a page's best runs among so many times as many best of all experiments, before it sorts all."""


class RunStore(ExperimentStore):
    """MLflow's SQL store with its hot paths on plain SQL. `OwnedTrackingStore` completes it."""

    # Writing

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str) -> Run:
        """Create a run of the current principal, whatever user the client claims."""
        principal = self._principal()
        stamped = _last_of_each_key(tags) | {MLFLOW_USER: principal.name}
        name = _run_name(run_name, stamped.get(MLFLOW_RUN_NAME))
        stamped.setdefault(MLFLOW_RUN_NAME, name)
        run_id = uuid.uuid4().hex
        with self._writing() as connection:
            experiment = self._experiment_for_run(connection, principal, experiment_id)
            values = {
                "run_uuid": run_id,
                "name": name,
                "user_id": principal.name,
                "start_time": start_time,
                "artifact_uri": append_to_uri_path(experiment.artifact_location, run_id, self.ARTIFACTS_FOLDER_NAME),
                "experiment_id": experiment.experiment_id,
            }
            run_sql.insert_run(connection, values)
            run_sql.upsert_tags(connection, run_id, stamped)
        row = SimpleNamespace(**values, status="RUNNING", end_time=None, lifecycle_stage=LifecycleStage.ACTIVE)
        return entity_of(RunRecord(row=row, tags=[{"key": key, "value": value} for key, value in stamped.items()]))

    def update_run_info(
        self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None
    ) -> RunInfo:
        """Set status, end and name of a run."""
        status = None if run_status is None else RunStatus.to_string(run_status)
        with self._writing_run(run_id) as (connection, _run):
            run_sql.update_run(connection, run_id, status, end_time, run_name or None)
            if run_name:
                run_sql.upsert_tags(connection, run_id, {MLFLOW_RUN_NAME: run_name})
            record = self._read_records(connection, [run_sql.find_run(connection, run_id)], with_model_inputs=False)[0]
        return info_of(record)

    def _log_metrics(self, run_id: str, metrics: Sequence[Any]) -> None:
        rows = self._metric_rows(run_id, metrics)
        if not rows:
            self._check_writable(run_id)
            return
        self._run_with_deadlock_retry(self._write_batch, run_id, rows, [], {})

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a param; it cannot change later."""
        param = validation._validate_param(param.key, param.value)
        with self._writing_run(run_id) as (connection, _run):
            for old in run_sql.insert_params(connection, run_id, {param.key: param.value}).values():
                raise MlflowException(
                    f"Changing param values is not allowed. Param with key='{param.key}' was already logged with "
                    f"value='{old}' for run ID='{run_id}'. Attempted logging new value '{param.value}'.",
                    INVALID_PARAMETER_VALUE,
                )

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Set a tag of a run; the user's is kept as it is."""
        self._set_tags(run_id, [tag])

    def _set_tags(self, run_id: str, tags: Any) -> None:
        single = len(tags or []) == 1
        checked = [
            validation._validate_tag(tag.key, tag.value, path="" if single else f"tags[{index}]")
            for index, tag in enumerate(tags or [])
        ]
        with self._writing_run(run_id) as (connection, run):
            _write_tags(connection, run, _last_of_each_key(checked))

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Log metrics, params and tags together, all or nothing."""
        validation._validate_run_id(run_id)
        metrics, params, tags = validation._validate_batch_log_data(metrics, params, tags)
        validation._validate_batch_log_limits(metrics, params, tags)
        validation._validate_param_keys_unique(params)
        rows = self._metric_rows(run_id, metrics)
        experiment_id = self._run_with_deadlock_retry(self._write_batch, run_id, rows, params, _last_of_each_key(tags))
        if any(metric.model_id for metric in metrics):
            self._log_model_metrics(run_id, metrics, experiment_id=experiment_id)

    def _write_batch(
        self, run_id: str, rows: Sequence[run_sql.MetricRow], params: Sequence[Any], tags: dict[str, str]
    ) -> int:
        with self._writing_run(run_id) as (connection, run):
            if params:
                _write_params(connection, run_id, params)
            if rows:
                run_sql.insert_metrics(connection, rows)
            _write_tags(connection, run, tags)
            return int(run.experiment_id)

    def _metric_rows(self, run_id: str, metrics: Sequence[Any]) -> list[run_sql.MetricRow]:
        single = len(metrics) == 1
        rows: dict[run_sql.MetricRow, None] = {}
        for index, metric in enumerate(metrics):
            path = "" if single else f"metrics[{index}]"
            validation._validate_metric(metric.key, metric.value, metric.timestamp, metric.step, path=path)
            is_nan, value = self.sanitize_metric_value(metric.value)
            rows[run_id, metric.key, float(value), metric.timestamp, metric.step, is_nan] = None
        return list(rows)

    # Reading

    def get_run(self, run_id: str) -> Run:
        """A run that the principal may read."""
        return entity_of(self.run_record(run_id))

    def run_record(self, run_id: str) -> RunRecord:
        """The rows of a run that the principal may read."""
        with translated_errors(), self._database.read() as connection:
            run = self._find(connection, run_id)
            return self._read_records(connection, [run], with_model_inputs=True)[0]

    def visible_runs(self, principal: Principal, run_ids: Sequence[str]) -> dict[str, str]:
        """Of some runs those that a principal may read, by id, with their names."""
        with self._database.read() as connection:
            found = run_sql.find_runs(connection, run_ids)
        return {
            run.run_uuid: run.name or run.run_uuid for run in found if allows(principal, Act.READ, run_securable(run))
        }

    def _search_runs(
        self,
        experiment_ids: Any,
        filter_string: str,
        run_view_type: str,
        max_results: int,
        order_by: Any,
        page_token: str | None,
    ) -> tuple[list[Run], bytes | None]:
        records, token = self.search_records(
            experiment_ids, filter_string, run_view_type, max_results, order_by, page_token
        )
        return [entity_of(record) for record in records], token

    def search_records(
        self,
        experiment_ids: Any,
        filter_string: str,
        run_view_type: str,
        max_results: int,
        order_by: Any,
        page_token: str | None,
    ) -> tuple[list[RunRecord], bytes | None]:
        """The rows of a page of runs, found as MLflow finds them, and the next page's token."""
        self._validate_max_results_param(max_results, allow_null=True)
        offset = SearchUtils.parse_start_offset_from_page_token(page_token)
        with self.ManagedSessionMaker() as session:
            search = self._search(session, experiment_ids, filter_string, run_view_type, order_by)
            run_ids = _page(session, search, offset, max_results)
            more = max_results is not None and len(run_ids) == max_results + 1
            found = run_sql.find_runs(session.connection(), run_ids[:max_results] if more else run_ids)
            records = self._read_records(session.connection(), found, with_model_inputs=False)
        return records, SearchUtils.create_page_token(offset + max_results) if more else None

    def _search(
        self, session: Any, experiment_ids: Any, filter_string: str, run_view_type: str, order_by: Any
    ) -> "_Search":
        """MLflow's own search, selecting ids where it selects entities; no join makes two rows of a run."""
        parsed = SearchUtils.parse_search_filter(filter_string)
        pairs = [(each, _with_value(each)) for each in parsed]
        equal = [found for _, found in pairs if found is not None]
        rest = [each for each, found in pairs if found is None]
        cases, ordering, sorting_joins = mlflow_store._get_orderby_clauses(order_by, session)
        attributes, others, datasets = mlflow_store._get_sqlalchemy_filter_clauses(rest, session, self._get_dialect())
        ids = [int(each) for each in mlflow_store._parse_experiment_ids(experiment_ids)]
        stages = set(LifecycleStage.view_type_to_stages(run_view_type))
        with_datasets = (SqlRun.run_uuid.in_(select(dataset.c.destination_id)) for dataset in datasets)
        return _Search(
            columns=(SqlRun.run_uuid, *cases),
            joins=(*equal, *others),
            conditions=(
                SqlRun.experiment_id.in_(ids), SqlRun.lifecycle_stage.in_(stages), *attributes, *with_datasets
            ),
            sorting_joins=sorting_joins,
            ordering=ordering,
            metric=None if parsed else _first_metric(order_by),
        )  # fmt: skip

    def _read_records(self, connection: Connection, rows: Sequence[Any], *, with_model_inputs: bool) -> list[RunRecord]:
        if not rows:
            return []
        details = run_sql.details_of_runs(connection, [row.run_uuid for row in rows])
        return records_of(rows, details, with_model_inputs=with_model_inputs)

    # Permission

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.ManagedSessionMaker.alone(), translated_errors(), self._database.write() as connection:
            yield connection

    @contextmanager
    def _writing_run(self, run_id: str) -> Iterator[tuple[Connection, Any]]:
        """A transaction on a run that the principal may change and that is active."""
        with self._writing() as connection:
            run = self._find(connection, run_id)
            self._check_may_write(run)
            self._check_run_is_active(run)
            yield connection, run

    def _check_may_write(self, run: Any) -> None:
        with mlflow_errors():
            require(self._principal(), Act.WRITE, run_securable(run))

    def _require_run(self, connection: Connection, run_id: str) -> None:
        """Pass for who may write a run; raises as if it were not there for who may not even read it."""
        self._check_may_write(self._find(connection, run_id))

    def _check_writable(self, run_id: str) -> None:
        with self._writing_run(run_id):
            pass

    def _find(self, connection: Connection, run_id: str) -> Any:
        run = run_sql.find_run(connection, run_id)
        if run is None or not admits(self._principal(), Act.READ, run_securable(run)):
            raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)
        return run

    def _experiment_for_run(self, connection: Connection, principal: Principal, experiment_id: str) -> Any:
        number = mlflow_store._parse_experiment_id(experiment_id or DEFAULT_EXPERIMENT_ID)
        experiment = run_sql.find_experiment(connection, number)
        securable = experiment_securable(str(number), experiment.owner if experiment else None)
        if experiment is None or not admits(principal, Act.SEE, securable):
            raise MlflowException(f"No Experiment with id={number} exists", RESOURCE_DOES_NOT_EXIST)
        with mlflow_errors():
            require(principal, Act.CREATE_IN, securable)
        self._check_experiment_is_active(experiment)
        return experiment


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The parts of a search's statement."""

    columns: Sequence[Any]
    joins: Sequence[Any]
    conditions: Sequence[Any]
    sorting_joins: Sequence[Any]
    ordering: Sequence[Any]
    metric: "_Metric | None"
    """What decides the order first, where nothing else narrows the search."""

    def statement(self) -> Select[Any]:
        """All that the search finds, in order."""
        return self._joined(self.sorting_joins).order_by(*self.ordering)

    def best(self, metric: "_Metric", bound: float | None) -> Select[Any]:
        """Those that come first: they have the metric, as a number, beyond the bound."""
        first, *others = self.sorting_joins
        measured = [first.c.is_nan == false()]
        if bound is not None:
            measured.append(first.c.value < bound if metric.ascending else first.c.value > bound)
        with_metric = replace(self, joins=(*self.joins, first))._joined(others)
        _is_number, *ordering = self.ordering
        return with_metric.where(*measured).order_by(*ordering)

    def _joined(self, sorting_joins: Sequence[Any]) -> Select[Any]:
        statement = select(*self.columns)
        for other in self.joins:
            statement = statement.join(other)
        for other in sorting_joins:
            statement = statement.outerjoin(other)
        return statement.where(*self.conditions)


class _Metric(NamedTuple):
    """A metric that orders runs."""

    key: str
    ascending: bool


def _first_metric(order_by: Sequence[str] | None) -> _Metric | None:
    if not order_by:
        return None
    kind, key, ascending = SearchUtils.parse_order_by_for_search_runs(order_by[0])
    return _Metric(key, ascending) if SearchUtils.is_metric(kind, "=") else None


def _page(session: Session, search: _Search, offset: int, count: int | None) -> Sequence[str]:
    """The ids of a page's runs, and one more if there is one. Their columns would keep indexes from being enough."""
    if count is None:
        return session.scalars(search.statement().offset(offset)).all()
    end = offset + count + 1
    if search.metric and end <= _MOST_BEST and session.get_bind().dialect.name == "postgresql":
        bound = session.scalar(_bound(search.metric, _LOOKED_AT * end))
        best = session.scalars(search.best(search.metric, bound).offset(offset).limit(count + 1)).all()
        if len(best) == count + 1:
            return best
    return session.scalars(search.statement().offset(offset).limit(count + 1)).all()


def _bound(metric: _Metric, rank: int) -> Select[Any]:
    """The value of a metric at a rank among all runs; no row where fewer have it."""
    value = SqlLatestMetric.value
    measured = select(value).where(SqlLatestMetric.key == metric.key, SqlLatestMetric.is_nan == false())
    return measured.order_by(value if metric.ascending else value.desc()).offset(rank).limit(1)


def _with_value(comparison: dict[str, Any]) -> Any | None:
    """The runs with a tag or param of a value, where an index finds them; None for other comparisons."""
    kind, key, comparator = comparison["type"], SearchUtils.translate_key_alias(comparison["key"]), "="
    if comparison["comparator"] != comparator or len(str(comparison["value"])) > LONGEST_INDEXED:
        return None
    if SearchUtils.is_tag(kind, comparator):
        table = SqlTag
    elif SearchUtils.is_param(kind, comparator):
        table = SqlParam
    elif key == "run_name":  # as MLflow does: runs of old versions have it only as a tag
        table, key = SqlTag, MLFLOW_RUN_NAME
    else:
        return None
    indexed = func.length(table.value) <= literal_column(str(LONGEST_INDEXED))
    return select(table.run_uuid).where(table.key == key, table.value == comparison["value"], indexed).subquery()


def _last_of_each_key(tags: Any) -> dict[str, str]:
    """Tags by key; the user's tag is set by the server alone."""
    return {tag.key: tag.value for tag in tags or [] if tag.key != MLFLOW_USER}


def _run_name(argument: str | None, tag: str | None) -> str:
    if argument and tag and argument != tag:
        raise MlflowException(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{argument}', mlflow.runName='{tag}').",
            INVALID_PARAMETER_VALUE,
        )
    return argument or tag or _generate_random_name()


def _write_tags(connection: Connection, run: Any, tags: dict[str, str]) -> None:
    name = tags.get(MLFLOW_RUN_NAME)
    if name:
        run_sql.update_run(connection, run.run_uuid, run.status, run.end_time, name)
    elif name is not None:  # an empty name changes nothing
        tags = {key: value for key, value in tags.items() if key != MLFLOW_RUN_NAME}
    if tags:
        run_sql.upsert_tags(connection, run.run_uuid, tags)


def _write_params(connection: Connection, run_id: str, params: Sequence[Any]) -> None:
    wanted = {param.key: param.value for param in params}
    changed = run_sql.insert_params(connection, run_id, wanted)
    if changed:
        listed = [
            {"key": key, "old_value": changed[key], "new_value": value}
            for key, value in wanted.items()
            if key in changed
        ]
        raise MlflowException(
            f"Changing param values is not allowed. Params were already logged='{listed}' for run ID='{run_id}'.",
            INVALID_PARAMETER_VALUE,
        )
