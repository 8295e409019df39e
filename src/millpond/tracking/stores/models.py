"""Models and versions read without ORM entities: the same answers as MLflow's store, for a fraction of its CPU."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.entities.model_registry.prompt_version import IS_PROMPT_TAG_KEY
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
from mlflow.store.model_registry.dbmodels.models import SqlModelVersionTag as _VersionTag
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias as _Alias
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelTag as _ModelTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils
from mlflow.utils.validation import _validate_model_version
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)

from millpond.kernel.database import json_lists
from millpond.tracking.stores.filters import template_of, with_parameters
from millpond.tracking.stores.model_records import (
    MODEL_COLUMNS,
    VERSION_COLUMNS,
    ModelRecord,
    VersionRecord,
    VersionRow,
)
from millpond.tracking.stores.session import Execute


def _constant(text: str) -> ColumnElement[str]:
    """Written into statements: of a parameter, PostgreSQL's plans that serve any value expect the wrong."""
    return literal_column(f"'{text}'", Text)


_NEWEST = (SqlModelVersion.last_updated_time.desc(), SqlModelVersion.name, SqlModelVersion.version.desc())
_ALIVE = SqlModelVersion.current_stage != _constant(STAGE_DELETED_INTERNAL)
_HERE, _PROMPT, _TRUE = map(_constant, (DEFAULT_WORKSPACE_NAME, IS_PROMPT_TAG_KEY, "true"))
_KEPT = 100

# Statements are built once: building one costs as much as running it.

_NAME: BindParameter[str] = bindparam("name")


def _here(table: Any) -> ColumnElement[bool]:
    """In the one workspace that there is: MLflow's keys and indexes begin with it."""
    return table.workspace == _HERE  # type: ignore[no-any-return]


def _of(owner: Any, keys: Sequence[str], table: Any, *columns: Any) -> Any:
    """The rows that a model or version has in a table, as one value: one round trip for all of it."""
    its = (getattr(table, key) == getattr(owner, key) for key in ("workspace", *keys))
    return select(json_lists(*columns)).where(*its).correlate(owner).scalar_subquery()


_TAGS_OF_VERSION = _of(SqlModelVersion, ("name", "version"), _VersionTag, _VersionTag.key, _VersionTag.value)
_ALIASES_OF_VERSION = _of(SqlModelVersion, ("name", "version"), _Alias, _Alias.alias)
_TAGS_OF_MODEL = _of(SqlRegisteredModel, ("name",), _ModelTag, _ModelTag.key, _ModelTag.value)
_ALIASES_OF_MODEL = _of(SqlRegisteredModel, ("name",), _Alias, _Alias.alias, _Alias.version)
_FOUND_VERSION = (*VERSION_COLUMNS, _TAGS_OF_VERSION.label("tags"))


def _latest_of_model() -> Any:
    """The newest version of each stage of a model, with its tags: a model's own few rows, read by MLflow's key."""
    of_model = (
        SqlModelVersion.workspace == SqlRegisteredModel.workspace,
        SqlModelVersion.name == SqlRegisteredModel.name,
    )
    newest = (
        select(func.max(SqlModelVersion.version).label("version"))
        .where(*of_model, _ALIVE)
        .group_by(SqlModelVersion.current_stage)
        .correlate(SqlRegisteredModel)
        .subquery()
    )
    latest = select(json_lists(*VERSION_COLUMNS, _TAGS_OF_VERSION)).join_from(
        SqlModelVersion, newest, SqlModelVersion.version == newest.c.version
    )
    return latest.where(*of_model).correlate(SqlRegisteredModel).scalar_subquery()


_FOUND_MODEL = (
    *MODEL_COLUMNS,
    _TAGS_OF_MODEL.label("tags"),
    _ALIASES_OF_MODEL.label("aliases"),
    _latest_of_model().label("latest"),
)

_MODEL = select(*_FOUND_MODEL).where(_here(SqlRegisteredModel), SqlRegisteredModel.name == _NAME)
_VERSION_OF_MODEL = select(*_FOUND_VERSION, _ALIASES_OF_VERSION.label("aliases")).where(
    _here(SqlModelVersion), SqlModelVersion.name == _NAME, _ALIVE
)
_BY_NUMBER = _VERSION_OF_MODEL.where(SqlModelVersion.version == bindparam("version"))
_BY_ALIAS = _VERSION_OF_MODEL.where(
    SqlModelVersion.version.in_(
        select(_Alias.version).where(_here(_Alias), _Alias.name == _NAME, _Alias.alias == bindparam("alias"))
    )
)


@lru_cache(maxsize=_KEPT)
def _version_search(store: "ModelReads", template: str, names: Sequence[str], order_by: Sequence[str]) -> Select[Any]:
    parsed = SearchModelVersionUtils.parse_search_filter(template)
    parsed = with_parameters(parsed, names) if names else parsed
    query = store._get_search_model_versions_filter_clauses(parsed, store.engine.dialect.name)
    ordering = store._parse_search_model_versions_order_by(order_by) if order_by else _NEWEST
    query = query.with_only_columns(*_FOUND_VERSION, maintain_column_froms=True).filter(_ALIVE)
    return _paged(query.order_by(*ordering))


