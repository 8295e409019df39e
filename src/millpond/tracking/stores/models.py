"""Models and versions read without ORM entities: the same answers as MLflow's store, for a fraction of its CPU."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.model_registry import (
    SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD,
)
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
from mlflow.store.model_registry.dbmodels.models import SqlModelVersionTag as _VersionTag
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias as _Alias
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelTag as _ModelTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils
from mlflow.utils.validation import _validate_model_version
from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from millpond.tracking.stores.model_records import MODEL_COLUMNS, VERSION_COLUMNS, ModelRecord, VersionRecord

_NEWEST = (SqlModelVersion.last_updated_time.desc(), SqlModelVersion.name, SqlModelVersion.version.desc())
_ALIVE = SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL
_AT_ONCE = 5000  # SQLite takes 32,766 parameters in one statement


class ModelReads(SqlAlchemyStore):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's SQL store with its hot reads on columns. What is not found, MLflow's own methods say."""

    def search_version_records(
        self, filter_string: str, max_results: int, order_by: Sequence[str], page_token: str | None
    ) -> tuple[list[VersionRecord], str | None]:
        """A page of versions, found as MLflow finds them, and the next page's token."""
        _check_count(max_results, SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD)
        parsed = SearchModelVersionUtils.parse_search_filter(filter_string)
        query = self._get_search_model_versions_filter_clauses(parsed, self.engine.dialect.name)
        ordering = self._parse_search_model_versions_order_by(order_by) if order_by else _NEWEST
        query = query.with_only_columns(*VERSION_COLUMNS, maintain_column_froms=True).filter(_ALIVE).order_by(*ordering)
        with self.ManagedSessionMaker() as session:
            rows, token = _page(session, query, max_results, page_token)
            return _version_records(session, rows), token

    def search_model_records(
        self, filter_string: str, max_results: int, order_by: Sequence[str], page_token: str | None
    ) -> tuple[list[ModelRecord], str | None]:
        """A page of models, found as MLflow finds them, and the next page's token."""
        _check_count(max_results, SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD)
        parsed = SearchModelUtils.parse_search_filter(filter_string)
        ordering = self._parse_search_registered_models_order_by(order_by)
        with self.ManagedSessionMaker() as session:
            query = self._get_search_registered_model_filter_query(session, parsed, self.engine.dialect.name)
            query = query.with_only_columns(*MODEL_COLUMNS, maintain_column_froms=True).order_by(*ordering)
            rows, token = _page(session, query, max_results, page_token)
            return _model_records(session, rows), token

    def model_record(self, name: str) -> ModelRecord | None:
        """One model; None when it is not there."""
        with self.ManagedSessionMaker() as session:
            rows = session.execute(select(*MODEL_COLUMNS).where(SqlRegisteredModel.name == name)).all()
            return _model_records(session, rows)[0] if rows else None

    def version_record(self, name: str, version: str) -> VersionRecord | None:
        """One version with its aliases; None when it is not there."""
        number = _validate_model_version(version)
        with self.ManagedSessionMaker() as session:
            return _version(session, name, SqlModelVersion.version == number)

    def alias_record(self, name: str, alias: str) -> VersionRecord | None:
        """The version that has an alias; None when there is no such alias."""
        aliased = select(_Alias.version).where(_Alias.name == name, _Alias.alias == alias)
        with self.ManagedSessionMaker() as session:
            return _version(session, name, SqlModelVersion.version.in_(aliased))


def _check_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise MlflowException(
            f"Invalid value for request parameter max_results. It must be from 1 to {most}, but got value {count}",
            INVALID_PARAMETER_VALUE,
        )


def _page(session: Session, query: Select[Any], count: int, token: str | None) -> tuple[Sequence[Any], str | None]:
    """The rows of a page, and the next page's token if one more row is there."""
    offset = SearchUtils.parse_start_offset_from_page_token(token)
    rows = session.execute(query.limit(count + 1).offset(offset)).all()
    more = SearchUtils.create_page_token(offset + count).decode() if len(rows) > count else None
    return rows[:count], more


def _version(session: Session, name: str, which: Any) -> VersionRecord | None:
    rows = session.execute(select(*VERSION_COLUMNS).where(SqlModelVersion.name == name, which, _ALIVE)).all()
    if not rows:
        return None
    (record,) = _version_records(session, rows)
    of_version = select(_Alias.alias).where(_Alias.name == name, _Alias.version == record.row.version)
    record.aliases = session.execute(of_version).scalars().all()
    return record


def _version_records(session: Session, rows: Sequence[Any]) -> list[VersionRecord]:
    tags = defaultdict(list)
    for some in _portions([(row.name, row.version) for row in rows]):
        for name, version, key, value in session.execute(_tags(some)):
            tags[name, version].append((key, value))
    return [VersionRecord(row=row, tags=tags[row.name, row.version]) for row in rows]


def _tags(versions: Sequence[tuple[str, int]]) -> Select[Any]:
    tag = _VersionTag
    names = {name for name, _version in versions}  # SQLite looks into an index for them, not for pairs
    query = select(tag.name, tag.version, tag.key, tag.value)
    return query.where(tag.name.in_(names), tuple_(tag.name, tag.version).in_(versions))


def _model_records(session: Session, rows: Sequence[Any]) -> list[ModelRecord]:
    records = {row.name: ModelRecord(row=row) for row in rows}
    names = list(records)
    for name, key, value in session.execute(
        select(_ModelTag.name, _ModelTag.key, _ModelTag.value).where(_ModelTag.name.in_(names))
    ):
        records[name].tags.append((key, value))
    for name, alias, version in session.execute(
        select(_Alias.name, _Alias.alias, _Alias.version).where(_Alias.name.in_(names))
    ):
        records[name].aliases.append((alias, version))
    for version in _version_records(session, session.execute(_latest(names)).all()):
        records[version.row.name].latest.append(version)
    return list(records.values())


def _latest(names: Sequence[str]) -> Select[Any]:
    """The newest version of each stage of each model."""
    name, version, stage = SqlModelVersion.name, SqlModelVersion.version, SqlModelVersion.current_stage
    newest = select(name, func.max(version)).where(name.in_(names), _ALIVE).group_by(name, stage)
    return select(*VERSION_COLUMNS).where(name.in_(names), tuple_(name, version).in_(newest)).order_by(name, version)


def _portions(pairs: Sequence[tuple[str, int]]) -> Iterator[Sequence[tuple[str, int]]]:
    return (pairs[start : start + _AT_ONCE] for start in range(0, len(pairs), _AT_ONCE))
