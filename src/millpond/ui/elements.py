"""Building blocks of pages: small functions over plain HTML elements.

Texts are always set as text nodes and attributes as values, so a name with markup in it is shown, never run. Names of
attributes are ours alone: NiceGUI evaluates a property whose name starts with a colon.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from millpond.ui.theme import LOGO

Tone = Literal["plain", "accent", "good", "warn", "bad", "info"]


class _Tag(TextElement):
    """Any HTML element with a text."""

    def __init__(self, tag: str, text: str) -> None:
        super().__init__(tag=tag, text=text)


def el(tag: str, text: str | None = None, /, *, cls: str = "", **attributes: Any) -> Element:
    """An HTML element; attribute names are written with underscores, and None leaves one out."""
    element: Element = Element(tag) if text is None else _Tag(tag, text)
    if cls:
        element.classes(cls)
    for name, value in attributes.items():
        if value is not None:
            element.props[name.rstrip("_").replace("_", "-")] = value
    return element


def icon(name: str, cls: str = "") -> Element:
    """A decorative icon of the bundled Material Icons; screen readers pass over it."""
    return el("i", name, cls=f"mp-icon {cls}".strip(), aria_hidden="true")


def logo() -> Element:
    """The mark of the product."""
    return ui.html(LOGO, sanitize=False).classes("mp-logo")


def link(text: str, href: str, *, cls: str = "mp-link", **attributes: Any) -> Element:
    """A link to one of our own addresses."""
    return el("a", text, cls=cls, href=href, **attributes)


def button_link(text: str, href: str, *, kind: str = "", symbol: str | None = None, **attributes: Any) -> Element:
    """A link that looks like a button."""
    with el("a", cls=f"mp-button {kind}".strip(), href=href, **attributes) as element:
        if symbol:
            icon(symbol)
        el("span", text)
    return element


def button(
    text: str,
    on_click: Callable[..., Any] | None = None,
    *,
    kind: str = "",
    symbol: str | None = None,
    **attributes: Any,
) -> Element:
    """A button that calls back."""
    with el("button", cls=f"mp-button {kind}".strip(), type="button", **attributes) as element:
        if symbol:
            icon(symbol)
        el("span", text)
    if on_click is not None:
        element.on("click", on_click, args=[])
    return element


def copy_button(text: str, label: str = "Copy") -> Element:
    """A button that puts a text on the clipboard; `static/millpond.js` does it without the server."""
    with el("button", cls="mp-button mp-quiet mp-copy", type="button", data_copy=text) as element:
        icon("content_copy")
        el("span", label)
    return element


def code_block(code: str, *, title: str = "") -> Element:
    """Code to look at and copy."""
    with el("figure", cls="mp-code") as element:
        with el("figcaption"):
            el("span", title)
            copy_button(code)
        el("pre", code, tabindex="0")
    return element


def badge(text: str, tone: Tone = "plain") -> Element:
    """A word that stands out."""
    return el("span", text, cls=f"mp-badge mp-{tone}")


def card(title: str | None = None, *, cls: str = "") -> Element:
    """A framed part of a page; use as a context."""
    element = el("section", cls=f"mp-card {cls}".strip())
    if title:
        with element:
            el("h2", title)
    return element


def notice(text: str, tone: Tone = "info", *, role: str = "note") -> Element:
    """A sentence that the reader should not miss."""
    with el("div", cls=f"mp-notice mp-{tone}", role=role) as element:
        icon(
            {"bad": "error_outline", "warn": "warning_amber", "good": "check_circle_outline"}.get(tone, "info_outline")
        )
        el("p", text)
    return element


def empty_state(title: str, text: str, *, symbol: str, code: str | None = None, code_title: str = "Python") -> Element:
    """What stands where a list would be: why it is empty, and what to do next."""
    with el("div", cls="mp-empty") as element:
        icon(symbol)
        el("h2", title)
        el("p", text)
        if code:
            code_block(code, title=code_title)
    return element


@dataclass(frozen=True, kw_only=True)
class Tab:
    """One tab of a page: each has its own address."""

    key: str
    label: str
    href: str
    count: int | None = None


def tabs(items: Sequence[Tab], active: str, *, label: str = "Sections") -> Element:
    """Tabs as links, the active one marked."""
    with el("nav", cls="mp-tabs", aria_label=label) as element:
        for item in items:
            with el("a", cls="mp-tab", href=item.href, aria_current="page" if item.key == active else None):
                el("span", item.label)
                if item.count is not None:
                    el("span", f"{item.count:,}", cls="mp-count")
    return element


@dataclass(frozen=True, kw_only=True)
class Crumb:
    """A step of the way to a page."""

    label: str
    href: str


def page_header(
    title: str, *, symbol: str | None = None, crumbs: Sequence[Crumb] = (), kind: str = "", subtitle: str | None = None
) -> Element:
    """Breadcrumbs, the page's one first-level heading and, as a context, its buttons."""
    with el("header", cls="mp-page-header"):
        if crumbs:
            with el("nav", cls="mp-crumbs", aria_label="Breadcrumb"), el("ol"):
                for crumb in crumbs:
                    with el("li"):
                        link(crumb.label, crumb.href)
        with el("div", cls="mp-title-row"):
            with el("h1"):
                if symbol:
                    icon(symbol)
                el("span", title, cls="mp-title-text")
                if kind:
                    badge(kind)
            actions = el("div", cls="mp-actions")
        if subtitle:
            el("p", subtitle, cls="mp-subtitle")
    return actions


