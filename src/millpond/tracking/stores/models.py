"""Models and versions read without ORM entities: the same answers as MLflow's store, for a fraction of its CPU."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.entities.model_registry.prompt_version import IS_PROMPT_TAG_KEY
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
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    exists,
    func,
    select,
    tuple_,
)
from sqlalchemy.orm import Session

from millpond.kernel.database import json_lists
from millpond.tracking.stores.model_records import MODEL_COLUMNS, VERSION_COLUMNS, ModelRecord, VersionRecord

_NEWEST = (SqlModelVersion.last_updated_time.desc(), SqlModelVersion.name, SqlModelVersion.version.desc())
_ALIVE = SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL
_AT_ONCE = 5000  # SQLite takes 32,766 parameters in one statement

# Statements are built once: building one costs as much as running it.

_NAME: BindParameter[str] = bindparam("name")
_NAMES: BindParameter[list[str]] = bindparam("names", expanding=True)


def _here(table: Any) -> ColumnElement[bool]:
    """In the one workspace that there is: MLflow's keys and indexes begin with it."""
    return table.workspace == DEFAULT_WORKSPACE_NAME  # type: ignore[no-any-return]


_MODEL = select(*MODEL_COLUMNS).where(_here(SqlRegisteredModel), SqlRegisteredModel.name == _NAME)
_TAGS_OF_MODELS = select(_ModelTag.name, _ModelTag.key, _ModelTag.value).where(
    _here(_ModelTag), _ModelTag.name.in_(_NAMES)
)
_ALIASES_OF_MODELS = select(_Alias.name, _Alias.alias, _Alias.version).where(_here(_Alias), _Alias.name.in_(_NAMES))


def _of_version(listed: Any, table: Any) -> Any:
    """The rows that a version has in a table, as one value: one round trip for all of it."""
    its = (getattr(table, name) == getattr(SqlModelVersion, name) for name in ("workspace", "name", "version"))
    return select(listed).where(*its).correlate(SqlModelVersion).scalar_subquery()


_VERSION_OF_MODEL = select(
    *VERSION_COLUMNS,
    _of_version(json_lists(_VersionTag.key, _VersionTag.value), _VersionTag).label("tags"),
    _of_version(json_lists(_Alias.alias), _Alias).label("aliases"),
).where(_here(SqlModelVersion), SqlModelVersion.name == _NAME, _ALIVE)
_BY_NUMBER = _VERSION_OF_MODEL.where(SqlModelVersion.version == bindparam("version"))
_BY_ALIAS = _VERSION_OF_MODEL.where(
    SqlModelVersion.version.in_(
        select(_Alias.version).where(_here(_Alias), _Alias.name == _NAME, _Alias.alias == bindparam("alias"))
    )
)


def _latest() -> Select[Any]:
    """The newest version of each stage of each model."""
    name, version, stage = SqlModelVersion.name, SqlModelVersion.version, SqlModelVersion.current_stage
    of_models = (_here(SqlModelVersion), name.in_(_NAMES))
    newest = select(name, func.max(version)).where(*of_models, _ALIVE).group_by(name, stage)
    latest = select(*VERSION_COLUMNS).where(*of_models, tuple_(name, version).in_(newest))
    return latest.order_by(name, version)


def _tags_of_arrays() -> Select[Any]:
    """One text for any number of versions, which PostgreSQL's driver parses once."""
    arrays = (bindparam("names", type_=ARRAY(Text)), bindparam("versions", type_=ARRAY(Integer)))
    wanted = func.unnest(*arrays).table_valued("name", "version").render_derived(name="wanted")
    its = (_VersionTag.name == wanted.c.name, _VersionTag.version == wanted.c.version)
    return select(*_TAG_COLUMNS).where(_here(_VersionTag), *its)


