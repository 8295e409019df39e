"""Somebody's reach as SQL: the same rule as `identity.access.allows`, for lists that must not read all to show some."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, and_, false, or_, true

from millpond.identity.access import Act
from millpond.identity.domain import NO_GRANTS, Principal
from millpond.identity.privileges import CONTAINERS, Privilege, ways
from millpond.kernel.database import among

Q = TypeVar("Q", bound=Select[Any])


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The objects of a kind to which a principal may do something; of every kind where nobody is named."""

    principal: Principal | None
    kind: str = ""
    act: Act = Act.SEE
    within: frozenset[Privilege] | None = None
    """What the principal holds on the containers of all the objects, where those are known and not the principal's
    own: then only the objects themselves are looked at."""

    def narrow(self, query: Q, *levels: FromClause) -> Q:
        """The query of objects of the kind, limited; `levels` are the objects' own table and those of containers."""
        if self.principal is None or self.principal.is_admin:
            return query
        if self.within is not None:
            levels = levels[:1]
        names = (self.principal.name, *sorted(self.principal.groups))
        owned = or_(*(level.c.owner.in_(names) for level in levels))
        places = list(zip((self.kind, *CONTAINERS[self.kind]), levels, strict=False))
        lacking = {way - (self.within or frozenset()) for way in ways(self.kind, self.act)}
        one = {each for way in lacking if len(way) == 1 for each in way}
        several = (sorted(way) for way in lacking if len(way) != 1)
        granted = (and_(true(), *(self._held({each}, places) for each in way)) for way in several)
        return query.where(or_(owned, self._held(one, places), *granted))

    def _held(self, privileges: Collection[Privilege], places: Sequence[tuple[str, FromClause]]) -> ColumnElement[bool]:
        """Whether one of the privileges is held on the object or a container."""
        grants = self.principal.grants if self.principal else NO_GRANTS
        found = (
            (level, sorted({each for privilege in privileges for each in grants.ids(kind, privilege)}))
            for kind, level in places
        )
        return or_(false(), *(among(level.c.id, ids) for level, ids in found if ids))


EVERYTHING = Reach(principal=None)
