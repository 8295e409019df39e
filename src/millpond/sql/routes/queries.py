"""The APIs of saved queries and of the query history."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.sql.domain import HistoryFilter
from millpond.sql.queries import QueryService
from millpond.sql.wire import QueryBody, history_json, query_json, states_of

_API = "/api/2.0/sql/queries"
_MAX_MS = 253_402_300_799_999
_MAX_VALUES = 200
_Me = Annotated[Principal, Depends(current_principal)]


def add(routes: APIRouter, service: QueryService) -> None:
    """Saved queries and history."""
    _add_queries(routes, service)

    @routes.get("/api/2.0/sql/history/queries")
    def history(
        me: _Me,
        request: Request,
        include_metrics: bool = False,
        max_results: Annotated[int | None, Query(ge=0)] = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        page = service.history(me, _filter(request), max_results=max_results, page_token=page_token)
        found: dict[str, Any] = {
            "res": [history_json(statement, metrics=include_metrics) for statement in page.items],
            "has_next_page": page.next_page_token is not None,
        }
        return found | ({"next_page_token": page.next_page_token} if page.next_page_token else {})


def _add_queries(routes: APIRouter, service: QueryService) -> None:
    @routes.post(_API)
    def create(me: _Me, body: QueryBody) -> dict[str, Any]:
        return query_json(service.create(me, body.query.draft()))

    @routes.get(_API)
    def list_page(
        me: _Me, page_size: Annotated[int | None, Query(ge=0)] = None, page_token: str | None = None
    ) -> dict[str, Any]:
        page = service.list_page(me, max_results=page_size, page_token=page_token)
        found: dict[str, Any] = {"results": [query_json(query) for query in page.items]}
        return found | ({"next_page_token": page.next_page_token} if page.next_page_token else {})

    @routes.get(_API + "/{query_id}")
    def get(me: _Me, query_id: str) -> dict[str, Any]:
        return query_json(service.get(me, query_id))

    @routes.patch(_API + "/{query_id}")
    def update(me: _Me, query_id: str, body: QueryBody) -> dict[str, Any]:
        mask = body.update_mask
        changed = service.update(
            me, query_id, lambda draft: body.query.change(draft, mask), owner=body.query.owner(mask)
        )
        return query_json(changed)

    @routes.delete(_API + "/{query_id}")
    def trash(me: _Me, query_id: str) -> dict[str, Any]:
        service.trash(me, query_id)
        return {}


def _filter(request: Request) -> HistoryFilter:
    """The parameters `filter_by.*`. Raises InvalidArgument."""

    def values(name: str) -> tuple[str, ...]:
        found = tuple(request.query_params.getlist(f"filter_by.{name}"))
        if len(found) > _MAX_VALUES or any("\0" in value for value in found):
            raise InvalidArgument(f"filter_by.{name} has more than {_MAX_VALUES} values, or one with NUL.")
        return found

    def moment(name: str) -> Any:
        found = values(f"query_start_time_range.{name}")
        if not found:
            return None
        if not found[0].isdecimal() or int(found[0]) > _MAX_MS:
            raise InvalidArgument(f"filter_by.query_start_time_range.{name} is '{found[0][:40]}'; give milliseconds.")
        return from_epoch_ms(int(found[0]))

    return HistoryFilter(
        statement_ids=values("statement_ids"),
        states=tuple(state for status in values("statuses") for state in states_of(status)),
        warehouse_ids=values("warehouse_ids"),
        principal_ids=values("user_ids"),
        submitted_from=moment("start_time_ms"),
        submitted_until=moment("end_time_ms"),
    )
