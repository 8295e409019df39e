"""Unity Catalog's REST API for grants, as the Databricks SDK and unitycatalog-client call it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from millpond.catalog.routes.unity import Caller, Who
from millpond.catalog.service import CatalogService
from millpond.catalog.wire import grants as wire
from millpond.identity.domain import Principal
from millpond.identity.grants import Assignment
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import decode_token, encode_token

_API = "/api/2.1/unity-catalog"
_SMALLEST_PAGE = 150
_PAGE = 1000
_KINDS = {"view": "table", "database": "schema", "registered_model": "model", "registered-model": "model"}
_Client = Annotated[Caller, Depends()]


class _Pages:
    """A page is so many privileges, with all of a principal's on one page; without `max_results` there is but one.

    Source: the SDK's documentation of `grants.get`.
    """

    def __init__(
        self, max_results: Annotated[int | None, Query()] = None, page_token: str | None = None, principal: str = ""
    ) -> None:
        if max_results is not None and (max_results < 0 or 0 < max_results < _SMALLEST_PAGE):
            raise InvalidArgument(
                f"max_results is {max_results}; give 0 for the server's page size, or at least {_SMALLEST_PAGE}."
            )
        self._size = None if max_results is None else min(max_results or _PAGE, _PAGE)
        self._after = decode_token(page_token)
        self.principal = principal or None

    def cut(self, found: Sequence[Assignment]) -> tuple[Sequence[Assignment], str | None]:
        """The assignments of this page, and the token of the next."""
        names = [assignment.grantee for assignment in found]
        start = names.index(self._after) + 1 if self._after in names else 0
        rest, count = found[start:], 0
        for at, assignment in enumerate(rest):
            count += len(assignment.granted)
            if self._size is not None and at and count > self._size:
                return rest[:at], encode_token(rest[at - 1].grantee)
        return rest, None


_Paging = Annotated[_Pages, Depends()]


def grants_router(catalog: CatalogService) -> APIRouter:
    """What was granted on an object, itself and by its containers; granting and revoking."""
    router = APIRouter()

    def answer(found: Sequence[Assignment], paging: _Pages, show: Callable[[Assignment], Any]) -> dict[str, Any]:
        page, token = paging.cut(found)
        shown: dict[str, Any] = {"privilege_assignments": [show(assignment) for assignment in page]}
        return shown | ({"next_page_token": token} if token else {})

    @router.get(_API + "/permissions/{securable_type}/{full_name:path}")
    def get(me: Who, client: _Client, paging: _Paging, securable_type: str, full_name: str) -> dict[str, Any]:
        kind = _kind(catalog, me, securable_type, full_name)
        found = catalog.grants_on(me, kind, full_name, grantee=paging.principal)
        return answer(found, paging, lambda each: wire.assignment_json(each, blanks=client.writes_blanks))

    @router.get(_API + "/effective-permissions/{securable_type}/{full_name:path}")
    def get_effective(me: Who, paging: _Paging, securable_type: str, full_name: str) -> dict[str, Any]:
        kind = _kind(catalog, me, securable_type, full_name)
        found = catalog.grants_on(me, kind, full_name, grantee=paging.principal, inherited=True)
        return answer(found, paging, lambda each: wire.effective_json(each, kind))

    @router.patch(_API + "/permissions/{securable_type}/{full_name:path}")
    def update(
        me: Who, client: _Client, securable_type: str, full_name: str, body: wire.UpdatePermissions
    ) -> dict[str, Any]:
        kind = _kind(catalog, me, securable_type, full_name)
        catalog.change_grants(me, kind, full_name, [change.change for change in body.changes])
        found = catalog.grants_on(me, kind, full_name)
        return {"privilege_assignments": [wire.assignment_json(each, blanks=client.writes_blanks) for each in found]}

    return router


def _kind(catalog: CatalogService, me: Principal, securable_type: str, full_name: str) -> str:
    """The kind that a client means. To the Databricks API a model is a FUNCTION, if no function has the name."""
    kind = _KINDS.get(securable_type.lower(), securable_type.lower())
    if kind != "function":
        return kind
    try:
        catalog.grants_on(me, "function", full_name)
    except NotFound:
        return "model"
    return kind
