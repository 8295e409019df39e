"""Completion of SQL from the catalog: names that whoever types may see."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui
from nicegui.element import Element

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.names import INFORMATION_SCHEMA, quote
from millpond.identity.domain import Principal
from millpond.kernel.errors import MillpondError
from millpond.ui.services import Services
from millpond.ui.visit import Visit

_MOST = 200
_MOST_TABLES = 8
_TABLES = re.compile(r"\b(?:from|join|into|update|table)\s+([\w`.]+)", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Home:
    """The catalog and schema in which short names are looked up."""

    catalog: str
    schema: str


def complete(services: Services, principal: Principal, home: Home, typed: str, text: str) -> list[dict[str, str]]:
    """Names that may follow what was typed, as CodeMirror's completions; `text` is the statement around it."""
    parts = [part.strip("`") for part in typed.split(".")][:-1]
    finder = _Finder(services, principal)
    match parts:
        case []:
            found = [
                *finder.columns(home, text), *finder.tables(home.catalog, home.schema),
                *finder.schemas(home.catalog), *finder.catalogs(),
            ]  # fmt: skip
        case [first]:
            found = [*finder.schemas(first), *finder.tables(home.catalog, first), *finder.columns(home, text, first)]
        case [first, second]:
            found = finder.tables(first, second)
        case _:
            found = []
    unique = {(option["label"], option["type"]): option for option in found}
    return list(unique.values())[:_MOST]


class _Finder:
    """Lists names; what is not there or not to be seen has none."""

    def __init__(self, services: Services, principal: Principal) -> None:
        self._catalog = services.catalog
        self._principal = principal

    def catalogs(self) -> list[dict[str, str]]:
        page = self._catalog.list_catalogs(self._principal, max_results=_MOST)
        return _options((catalog.name for catalog in page.items), "namespace", "catalog")

    def schemas(self, catalog: str) -> list[dict[str, str]]:
        try:
            page = self._catalog.list_schemas(self._principal, catalog, max_results=_MOST)
        except MillpondError:
            return []
        names = [*(schema.name.schema for schema in page.items), INFORMATION_SCHEMA]
        return _options(names, "namespace", "schema")

    def tables(self, catalog: str, schema: str) -> list[dict[str, str]]:
        try:
            page = self._catalog.list_tables(self._principal, SchemaName(catalog, schema), max_results=_MOST)
        except MillpondError:
            return []
        return _options((table.name.name for table in page.items), "class", "table")

    def columns(self, home: Home, text: str, table: str | None = None) -> list[dict[str, str]]:
        """Columns of the tables that the text names; of one alone, where that is asked for."""
        found: list[dict[str, str]] = []
        for named in dict.fromkeys(_TABLES.findall(text)[:_MOST_TABLES]):
            parts = [part.strip("`") for part in named.split(".")]
            if len(parts) > 3 or (table is not None and parts[-1].lower() != table.lower()):
                continue
            try:
                name = ObjectName(*[home.catalog, home.schema][: 3 - len(parts)], *parts)
                columns = self._catalog.get_table(self._principal, name).columns
            except MillpondError:
                continue
            for column in columns:
                found += _options([column.name], "property", column.type_text)
        return found


def _options(names: Iterable[str], kind: str, detail: str) -> list[dict[str, str]]:
    return [
        {"label": name, "type": kind, "detail": detail, "apply": name if _PLAIN.fullmatch(name) else quote(name)}
        for name in names
    ]


class EditorTheme(Element, component="components/sql_editor.js"):
    """Gives an editor the page's theme; draws nothing."""

    def __init__(self, editor: ui.codemirror) -> None:
        super().__init__()
        self.props["editor"] = editor.id


class SqlCompletion(EditorTheme):
    """Completes in an editor, too."""

    def __init__(self, visit: Visit, editor: ui.codemirror, home: Sequence[Home]) -> None:
        """`home` holds one, which may be replaced."""
        super().__init__(editor)
        self.props["completes"] = True
        self._visit = visit
        self._home = home
        self.on("ask", self._answer)

    async def _answer(self, event: Any) -> None:
        typed, text = str(event.args[0])[:400], str(event.args[1])
        home = self._home[0]
        outcome = await self._visit.act(lambda principal: complete(self._visit.services, principal, home, typed, text))
        self.run_method("answer", typed, outcome.value or [])
