"""`/api/millpond/access/explain`: why somebody has a privilege on an object, or what is missing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.domain import Principal
from millpond.identity.grants import Explanation, Find, GrantService
from millpond.identity.middleware import current_principal
from millpond.identity.privileges import privilege_named
from millpond.identity.wire.access import explanation_json
from millpond.kernel.errors import InvalidArgument

Finders = Mapping[str, Callable[[str], Find]]
"""For each type of object, how one of a name is found."""
Narrowed = Callable[[Explanation], Sequence[Mapping[str, str]]]
"""What of an object is kept from somebody who may read it, as `Explanation` says."""
_Me = Annotated[Principal, Depends(current_principal)]


def access_router(grants: GrantService, finders: Finders, narrowed: Narrowed) -> APIRouter:
    """For objects of every room that gave its finders."""
    router = APIRouter()

    @router.get("/api/millpond/access/explain")
    def explain(me: _Me, privilege: str, securable_type: str, name: str, principal: str = "") -> dict[str, Any]:
        finder = finders.get(securable_type.lower())
        if finder is None:
            known = ", ".join(sorted(finders))
            raise InvalidArgument(f"There is no type '{securable_type[:40]}' to ask about; known are {known}.")
        told = grants.explain(me, principal or me.name, privilege_named(privilege), finder(name))
        return explanation_json(told, narrowed(told))

    return router