_LATEST = _latest()
_TAG_COLUMNS = tuple(getattr(_VersionTag, name) for name in ("name", "version", "key", "value"))
_TAGS_OF_ARRAYS = _tags_of_arrays()
_TAGS_OF_PAIRS = select(*_TAG_COLUMNS).where(
    _here(_VersionTag),
    _VersionTag.name.in_(_NAMES),
    tuple_(_VersionTag.name, _VersionTag.version).in_(bindparam("versions", expanding=True)),
)


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

    def _update_query_to_exclude_prompts(
        self, query: Any, tag_filters: dict[str, list[Any]], dialect: str, main_db_model: Any, tag_db_model: Any
    ) -> Any:
        """Leave out prompts, and what lacks a tag that is asked for. A key is in `tag_filters` no more than once.

        MLflow groups all that have the tag before it takes a page; tags looked for one by one leave the page's order
        to an index.
        """
        of_model = (tag_db_model.workspace == main_db_model.workspace, tag_db_model.name == main_db_model.name)
        is_prompt = (tag_db_model.key == IS_PROMPT_TAG_KEY, tag_db_model.value == "true")
        query = query.where(~exists().where(*of_model, *is_prompt))
        tag_filters.pop(IS_PROMPT_TAG_KEY, None)
        of_item = (
            (*of_model, tag_db_model.version == main_db_model.version) if main_db_model is SqlModelVersion else of_model
        )
        for conditions in tag_filters.values():
            query = query.where(exists().where(*of_item, *conditions))
        tag_filters.clear()  # MLflow joins for those that are left
        return query

    def model_record(self, name: str) -> ModelRecord | None:
        """One model; None when it is not there."""
        with self.ManagedSessionMaker() as session:
            rows = session.execute(_MODEL, {"name": name}).all()
            return _model_records(session, rows)[0] if rows else None

    def version_record(self, name: str, version: str) -> VersionRecord | None:
        """One version with its aliases; None when it is not there."""
        number = _validate_model_version(version)
        with self.ManagedSessionMaker() as session:
            return _version(session, _BY_NUMBER, {"name": name, "version": number})

    def alias_record(self, name: str, alias: str) -> VersionRecord | None:
        """The version that has an alias; None when there is no such alias."""
        with self.ManagedSessionMaker() as session:
            return _version(session, _BY_ALIAS, {"name": name, "alias": alias})


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


def _version(session: Session, which: Select[Any], values: dict[str, Any]) -> VersionRecord | None:
    row = session.execute(which, values).first()
    if row is None:
        return None
    return VersionRecord(row=row, tags=row.tags or [], aliases=[alias for (alias,) in row.aliases or ()])


def _version_records(session: Session, rows: Sequence[Any]) -> list[VersionRecord]:
    tags = defaultdict(list)
    for some in _portions([(row.name, row.version) for row in rows]):
        for name, version, key, value in _tags(session, some):
            tags[name, version].append((key, value))
    return [VersionRecord(row=row, tags=tags[row.name, row.version]) for row in rows]


def _tags(session: Session, versions: Sequence[tuple[str, int]]) -> Iterable[Any]:
    names, numbers = zip(*versions, strict=True)
    if session.get_bind().dialect.name == "sqlite":
        # SQLite looks into an index for names, not for pairs
        return session.execute(_TAGS_OF_PAIRS, {"names": list(set(names)), "versions": list(versions)})
    return session.execute(_TAGS_OF_ARRAYS, {"names": list(names), "versions": list(numbers)})


def _model_records(session: Session, rows: Sequence[Any]) -> list[ModelRecord]:
    records = {row.name: ModelRecord(row=row) for row in rows}
    names = {"names": list(records)}
    for name, key, value in session.execute(_TAGS_OF_MODELS, names):
        records[name].tags.append((key, value))
    for name, alias, version in session.execute(_ALIASES_OF_MODELS, names):
        records[name].aliases.append((alias, version))
    for version in _version_records(session, session.execute(_LATEST, names).all()):
        records[version.row.name].latest.append(version)
    return list(records.values())


def _portions(pairs: Sequence[tuple[str, int]]) -> Iterator[Sequence[tuple[str, int]]]:
    return (pairs[start : start + _AT_ONCE] for start in range(0, len(pairs), _AT_ONCE))
