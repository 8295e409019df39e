"""Complete the rows of a request with their features, as of now."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.service import CatalogService
from millpond.feature_serving.recipe import Read, Recipe, ServedFunction, feature_table, make_recipe, refuse_declared
from millpond.features.planning import Call, Join
from millpond.features.spec import FeatureSpec
from millpond.identity.access import Act, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.kernel.asides import aside_unless
from millpond.kernel.clock import utc_now
from millpond.kernel.column_values import moment, typed
from millpond.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    NotImplementedHere,
    Unavailable,
)
from millpond.online.reading import OnlineTables

MOST_VALUES = 1_000_000
"""Made for one request: a few hundred megabytes."""
_GOOD_FOR_S = 0.25
_MOST_KEPT = 1000
_FEW_VALUES = 2000
"""Made faster than a thread is asked."""

Row = dict[str, Any]
_Place = tuple[Join, Row, Row | None]
"""Where features are wanted: by which join, in which row, and of which key, if all of it is known."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A function to be called for some rows."""

    function: ServedFunction
    arguments: tuple[list[Any], ...]
    """By parameter, the values of all rows."""
    rows: int


_Wanting = tuple[Call, list[Row], Invocation]
Caller = Callable[[Sequence[Invocation]], Awaitable[Sequence[Sequence[Any]]]]
"""Calls functions in a process where users' code may run: for each the results by row."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """Rows with their features."""

    rows: list[Row]
    """All that the request has, and all that the spec makes; missing values are None."""
    types: Mapping[str, str]
    """The SQL types of what the spec makes."""


@dataclass(frozen=True, kw_only=True)
class TableUse:
    """What a spec reads of a feature table."""

    table: Table
    keys: tuple[str, ...]
    """Columns that find the row, or decide whether it counts."""
    outputs: tuple[tuple[str, str], ...]
    """Columns whose values are given, and as what."""


@dataclass(frozen=True)
class _Known:
    """A recipe, and for how long it is taken for true."""

    spec: FeatureSpec
    recipe: Recipe
    epoch: int
    good_until: float


async def no_functions(asked: Sequence[Invocation]) -> Sequence[Sequence[Any]]:
    """A `Caller` where users' code cannot run. Raises NotImplementedHere."""
    raise NotImplementedHere(f"Function '{asked[0].function.name}' cannot be called here.")


