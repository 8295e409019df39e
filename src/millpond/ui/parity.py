"""Parity checks as a card of a model's page: those of all versions, and a form that asks for one."""

from collections.abc import Sequence
from typing import Any

from millpond.kernel.clock import epoch_ms
from millpond.parity.domain import State
from millpond.parity.store import Check
from millpond.registry.checks import Replay
from millpond.ui import urls
from millpond.ui.elements import Cell, DataTable, Rows, SelectField, TableColumn, TextField, Tone, el
from millpond.ui.forms import form, reloading, submit
from millpond.ui.visit import Visit

TONES: dict[State, Tone] = {State.PASSED: "good", State.FAILED: "bad", State.ERROR: "warn"}
_SHOWN = 20
_COLUMNS = (
    TableColumn(label="Version"),
    TableColumn(label="Outcome"),
    TableColumn(label="Found", grow=True),
    TableColumn(label="For", short=True, optional=True),
    TableColumn(label="When"),
)


def draw_parity(visit: Visit, name: str, versions: Sequence[str], checks: Sequence[Check]) -> None:
    """The card's content."""
    if checks:
        DataTable(label="Parity checks", columns=_COLUMNS, rows=_rows(checks[:_SHOWN]))
    else:
        el("p", "No keys have been replayed yet to compare what training and serving give this model.", cls="mp-muted")
    if versions:
        _draw_form(visit, name, versions)


def _rows(checks: Sequence[Check]) -> Rows:
    return [
        [
            Cell(text=f"Version {each.version}", href=urls.parity_url(each.id)),
            Cell(badges=((each.state.value, TONES.get(each.state, "info")),)),
            Cell(text=each.message[:600]),
            each.requester,
            Cell(time_ms=epoch_ms(each.created_at)),
        ]
        for each in checks
    ]


def _draw_form(visit: Visit, name: str, versions: Sequence[str]) -> None:
    def ask(principal: Any) -> Any:
        asked = Replay(keys=keys.value.strip() or None)
        return visit.services.parity.begin(principal, f"models:/{name}/{version.value}", asked)

    with form(reloading(visit, ask), label="Check parity"):
        choices = [(each, f"Version {each}") for each in versions]
        version = SelectField(label="Version to check", choices=choices, value=versions[0])
        keys = TextField(label="Table of requests", placeholder="Else keys of the feature tables")
        submit("Check parity")
