"""Columns through SQL text: the parse tree is walked with the names that are in scope, as Spark resolves them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp
from sqlglot.dialects.databricks import Databricks

from millpond.engine.lineage.columns import (
    Column,
    Found,
    Rows,
    Source,
    find_column,
    joined,
    opaque_rows,
    united,
)
from millpond.engine.queries import EVOLUTION

_DIALECT = Databricks()
Parts = tuple[str, ...]
Tables = Callable[[Parts], Rows]
"""The rows of a name in the text that is no common table expression."""
_CLAUSES = ("where", "group", "having", "qualify", "order", "sort", "cluster", "distribute", "distinct", "connect")
_OF_COLUMNS = {"Explode": ("col",), "ExplodeOuter": ("col",), "Posexplode": ("pos", "col"),
               "PosexplodeOuter": ("pos", "col")}  # fmt: skip
"""Names that generators give to what they make of arrays."""
_ITERATIONS = 3
"""Rounds after which a recursive query has told all its sources, as good as always."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What names mean at one place."""

    named: Mapping[str, Rows] = field(default_factory=dict)
    """Common table expressions by lower-case name."""
    columns: tuple[Column, ...] = ()
    earlier: tuple[Column, ...] = ()
    """Results of the same SELECT, which Spark takes where no column has the name."""
    outer: "Scope | None" = None

    def find(self, parts: Sequence[str]) -> Column | None:
        """The column that a name means here."""
        found = find_column(self.columns, parts) or find_column(self.earlier, parts)
        return found or (self.outer.find(parts) if self.outer else None)

    def within(self) -> "Scope":
        """The scope of a query that stands inside an expression here."""
        return Scope(named=self.named, outer=self)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What UPDATE, DELETE or MERGE does to its target."""

    columns: tuple[Column, ...] = ()
    """The columns that it sets, each as often as it is set."""
    uses: frozenset[Source] = frozenset()


def parse(text: str) -> exp.Expr:
    """The parse tree of one statement, or of a list of expressions behind SELECT."""
    plain = EVOLUTION.sub(lambda found: found[1] + " " * len(found[2]), text)
    trees = [tree for tree in _DIALECT.parse(plain) if tree is not None]
    return trees[0]  # the gateway has parsed it before: there is one


def query_rows(tree: exp.Expr, tables: Tables) -> Rows:
    """The result of a query."""
    return _Walk(tables).query(tree, Scope())


def expression_columns(text: str, columns: tuple[Column, ...], tables: Tables) -> Rows:
    """What a DataFrame's expression text makes of its columns."""
    tree = parse(f"SELECT {text}")
    walk = _Walk(tables)
    found = Found()
    made = tuple(walk.results(tree.expressions, Scope(columns=columns), found))
    return Rows(columns=made, uses=frozenset(found.uses))


def change_of(tree: exp.Expr, tables: Tables) -> Change:
    """What a statement that changes a table reads for it."""
    return _Walk(tables).change(tree)


