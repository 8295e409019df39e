"""SQL that finds objects by what is said about them and by when they changed, within somebody's reach."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, Text, case, cast, func, or_, select

from millpond.catalog.domain import SYSTEM_CATALOG
from millpond.catalog.search import MARKS, SCORES, Wanted
from millpond.catalog.store.containers import select_schemas
from millpond.catalog.store.objects import select_objects
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.schema import catalogs, schemas, tables, tags
from millpond.catalog.tags import CERTIFICATION
from millpond.kernel.database import folded


def best(connection: Connection, table: Table, wanted: Wanted, reach: Reach, limit: int) -> Sequence[Any]:
    """Rows of objects of a kind that fit, with their `score` and `certification`, the best first."""
    query, levels, full_name = _objects(table)
    mark = _mark(table)
    scores = [_score(word, table, full_name) for word in wanted.words]
    marked = case(*((mark == status, worth) for status, worth in MARKS.items()), else_=0)
    total = sum(scores, marked).label("score")
    query = query.add_columns(total, mark.label("certification"))
    query = reach.narrow(query, *levels).where(*(score > 0 for score in scores), *_filters(wanted, table, mark))
    order = (total.desc(), func.length(full_name), full_name, table.c.id)
    return connection.execute(query.order_by(*order).limit(limit)).all()


def _objects(table: Table) -> tuple[Select[Any], tuple[Table, ...], ColumnElement[str]]:
    """Objects of a kind with their containers: the query, the tables from the inside out, and their full names."""
    if table is catalogs:
        return select(catalogs), (catalogs,), catalogs.c.name
    in_schema = catalogs.c.name + "." + schemas.c.name
    if table is schemas:
        return select_schemas(), (schemas, catalogs), in_schema
    return select_objects(table), (table, schemas, catalogs), in_schema + "." + table.c.name


def _score(word: str, table: Table, full_name: ColumnElement[str]) -> ColumnElement[int]:
    """What a word is worth by the best place where it stands."""
    name = table.c.name
    told = folded(tags.c.key + "=" + tags.c.value)
    tagged = table.c.id.in_(select(tags.c.object_id).where(told.contains(word, autoescape=True)))
    places: dict[str, ColumnElement[bool]] = {
        "name is": or_(name == word, full_name == word),
        "name begins": name.startswith(word, autoescape=True),
        "name holds": name.contains(word, autoescape=True),
        "tags hold": tagged,
        "comment holds": folded(table.c.comment).contains(word, autoescape=True),
        "owner holds": folded(table.c.owner).contains(word, autoescape=True),
        "path holds": full_name.contains(word, autoescape=True),
    }
    if table is tables:
        places["columns hold"] = tables.c.column_words.contains(word, autoescape=True)
    return case(*((places[place], worth) for place, worth in SCORES.items() if place in places), else_=0)


def _mark(table: Table) -> ColumnElement[str | None]:
    on_object = (tags.c.object_id == table.c.id, tags.c.column_key == "", tags.c.key == CERTIFICATION)
    return select(tags.c.value).where(*on_object).scalar_subquery()


def _filters(wanted: Wanted, table: Table, mark: ColumnElement[str | None]) -> Iterator[ColumnElement[bool]]:
    key, value = wanted.tag_pair
    if key:
        same = (tags.c.key == key,) if value is None else (tags.c.key == key, tags.c.value == value)
        yield table.c.id.in_(select(tags.c.object_id).where(*same))
    if wanted.owner:
        yield folded(table.c.owner) == wanted.owner.lower()
    if wanted.certification:
        yield mark == wanted.certification


def keyed_tables(connection: Connection, wanted: Wanted, reach: Reach, after: str | None, limit: int) -> Sequence[Any]:
    """Rows of Delta tables with a primary key that fit, in the order of their full names, behind one of these."""
    query, levels, full_name = _objects(tables)
    fits = (_score(word, tables, full_name) > 0 for word in wanted.words)
    query = reach.narrow(query, *levels).where(*fits, *_filters(wanted, tables, _mark(tables)))
    query = query.where(
        catalogs.c.name != SYSTEM_CATALOG,
        tables.c.data_source_format == "DELTA",
        cast(tables.c.constraints, Text).contains(_PRIMARY_KEY, autoescape=True),
    )
    if after is not None:
        query = query.where(full_name > after)
    return connection.execute(query.order_by(full_name).limit(limit)).all()


_PRIMARY_KEY = '"parent_table": null'
"""In the JSON of constraints, as both databases write it; within a name the quotes would be escaped."""


def objects_by_change(connection: Connection, table: Table, reach: Reach, limit: int) -> Sequence[Any]:
    """Rows of objects outside the catalog `system`, last changed first."""
    query = reach.narrow(select_objects(table), table, schemas, catalogs).where(catalogs.c.name != SYSTEM_CATALOG)
    return connection.execute(query.order_by(table.c.updated_at.desc(), table.c.id).limit(limit)).all()