Facts = Sequence[tuple[str, "Cell | str | None"]]


def facts(items: Facts) -> Element:
    """Names and values; those without a value are left out."""
    with el("dl", cls="mp-facts") as element:
        for name, value in items:
            if value is None or value == "":
                continue
            el("dt", name)
            with el("dd"):
                _draw_cell(value if isinstance(value, Cell) else Cell(text=value))
    return element


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value in a table: what it says and how."""

    text: str = ""
    href: str | None = None
    title: str | None = None
    note: str | None = None
    """A second, smaller line."""
    symbol: str | None = None
    code: bool = False
    time_ms: int | None = None
    """Shown as the time passed since, with the exact time as a title; replaces the text."""
    badges: tuple[tuple[str, Tone], ...] = ()
    squares: tuple[tuple[Tone, str, str, int], ...] = ()
    """Small coloured links: tone, what it says, address, and when that was, in milliseconds."""
    act: str = ""
    """The text of a button; a `DataTable` tells its `on_act` the row's number."""
    act_label: str = ""
    """The button's name for who does not see its row."""

    def to_wire(self) -> dict[str, Any]:
        """What `components/data_table.js` reads; only what is set."""
        named = {
            "t": self.text, "h": self.href, "x": self.title, "s": self.note, "i": self.symbol,
            "m": self.code, "w": self.time_ms, "b": [list(pair) for pair in self.badges],
            "q": [list(square) for square in self.squares], "a": self.act, "n": self.act_label,
        }  # fmt: skip
        return {key: value for key, value in named.items() if value}


def _draw_cell(cell: Cell) -> None:
    if cell.time_ms is not None:
        when(cell.time_ms)
    elif cell.href:
        link(cell.text, cell.href, title=cell.title)
    elif cell.text:
        el("code" if cell.code else "span", cell.text, title=cell.title)
    for text, tone in cell.badges:
        badge(text, tone)


class When(Element, component="components/when.js"):
    """A moment, shown as the time passed since, in the reader's words and time zone."""

    def __init__(self, epoch_ms: int) -> None:
        super().__init__()
        self.props["ms"] = epoch_ms


def when(epoch_ms: int) -> Element:
    """See `When`."""
    return When(epoch_ms)


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """One column of a table."""

    label: str
    numeric: bool = False
    grow: bool = False
    """Takes the width that the others leave."""
    short: bool = False
    """On one line, cut when too long: names of people, mostly."""
    optional: bool = False
    """Hidden on narrow screens."""

    def to_wire(self) -> dict[str, Any]:
        """What `components/data_table.js` reads."""
        names = [name for name in ("numeric", "grow", "short", "optional") if getattr(self, name)]
        return {"label": self.label, "classes": [f"mp-{name}" for name in names]}


Rows = Sequence[Sequence[Cell | str]]


