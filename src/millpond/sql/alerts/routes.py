"""The APIs of alerts: on saved queries, the older form of the same, on texts, and our own for evaluations."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import NotFound
from millpond.kernel.shapes import validated
from millpond.sql.alerts import wire, wire_v2
from millpond.sql.alerts.domain import Alert, AlertDraft
from millpond.sql.alerts.masks import masked
from millpond.sql.alerts.service import AlertService
from millpond.sql.alerts.wire import AlertBody, AlertInput, LegacyInput, UpdateBody, alert_json, legacy_json
from millpond.sql.alerts.wire_v2 import AlertV2Input, NewAlertV2Input, alert_v2_json, run_as_of

_SAVED, _LEGACY, _TEXTS = "/api/2.0/sql/alerts", "/api/2.0/preview/sql/alerts", "/api/2.0/alerts"
_OURS = "/api/millpond/alerts"
_MOST_LEGACY = 1000
_Me = Annotated[Principal, Depends(current_principal)]
_Size = Annotated[int | None, Query(ge=0)]


def add(routes: APIRouter, service: AlertService) -> None:
    """All of them."""
    _add_saved(routes, service)
    _add_legacy(routes, service)
    _add_texts(routes, service)
    _add_evaluations(routes, service)


def _add_saved(routes: APIRouter, service: AlertService) -> None:
    @routes.post(_SAVED)
    def create(me: _Me, body: AlertBody) -> dict[str, Any]:
        return alert_json(service.create(me, body.alert.draft()))

    @routes.get(_SAVED)
    def list_page(me: _Me, page_size: _Size = None, page_token: str | None = None) -> dict[str, Any]:
        page = service.list_page(me, saved=True, max_results=page_size, page_token=page_token)
        return _page("results", [alert_json(alert) for alert in page.items], page.next_page_token)

    @routes.get(_SAVED + "/{alert_id}")
    def get(me: _Me, alert_id: str) -> dict[str, Any]:
        return alert_json(_of_kind(service.get(me, alert_id), saved=True))

    @routes.patch(_SAVED + "/{alert_id}")
    def update(me: _Me, alert_id: str, body: UpdateBody) -> dict[str, Any]:
        def change(alert: Alert) -> AlertDraft:
            found = masked(alert_json(_of_kind(alert, saved=True)), body.alert, body.update_mask, wire.FIELDS)
            return validated(AlertInput, found).draft(alert.draft, body.update_mask)

        owner = wire.update_of(body.alert, body.update_mask, "owner_user_name")
        return alert_json(service.update(me, alert_id, change, owner=owner))

    @routes.delete(_SAVED + "/{alert_id}")
    def trash(me: _Me, alert_id: str) -> dict[str, Any]:
        _of_kind(service.get(me, alert_id), saved=True)
        service.trash(me, alert_id)
        return {}


def _add_legacy(routes: APIRouter, service: AlertService) -> None:
    @routes.post(_LEGACY)
    def create(me: _Me, body: LegacyInput) -> dict[str, Any]:
        return legacy_json(service.create(me, body.draft()))

    @routes.get(_LEGACY)
    def list_all(me: _Me) -> list[dict[str, Any]]:
        return [legacy_json(alert) for alert in service.list_page(me, saved=True, max_results=_MOST_LEGACY).items]

    @routes.get(_LEGACY + "/{alert_id}")
    def get(me: _Me, alert_id: str) -> dict[str, Any]:
        return legacy_json(_of_kind(service.get(me, alert_id), saved=True))

    @routes.put(_LEGACY + "/{alert_id}")
    def update(me: _Me, alert_id: str, body: LegacyInput) -> dict[str, Any]:
        return legacy_json(service.update(me, alert_id, lambda alert: body.draft(_of_kind(alert, saved=True).draft)))

    @routes.delete(_LEGACY + "/{alert_id}")
    def delete(me: _Me, alert_id: str) -> dict[str, Any]:
        _of_kind(service.get(me, alert_id), saved=True)
        service.trash(me, alert_id, purge=True)
        return {}


def _add_texts(routes: APIRouter, service: AlertService) -> None:
    @routes.post(_TEXTS)
    def create(me: _Me, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        return alert_v2_json(service.create(me, validated(NewAlertV2Input, body).draft(), run_as=run_as_of(body)))

    @routes.get(_TEXTS)
    def list_page(me: _Me, page_size: _Size = None, page_token: str | None = None) -> dict[str, Any]:
        page = service.list_page(me, saved=False, max_results=page_size, page_token=page_token)
        return _page("alerts", [alert_v2_json(alert) for alert in page.items], page.next_page_token)

    @routes.get(_TEXTS + "/{alert_id}")
    def get(me: _Me, alert_id: str) -> dict[str, Any]:
        return alert_v2_json(_of_kind(service.get(me, alert_id), saved=False))

    @routes.patch(_TEXTS + "/{alert_id}")
    def update(me: _Me, alert_id: str, update_mask: str, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        def change(alert: Alert) -> AlertDraft:
            before = alert_v2_json(_of_kind(alert, saved=False))
            return validated(AlertV2Input, masked(before, body, update_mask, wire_v2.FIELDS)).draft(alert.draft)

        named = {name.strip().split(".")[0] for name in update_mask.split(",")}
        asked = run_as_of(body) if named & {"*", "run_as", "run_as_user_name"} else None
        return alert_v2_json(service.update(me, alert_id, change, run_as=asked))

    @routes.delete(_TEXTS + "/{alert_id}")
    def trash(me: _Me, alert_id: str, purge: bool = False) -> dict[str, Any]:
        _of_kind(service.get(me, alert_id), saved=False)
        service.trash(me, alert_id, purge=purge)
        return {}


def _add_evaluations(routes: APIRouter, service: AlertService) -> None:
    @routes.post(_OURS + "/{alert_id}/evaluate")
    def evaluate(me: _Me, alert_id: str) -> dict[str, Any]:
        return wire.evaluation_json(service.run(me, alert_id))

    @routes.get(_OURS + "/{alert_id}/evaluations")
    def evaluations(me: _Me, alert_id: str, max_results: _Size = None, page_token: str | None = None) -> dict[str, Any]:
        page = service.evaluations(me, alert_id, max_results=max_results, page_token=page_token)
        return _page("evaluations", [wire.evaluation_json(each) for each in page.items], page.next_page_token)


def _of_kind(alert: Alert, *, saved: bool) -> Alert:
    """The alert, where it is one of this API: on a saved query, or on a text. Raises NotFound."""
    if (alert.draft.query_id is not None) is not saved:
        other = "w.alerts_v2" if saved else "w.alerts"
        raise NotFound(f"Alert '{alert.id}' is one of {other}, not of this API.")
    return alert


def _page(name: str, items: list[dict[str, Any]], token: str | None) -> dict[str, Any]:
    return {name: items} | ({"next_page_token": token} if token else {})
