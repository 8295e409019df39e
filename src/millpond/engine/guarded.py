"""What a user's engine must not compute itself: tables with row filters, masks or policies, views of what only others
may read.

A user's functions run in the user's engine and see all files in its reach, so such rows are computed by an engine of
the gateway's, which runs nothing but texts of the catalog, and the user's engine gets the result to read (`spools.py`).
So no predicate of the user's is evaluated on a hidden row, wherever an optimiser moves it. Before a remote engine there
are no such files; there the rows are kept apart by a barrier in the plan, and plans with users' functions are refused.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millpond.catalog.domain import Argument, Constant, Guard, Guards, Table
from millpond.catalog.names import quote
from millpond.catalog.service import CatalogService
from millpond.engine import proto, sources, travel
from millpond.engine.errors import AnalysisError
from millpond.engine.needs import Needs
from millpond.engine.queries import Query, TableSite, analyse
from millpond.engine.rewriting import References
from millpond.engine.routines import inlined
from millpond.engine.splicing import plan_ids
from millpond.engine.sql_functions import Parameter, SqlFunction, checked_type, sql_function
from millpond.engine.syntax.cursor import Cursor
from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, MillpondError, PermissionDenied

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

_BASE = "__millpond_rows"
_BARRIER = (1 << 31) - 1
"""A limit that limits nothing, below which no optimiser moves a predicate."""


def read_table(
    binder: "Binder", target: Any, table: Table, guards: Guards, version: str | None, timestamp: str | None
) -> None:
    """Make `target` give the rows and values of a table that whoever asks may see."""
    needs = Needs()
    base = proto.relations.Relation()
    needs.read(table.storage_location, str(table.name))
    sources.read_table(base.read.data_source, table)
    travel.read_as_of(binder, base.read.data_source, version, timestamp)
    read_rows(binder, target, table, guards, base, needs, other=bool(version or timestamp))


def read_rows(
    binder: "Binder", target: Any, table: Table, guards: Guards, base: Any, needs: Needs, *, other: bool
) -> None:
    """Make `target` give what whoever asks may see of `base`, rows of a table; `other` where not as it is now."""
    _refuse_undecided(table, guards)
    try:
        now = guards.policed or bool(guards.masks and other)
        relation = _filtered(binder, table, guards, base, needs, now=now)
    except MillpondError as error:
        raise _broken(table, "its row filter or a column mask", error) from error
    _hand_over(binder, target, relation, needs, str(table.name))


def read_view(binder: "Binder", target: Any, view: Table) -> None:
    """Make `target` compute a view, with the rights of its owner where those of whoever asks do not do."""
    if _reads_itself(binder, view):
        binder.expand_view(target, view)
        return
    needs = Needs()
    relation = proto.relations.Relation()
    owner = binder.world.owner_of(view)
    inner = binder.nested(home=home_of(view), views=False, principal=owner, needs=needs, trusted=True)
    try:
        inner.expand_view(relation, view)
    except MillpondError as error:
        raise _broken(view, "its query", error) from error
    _hand_over(binder, target, relation, needs, str(view.name))


def home_of(view: Table) -> tuple[str, str]:
    """The catalog and schema in which the names in a view's text are meant."""
    kept = view.properties
    return kept.get("view.catalog", view.name.catalog), kept.get("view.schema", view.name.schema)


def _reads_itself(binder: "Binder", view: Table) -> bool:
    """Whether the rights that its text is bound with do, and its owner has what it needs.

    Where others than whoever asks have written what is bound here, a view always gets its own owner's rights: else who
    may change an inner view could read what the owner of an outer one may.
    """
    if view.owner == binder.principal.name or not view.view_definition:
        return True
    if binder.trusted:
        return False
    return all(
        allows(binder.principal, act, securable) and allows(binder.world.owner_of(view), act, securable)
        for act, securable in _needed(binder.nested(home=home_of(view), views=False), analyse(view.view_definition))
    )


