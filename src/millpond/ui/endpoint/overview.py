"""Overview: what the endpoint serves, how it does, and how the traffic is divided."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from millpond.catalog.names import ObjectName
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.serving.canary.domain import UNDER_WAY, Canary
from millpond.serving.capture import CaptureState
from millpond.serving.domain import Config, Deployment, Route, ServedEntity, Update, WorkloadType
from millpond.serving.limits import LimitKey, RateLimit
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    TableColumn,
    Tone,
    card,
    code_block,
    el,
    facts,
    link,
    notice,
)
from millpond.ui.endpoint.view import EndpointTab, View, model_words
from millpond.ui.forms import form, reloading, submit

LONGEST_SHOWN = 100_000
_DEPLOYMENTS: dict[Deployment, tuple[str, Tone]] = {
    Deployment.CREATING: ("starting", "info"),
    Deployment.READY: ("ready", "good"),
    Deployment.RECOVERING: ("recovering", "warn"),
    Deployment.FAILED: ("failed", "bad"),
    Deployment.ABORTED: ("stopped", "plain"),
}
_COLUMNS = (
    TableColumn(label="Served entity"),
    TableColumn(label="Model", grow=True),
    TableColumn(label="Traffic", numeric=True),
    TableColumn(label="Concurrency", optional=True),
    TableColumn(label="State"),
)


@dataclass(frozen=True, kw_only=True)
class _Overview:
    capture: CaptureState | None
    """How the inference table is doing, where requests are kept."""
    canary: Canary | None
    """One that is under way."""


def _load(view: View) -> _Overview:
    kept = view.endpoint.active.capture if view.endpoint.active else None
    states = view.visit.services.serving.capture_states(view.endpoint)
    report = view.visit.services.canaries.find(view.visit.principal, view.endpoint.name)
    return _Overview(
        capture=states.get(kept.table_id) if kept is not None and kept.enabled else None,
        canary=report.canary if report is not None and report.canary.state in UNDER_WAY else None,
    )


def _draw(view: View, found: _Overview) -> None:
    endpoint = view.endpoint
    with el("div", cls="mp-stack"):
        if found.canary is not None:
            _draw_canary(view, found.canary)
        if endpoint.pending is not None:
            failed = endpoint.update is Update.FAILED
            _draw_config("The last update failed" if failed else "Coming up", endpoint.pending)
        if endpoint.active is not None:
            _draw_config("Serving now", endpoint.active)
            if view.may_manage and len(endpoint.active.entities) > 1:
                _draw_split(view, endpoint.active)
        with card("About"):
            facts(
                [
                    ("Owner", endpoint.creator),
                    ("Created", Cell(time_ms=epoch_ms(endpoint.created_at))),
                    ("Changed", Cell(time_ms=epoch_ms(endpoint.updated_at))),
                    ("Inference table", _capture_cell(found.capture)),
                    ("Rate limits", ", ".join(map(_limit, endpoint.rate_limits))),
                    ("Mail when updated", ", ".join(endpoint.notifications.on_update_success)),
                    ("Mail when an update fails", ", ".join(endpoint.notifications.on_update_failure)),
                    *[(key, value) for key, value in sorted(endpoint.tags.items())],
                ]
            )


def _draw_canary(view: View, canary: Canary) -> None:
    with notice(f"{canary.entity} is taking over, and has {canary.percent} % of the traffic. ", "info"):
        link("Its canary", view.visit.link(tab="rollout"))
        el("span", "ends when the traffic is changed here.", cls="mp-note")


def _limit(limit: RateLimit) -> str:
    whose = "in all" if limit.key is LimitKey.ENDPOINT else f"for {limit.principal or 'each user'}"
    return f"{limit.calls:,} a minute {whose}"


def _capture_cell(capture: CaptureState | None) -> Cell | None:
    """The table, and why it is not written to if it is not."""
    if capture is None:
        return None
    return Cell(
        text=capture.name,
        href=urls.object_url("table", ObjectName.of_full_name(capture.name)),
        note=capture.message or None,
        badges=(("failed", "bad"),) if capture.message else (),
    )


def _draw_config(title: str, config: Config) -> None:
    shares = {route.entity: route.percent for route in config.routes}
    with card(title), el("div", cls="mp-stack"):
        rows: Rows = [
            [
                Cell(text=entity.name),
                Cell(
                    text=model_words(entity),
                    href=None if entity.model.is_spec else urls.model_url(entity.model.name, entity.model.version),
                ),
                f"{shares.get(entity.name, 0)} %",
                _size(entity),
                Cell(badges=(_DEPLOYMENTS[entity.state.deployment],)),
            ]
            for entity in config.entities
        ]
        DataTable(label=title, columns=_COLUMNS, rows=rows)
        for entity in config.entities:
            _draw_entity_trouble(entity)


def _size(entity: ServedEntity) -> str:
    """How many requests at a time it is meant for, and on what."""
    asked = entity.concurrency
    least = 0 if entity.scale_to_zero else asked.minimum
    size = "" if entity.provisioned else f"{entity.workload_size.value}: "
    kind = "" if entity.workload_type is WorkloadType.CPU else f", {entity.workload_type.value}"
    many = f"{least} to {asked.maximum}" if least < asked.maximum else str(asked.maximum)
    return f"{size}{many}{kind}"


def _draw_entity_trouble(entity: ServedEntity) -> None:
    state = entity.state
    if entity.reference_note:
        notice(f"{entity.name}: {entity.reference_note}", "warn")
    failed = state.deployment is Deployment.FAILED
    if failed or state.deployment in {Deployment.RECOVERING, Deployment.ABORTED}:
        reason, traceback = split_traceback(state.message)
        notice(f"{entity.name}: {reason}", "bad" if failed else "warn", role="alert")
        if traceback:
            code_block(traceback[-LONGEST_SHOWN:], title="Traceback").classes("mp-trace")
    if failed and state.build_log:
        code_block(state.build_log[-LONGEST_SHOWN:], title=f"What {entity.name} said").classes("mp-trace")


def split_traceback(message: str) -> tuple[str, str]:
    """What went wrong in words, and Python's traceback where the message holds one.

    Without words before it, the traceback's last line says what went wrong.
    """
    reason, mark, rest = message.partition("Traceback (most recent call last)")
    traceback = (mark + rest).strip()
    reason = reason.strip() or (traceback.splitlines()[-1] if traceback else "It did not say why.")
    return reason, traceback


# The split


class _Split:
    """Sliders whose shares always add up to 100: moving one takes from the others, the largest first."""

    def __init__(self, shares: Mapping[str, int]) -> None:
        self.shares = dict(shares)
        self._sliders: dict[str, Any] = {}
        self._told: dict[str, Any] = {}

    def draw(self) -> None:
        """A slider for each entity."""
        for name, share in self.shares.items():
            with el("label", cls="mp-slider"):
                el("span", name, cls="mp-slider-name")
                slider = el(
                    "input", type="range", min="0", max="100", value=str(share), aria_label=f"Traffic of {name}"
                )
                moved_here = partial(self._moved, name)
                slider.on("input", moved_here, throttle=0.1, js_handler="(event) => emit(event.target.value)")
                self._sliders[name] = slider
                self._told[name] = el("output", f"{share} %")

    def _moved(self, name: str, event: Any) -> None:
        self.shares = moved(self.shares, name, int(event.args))
        for each, share in self.shares.items():
            self._told[each].text = f"{share} %"
            self._told[each].update()
            if each != name:
                self._sliders[each].props["value"] = str(share)
                self._sliders[each].update()


def moved(shares: Mapping[str, int], name: str, percent: int) -> dict[str, int]:
    """The shares after one was set: what is missing to 100 goes to the largest other, what is too much goes from it."""
    found = dict(shares) | {name: max(0, min(100, percent))}
    for other in sorted((each for each in found if each != name), key=lambda each: -found[each]):
        rest = 100 - sum(found.values())
        found[other] = max(0, found[other] + rest)
        if sum(found.values()) == 100:
            break
    return found


def _draw_split(view: View, config: Config) -> None:
    given = {route.entity: route.percent for route in config.routes}
    split = _Split({entity.name: given.get(entity.name, 0) for entity in config.entities})

    def save(principal: Principal) -> object:
        routes = [Route(entity=name, percent=share) for name, share in split.shares.items()]
        return view.visit.services.serving.update_config(principal, view.endpoint.name, entities=None, routes=routes)

    with card("Traffic"), form(reloading(view.visit, save), label="Divide the traffic", cls="mp-stack"):
        split.draw()
        with el("div", cls="mp-row"):
            submit("Save traffic")
            el("span", "Takes effect at once; no request is lost, and no process is started.", cls="mp-note")


OVERVIEW = EndpointTab(key="overview", label="Overview", load=_load, draw=_draw)
