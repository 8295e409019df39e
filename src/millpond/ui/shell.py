"""What surrounds every page: the sidebar, the top bar with search, and the page's own place between them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nicegui.element import Element

from millpond.audit.domain import AUDIT
from millpond.catalog.search import Wanted
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.errors import MillpondError
from millpond.ui import urls
from millpond.ui.elements import button_link, code_block, el, icon, logo
from millpond.ui.search import Hit, search
from millpond.ui.theme import Theme
from millpond.ui.visit import Page, Visit


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the sidebar."""

    section: str
    label: str
    href: str
    symbol: str
    shown: Callable[[Principal], bool] = lambda _principal: True
    """To whom; the page itself checks again."""


SIDEBAR: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("", (Entry(section="home", label="Home", href="/", symbol="home"),)),
    (
        "Data",
        (
            Entry(section="catalog", label="Catalog", href="/catalog", symbol="account_tree"),
            Entry(section="sql", label="SQL", href="/sql", symbol="terminal"),
            Entry(section="jobs", label="Jobs", href=urls.JOBS, symbol="schema"),
            Entry(section="pipelines", label="Pipelines", href=urls.PIPELINES, symbol="water"),
            Entry(section="compute", label="Compute", href=urls.COMPUTE, symbol="memory"),
        ),
    ),
    (
        "Machine learning",
        (
            Entry(section="features", label="Features", href=urls.FEATURES, symbol="dataset"),
            Entry(section="experiments", label="Experiments", href="/experiments", symbol="science"),
            Entry(section="models", label="Models", href="/models", symbol="deployed_code"),
            Entry(section="serving", label="Serving", href="/serving", symbol="cloud_queue"),
        ),
    ),
    (
        "Governance",
        (
            Entry(section="users", label="Users", href=urls.USERS, symbol="group"),
            Entry(
                section="audit",
                label="Audit",
                href=urls.AUDIT,
                symbol="history",
                shown=lambda principal: allows(principal, Act.READ, AUDIT),
            ),
            Entry(section="secrets", label="Secrets", href=urls.SECRETS, symbol="key"),
            Entry(section="cost", label="Cost", href=urls.COST, symbol="payments"),
        ),
    ),
)
"""Groups of entries; a room that comes later adds its line here."""


class _SearchBox(Element, component="components/search_box.js"):
    """The search field of the top bar."""

    def __init__(self, visit: Visit) -> None:
        super().__init__()
        self.props["query"] = visit.query.get("q", "") if visit.url.startswith("/search") else ""
        self._visit = visit
        self.on("ask", self._answer)

    async def _answer(self, event: Any) -> None:
        text = str(event.args)[:200]
        outcome = await self._visit.act(
            lambda principal: search(self._visit.services, principal, Wanted(text=text), limit=8)
        )
        hits: tuple[Hit, ...] = outcome.value or ()
        self.run_method("answer", text, [hit.to_wire() for hit in hits])


@contextmanager
def frame(visit: Visit, page: Page[Any]) -> Iterator[None]:
    """Draw the sidebar and the top bar; what is drawn inside becomes the page."""
    with el("div", cls="mp-shell"):
        el("a", "Skip to content", cls="mp-skip", href="#mp-main")
        _draw_sidebar(visit.principal, page.section)
        _draw_top_bar(visit)
        with el("main", cls="mp-main", id="mp-main", tabindex="-1"):
            yield
        el("div", "", cls="mp-hidden", id="mp-live", role="status", aria_live="polite")


def draw_error(visit: Visit, error: MillpondError) -> None:
    """A page that could not be loaded: what happened, and where to go from here."""
    titles = {
        "RESOURCE_DOES_NOT_EXIST": ("search_off", "There is nothing here"),
        "PERMISSION_DENIED": ("lock", "You may not see this"),
        "TEMPORARILY_UNAVAILABLE": ("hourglass_empty", "Not ready yet"),
    }
    symbol, title = titles.get(error.code, ("error_outline", "This did not work"))
    with el("div", cls="mp-empty mp-error"):
        icon(symbol)
        el("h1", title)
        el("p", error.message)
        with el("div", cls="mp-actions"):
            button_link("Home", "/", kind="mp-primary", symbol="home")
            button_link("Catalog", "/catalog", symbol="account_tree")


def _draw_sidebar(principal: Principal, section: str) -> None:
    with el("aside", cls="mp-sidebar"):
        with el("a", cls="mp-brand", href="/", aria_label="Millpond, home"):
            logo()
            el("span", "Millpond", cls="mp-nav-label")
        with el("nav", aria_label="Main"):
            for title, entries in SIDEBAR:
                if title:
                    el("div", title, cls="mp-nav-group mp-nav-label", aria_hidden="true")
                with el("ul"):
                    for entry in (entry for entry in entries if entry.shown(principal)):
                        _draw_entry(entry, current=entry.section == section)


def _draw_entry(entry: Entry, *, current: bool) -> None:
    with (
        el("li"),
        el("a", cls="mp-nav", href=entry.href, title=entry.label, aria_current="page" if current else None),
    ):
        icon(entry.symbol)
        el("span", entry.label, cls="mp-nav-label")


def _draw_top_bar(visit: Visit) -> None:
    with el("header", cls="mp-topbar"):
        _SearchBox(visit)
        with el("div", cls="mp-topbar-right"):
            button_link("Connect", "/connect", symbol="cable", kind="mp-collapse")
            _draw_theme_choice(visit.theme)
            _draw_who(visit)


def _draw_theme_choice(theme: Theme) -> None:
    choices = (
        (Theme.LIGHT, "light_mode", "Light"),
        (Theme.AUTO, "brightness_auto", "Like the system"),
        (Theme.DARK, "dark_mode", "Dark"),
    )
    with el("div", cls="mp-segments", role="group", aria_label="Theme"):
        for choice, symbol, label in choices:
            with el("button", type="button", title=label, aria_label=label, data_theme_choice=choice.value,
                    aria_pressed="true" if choice is theme else "false"):  # fmt: skip
                icon(symbol)


def _draw_who(visit: Visit) -> None:
    name = visit.principal.name
    with el("details", cls="mp-menu"):
        with el("summary", aria_label=f"Signed in as {name}", title=name):
            el("span", name[:1].upper(), cls="mp-avatar", aria_hidden="true")
        with el("div", cls="mp-menu-panel"):
            el("div", "Signed in as", cls="mp-note")
            el("div", name, cls="mp-who")
            if visit.principal.is_admin:
                el("div", "Administrator", cls="mp-note")
            el("a", "Access tokens", cls="mp-menu-item", href="/connect#tokens")
            with el("form", method="post", action="/sign-out"):
                el("button", "Sign out", cls="mp-menu-item", type="submit")


def show_code(title: str, code: str) -> None:
    """A heading and code to copy."""
    el("h2", title)
    code_block(code)