def _needed(binder: "Binder", query: Query) -> Iterator[tuple[Act, Securable]]:
    """Which tables and functions of the catalog a text needs; what is not there fails when it is bound."""
    for site in query.tables:
        if len(site.parts) == 2 and sources.is_path_format(site.parts[0]):
            continue
        with suppress(InvalidArgument, AnalysisError):
            table = binder.world.table(binder.object_name(site.parts))
            if table is not None:
                yield Act.READ, table.securable
    for call in query.routines:
        with suppress(AnalysisError):
            function = binder.function(call.parts)
            if function is not None:
                yield Act.USE, function.securable


# -- rows and values ----------------------------------------------------------------------------------------------


class _Columns:
    """Columns as arguments of functions: each is cast once, under a name that nothing else has."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def argument(self, given: Argument, parameter: Parameter) -> str:
        if isinstance(given, Constant):
            return given.sql
        text = f"CAST({quote(given)} AS {parameter.type})"
        return quote(self.made.setdefault(text, f"__millpond_argument_{len(self.made)}"))


def _filtered(binder: "Binder", table: Table, guards: Guards, base: Any, needs: Needs, *, now: bool) -> Any:
    """The rows of `base` for which the filter is true, with masks in the place of columns.

    With `now`, only of the columns that the table has now: masks and policies were set on those, and in an earlier
    version what they hide may stand under another name.
    """
    columns, found = _Columns(), References({_BASE})
    row_filter = "TRUE"
    if guards.row_filter is not None:
        row_filter = _decided(binder, guards.row_filter, guards.row_filter.arguments, "BOOLEAN", columns, found, needs)
    masks: dict[str, str] = {}
    for column, mask in guards.masks.items():
        kind = _type_of(table, column)
        masks[column] = _decided(binder, mask, (column, *mask.arguments), kind, columns, found, needs)
    names = {column: f"__millpond_mask_{at}" for at, column in enumerate(masks)}
    made = proto.relations.Relation()
    listed = "".join(f", {text} AS {quote(names[column])}" for column, text in masks.items())
    every = ", ".join(quote(one.name) for one in table.columns) if now else "*"
    made.with_relations.root.sql.query = f"SELECT {every}{listed} FROM {_BASE} WHERE {row_filter}"  # noqa: S608 - ours
    made.with_relations.root.common.plan_id = next(plan_ids)
    rows = made.with_relations.references.add()
    rows.common.plan_id = next(plan_ids)
    rows.subquery_alias.alias = _BASE
    _with_columns(rows.subquery_alias.input, base, {name: text for text, name in columns.made.items()})
    made.with_relations.references.extend(found.relations)
    helpers = [*(() if now else columns.made.values()), *names.values()]
    return _tidied(made, names, helpers)


def _decided(
    binder: "Binder",
    guard: Guard,
    given: tuple[Argument, ...],
    kind: str,
    columns: _Columns,
    found: References,
    needs: Needs,
) -> str:
    """What the function says of some columns, with the rights of its owner."""
    function: SqlFunction = sql_function(guard.function)
    owner = binder.world.owner_of(guard.function)
    inner = binder.nested(home=function.home, views=False, principal=owner, needs=needs, trusted=True)
    pairs = zip(given, function.parameters, strict=False)
    arguments = [(None, columns.argument(each, parameter)) for each, parameter in pairs]
    arguments += [(None, "NULL")] * max(0, len(given) - len(function.parameters))  # refused as too many
    return f"CAST({inlined(inner, function, arguments, found)} AS {kind})"


def _type_of(table: Table, column: str) -> str:
    found = next((one for one in table.columns if one.name == column), None)
    if found is None:
        raise AnalysisError("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", column)
    return checked_type(found.type_text)


def _with_columns(target: Any, relation: Any, texts: dict[str, str]) -> None:
    """Make `target` the relation with more columns, or with others in their place."""
    if not texts:
        target.CopyFrom(relation)
        return
    target.with_columns.input.CopyFrom(relation)
    for name, text in texts.items():
        alias = target.with_columns.aliases.add()
        alias.name.append(name)
        alias.expr.expression_string.expression = text


def _tidied(relation: Any, masked: dict[str, str], helpers: list[str]) -> Any:
    """Masks where the columns stood, and nothing besides the table's columns."""
    made = proto.relations.Relation()
    target = made
    if helpers:
        made.drop.column_names.extend(helpers)
        target = made.drop.input
    _with_columns(target, relation, {column: quote(name) for column, name in masked.items()})
    return made


