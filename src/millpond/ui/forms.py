"""What forms of several pages share: acts after which the page is loaded again, questions before, names of people."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from millpond.identity.domain import Principal, PrincipalKind
from millpond.ui.elements import TextField, button, el, query_field
from millpond.ui.visit import Visit

Act = Callable[[], Awaitable[None]]
Names = Sequence[tuple[str, str]]
"""Names of users, service principals and groups, each with what it is."""
_SUGGESTED = 200
_PRINCIPALS = "mp-principals"


def reloading(visit: Visit, work: Callable[[Principal], Any], *, then: str | None = None) -> Act:
    """A handler that does something, then loads the page again, or goes to the address `then`; or says why not."""

    async def act() -> None:
        if (await visit.act(work)).notify_error().ok:
            ui.navigate.to(then) if then else ui.navigate.reload()

    return act


def ask_first(text: str, question: str, act: Act, *, symbol: str = "delete", what: str = "") -> None:
    """A button for what cannot be undone: it asks in its own place, with the focus on the way back.

    With `what` it is one of many in a list, small, and named after that line.
    """
    place = el("div", cls="mp-row")
    looks = {"kind": "mp-quiet mp-danger" if what else "mp-danger", "symbol": symbol}
    name = f"{text} {what}" if what else None

    def show() -> None:
        place.clear()
        with place:
            button(text, ask, aria_label=name, **looks)

    def ask() -> None:
        place.clear()
        with place:
            el("span", question, role="alert")
            button(text, act, aria_label=name, **looks)
            button("Cancel", show, autofocus=True)

    show()


@contextmanager
def form(act: Act, *, label: str, cls: str = "mp-row mp-form") -> Iterator[None]:
    """A form whose Enter key and submit button do the same."""
    with el("form", cls=cls, aria_label=label).on("submit.prevent", act, args=[]):
        yield


def submit(text: str) -> None:
    """The button of a form."""
    with el("button", cls="mp-button mp-primary", type="submit"):
        el("span", text)


@contextmanager
def labelled(text: str) -> Iterator[None]:
    """A field under a visible label."""
    with el("div", cls="mp-field"):
        el("span", text, aria_hidden="true")
        yield


def principal_names(visit: Visit) -> Names:
    """Names to suggest; any other that exists may be typed."""
    names = []
    for kind in (PrincipalKind.GROUP, PrincipalKind.USER, PrincipalKind.SERVICE_PRINCIPAL):
        found = visit.services.directory.list(visit.principal, kind, count=_SUGGESTED, with_members=False)
        for entry in found.entries:
            shown = entry.account.display_name
            names.append((entry.account.name, kind.words if shown == entry.account.name else f"{shown}, {kind.words}"))
    return names


def suggest(names: Names) -> None:
    """The suggestions that the principal fields of this page share."""
    with el("datalist", id=_PRINCIPALS):
        for name, what in names:
            el("option", what, value=name)


def principal_field(label: str) -> TextField:
    """A field for the name of a user, service principal or group."""
    return TextField(label=label, placeholder="ann@example.com, a group", maxlength="255", list=_PRINCIPALS)


def principal_input(label: str, name: str, value: str) -> None:
    """The same, for a form whose values go into the address."""
    query_field(name, label, value, "ann@example.com", list=_PRINCIPALS)
