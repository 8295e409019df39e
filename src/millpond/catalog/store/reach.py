"""Somebody's reach as SQL: the same rule as `identity.access.allows`, for lists that must not read all to show some."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Boolean, ColumnElement, FromClause, Select, Text, and_, bindparam, false, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.identity.privileges import CONTAINERS, Privilege, ways

Q = TypeVar("Q", bound=Select[Any])


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The objects of a kind to which a principal may do something; of every kind where nobody is named."""

    principal: Principal | None
    kind: str = ""
    act: Act = Act.SEE

    def narrow(self, query: Q, *levels: FromClause) -> Q:
        """The query of objects of the kind, limited; `levels` are the objects' own table and those of containers."""
        if self.principal is None or self.principal.is_admin:
            return query
        names = (self.principal.name, *sorted(self.principal.groups))
        owned = or_(*(level.c.owner.in_(names) for level in levels))
        kinds = (self.kind, *CONTAINERS[self.kind])
        granted = (
            and_(*(self._held(privilege, list(zip(kinds, levels, strict=True))) for privilege in sorted(way)))
            for way in ways(self.kind, self.act)
        )
        return query.where(or_(owned, *granted))

    def _held(self, privilege: Privilege, levels: Sequence[tuple[str, FromClause]]) -> ColumnElement[bool]:
        """Whether the privilege is held on the object or a container."""
        grants = self.principal.grants if self.principal else None
        found = [(level, grants.ids(kind, privilege)) for kind, level in levels] if grants else []
        return or_(false(), *(among(level.c.id, ids) for level, ids in found if ids))


EVERYTHING = Reach(principal=None)


class _Among(FunctionElement[bool]):
    """Whether a column is one of the texts of a JSON array: one parameter for any number of ids."""

    inherit_cache = True
    type = Boolean()


@compiles(_Among, "sqlite")
def _on_sqlite(element: _Among, compiler: Any, **options: Any) -> str:
    column, ids = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - both are SQLAlchemy's


@compiles(_Among, "postgresql")
def _on_postgresql(element: _Among, compiler: Any, **options: Any) -> str:
    column, ids = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT jsonb_array_elements_text(CAST({ids} AS JSONB)))"


def among(column: ColumnElement[Any], ids: Sequence[str]) -> ColumnElement[bool]:
    """Whether a column is one of many ids."""
    return _Among(column, bindparam(None, json.dumps(ids), type_=Text))