@lru_cache(maxsize=_KEPT)
def _model_search(store: "ModelReads", template: str, names: Sequence[str], order_by: Sequence[str]) -> Select[Any]:
    parsed = SearchModelUtils.parse_search_filter(template)
    parsed = with_parameters(parsed, names) if names else parsed
    query = store._get_search_registered_model_filter_query(None, parsed, store.engine.dialect.name)
    query = query.with_only_columns(*_FOUND_MODEL, maintain_column_froms=True)
    return _paged(query.order_by(*store._parse_search_registered_models_order_by(order_by)))


def _paged(query: Select[Any]) -> Select[Any]:
    return query.limit(bindparam("count", type_=Integer)).offset(bindparam("start", type_=Integer))


class ModelReads(SqlAlchemyStore):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's SQL store with its hot reads on columns. What is not found, MLflow's own methods say."""

    def search_version_records(
        self, filter_string: str, max_results: int, order_by: Sequence[str], page_token: str | None
    ) -> tuple[list[VersionRecord], str | None]:
        """A page of versions, found as MLflow finds them, and the next page's token."""
        statement, texts = self._statement(_version_search, filter_string, order_by)
        with self.ManagedSessionMaker.columns() as execute:
            rows, token = _page(execute, statement, texts, max_results, page_token)
        return [VersionRecord(row=row, tags=row.tags or []) for row in rows], token

    def search_model_records(
        self, filter_string: str, max_results: int, order_by: Sequence[str], page_token: str | None
    ) -> tuple[list[ModelRecord], str | None]:
        """A page of models, found as MLflow finds them, and the next page's token."""
        statement, texts = self._statement(_model_search, filter_string, order_by)
        with self.ManagedSessionMaker.columns() as execute:
            rows, token = _page(execute, statement, texts, max_results, page_token)
        return [_model(row) for row in rows], token

    def _statement(
        self, search: Any, filter_string: str, order_by: Sequence[str]
    ) -> tuple[Select[Any], dict[str, str]]:
        """The statement of a search, and the values of its parameters."""
        template, texts = template_of(filter_string)
        try:
            return search(self, template, tuple(texts), tuple(order_by)), texts
        except Exception:  # what is wrong with the filter itself, MLflow says
            return search.__wrapped__(self, filter_string, (), order_by), {}

    def _get_workspace_clauses(self, model: Any) -> list[ColumnElement[bool]]:
        return [_here(model)]

    def _update_query_to_exclude_prompts(
        self, query: Any, tag_filters: dict[str, list[Any]], dialect: str, main_db_model: Any, tag_db_model: Any
    ) -> Any:
        """Leave out prompts, and what lacks a tag that is asked for. A key is in `tag_filters` no more than once.

        MLflow groups all that have the tag before it takes a page; tags looked for one by one leave the page's order
        to an index.
        """
        of_model = (tag_db_model.workspace == main_db_model.workspace, tag_db_model.name == main_db_model.name)
        is_prompt = (tag_db_model.key == _PROMPT, tag_db_model.value == _TRUE)
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
        with self.ManagedSessionMaker.columns() as execute:
            row = execute(_MODEL, {"name": name}).first()
        return None if row is None else _model(row)

    def version_record(self, name: str, version: str) -> VersionRecord | None:
        """One version with its aliases; None when it is not there."""
        number = _validate_model_version(version)
        with self.ManagedSessionMaker.columns() as execute:
            return _version(execute, _BY_NUMBER, {"name": name, "version": number})

    def alias_record(self, name: str, alias: str) -> VersionRecord | None:
        """The version that has an alias; None when there is no such alias."""
        with self.ManagedSessionMaker.columns() as execute:
            return _version(execute, _BY_ALIAS, {"name": name, "alias": alias})


def _page(
    execute: Execute, query: Select[Any], texts: dict[str, str], count: int, token: str | None
) -> tuple[Sequence[Any], str | None]:
    """The rows of a page, and the next page's token if one more row is there."""
    offset = SearchUtils.parse_start_offset_from_page_token(token)
    rows = execute(query, {**texts, "count": count + 1, "start": offset}).all()
    more = SearchUtils.create_page_token(offset + count).decode() if len(rows) > count else None
    return rows[:count], more


def _version(execute: Execute, which: Select[Any], values: dict[str, Any]) -> VersionRecord | None:
    row = execute(which, values).first()
    if row is None:
        return None
    return VersionRecord(row=row, tags=row.tags or [], aliases=[alias for (alias,) in row.aliases or ()])


def _model(row: Any) -> ModelRecord:
    latest = [VersionRecord(row=VersionRow(*values), tags=tags or []) for *values, tags in row.latest or ()]
    latest.sort(key=lambda version: version.row.version)
    return ModelRecord(row=row, tags=row.tags or [], aliases=row.aliases or [], latest=latest)
