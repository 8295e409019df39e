"""Rollout: the canary with its buttons, a form that begins one, and how shadows compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.serving.canary.domain import UNDER_WAY, Asked, Canary, Guardrails, Seen, State
from millpond.serving.canary.service import Report
from millpond.serving.domain import Config, Shadow
from millpond.serving.shadowing import Tally
from millpond.ui.elements import (
    Cell,
    DataTable,
    SelectField,
    TableColumn,
    TextField,
    Tone,
    badge,
    button,
    card,
    el,
    facts,
    move_on,
    notice,
)
from millpond.ui.endpoint.view import EndpointTab, View
from millpond.ui.forms import ask_first, form, labelled, reloading, submit

_POLL_S = 2.0
_TONES: dict[State, Tone] = {
    State.RUNNING: "info",
    State.PAUSED: "warn",
    State.COMPLETED: "good",
    State.ROLLED_BACK: "bad",
}
_SEEN = (
    TableColumn(label="In this step", grow=True),
    TableColumn(label="Requests", numeric=True),
    TableColumn(label="Failed", numeric=True),
    TableColumn(label="p50", numeric=True),
    TableColumn(label="p99", numeric=True),
)
_SHADOWS = (
    TableColumn(label="Served entity", grow=True),
    TableColumn(label="Copies of", numeric=True),
    TableColumn(label="Same", numeric=True),
    TableColumn(label="Different", numeric=True),
    TableColumn(label="Failed", numeric=True),
    TableColumn(label="Dropped", numeric=True, optional=True),
    TableColumn(label="Largest difference", numeric=True),
)


@dataclass(frozen=True, kw_only=True)
class _Rollout:
    report: Report | None
    shadows: Sequence[tuple[Shadow, Tally]]

    @property
    def is_under_way(self) -> bool:
        """Whether a canary is on its way."""
        return self.report is not None and self.report.canary.state in UNDER_WAY


def _load(view: View) -> _Rollout:
    services, principal, name = view.visit.services, view.visit.principal, view.endpoint.name
    return _Rollout(
        report=services.canaries.find(principal, name), shadows=services.endpoint_options.get_shadows(principal, name)
    )


def _draw(view: View, found: _Rollout) -> None:
    with el("div", cls="mp-stack"):
        with card("Canary"), el("div", cls="mp-stack"):
            place = el("div", cls="mp-stack")
            with place:
                _draw_report(found.report)
            if found.is_under_way and view.may_manage:
                _draw_buttons(view, found.report)
            elif view.may_manage and view.endpoint.active is not None:
                _draw_form(view, view.endpoint.active)
        if found.shadows:
            with card("Shadows"):
                el("p", "Copies of requests whose answers nobody gets, as this server has counted them.", cls="mp-note")
                DataTable(label="Shadows", columns=_SHADOWS, rows=[_shadow(*each) for each in found.shadows])
    if found.is_under_way:
        _follow(view, place)


def _draw_report(report: Report | None) -> None:
    if report is None:
        el("p", "No version has taken over in steps yet.", cls="mp-muted")
        return
    canary = report.canary
    with el("div", cls="mp-row"):
        badge(canary.state.value.replace("_", " ").lower(), _TONES.get(canary.state, "plain"))
        el("strong", f"{canary.entity} takes over from {canary.baseline}")
    with el("ol", cls="mp-steps", aria_label="Steps"):
        for place, percent in enumerate(canary.steps):
            is_now = place == canary.step
            done = place < canary.step or canary.state is State.COMPLETED
            state = "mp-done" if done else "mp-current" if is_now and canary.state in UNDER_WAY else ""
            el("li", f"{percent} %", cls=state, aria_current="step" if is_now else None)
    notice(report.outlook, _TONES.get(canary.state, "info"))
    rows = [_seen(canary.entity, canary.counts.canary), _seen(canary.baseline, canary.counts.baseline)]
    DataTable(label="What was counted", columns=_SEEN, rows=rows)
    facts([*_rails(canary), ("Begun", Cell(time_ms=epoch_ms(canary.created_at))), ("By", canary.creator)])


def _rails(canary: Canary) -> list[tuple[str, str | None]]:
    rails, counts = canary.guardrails, canary.counts
    errors, different = rails.max_error_increase, rails.max_different
    so_far = f"{counts.different} of {counts.compared} so far"
    return [
        ("A step lasts", f"{canary.step_minutes:g} minutes and {rails.min_requests} requests"),
        ("Errors", None if errors is None else f"at most {100 * errors:g} points more"),
        ("p50", _times(rails.max_p50_factor, rails.latency_slack_ms)),
        ("p99", _times(rails.max_p99_factor, rails.latency_slack_ms)),
        ("Differing answers", None if different is None else f"at most {100 * different:g} %; {so_far}"),
    ]


def _times(factor: float | None, slack_ms: float) -> str | None:
    return None if factor is None else f"at most {factor:g} times, and {slack_ms:g} ms"


def _seen(name: str, seen: Seen) -> list[Cell | str]:
    times = [seen.latency_s.quantile(share) for share in (0.5, 0.99)]
    told = ["" if each is None else f"{1000 * each:.3g} ms" for each in times]
    return [Cell(text=name), f"{seen.requests:,}", f"{seen.errors:,}", *told]


def _shadow(shadow: Shadow, tally: Tally) -> list[Cell | str]:
    counts = [f"{each:,}" for each in (tally.same, tally.different, tally.failed, tally.dropped)]
    return [Cell(text=shadow.entity), f"{shadow.percent} %", *counts, f"{tally.largest_difference:.6g}"]


def _draw_buttons(view: View, report: Report | None) -> None:
    canaries, name = view.visit.services.canaries, view.endpoint.name
    assert report is not None, "it is under way"

    def acting(work: Callable[[Principal, str], Any]) -> Callable[[], Any]:
        return reloading(view.visit, lambda principal: work(principal, name))

    with el("div", cls="mp-row mp-buttons"):
        if report.canary.state is State.PAUSED:
            button("Resume", acting(canaries.resume), symbol="play_arrow")
        else:
            button("Pause", acting(canaries.pause), symbol="pause")
        ask_first(
            "Promote now", f"Give {report.canary.entity} all the traffic at once?", acting(canaries.promote),
            symbol="done_all",
        )  # fmt: skip
        ask_first("Abort", "Put the traffic back as it was before?", acting(canaries.abort), symbol="undo")


def _draw_form(view: View, config: Config) -> None:
    shares = {route.entity: route.percent for route in config.routes}
    candidates = [entity.name for entity in config.entities if shares.get(entity.name, 0) < 100]
    if not candidates:
        el("p", "Add another served entity to the configuration, with 0 % of the traffic, to let it take over.",
           cls="mp-muted")  # fmt: skip
        return

    def begin(principal: Principal) -> object:
        asked = Asked(
            entity=entity.value,
            steps=tuple(int(numeric(each, "Steps")) for each in steps.value.split(",")),
            step_minutes=numeric(minutes.value, "Minutes"),
            guardrails=Guardrails(
                min_requests=int(numeric(requests.value, "Requests")),
                max_error_increase=_or_none(errors.value, "Errors", 100),
                max_p99_factor=_or_none(p99.value, "p99"),
            ),
        )
        return view.visit.services.canaries.begin(principal, view.endpoint.name, asked)

    with form(reloading(view.visit, begin), label="Begin a canary"):
        with labelled("Takes over"):
            entity = SelectField(
                label="Served entity that takes over",
                choices=[(each, each) for each in candidates],
                value=candidates[0],
            )
        steps = _field("Steps, %", ",".join(map(str, Asked.steps)))
        minutes = _field("Minutes for each", f"{Asked.step_minutes:g}")
        requests = _field("Requests for each", str(Guardrails.min_requests))
        errors = _field("Errors, points more", "1")
        p99 = _field("p99, times", f"{Guardrails.max_p99_factor:g}")
        submit("Begin")


def _field(text: str, value: str) -> TextField:
    with labelled(text):
        return TextField(label=text, value=value)


def _or_none(text: str, what: str, divisor: float = 1) -> float | None:
    return numeric(text, what) / divisor if text.strip() else None


def numeric(text: str, what: str) -> float:
    """The number that somebody typed. Raises InvalidArgument."""
    try:
        return float(text.strip().rstrip("%"))
    except ValueError as error:
        raise InvalidArgument(f"{what}: '{text.strip()[:40]}' is no number.") from error


def _follow(view: View, place: ui.element) -> None:
    """Draw the canary anew while it is on its way; load the page again when that ends."""

    async def look() -> None:
        outcome = await view.visit.act(
            lambda principal: view.visit.services.canaries.find(principal, view.endpoint.name)
        )
        if outcome.value is None or outcome.value.canary.state not in UNDER_WAY:
            timer.deactivate()
            move_on()
            return
        place.clear()
        with place:
            _draw_report(outcome.value)

    timer = ui.timer(_POLL_S, look)


ROLLOUT = EndpointTab(key="rollout", label="Rollout", load=_load, draw=_draw)
