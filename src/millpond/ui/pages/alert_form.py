"""The form of an alert: a new one, or one to be changed."""

from dataclasses import dataclass, replace

from nicegui import ui

from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument
from millpond.notifications.domain import Destination, Target
from millpond.sql.alerts.domain import (
    SIGNS,
    Aggregation,
    Alert,
    AlertDraft,
    AlertState,
    Condition,
    Operand,
    Operator,
    Schedule,
)
from millpond.sql.domain import STARTER_ID, SavedQuery, Warehouse
from millpond.ui import alert_forms as forms
from millpond.ui import urls
from millpond.ui.elements import CheckField, Crumb, SelectField, TextField, button_link, card, el, notice, page_header
from millpond.ui.forms import form, labelled, submit
from millpond.ui.pages.alerts import CRUMBS
from millpond.ui.sql_completion import Home, SqlCompletion
from millpond.ui.visit import Page, Visit

_MOST = 200
_EMPTY = AlertDraft(
    name="",
    condition=Condition(source=Operand(column=""), operator=Operator.GREATER_THAN, threshold=0.0),
    warehouse_id=STARTER_ID,
    schedule=Schedule(cron="0 0 * * * ?", timezone="UTC"),
)


@dataclass(frozen=True, kw_only=True)
class _Data:
    alert: Alert | None
    draft: AlertDraft
    queries: tuple[SavedQuery, ...]
    warehouses: tuple[Warehouse, ...]
    destinations: tuple[Destination, ...]


def _load(visit: Visit) -> _Data:
    room, who = visit.services.sql, visit.principal
    alert = room.alerts.get(who, visit.path["alert"]) if "alert" in visit.path else None
    draft = alert.draft if alert else _EMPTY
    if alert is None and (asked := visit.query.get("query")):
        draft = replace(draft, query_id=asked, name=room.queries.get(who, asked).draft.name)
    return _Data(
        alert=alert,
        draft=draft,
        queries=room.queries.list_page(who, max_results=_MOST).items,
        warehouses=room.warehouses.list_all(who),
        destinations=visit.services.destinations.list(who, limit=_MOST, page_token=None).items,
    )


def _draw(visit: Visit, data: _Data) -> None:
    title = f"Edit {data.alert.draft.name}" if data.alert else "New alert"
    page_header(title, symbol="notifications", crumbs=[*CRUMBS, Crumb(label="Alerts", href=urls.ALERTS)])
    _Form(visit, data).draw()


