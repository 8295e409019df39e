"""The Pipelines API, as `databricks-sdk` calls it, and what processes of updates tell."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.kernel.paging import decode_token, encode_token
from millpond.kernel.shapes import validated
from millpond.pipelines.domain import Cause
from millpond.pipelines.filters import events_like, is_ascending, pipelines_like
from millpond.pipelines.service import Order, PipelineService, refuse_cascade
from millpond.pipelines.settings import StartInput
from millpond.pipelines.wire import delivery_json, event_json, pipeline_json, status_json, update_json

_PATH = "/api/2.0/pipelines"
_ONE = _PATH + "/{pipeline_id}"
_MOST_PIPELINES, _MOST_EVENTS, _MOST_UPDATES, _DEFAULT = 100, 250, 100, 25
_CAUSES = {each.value: each for each in Cause}
_Me = Annotated[Principal, Depends(current_principal)]
_Any = Annotated[dict[str, Any], Body()]
_OrderBy = Annotated[list[str] | None, Query()]


class ToldInput(BaseModel):
    """What a process tells."""

    events: list[Any]


def pipelines_router(service: PipelineService) -> APIRouter:
    """All of it."""
    router = APIRouter()
    _add_pipelines(router, service)
    _add_updates(router, service)
    _add_events(router, service)
    return router


def _add_pipelines(router: APIRouter, service: PipelineService) -> None:
    @router.post(_PATH)
    def create(me: _Me, body: _Any) -> dict[str, Any]:
        shares_name, dry_run = bool(body.pop("allow_duplicate_names", None)), bool(body.pop("dry_run", None))
        body.pop("id", None)
        if dry_run:
            return {"effective_settings": service.check(me, body)}
        return {"pipeline_id": service.create(me, body, shares_name=shares_name).id}

    @router.get(_PATH)
    def list_all(
        me: _Me, filter: str | None = None, order_by: _OrderBy = None, max_results: int = _DEFAULT,
        page_token: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        field, upward = is_ascending(order_by, ("id", "name"), "id asc")
        page = service.list(
            me, pipelines_like(filter), Order(by_name=field == "name", upward=upward), page_token=page_token,
            limit=_bounded(max_results, _MOST_PIPELINES),
        )  # fmt: skip
        return {
            "statuses": [status_json(each) for each in page.items],
            **({"next_page_token": page.next_page_token} if page.next_page_token else {}),
        }

    @router.get(_ONE)
    def get(me: _Me, pipeline_id: str) -> dict[str, Any]:
        return pipeline_json(service.get(me, pipeline_id))

    @router.put(_ONE)
    def update(me: _Me, pipeline_id: str, body: _Any) -> dict[str, Any]:
        shares_name, expected_ms = bool(body.pop("allow_duplicate_names", None)), body.pop("expected_last_modified", 0)
        for name in ("id", "pipeline_id"):
            if body.pop(name, None) not in (None, pipeline_id):
                raise InvalidArgument(f"{name} is that of another pipeline; leave it out.")
        if expected_ms is not None and not isinstance(expected_ms, int):
            raise InvalidArgument("expected_last_modified is a number of milliseconds.")
        service.update(me, pipeline_id, body, shares_name=shares_name, expected_ms=expected_ms or None)
        return {}

    @router.delete(_ONE)
    def delete(me: _Me, pipeline_id: str, cascade: bool | None = None, force: bool | None = None) -> dict[str, Any]:
        refuse_cascade(cascade)
        service.delete(me, pipeline_id)
        return {}

    @router.post(_ONE + "/clone")
    def clone(me: _Me, pipeline_id: str) -> None:
        service.get(me, pipeline_id)
        raise NotImplementedHere("Pipelines are not cloned here; create one with the same settings.")

    @router.get("/api/millpond/pipelines/{pipeline_id}/notifications")
    def notifications(me: _Me, pipeline_id: str) -> dict[str, Any]:
        return {"notifications": [delivery_json(each) for each in service.told_about(me, pipeline_id)]}


def _add_updates(router: APIRouter, service: PipelineService) -> None:
    @router.post(_ONE + "/updates")
    def start(me: _Me, pipeline_id: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:
        given = validated(StartInput, body or {})
        cause = given.cause or Cause.API_CALL.value
        if cause not in _CAUSES:
            raise InvalidArgument(f"cause is one of {', '.join(_CAUSES)}.")
        update = service.start_update(me, pipeline_id, given.asked, _CAUSES[cause])
        return {"update_id": update.id, "request_id": update.id}

    @router.post(_ONE + "/stop")
    def stop(me: _Me, pipeline_id: str) -> dict[str, Any]:
        service.stop(me, pipeline_id)
        return {}

    @router.get(_ONE + "/updates")
    def list_updates(
        me: _Me, pipeline_id: str, max_results: int = _DEFAULT, page_token: str | None = None,
        until_update_id: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        page = service.list_updates(
            me, pipeline_id, until_id=until_update_id, page_token=page_token,
            limit=_bounded(max_results, _MOST_UPDATES),
        )  # fmt: skip
        told: dict[str, Any] = {"updates": [update_json(each) for each in page.items]}
        return told | ({"next_page_token": page.next_page_token} if page.next_page_token else {})

    @router.get(_ONE + "/updates/{update_id}")
    def get_update(me: _Me, pipeline_id: str, update_id: str) -> dict[str, Any]:
        pipeline, update = service.get_update(me, pipeline_id, update_id)
        return {"update": update_json(update, pipeline)}


def _add_events(router: APIRouter, service: PipelineService) -> None:
    @router.get(_ONE + "/events")
    def events(
        me: _Me, pipeline_id: str, filter: str | None = None, order_by: _OrderBy = None, max_results: int = _DEFAULT,
        page_token: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        beyond = None
        if page_token:  # which says the rest
            beyond, filter, upward = _read(page_token)
        else:
            _, upward = is_ascending(order_by, ("timestamp",), "timestamp desc")
        found, last = service.events(
            me, pipeline_id, events_like(filter), upward=upward, beyond=beyond,
            limit=_bounded(max_results, _MOST_EVENTS),
        )  # fmt: skip
        told: dict[str, Any] = {"events": [event_json(each) for each in found]}
        more = {} if last is None else {"next_page_token": encode_token(json.dumps([last, filter, upward]))}
        return told | more

    @router.post("/api/millpond/pipelines/updates/events")
    def tell(me: _Me, body: ToldInput) -> dict[str, Any]:
        service.note(me, body.events)
        return {}


def _read(page_token: str) -> tuple[int, str | None, bool]:
    try:
        beyond, filter, upward = json.loads(decode_token(page_token) or "")
        if (
            not isinstance(beyond, int)
            or abs(beyond) >= 1 << 63
            or not isinstance(filter, str | None)
            or not isinstance(upward, bool)
        ):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise InvalidArgument("page_token is not one that this server gave; start again without it.") from error
    return beyond, filter, upward


def _bounded(max_results: int, most: int) -> int:
    """A page's length. Raises InvalidArgument."""
    if not 0 <= max_results <= most:
        raise InvalidArgument(f"max_results is {max_results}; it is 1 to {most}.")
    return max_results or _DEFAULT