class _Walk:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # -- queries ------------------------------------------------------------------------------------------------

    def query(self, node: exp.Expr, scope: Scope) -> Rows:
        scope = self._with(node, scope)
        if isinstance(node, exp.Select):
            return self._select(node, scope)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, scope)
        if isinstance(node, exp.Subquery):
            return self._ordered(node, self._item(node, scope), scope)
        return self._item(node, scope)

    def _with(self, node: exp.Expr, scope: Scope) -> Scope:
        clause = node.args.get("with_")
        for cte in clause.expressions if clause else ():
            rows = self._cte(cte, scope, recursive=bool(clause and clause.args.get("recursive")))
            scope = replace(scope, named={**scope.named, cte.alias.lower(): rows})
        return scope

    def _cte(self, cte: exp.CTE, scope: Scope, *, recursive: bool) -> Rows:
        name, names = cte.alias, _column_names(cte)
        body = cte.this
        if not (recursive and isinstance(body, exp.SetOperation)):
            return self.query(body, scope).aliased(name, names)
        rows = self.query(body.this, scope).aliased(name, names)
        for _ in range(_ITERATIONS):
            rows = self.query(body, replace(scope, named={**scope.named, name.lower(): rows})).aliased(name, names)
        return rows

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Rows:
        left, right = self.query(node.this, scope), self.query(node.expression, scope)
        if isinstance(node, exp.Union):
            rows = united(left, right, by_name=bool(node.args.get("by_name")))
        else:
            rows = left.using(right.everything)
        return self._ordered(node, Rows(columns=rows.shown, uses=rows.uses), scope)

    def _ordered(self, node: exp.Expr, rows: Rows, scope: Scope) -> Rows:
        found = Found()
        for clause in ("order", "sort", "cluster", "distribute"):
            if node.args.get(clause) is not None:
                self._walk(node.args[clause], replace(scope, columns=rows.columns), found)
        return rows.using(found.sources | found.uses)

    def _select(self, node: exp.Select, scope: Scope) -> Rows:
        rows = self._from(node, scope)
        inside = replace(scope, columns=rows.columns, outer=scope.outer, earlier=())
        found = Found()
        windows = {window.name.lower(): window for window in node.args.get("windows") or ()}
        results = tuple(self.results(node.expressions, inside, found, windows))
        after = replace(inside, earlier=results)
        conditions = Found()
        for clause in _CLAUSES:
            if isinstance(node.args.get(clause), exp.Expr):
                self._walk(node.args[clause], after, conditions)
        return Rows(columns=results, uses=rows.uses.union(found.uses, conditions.sources, conditions.uses))

    def _from(self, node: exp.Select, scope: Scope) -> Rows:
        clause = node.args.get("from_")
        rows = self._item(clause.this, scope) if clause is not None else Rows()
        return self._joins(node, rows, scope)

    def _joins(self, node: exp.Expr, rows: Rows, scope: Scope) -> Rows:
        for join in node.args.get("joins") or ():
            rows = self._join(rows, join, scope)
        for lateral in node.args.get("laterals") or ():
            rows = joined(rows, self._item(lateral, replace(scope, columns=rows.columns)), side="")
        return rows

    def _join(self, left: Rows, join: exp.Join, scope: Scope) -> Rows:
        right = self._item(join.this, replace(scope, columns=left.columns))
        kind, side = str(join.kind).lower(), str(join.side).lower()
        side = kind if kind in {"semi", "anti"} else side
        using = [each.name for each in join.args.get("using") or ()]
        rows = joined(left, right, side=side, using=using, natural=join.method == "NATURAL")
        condition = join.args.get("on")
        if condition is None:
            return rows
        found = Found()
        self._walk(condition, replace(scope, columns=(*left.columns, *right.columns)), found)
        return rows.using(found.sources | found.uses)

    # -- what stands in FROM ------------------------------------------------------------------------------------

    def _item(self, node: exp.Expr, scope: Scope) -> Rows:
        rows = self._plain_item(node, scope)
        for pivot in node.args.get("pivots") or ():
            rows = self._pivoted(pivot, rows, scope)
        alias, names = node.alias, _column_names(node)
        if alias:
            rows = rows.aliased(alias, names)
        return self._joins(node, rows, scope) if isinstance(node, exp.Table | exp.Subquery) else rows

    def _plain_item(self, node: exp.Expr, scope: Scope) -> Rows:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            return self._table(node, scope)
        if isinstance(node, exp.Subquery):
            return self.query(node.this, scope)
        if isinstance(node, exp.Lateral):
            if isinstance(node.this, exp.Subquery):
                return self.query(node.this.this, scope.within())
            return self._generated(node.this, node, scope)
        if isinstance(node, exp.Values):
            return self._values(node, scope)
        if isinstance(node, exp.Table | exp.Unnest):
            return self._generated(node.this if isinstance(node, exp.Table) else node, node, scope)
        if isinstance(node, exp.Query):
            return self.query(node, scope)
        return opaque_rows()

    def _table(self, node: exp.Table, scope: Scope) -> Rows:
        parts = tuple(part.name for part in node.parts)
        named = scope.named.get(parts[0].lower()) if len(parts) == 1 else None
        rows = named if named is not None else self._tables(parts)
        return rows.aliased(parts[-1])

    def _values(self, node: exp.Values, scope: Scope) -> Rows:
        lines = [line.expressions if isinstance(line, exp.Tuple) else [line] for line in node.expressions]
        columns = []
        for at, cells in enumerate(zip(*lines, strict=False)):
            found = Found()
            for cell in cells:
                self._walk(cell, scope, found)
            columns.append(found.column(f"col{at + 1}"))
        return Rows(columns=tuple(columns))

    def _generated(self, function: exp.Expr, node: exp.Expr, scope: Scope) -> Rows:
        """A function in the place of a table: all that it makes comes from its arguments."""
        found = Found()
        self._walk(function, scope.within(), found)
        names = _column_names(node) or _OF_COLUMNS.get(type(function).__name__, ())
        columns = tuple(found.column(name) for name in names) or (replace(found.column("*"), is_open=True),)
        return Rows(columns=columns, uses=frozenset(found.uses))

    def _pivoted(self, pivot: exp.Pivot, rows: Rows, scope: Scope) -> Rows:
        if pivot.args.get("unpivot"):
            return self._unpivoted(pivot, rows, scope)
        inside = replace(scope, columns=rows.columns)
        values, keys = Found(), Found()
        for each in pivot.expressions:
            self._walk(each, inside, values)
        for each in pivot.args.get("fields") or ():
            self._walk(each, inside, keys)
        gone = {name.lower() for name in _names_in((*pivot.expressions, *(pivot.args.get("fields") or ())))}
        kept = [column for column in rows.shown if column.name.lower() not in gone]
        values.sources |= keys.sources
        made = [values.column(each.name) for each in pivot.args.get("columns") or ()]
        made = [*kept, *(made or [replace(values.column("*"), is_open=True)])]
        return Rows(columns=tuple(made), uses=rows.uses.union(*(column.sources for column in kept)))

    def _unpivoted(self, pivot: exp.Pivot, rows: Rows, scope: Scope) -> Rows:
        inside = replace(scope, columns=rows.columns)
        values, label, names = Found(), [], set()
        for each in pivot.args.get("fields") or ():
            label.append(Column(name=each.this.name))
            for column in each.expressions:
                self._walk(column, inside, values)
                names |= {name.lower() for name in _names_in((column,))}
        kept = [column for column in rows.shown if column.name.lower() not in names]
        made = [values.column(each.name) for each in pivot.expressions]
        return Rows(columns=(*kept, *label, *made), uses=rows.uses)

    # -- results and expressions --------------------------------------------------------------------------------

    def results(
        self,
        expressions: Sequence[exp.Expr],
        scope: Scope,
        found: Found,
        windows: Mapping[str, exp.Expr] | None = None,
    ) -> Iterator[Column]:
        """The columns that the expressions of a SELECT make; what else they look at is added to `found`."""
        for expression in expressions:
            for column in self._result(expression, scope, found, windows or {}):
                scope = replace(scope, earlier=(*scope.earlier, column))
                yield column

    def _result(self, node: exp.Expr, scope: Scope, found: Found, windows: Mapping[str, exp.Expr]) -> list[Column]:
        if isinstance(node, exp.Star):
            return self._star(node, Rows(columns=scope.columns).shown, scope, found)
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            return self._star(node.this, self._qualified(node, scope), scope, found)
        if isinstance(node, exp.Column):
            column = scope.find([part.name for part in node.parts])
            return [column.named(node.name) if column else Column(name=node.name, exact=False)]
        made = Found()
        self._walk(node, scope, made)
        for window in node.find_all(exp.Window):
            if window.alias.lower() in windows:
                self._walk(windows[window.alias.lower()], scope, made)
        found.uses |= made.uses
        return [made.column(name) for name in _names_of(node)]

    def _qualified(self, node: exp.Column, scope: Scope) -> list[Column]:
        """`alias.*`, or all fields of a column."""
        parts = [part.name for part in node.parts[:-1]]
        own = [column for column in scope.columns if column.qualifier == parts[-1].lower()]
        if own:
            return own
        column = scope.find(parts)
        return [replace(column or Column(name="*", exact=False), name="*", is_open=True)]

    def _star(self, star: exp.Star, columns: Sequence[Column], scope: Scope, found: Found) -> list[Column]:
        out = {name.lower() for name in _names_in(star.args.get("except_") or ())}
        instead: dict[str, Column] = {}
        for each in star.args.get("replace") or ():
            made = Found()
            self._walk(each, scope, made)
            found.uses |= made.uses
            instead[each.alias.lower()] = made.column(each.alias)
        names = {each.this.name.lower(): each.alias for each in star.args.get("rename") or ()}
        kept = [column for column in columns if column.name.lower() not in out]
        kept = [instead.get(column.name.lower(), column) for column in kept]
        kept = [replace(column, is_hidden=False) for column in kept]
        return [column.named(names[column.name.lower()]) if column.name.lower() in names else column for column in kept]

    def _walk(self, node: exp.Expr, scope: Scope, found: Found) -> None:
        if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
            found.add(scope.find([part.name for part in node.parts]))
        elif isinstance(node, exp.Star | exp.Column):
            if not isinstance(node.parent, exp.Count):
                for column in Rows(columns=scope.columns).shown:
                    found.add(column)
        elif isinstance(node, exp.Exists) and isinstance(node.this, exp.Query):
            found.uses |= self.query(node.this, scope.within()).everything
        elif isinstance(node, exp.Query):
            rows = self.query(node, scope.within())
            for column in rows.shown:
                found.add(column)
            found.uses |= rows.uses
        else:
            for child in node.iter_expressions():
                self._walk(child, scope, found)

    # -- changes ------------------------------------------------------------------------------------------------

    def change(self, tree: exp.Expr) -> Change:
        scope = self._with(tree, Scope())
        target = self._item(tree.this, scope)
        if isinstance(tree, exp.Merge):
            return self._merge(tree, target, scope)
        return self._changed(tree, replace(scope, columns=target.columns))

    def _changed(self, tree: exp.Expr, scope: Scope) -> Change:
        found = Found()
        columns = self._assigned(tree.expressions if isinstance(tree, exp.Update) else (), scope, found)
        where = tree.args.get("where")
        if where is not None:
            self._looked_at(where, scope, found)
        return Change(columns=tuple(columns), uses=frozenset(found.uses))

    def _merge(self, tree: exp.Merge, target: Rows, scope: Scope) -> Change:
        source = self._item(tree.args["using"], scope)
        both = replace(scope, columns=(*target.columns, *source.columns))
        found = Found(uses=set(source.uses))
        columns: list[Column] = []
        for condition in (
            tree.args.get("on"),
            *(when.args.get("condition") for when in tree.args["whens"].expressions),
        ):
            if condition is not None:
                self._looked_at(condition, both, found)
        for when in tree.args["whens"].expressions:
            columns += self._when(when.args["then"], target, source, both, found)
        return Change(columns=tuple(columns), uses=frozenset(found.uses))

    def _when(
        self, action: exp.Expr, target: Rows, source: Rows, scope: Scope, found: Found
    ) -> Iterator[Column] | Sequence[Column]:
        if isinstance(action, exp.Update):
            if any(isinstance(each, exp.Star) for each in action.expressions):
                return source.shown
            return self._assigned(action.expressions, scope, found)
        if not isinstance(action, exp.Insert):
            return ()
        if isinstance(action.this, exp.Star):
            return source.shown
        return self._inserted(action, target, replace(scope, columns=source.columns), found)

    def _inserted(self, action: exp.Insert, target: Rows, scope: Scope, found: Found) -> Iterator[Column]:
        names = [each.name for each in action.this.expressions] if action.this else [c.name for c in target.shown]
        for name, value in zip(names, action.expression.expressions, strict=False):
            yield self._value(name, value, scope, found)

    def _assigned(self, assignments: Sequence[exp.Expr], scope: Scope, found: Found) -> Iterator[Column]:
        for each in assignments:
            if isinstance(each, exp.EQ):
                yield self._value(self._assignee(each.this, scope), each.expression, scope, found)

    def _assignee(self, column: exp.Expr, scope: Scope) -> str:
        """The column that is set, also where a field of it is."""
        found = scope.find([part.name for part in column.parts]) if isinstance(column, exp.Column) else None
        return found.name if found is not None else column.name

    def _value(self, name: str, value: exp.Expr, scope: Scope, found: Found) -> Column:
        made = Found()
        self._walk(value, scope, made)
        found.uses |= made.uses
        return made.column(name)

    def _looked_at(self, condition: exp.Expr, scope: Scope, found: Found) -> None:
        made = Found()
        self._walk(condition, scope, made)
        found.uses |= made.sources | made.uses


def _column_names(node: exp.Expr) -> list[str]:
    alias = node.args.get("alias")
    return [each.name for each in alias.columns] if isinstance(alias, exp.TableAlias) else []


def _names_in(nodes: Sequence[exp.Expr]) -> set[str]:
    return {column.name for node in nodes for column in node.find_all(exp.Column)} | {
        node.name for node in nodes if isinstance(node, exp.Identifier)
    }


def _names_of(node: exp.Expr) -> list[str]:
    """What Spark calls the columns that an expression makes."""
    if isinstance(node, exp.Aliases):
        return [each.name for each in node.expressions]
    if node.alias:
        return [node.alias]
    return list(_OF_COLUMNS.get(type(node).__name__, ())) or [node.output_name or node.sql(dialect=_DIALECT)]