class _Form:
    """The fields, and what they say."""

    def __init__(self, visit: Visit, data: _Data) -> None:
        self._visit = visit
        self._data = data

    def draw(self) -> None:
        """Draw all, and the place where it is said what is wrong."""
        with el("div", cls="mp-stack"), form(self._save, label="Alert", cls="mp-stack"):
            self._draw_question(self._data.draft)
            self._draw_condition(self._data.draft.condition)
            self._draw_schedule(self._data.draft.schedule)
            self._draw_messages(self._data.draft)
            self._mistake = el("div", role="alert")
            with el("div", cls="mp-actions"):
                submit("Save")
                back = urls.alert_url(self._data.alert.id) if self._data.alert else urls.ALERTS
                button_link("Cancel", back)

    def _draw_question(self, draft: AlertDraft) -> None:
        with card("What it asks"):
            with el("div", cls="mp-row mp-form"):
                with labelled("Name"):
                    self._name = TextField(label="Name", value=draft.name, maxlength="255")
                with labelled("Query"):
                    saved = [(query.id, query.draft.name) for query in self._data.queries]
                    if draft.query_id and draft.query_id not in dict(saved):
                        saved.append((draft.query_id, "another's saved query"))
                    self._query = SelectField(
                        label="Query", choices=[("", "the text below"), *saved], value=draft.query_id or ""
                    )
                with labelled("Warehouse"):
                    known = [(each.id, each.spec.name) for each in self._data.warehouses]
                    if draft.warehouse_id and draft.warehouse_id not in dict(known):
                        known.append((draft.warehouse_id, "another's warehouse"))
                    self._warehouse = SelectField(
                        label="Warehouse",
                        choices=[("", "the query's, or starter"), *known],
                        value=draft.warehouse_id or "",
                    )
            self._text = ui.codemirror(draft.query_text, language="SQL", theme="vscodeLight")
            self._text.classes("mp-editor").style("margin-top: 12px")
            self._text.props["aria-label"] = "SQL of the alert"
            SqlCompletion(self._visit, self._text, [Home(catalog="main", schema="default")])
            self._text.set_visibility(not draft.query_id)
            self._query.element.on("change", lambda: self._text.set_visibility(not self._query.value), args=[])
            el("p", "A query that reads; names in full: catalog.schema.table.", cls="mp-note")

    def _draw_condition(self, condition: Condition) -> None:
        kind, text, aggregation = forms.threshold_of(condition)
        with card("When it is triggered"), el("div", cls="mp-row mp-form mp-filters"):
            with labelled("Column"):
                self._column = TextField(label="Column", value=condition.source.column, maxlength="255")
            with labelled("Of it"):
                self._aggregation = _aggregation("Of it", condition.source.aggregation)
            with labelled("Is"):
                signs = [(operator.value, sign) for operator, sign in SIGNS.items()]
                self._operator = SelectField(label="Is", choices=signs, value=condition.operator.value)
            with labelled("Threshold"):
                self._threshold = TextField(label="Threshold", value=text)
            with labelled("The threshold is a"):
                kinds = [(each, each) for each in forms.KINDS]
                self._kind = SelectField(label="The threshold is a", choices=kinds, value=kind)
            with el("div", cls="mp-field") as other, labelled("Of that column"):
                self._other = _aggregation("Of that column", aggregation)
            other.set_visibility(kind == forms.COLUMN)
            self._kind.element.on("change", lambda: other.set_visibility(self._kind.value == forms.COLUMN), args=[])
            with labelled("Without rows it is"):
                states = [(each.value, each.value.lower()) for each in (*AlertState,)]
                self._empty = SelectField(label="Without rows it is", choices=states, value=condition.empty_state.value)

    def _draw_schedule(self, schedule: Schedule | None) -> None:
        with card("When it asks"):
            with el("div", cls="mp-row mp-form"):
                with labelled("Quartz cron expression"):
                    self._cron = TextField(
                        label="Quartz cron expression", value=schedule.cron if schedule else "",
                        placeholder="0 30 6 * * ?",
                    )  # fmt: skip
                with labelled("Time zone"):
                    zone = schedule.timezone if schedule else "UTC"
                    self._zone = TextField(label="Time zone", value=zone, placeholder="Europe/Vienna")
            self._paused = CheckField("Paused", checked=bool(schedule and schedule.paused))
            note = "Seconds, minutes, hours, day of the month, month, day of the week: 0 0/15 * * * ? is each quarter."
            el("p", f"{note} Without one it waits to be asked to.", cls="mp-note")

    def _draw_messages(self, draft: AlertDraft) -> None:
        addresses = [each.address for each in draft.subscriptions if each.address]
        chosen = {each.destination_id for each in draft.subscriptions}
        with card("Whom it tells"):
            with el("div", cls="mp-row mp-form"):
                with labelled("E-mail addresses"):
                    self._addresses = TextField(
                        label="E-mail addresses", value=", ".join(addresses), placeholder="ann@example.com, ..."
                    )
                with labelled("Again after seconds"):
                    self._again = TextField(label="Again after seconds", value=str(draft.retrigger_s or ""),
                                            placeholder="never", inputmode="numeric")  # fmt: skip
            self._destinations = {}
            if self._data.destinations:
                with el("fieldset", cls="mp-checks"):
                    el("legend", "Destinations")
                    for each in self._data.destinations:
                        label = f"{each.name} ({each.kind.lower()})"
                        self._destinations[each.id] = CheckField(label, checked=each.id in chosen)
            self._on_ok = CheckField("Also when it is OK again", checked=draft.notify_on_ok)
            self._muted = CheckField("Muted: it is evaluated and tells nobody", checked=draft.muted)
            with el("details", cls="mp-disclosure", open=True if draft.subject or draft.body else None):
                el("summary", "In its own words", cls="mp-link")
                with labelled("Subject"):
                    self._subject = TextField(label="Subject", value=draft.subject, maxlength="255")
                with labelled("Message"):
                    self._body = TextField(label="Message", value=draft.body, lines=4)
                names = "{{ALERT_NAME}} {{ALERT_STATUS}} {{ALERT_CONDITION}} {{ALERT_THRESHOLD}} {{QUERY_RESULT_VALUE}}"
                el("p", f"It may name {names} {{{{QUERY_RESULT_TABLE}}}} {{{{ALERT_URL}}}}.", cls="mp-note")

    # -- what they say --------------------------------------------------------------------------------------------

    def _draft(self, before: AlertDraft) -> AlertDraft:
        """Raises InvalidArgument."""
        cron, zone = self._cron.value.strip(), self._zone.value.strip()
        known = set(self._destinations)
        kept = [each for each in before.subscriptions if each.destination_id and each.destination_id not in known]
        told = [Target(address=each) for each in self._addresses.value.replace(",", " ").replace(";", " ").split()]
        told += [Target(destination_id=key) for key, field in self._destinations.items() if field.checked]
        return replace(
            before,
            name=self._name.value.strip(),
            query_id=self._query.value or None,
            query_text="" if self._query.value else self._text.value,
            warehouse_id=self._warehouse.value or None,
            condition=self._condition(before.condition),
            schedule=Schedule(cron=cron, timezone=zone, paused=self._paused.checked) if cron else None,
            subscriptions=forms.in_order(before.subscriptions, [*told, *kept]),
            notify_on_ok=self._on_ok.checked,
            muted=self._muted.checked,
            retrigger_s=_whole(self._again.value, "Again after seconds"),
            subject=self._subject.value,
            body=self._body.value,
        )

    def _condition(self, before: Condition) -> Condition:
        return forms.condition_of(
            before,
            column=self._column.value,
            aggregation=self._aggregation.value,
            operator=Operator(self._operator.value),
            kind=self._kind.value,
            threshold=self._threshold.value,
            other=self._other.value,
            empty_state=AlertState(self._empty.value),
        )

    async def _save(self) -> None:
        service, alert = self._visit.services.sql.alerts, self._data.alert

        def save(who: Principal) -> Alert:
            if alert is None:
                return service.create(who, self._draft(_EMPTY))
            return service.update(who, alert.id, lambda before: self._draft(before.draft))

        outcome = await self._visit.act(save)
        if outcome.value is not None:
            ui.navigate.to(urls.alert_url(outcome.value.id))
            return
        self._mistake.clear()
        with self._mistake:
            notice(outcome.error, "bad")


def _aggregation(label: str, value: Aggregation | None) -> SelectField:
    choices = [("", "the first row"), *((each.value, each.value.lower().replace("_", " ")) for each in Aggregation)]
    return SelectField(label=label, choices=choices, value=value.value if value else "")


def _whole(text: str, what: str) -> int:
    text = text.strip() or "0"
    if not text.isdecimal() or len(text) > 9:
        raise InvalidArgument(f"{what}: '{text[:40]}' is no whole number.")
    return int(text)


PAGES = (
    Page(path="/sql/alerts/new", section="sql", load=_load, draw=_draw, title=lambda _visit, _data: "New alert"),
    Page(path="/sql/alerts/{alert}/edit", section="sql", load=_load, draw=_draw, title=lambda _v, _d: "Edit an alert"),
)