class DataTable(Element, component="components/data_table.js"):
    """A table of at most some hundred rows, drawn by the browser from values (no markup is interpreted)."""

    def __init__(
        self,
        *,
        label: str,
        columns: Sequence[TableColumn],
        rows: Rows,
        on_act: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__()
        if on_act is not None:
            self.on("act", lambda event: on_act(int(event.args)))
        self.props["label"] = label
        self.props["columns"] = [column.to_wire() for column in columns]
        self.props["rows"] = [
            [cell.to_wire() if isinstance(cell, Cell) else {"t": cell} for cell in row] for row in rows
        ]


@contextmanager
def table(label: str, heads: Sequence[str]) -> Iterator[None]:
    """A table with controls in it, drawn here row by row, as a context; a `DataTable` costs the server much less."""
    with el("div", cls="mp-table-frame", role="region", aria_label=label, tabindex="0"), el("table", cls="mp-table"):
        with el("thead"), el("tr"):
            for head in heads:
                el("th", head, scope="col")
        with el("tbody"):
            yield


def pager(*, next_href: str | None, first_href: str | None, text: str = "") -> None:
    """Links to the next page of a list and back to its start."""
    if next_href is None and first_href is None:
        return
    with el("nav", cls="mp-pager", aria_label="Pages"):
        el("span", text)
        if first_href:
            button_link("First page", first_href, symbol="first_page")
        if next_href:
            button_link("Next page", next_href, symbol="chevron_right", rel="next")


def filter_form(
    *,
    label: str,
    value: str,
    name: str = "q",
    keep: Sequence[tuple[str, str]] = (),
    placeholder: str = "",
    wide: bool = False,
) -> Element:
    """A field that puts its text into the address; works without scripts."""
    with el("form", cls="mp-filter mp-wide" if wide else "mp-filter", method="get", role="search") as form:
        for key, kept in keep:
            el("input", type="hidden", name=key, value=kept)
        icon("search")
        query_field(name, label, value, placeholder or label, type="search", cls="")
    return form


def query_field(
    name: str, label: str, value: str, placeholder: str = "", *, type: str = "text", cls: str = "mp-input", **more: str
) -> None:
    """A field of a form that puts its texts into the address."""
    field = el("input", cls=cls, type=type, name=name, value=value, aria_label=label, placeholder=placeholder,
               autocomplete="off", spellcheck="false", **more)  # fmt: skip
    field.on("input", js_handler=_KEEP)


_KEEP = "(event) => { element.props.value = event.target.value; }"
"""Vue sets `value` whenever it draws: so what somebody typed stays when something else on the page changes."""
_LONGEST_TEXT = "500000"  # a message to the server may have a million bytes


class TextField:
    """A native input or text area; `value` is what it holds as far as the server has heard."""

    def __init__(
        self, *, label: str, value: str = "", placeholder: str = "", lines: int = 1, secret: bool = False,
        **attributes: Any,
    ) -> None:  # fmt: skip
        """With `secret`, what is typed is not shown, and no password manager offers what it knows."""
        self.value = value
        kind: dict[str, Any] = {"rows": str(lines), "maxlength": _LONGEST_TEXT} if lines > 1 else {"type": "text"}
        kind |= {"autocomplete": "new-password", "type": "password"} if secret else {"autocomplete": "off"}
        tag = "textarea" if lines > 1 else "input"
        self.element = el(
            tag, cls="mp-input", aria_label=label, placeholder=placeholder, value=value, spellcheck="false",
            **kind, **attributes,
        )  # fmt: skip
        # a long text travels once, when its field is left (a click on a button leaves it first), not with each key
        event = "change" if lines > 1 else "input"
        self.element.on("input", js_handler=_KEEP)
        self.element.on(event, self._heard, js_handler="(event) => emit(event.target.value)")

    def _heard(self, event: Any) -> None:
        self.value = str(event.args)


class SelectField:
    """A native choice of one; `value` is what is chosen as far as the server has heard."""

    def __init__(self, *, label: str, choices: Sequence[tuple[str, str]], value: str, **attributes: Any) -> None:
        """`choices` are values and what they are called."""
        self.value = value
        with el("select", cls="mp-input mp-select", aria_label=label, **attributes) as self.element:
            for choice, text in choices:
                el("option", text, value=choice, selected=True if choice == value else None)
        self.element.on("change", self._heard, js_handler="(event) => emit(event.target.value)")

    def _heard(self, event: Any) -> None:
        self.value = str(event.args)


class CheckField:
    """A native check box with its label; `checked` is as far as the server has heard."""

    def __init__(self, label: str, *, checked: bool = False) -> None:
        self.checked = checked
        with el("label", cls="mp-check"):
            self.element = el("input", type="checkbox", checked=True if checked else None)
            el("span", label)
        self.element.on("change", self._heard, js_handler="(event) => emit(event.target.checked)")

    def _heard(self, event: Any) -> None:
        self.checked = bool(event.args)


def chip(text: str, remove: Callable[..., Any] | None, label: str, *, tone: Tone = "accent") -> None:
    """A badge with a button that removes what it stands for; a plain badge when it cannot be removed."""
    if remove is None:
        badge(text, tone)
        return
    with el("span", cls=f"mp-badge mp-{tone} mp-chip"):
        el("span", text)
        with el("button", type="button", aria_label=label, title=label).on("click", remove, args=[]):
            icon("close")


def move_on() -> None:
    """Load the page again, as what it shows has changed; where somebody has typed something, offer to."""
    ui.run_javascript("millpond.moveOn()")


def skeleton(lines: int = 6) -> Element:
    """Grey bars that keep the place of what is being loaded."""
    with el("div", cls="mp-skeleton", role="status", aria_label="Loading") as element:
        for _ in range(lines):
            el("div")
    return element
