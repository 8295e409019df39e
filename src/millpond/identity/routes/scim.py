"""SCIM 2.0, on the workspace's paths and on the account's: here an account has one workspace, and shares its number."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Principal, PrincipalKind
from millpond.identity.filters import SortKey, attribute_name, parse_filter
from millpond.identity.middleware import current_principal
from millpond.identity.routes.account import only_account
from millpond.identity.wire.patches import patched
from millpond.identity.wire.scim import RESOURCES, draft_of, list_of, me_of, resource_of, select_attributes
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.http import join, read_json

ORG_HEADER = "X-Databricks-Org-Id"
_DEFAULT_COUNT = 100

Asker = Annotated[Principal, Depends(current_principal)]
Body = Annotated[dict[str, Any], Depends(read_json)]


def router(directory: DirectoryService, workspace_id: int) -> APIRouter:
    """SCIM below each of its prefixes."""
    joined = APIRouter()
    join(
        joined,
        _scim(APIRouter(prefix="/api/2.0/preview/scim/v2"), directory, workspace_id),
        _scim(APIRouter(prefix="/api/2.0/account/scim/v2"), directory, workspace_id),
        _scim(
            APIRouter(prefix="/api/2.0/accounts/{account_id}/scim/v2", dependencies=[only_account(workspace_id)]),
            directory,
            workspace_id,
        ),
    )
    return joined


def _scim(router: APIRouter, directory: DirectoryService, workspace_id: int) -> APIRouter:
    headers = {ORG_HEADER: str(workspace_id)}

    @router.get("/Me")
    def me(principal: Asker, request: Request) -> Response:
        body = me_of(directory.get(principal, principal.kind, principal.id))
        return JSONResponse(_selected(body, request), headers=headers)

    for kind, resources in RESOURCES.items():
        _add_kind(router, directory, kind, f"/{resources}")
    return router


def _add_kind(router: APIRouter, directory: DirectoryService, kind: PrincipalKind, path: str) -> None:
    """The calls of one kind of account."""

    @router.get(path)
    def list_accounts(
        principal: Asker,
        request: Request,
        start_index: Annotated[str | None, Query(alias="startIndex")] = None,
        count: str | None = None,
    ) -> Response:
        query = request.query_params
        shown_members = "members" not in (query.get("excludedAttributes") or "").split(",")
        attributes = query.get("attributes")
        listing = directory.list(
            principal,
            kind,
            wanted=parse_filter(query["filter"]) if query.get("filter") else None,
            sort=_sort(query),
            start_index=_number(start_index, "startIndex", 1),
            count=_number(count, "count", _DEFAULT_COUNT),
            with_members=shown_members and (not attributes or "members" in attributes.casefold()),
        )
        shown = [_selected(resource_of(entry), request) for entry in listing.entries]
        return JSONResponse(list_of(listing, shown))

    @router.post(path)
    def create_account(principal: Asker, body: Body) -> Response:
        return JSONResponse(resource_of(directory.create(principal, kind, draft_of(kind, body))), status_code=201)

    @router.get(path + "/{member_id}")
    def get_account(principal: Asker, member_id: str, request: Request) -> Response:
        return JSONResponse(_selected(resource_of(directory.get(principal, kind, member_id)), request))

    @router.put(path + "/{member_id}")
    def replace_account(principal: Asker, member_id: str, body: Body) -> Response:
        entry = directory.update(principal, kind, member_id, lambda old: draft_of(kind, body, old))
        return JSONResponse(resource_of(entry))

    @router.patch(path + "/{member_id}")
    def patch_account(principal: Asker, member_id: str, body: Body) -> Response:
        entry = directory.update(principal, kind, member_id, lambda old: patched(kind, old, body))
        return JSONResponse(resource_of(entry))

    @router.delete(path + "/{member_id}")
    def delete_account(principal: Asker, member_id: str) -> Response:
        directory.delete(principal, kind, member_id)
        return Response(status_code=204)


def _selected(resource: Mapping[str, Any], request: Request) -> dict[str, Any]:
    query = request.query_params
    return select_attributes(resource, query.get("attributes"), query.get("excludedAttributes"))


def _sort(query: Mapping[str, str]) -> SortKey | None:
    if not query.get("sortBy"):
        return None
    order = query.get("sortOrder", "ascending").casefold()
    if order not in {"ascending", "descending"}:
        raise InvalidArgument(f"sortOrder is '{order[:40]}'; give ascending or descending.")
    return SortKey(attribute=attribute_name(query["sortBy"]), descending=order == "descending")


def _number(text: str | None, name: str, default: int) -> int:
    if text is None or text == "":
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 9:
        raise InvalidArgument(f"{name} is '{text[:40]}'; give a whole number.")
    return int(text)
