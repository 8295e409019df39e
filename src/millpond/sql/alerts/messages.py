"""What those are told who subscribed to an alert, in its own words where it has some."""

import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser

from millpond.notifications.domain import Notice
from millpond.sql.alerts.domain import SIGNS, Alert, AlertState, Verdict

_WORDS = {
    AlertState.TRIGGERED: "is triggered", AlertState.OK: "is OK again", AlertState.ERROR: "cannot be evaluated",
}  # fmt: skip
_LONGEST_TEXT = 20_000
_LONGEST_CELL = 60


def about(alert_id: str) -> str:
    """Under what the log of deliveries keeps what was told of an alert."""
    return f"alert {alert_id}"


def path_of(alert_id: str) -> str:
    """Where an alert is shown."""
    return f"/sql/alerts/{alert_id}"


def notice_of(alert: Alert, verdict: Verdict, *, base_url: str) -> Notice:
    """What is told of an evaluation."""
    draft, condition = alert.draft, alert.draft.condition
    subject = f"Alert {draft.name} {_WORDS.get(verdict.state, verdict.state.lower())}"
    text = f"{subject}\n\nCondition: {condition}\nValue: {verdict.value or '-'}"
    if verdict.message:
        text += f"\n{verdict.message}"
    if verdict.state is not AlertState.ERROR:
        names = _names(alert, verdict, base_url)
        subject = _filled(draft.subject, names, draft.template_format) or subject
        text = _filled(draft.body, names, draft.template_format) or text
    body = {
        "event_type": f"alert.{verdict.state.lower()}",
        "alert": {
            "alert_id": alert.id, "display_name": draft.name, "state": verdict.state.value,
            "condition": str(condition), "value": verdict.value,
        },
        "subject": subject, "message": text,
    }  # fmt: skip
    return Notice(event=f"alert.{verdict.state.lower()}", subject=subject, text=text, body=body, path=path_of(alert.id))


def _names(alert: Alert, verdict: Verdict, base_url: str) -> Mapping[str, Callable[[], str]]:
    """What a template may name. Source: Databricks' "Custom alert templates"."""
    draft, condition = alert.draft, alert.draft.condition
    url = base_url + path_of(alert.id)
    return {
        "ALERT_STATUS": lambda: verdict.state.value,
        "ALERT_CONDITION": lambda: SIGNS[condition.operator],
        "ALERT_THRESHOLD": lambda: condition.threshold_text,
        "ALERT_COLUMN": lambda: str(condition.source),
        "ALERT_NAME": lambda: draft.name,
        "ALERT_URL": lambda: url,
        "QUERY_NAME": lambda: verdict.query_name,
        "QUERY_URL": lambda: f"{base_url}/sql?query={draft.query_id}" if draft.query_id else url,
        "QUERY_RESULT_VALUE": lambda: verdict.value,
        "QUERY_RESULT_TABLE": lambda: _table(verdict),
        "QUERY_RESULT_ROWS": lambda: "\n".join(", ".join(_cell(value) for value in row) for row in verdict.rows),
        "QUERY_RESULT_COLS": lambda: ", ".join(verdict.columns),
    }


def _filled(template: str, names: Mapping[str, Callable[[], str]], form: str) -> str:
    """A template with what it names in place; messages are plain text, so its tags go before values come."""
    found = template if form == "MARKDOWN" else _plain(template)
    pattern = r"\{\{\s*(\w+)\s*\}\}" + (r"|@([A-Z_]+)\b" if form == "MARKDOWN" else "")

    parts, length, at = [], 0, 0
    for match in re.finditer(pattern, found):
        name = match[1] or (match[2] if form == "MARKDOWN" else "")
        parts += [found[at : match.start()], names[name]() if name in names else match[0]]
        length += len(parts[-2]) + len(parts[-1])
        at = match.end()
        if length > _LONGEST_TEXT:  # before it is put together, as a template may name a table 500 times
            break
    return "".join([*parts, found[at:]]).strip()[:_LONGEST_TEXT]


def _plain(template: str) -> str:
    if "<" not in template and "&" not in template:
        return template
    reader = _Text()
    reader.feed(template)
    reader.close()
    return "".join(reader.parts)


class _Text(HTMLParser):
    """The text of HTML, with its line breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """A tag that begins a line does so."""
        if tag in ("br", "p", "div", "li", "tr", "h1", "h2", "h3"):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Text."""
        self.parts.append(data)


def _table(verdict: Verdict) -> str:
    rows = [verdict.columns, *([_cell(value) for value in row] for row in verdict.rows)]
    rows = [[cell[:_LONGEST_CELL] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(value: str | None) -> str:
    return "NULL" if value is None else " ".join(value.split())