class FeatureServing:
    """Features by keys, with the rights of whoever is given."""

    def __init__(
        self, catalog: CatalogService, online: OnlineTables, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._catalog = catalog
        self._online = online
        self._clock = clock
        self._known: dict[tuple[int, str], _Known] = {}

    async def complete(
        self, rights: Principal, spec: FeatureSpec, rows: Sequence[Mapping[str, Any]], *, call: Caller = no_functions
    ) -> Completed:
        """The rows with their features; a column that a row has already stands for the feature of its name.

        Raises InvalidArgument that names a column which is missing or of another type, FailedPrecondition that names
        the table which is not published, hidden in part or changed, NotFound and PermissionDenied for what `rights`
        may not read or call, Unavailable when an online store does not answer.
        """
        recipe = self._recipe_at_hand(rights, spec)
        if recipe is None:
            recipe = await asyncio.to_thread(self._find_recipe, rights, spec)
        values = len(rows) * len(recipe.types)
        if values > MOST_VALUES:
            raise InvalidArgument(
                f"The request has {len(rows)} rows of {len(recipe.types)} features; at most {MOST_VALUES} values are "
                "made at once. Send fewer rows."
            )
        few, now = values <= _FEW_VALUES, self._clock()
        made = await aside_unless(few, partial(_all_taken, rows, recipe))
        for wave in recipe.waves:
            for read in wave.reads:
                places = await aside_unless(few, partial(_places, recipe, read, made))
                if keys := [key for _, _, key in places if key is not None]:
                    with _told(read):
                        found = await self._online.read_of(rights, read.source, keys, columns=read.columns)
                await aside_unless(few, partial(_give_values, places, found.rows if keys else (), now))
            wanting = await aside_unless(few, partial(_wanting, recipe, wave.calls, made))
            if wanting:
                results = await call([invocation for _, _, invocation in wanting])
                await aside_unless(few, partial(_give_results, recipe, wanting, results))
        return Completed(rows=made, types=recipe.types)

    def check(self, rights: Principal, spec: FeatureSpec) -> None:
        """Pass if rows could be completed now. Raises what `complete` does. Blocks."""
        for read in self._make_recipe(rights, spec).reads:
            with _told(read):
                self._online.rows_of(rights, read.source, [], columns=read.columns)

    def uses(self, spec: FeatureSpec) -> tuple[TableUse, ...]:
        """What a spec reads of which table, of those that are there. For the server itself. Blocks."""
        try:
            recipe = self._make_recipe(SYSTEM, spec)
        except MillpondError:
            return ()
        found: dict[str, list[Join]] = {}
        for read in recipe.reads:
            found.setdefault(read.table, []).extend(read.joins)
        return tuple(self._use(table, joins) for table, joins in found.items())

    def asked(self, spec: FeatureSpec) -> Mapping[str, str]:
        """The columns that a request has to have, with their SQL types. For the server itself. Blocks.

        Raises what says why the spec does not work.
        """
        return self._make_recipe(SYSTEM, spec).asked

    def _use(self, name: str, joins: Sequence[Join]) -> TableUse:
        outputs = {pair: None for join in joins for pair in join.outputs.items()}
        values = {column for column, _ in outputs}
        keys = {column: None for join in joins for column in join.table_columns if column not in values}
        table = self._catalog.get_table(SYSTEM, _name(name))
        return TableUse(table=table, keys=tuple(keys), outputs=tuple(outputs))

    # Recipes

    def _recipe_at_hand(self, rights: Principal, spec: FeatureSpec) -> Recipe | None:
        known = self._known.get((id(spec), rights.id))
        good = known is not None and known.epoch == rights.epoch and time.monotonic() < known.good_until
        return known.recipe if known is not None and good and known.spec is spec else None

    def _find_recipe(self, rights: Principal, spec: FeatureSpec) -> Recipe:
        good_until = time.monotonic() + _GOOD_FOR_S
        recipe = self._make_recipe(rights, spec)
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[id(spec), rights.id] = _Known(spec, recipe, rights.epoch, good_until)
        return recipe

    def _make_recipe(self, rights: Principal, spec: FeatureSpec) -> Recipe:
        refuse_declared(spec)  # before a table is asked for a key, which the source of such a feature may lack
        tables = {name: feature_table(self._catalog.get_table(rights, _name(name)), name) for name in spec.tables}
        functions = {name: self._function(rights, name) for name in spec.functions}
        return make_recipe(spec, tables, functions)

    def _function(self, rights: Principal, name: str) -> ServedFunction:
        """Raises NotFound, PermissionDenied, and NotImplementedHere for one that is not Python."""
        from millpond.engine.python_routines import is_python, python_function  # with sqlglot, which few requests need

        found = self._catalog.look_up_function(_name(name))
        if found is None:
            raise NotFound(f"Function '{name}' does not exist.")
        require(rights, Act.USE, found.securable)
        if not is_python(found):
            raise NotImplementedHere(
                f"Function '{name}' is not of Python; only such functions compute features when they are asked for. "
                "CREATE OR REPLACE it with LANGUAGE PYTHON."
            )
        try:
            made = python_function(found)
        except MillpondError as error:
            raise FailedPrecondition(f"Function '{name}' cannot be called: {error.message}") from error
        parameters = tuple((each.name, each.type) for each in made.parameters)
        return ServedFunction(name=name, parameters=parameters, body=made.body, returns=made.returns)


@contextmanager
def _told(read: Read) -> Iterator[None]:
    """Errors of a read, as who asks for features understands them."""
    try:
        yield
    except InvalidArgument as error:  # the keys are of the right types: what is online is of another shape
        raise FailedPrecondition(f"Table '{read.table}' is online in an older shape: {error.message}") from error
    except Unavailable as error:
        raise Unavailable(f"Features of '{read.table}' cannot be looked up: {error.message}") from error


def _places(recipe: Recipe, read: Read, rows: Sequence[Row]) -> list[_Place]:
    """Where rows lack some of a read's features. Raises InvalidArgument for keys."""
    return [
        (join, row, _key(join, row, recipe.keys[read.table]))
        for join in read.joins
        for row in rows
        if any(output not in row for output in join.outputs.values())
    ]


def _give_values(places: Sequence[_Place], rows: Sequence[Row | None], now: datetime) -> None:
    """Give each place what it lacks, of the online rows of all keys in their order."""
    found = iter(rows)
    for join, row, key in places:
        values = None if key is None else next(found)
        counts = key is not None and values is not None and _counts(join, row, values, now)
        given = {**key, **values} if key and values and counts else {}
        for column, output in join.outputs.items():
            if output not in row:
                value = given.get(column)
                row[output] = join.defaults.get(output) if value is None else value


def _name(table: str) -> ObjectName:
    return ObjectName.of_full_name(table)


def _all_taken(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> list[Row]:
    """The rows of a request; what stands for a feature is of the feature's type."""
    types = recipe.types
    return [
        {name: typed(value, types[name], name) if name in types else value for name, value in row.items()}
        for row in rows
    ]


def _key(join: Join, row: Row, types: Mapping[str, str]) -> Row | None:
    """The key of a row; None where a part of it is missing. Raises InvalidArgument."""
    for mine, _ in join.keys:
        if mine not in row:
            raise InvalidArgument(
                f"The column '{mine}' is missing, by which features are looked up in '{join.table}'; a key that is "
                "not known is null."
            )
    key = {theirs: typed(row[mine], types[theirs], mine) for mine, theirs in join.keys}
    return None if None in key.values() else key


def _counts(join: Join, row: Row, values: Row, now: datetime) -> bool:
    """Whether values were known and are young enough at the time of the row, which is now if it says nothing."""
    if join.time is None:
        return True
    mine, theirs = join.time
    at = typed(row[mine], "timestamp", mine) if mine in row else now
    if at is None or values[theirs] is None:
        return False
    if join.known_at is not None and (values[join.known_at] is None or moment(values[join.known_at]) > at):
        return False
    return join.lookback is None or at - moment(values[theirs]) <= join.lookback


def _wanting(recipe: Recipe, calls: Sequence[Call], rows: Sequence[Row]) -> list[_Wanting]:
    """Which rows lack what functions make, and the calls that make it."""
    found = ((call, [row for row in rows if call.output not in row]) for call in calls)
    return [(call, some, _invocation(recipe.functions[call.function], call, some)) for call, some in found if some]


def _give_results(recipe: Recipe, wanting: Sequence[_Wanting], results: Sequence[Sequence[Any]]) -> None:
    for (call, rows, _), values in zip(wanting, results, strict=True):
        for row, value in zip(rows, values, strict=True):
            row[call.output] = typed(value, recipe.types[call.output], call.output)


def _invocation(function: ServedFunction, call: Call, rows: Sequence[Row]) -> Invocation:
    for name in call.arguments:
        if any(name not in row for row in rows):
            raise InvalidArgument(f"The column '{name}' is missing, which function '{call.function}' is given.")
    arguments = tuple(
        [typed(row[name], kind, name) for row in rows]
        for name, (_, kind) in zip(call.arguments, function.parameters, strict=True)
    )
    return Invocation(function=function, arguments=arguments, rows=len(rows))
