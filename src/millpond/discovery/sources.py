"""How the rooms outside the catalog are searched."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from millpond.catalog.search import Found, Wanted, score
from millpond.discovery.service import Source
from millpond.identity.domain import Principal
from millpond.jobs.viewing import JobViews
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.errors import InvalidArgument, Unavailable
from millpond.serving.service import ServingService
from millpond.sql.alerts.service import AlertService
from millpond.sql.queries import QueryService
from millpond.sql.room import SqlRoom

_MODELS = 100
"""The registry holds those of the catalog too, which must not use up the limit."""


class Tracking(Protocol):
    """Experiments and registered models; raises Unavailable while MLflow is being loaded."""

    def list_experiments(self, principal: Principal, *, text: str = "") -> Any:
        """A page of experiments whose names hold the text."""

    def list_models(self, principal: Principal, *, text: str = "", limit: int = 50) -> Any:
        """A page of registered models whose names hold the text."""


def sources(tracking: Tracking, serving: ServingService, sql: SqlRoom, jobs: JobViews) -> dict[str, Source]:
    """All of them, by the kind of what they find."""
    return {
        "registered model": lambda principal, wanted, limit: _models(tracking, principal, wanted, limit),
        "experiment": lambda principal, wanted, limit: _experiments(tracking, principal, wanted),
        "endpoint": lambda principal, wanted, limit: _endpoints(serving, principal, wanted),
        "query": lambda principal, wanted, limit: _queries(sql.queries, principal, wanted, limit),
        "alert": lambda principal, wanted, limit: _alerts(sql.alerts, principal, wanted, limit),
        "job": lambda principal, wanted, limit: _jobs(jobs, principal, wanted, limit),
    }


def _models(tracking: Tracking, principal: Principal, wanted: Wanted, limit: int) -> Iterator[Found]:
    """Models of the workspace; those with three-level names are the catalog's."""
    for model in _asked(
        lambda text: tracking.list_models(principal, text=text, limit=max(limit, _MODELS)).items, wanted
    ):
        if model.name.count(".") != 2:
            yield from _fitting(
                wanted, "registered model", model.name, comment=model.description, tags=model.tags,
                updated_ms=model.updated_ms,
            )  # fmt: skip


def _experiments(tracking: Tracking, principal: Principal, wanted: Wanted) -> Iterator[Found]:
    for experiment in _asked(lambda text: tracking.list_experiments(principal, text=text).items, wanted):
        yield from _fitting(
            wanted, "experiment", experiment.name, id=experiment.id, owner=experiment.owner, comment=experiment.note,
            updated_ms=experiment.updated_ms,
        )  # fmt: skip


def _asked(ask: Any, wanted: Wanted) -> Iterable[Any]:
    """What MLflow finds for the longest word; nothing for what its filters cannot hold, or while it is being loaded."""
    try:
        return list(ask(max(wanted.words, key=len, default="")))
    except (InvalidArgument, Unavailable):
        return ()


def _endpoints(serving: ServingService, principal: Principal, wanted: Wanted) -> Iterator[Found]:
    for endpoint in serving.list_endpoints(principal):
        yield from _fitting(
            wanted, "endpoint", endpoint.name, id=endpoint.id, owner=endpoint.creator, comment=endpoint.description,
            tags=endpoint.tags, updated_at=endpoint.updated_at,
        )  # fmt: skip


def _queries(queries: QueryService, principal: Principal, wanted: Wanted, limit: int) -> Iterator[Found]:
    for query in queries.search(principal, wanted.words, limit=limit):
        yield from _fitting(
            wanted, "query", query.draft.name, id=query.id, owner=query.owner, updated_at=query.updated_at,
            comment=f"{query.draft.description}\n{query.draft.text}".strip(), tags=dict.fromkeys(query.draft.tags, ""),
        )  # fmt: skip


def _alerts(alerts: AlertService, principal: Principal, wanted: Wanted, limit: int) -> Iterator[Found]:
    """Alerts whose names hold the longest word."""
    text = max(wanted.words, key=len, default="")
    for alert in alerts.list_page(principal, text=text, max_results=limit).items:
        yield from _fitting(
            wanted, "alert", alert.draft.name, id=alert.id, owner=alert.owner, comment=str(alert.draft.condition),
            updated_at=alert.updated_at,
        )  # fmt: skip


def _jobs(jobs: JobViews, principal: Principal, wanted: Wanted, limit: int) -> Iterator[Found]:
    """Jobs whose names hold the longest word."""
    text = max(wanted.words, key=len, default="")
    for listed in jobs.jobs(principal, text=text, owner=wanted.owner, tag=wanted.tag, limit=limit).items:
        settings = listed.job.settings
        yield from _fitting(
            wanted, "job", listed.job.name, id=str(listed.job.id), owner=listed.job.creator,
            comment=str(settings.get("description") or ""), tags=settings.get("tags") or {},
        )  # fmt: skip


def _fitting(wanted: Wanted, kind: str, name: str, *, updated_ms: int | None = None, **told: Any) -> Iterator[Found]:
    found = {"id": name, "owner": "", "comment": "", "tags": {}, "updated_at": None} | told
    worth = score(wanted, name, tags=found["tags"], comment=found["comment"], owner=found["owner"])
    if worth is not None:
        if updated_ms is not None:
            found["updated_at"] = from_epoch_ms(updated_ms)
        yield Found(kind=kind, full_name=name, score=worth, **found)
