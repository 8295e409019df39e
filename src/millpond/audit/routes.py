"""`GET /api/millpond/audit`: the audit for programs that do not speak Spark."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.audit.domain import Filter
from millpond.audit.service import AuditService
from millpond.audit.wire import json_of
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal

_Me = Annotated[Principal, Depends(current_principal)]


def router(service: AuditService, *, workspace_id: int) -> APIRouter:
    """The one route."""
    routes = APIRouter()

    @routes.get("/api/millpond/audit")
    def list_entries(
        me: _Me,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        user: str | None = None,
        service_name: str | None = None,
        action_name: str | None = None,
        object_kind: str | None = None,
        object_name: str | None = None,
        source_ip_address: str | None = None,
        failed: bool | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        wanted = Filter(
            since=_aware(start_time),
            until=_aware(end_time),
            actor=user,
            service=service_name,
            action=action_name,
            kind=object_kind,
            name=object_name,
            address=source_ip_address,
            failed=failed,
        )
        page = service.list_entries(me, wanted, max_results=max_results, page_token=page_token)
        events = [json_of(link, workspace_id) for link in page.items]
        return {"events": events, **({"next_page_token": page.next_page_token} if page.next_page_token else {})}

    return routes


def _aware(moment: datetime | None) -> datetime | None:
    """A moment without a zone is meant in UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