# -- changes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Visible:
    """Which rows a statement may change, and what the condition reads besides the table."""

    condition: str
    references: tuple[Any, ...]


def require_manager(catalog: CatalogService, principal: Principal, table: Table, what: str) -> None:
    """Pass for who may take the row filter, masks and policies away, where there are any: others could feel out hidden
    rows by what changes or fails.

    Raises AnalysisError.
    """
    try:
        catalog.require_all_rows(principal, table)
    except PermissionDenied as error:
        raise AnalysisError(
            "INSUFFICIENT_PERMISSIONS",
            f"{what} on {table.name}, which has a row filter or column masks, is for who may MANAGE what these are set "
            f"on, as it would tell of hidden rows and values. {principal.name} can INSERT into it.",
            sql_state="42501",
        ) from error


def visible_rows(binder: "Binder", table: Table, query: Query, target: TableSite) -> Visible | None:
    """What keeps an UPDATE, DELETE or MERGE to the rows that whoever asks may see; None where these are all.

    The filter reads other tables with the asker's own rights here, because the user's engine evaluates it.
    """
    guards = binder.catalog.guards_for(binder.invoker, table)
    _refuse_undecided(table, guards)
    guard = guards.row_filter
    if guard is None:
        return None
    if _changes_unmatched(query):
        raise AnalysisError(
            "ROW_LEVEL_SECURITY_MERGE_UNSUPPORTED_TARGET",
            f"MERGE with WHEN NOT MATCHED BY SOURCE into {table.name}, which has a row filter, would change rows that "
            "you cannot see.",
            sql_state="0A000",
        )
    name = target.alias or target.parts[-1]
    found = References(set(query.cte_names) | {name.lower()})
    arguments = [
        (None, each.sql if isinstance(each, Constant) else f"{quote(name)}.{quote(each)}") for each in guard.arguments
    ]
    condition = inlined(binder, sql_function(guard.function), arguments, found)
    return Visible(condition=condition, references=tuple(found.relations))


def _changes_unmatched(query: Query) -> bool:
    cursor = Cursor(query.text)
    while cursor.word() is not None:
        if cursor.sees("NOT", "MATCHED", "BY", "SOURCE"):
            return True
        cursor.take()
    return False


def _refuse_undecided(table: Table, guards: Guards) -> None:
    if guards.refused is not None:
        raise AnalysisError(
            guards.refused.code,
            f"{table.name} cannot be read, as it is not decided what of it you see: {guards.refused.reason}. Who may "
            f"MANAGE it finds them with SHOW EFFECTIVE POLICIES ON TABLE {table.name}.",
            sql_state="42KDJ",
        )


def _broken(item: Table, what: str, error: MillpondError) -> AnalysisError:
    """What others than the owner are told: not the names of what they may not see."""
    reason = getattr(error, "error_class", error.code)
    return AnalysisError(
        "RESULT_OF_OTHERS_FAILED",
        f"{item.name} cannot be read, because {what} cannot be computed with the rights of its owner ({reason}). The "
        "owner can put that right.",
        sql_state="42000",
    )


# -- over to the user's engine ------------------------------------------------------------------------------------


def _hand_over(binder: "Binder", target: Any, relation: Any, needs: Needs, shown: str) -> None:
    """Let `target` read what the relation computes elsewhere."""
    spools = binder.world.spools
    if spools is None:
        needs.guarded_in_plan = True
        binder.needs.add([needs])
        target.limit.limit = _BARRIER
        target.limit.input.CopyFrom(relation)
        return
    part = spools.part(binder.invoker, relation, needs, shown=shown, inner=binder.trusted)
    binder.needs.parts.append(part)
    binder.needs.names[part.location] = shown
    target.read.data_source.format = "parquet"
    target.read.data_source.paths.append(part.location)
