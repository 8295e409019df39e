"""A query's text with other words where names, calls of functions and questions about who asks stood."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from millpond.catalog.names import quote, text_literal
from millpond.engine.call_sites import RoutineSite, builtin_names
from millpond.engine.errors import unsupported
from millpond.engine.queries import Query, TableSite
from millpond.engine.routines import called
from millpond.engine.splicing import column_edits, free_name, plan_ids, spliced
from millpond.engine.sql_functions import returns_table

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

Edit = tuple[int, int, str]


class Sources(Protocol):
    """How a text says which tables it reads."""

    def text(self, binder: "Binder", site: TableSite) -> str:
        """What stands in the place of a table's name."""


class References:
    """Tables as relations that the plan brings along, under names that the text uses."""

    def __init__(self, taken: set[str]) -> None:
        """`taken` are names that mean something else in the text."""
        self.taken = taken
        self.relations: list[Any] = []
        self._names: dict[Any, str] = {}

    def text(self, binder: "Binder", site: TableSite) -> str:
        key = (*binder.scope, site.key)
        if key not in self._names:
            name = self._names[key] = free_name(site.parts[-1], self.taken)
            relation = binder.table_relation(site.parts, site.version, site.timestamp, alias=name)
            relation.common.plan_id = next(plan_ids)
            self.relations.append(relation)
        name = self._names[key]
        return quote(name) + ("" if site.aliased or name == site.parts[-1] else f" AS {quote(site.parts[-1])}")


class Paths:
    """Tables by their places, inside an expression, where nothing can be bound to a name."""

    def text(self, binder: "Binder", site: TableSite) -> str:
        if binder.is_absolute:
            return ".".join(map(quote, binder.absolute_name(site.parts)))
        relation = binder.table_relation(site.parts, site.version, site.timestamp)
        while relation.WhichOneof("rel_type") == "subquery_alias":
            relation = relation.subquery_alias.input
        source = relation.read.data_source
        if source.format not in {"delta", "parquet"} or len(source.paths) != 1 or source.options:
            raise unsupported(
                f"In an expression's text, only plain tables may be read; {'.'.join(site.parts)} is not one."
            )
        alias = "" if site.aliased else f" AS {quote(site.parts[-1])}"
        return f"{source.format}.{quote(source.paths[0])}{alias}"


def rewritten(binder: "Binder", query: Query, sources: Sources, edits: Sequence[Edit] = ()) -> str:
    """The query's text for the engine. `edits` are made besides, and stand for a table's name where they meet one."""
    if query.table_functions:
        binder.check_table_functions(query.table_functions - _table_functions(binder, query))
    edits = [*edits, *_answers(binder, query)]
    for site in query.tables:
        if site.is_target or (len(site.parts) == 1 and binder.in_scope(site.parts[0])):
            continue
        text = sources.text(binder, site)
        if query.text[site.start : site.end].strip("`") != text.strip("`"):
            edits.append((site.start, site.end, text))
    edits.extend(column_edits(query))
    for call in query.routines:  # inner ones first
        edits = _with_call(binder, query, call, edits, sources)
    return spliced(query.text, edits)


def _table_functions(binder: "Binder", query: Query) -> set[str]:
    """Names that mean a function of the catalog's that returns a table, wherever the text calls one of the name."""
    means: dict[str, bool] = {}
    for call in query.routines:
        name = call.parts[-1].lower()
        function = binder.function(call.parts)
        means[name] = means.get(name, True) and function is not None and returns_table(function)
    return {name for name, always in means.items() if always and name not in builtin_names()}


def _answers(binder: "Binder", query: Query) -> list[Edit]:
    edits = []
    for call in query.calls:
        answer = text_literal(binder.session_answer(call.function))
        alias = f" AS {quote(call.function + '()')}" if call.is_column else ""
        edits.append((call.start, call.end, answer + alias))
    return edits


def _with_call(
    binder: "Binder", query: Query, call: RoutineSite, edits: Sequence[Edit], sources: Sources
) -> list[Edit]:
    """The edits with one for a call, in the place of those inside it."""
    inside = [edit for edit in edits if _lies_in(edit, call)]
    arguments = [(each.name, _part(query.text, inside, each.start, each.end)) for each in call.arguments]
    replacement = called(binder, call.parts, arguments, sources)
    if replacement is None:
        return list(edits)
    if call.is_column:
        replacement += f" AS {quote(query.text[call.start : call.end])}"
    return [*(edit for edit in edits if edit not in inside), (call.start, call.end, replacement)]


def _lies_in(edit: Edit, call: RoutineSite) -> bool:
    """Whether an edit changes the call itself; one that only adds a text at its edge does not."""
    start, end, _ = edit
    at_edge = start == end and start in (call.start, call.end)
    return call.start <= start and end <= call.end and not at_edge


def _part(text: str, edits: Sequence[Edit], start: int, end: int) -> str:
    """`text[start:end]` with the edits that lie in it."""
    moved = [(a - start, b - start, new) for a, b, new in edits if start <= a and b <= end]
    return spliced(text[start:end], moved)
