"""The HTTP of discovery, which is ours alone."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.catalog.search import Found, Wanted
from millpond.discovery.service import DiscoveryService
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import rfc3339

_Me = Annotated[Principal, Depends(current_principal)]


def discovery_router(service: DiscoveryService) -> APIRouter:
    """Search."""
    router = APIRouter()

    @router.get("/api/millpond/search")
    def search(
        me: _Me,
        q: str = "",
        type: str = "",
        tag: str = "",
        owner: str = "",
        certified: str = "",
        limit: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        kinds = frozenset(filter(None, (kind.strip().replace("_", " ") for kind in type.lower().split(","))))
        status = {"true": "certified"}.get(certified, certified)
        wanted = Wanted(text=q, kinds=kinds, tag=tag, owner=owner, certification=status)
        page = service.search(me, wanted, limit=limit, page_token=page_token)
        shown: dict[str, Any] = {"results": [found_json(found) for found in page.items]}
        return shown | ({"next_page_token": page.next_page_token} if page.next_page_token else {})

    return router


def found_json(found: Found) -> dict[str, Any]:
    """An object that was found; what is not known of it is left out."""
    told = {
        "owner": found.owner,
        "comment": found.comment[:1000],
        "tags": [{"key": key, "value": value} for key, value in sorted(found.tags.items())],
        "columns": list(found.columns),
        "certification_status": found.certification,
        "updated_at": rfc3339(found.updated_at) if found.updated_at else "",
    }
    known = {key: value for key, value in told.items() if value}
    return {"type": found.kind, "name": found.full_name, "id": found.id, **known}
