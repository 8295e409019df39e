"""One replay: requests are made of keys, completed as serving does, joined as training does, and compared."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from millpond.catalog.domain import ObjectName, Table, TableType
from millpond.catalog.names import quote
from millpond.catalog.service import CatalogService
from millpond.engine.sql_functions import Parameter, parameters_of
from millpond.feature_serving.recipe import feature_table, refuse_declared
from millpond.feature_serving.service import FeatureServing
from millpond.features.planning import Aggregation, Call, Join, made_by, steps_of
from millpond.features.spec import FeatureSpec
from millpond.features.tables import FeatureTable
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, MillpondError, NotFound, Unavailable
from millpond.online.reading import OnlineTables, Rows
from millpond.online.service import OnlineService
from millpond.online.wire import freshness
from millpond.parity.domain import MOST_KEPT, Feature, Report, Source, Unreplayable, compare
from millpond.parity.functions import caller
from millpond.parity.offline import Compute, Offline, OfflinePath, Query
from millpond.parity.requests import Keys, Needs, Row, absent, filled_in, needs, sampled_keys, side_by_side
from millpond.registry.checks import Replay, at_version

_AT_ONCE = 100
"""Requests that are completed together, as of one client."""
_TRIES = 20
_SEED = 42


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A spec with what the catalog says of its tables and functions."""

    spec: FeatureSpec
    tables: Mapping[str, FeatureTable]
    parameters: Mapping[str, Sequence[Parameter]]
    steps: tuple[Join | Call, ...]


@dataclass(frozen=True, kw_only=True)
class _Requests:
    """What is replayed."""

    rows: Sequence[Row]
    origin: str
    table_id: str = ""


@dataclass(frozen=True, kw_only=True)
class _Online:
    """What the requests have online, all of one version of each table."""

    rows: Sequence[Row]
    now: datetime


class Replayer:
    """Carries out replays with somebody's rights."""

    def __init__(
        self,
        catalog: CatalogService,
        features: FeatureServing,
        tables: OnlineTables,
        online: OnlineService,
        *,
        query: Query,
        compute: Compute,
        scratch: Path,
    ) -> None:
        """`scratch` is where processes of functions have their files."""
        self._catalog = catalog
        self._features = features
        self._tables = tables
        self._online = online
        self._query = query
        self._compute = compute
        self._call = caller(scratch)

    def replay(self, rights: Principal, spec: FeatureSpec, asked: Replay) -> Report:
        """Both paths side by side. Blocks.

        Raises what serving raises for features that cannot be served, InvalidArgument for what is asked, NotFound and
        PermissionDenied for what may not be read, and Unreplayable once values have been read; Unavailable also while
        tables are published so often that none keeps still.
        """
        self._features.check(rights, spec)
        plan = self._planned(rights, spec)
        given = self._given(rights, asked.keys, needs(plan.steps)) if asked.keys is not None else None
        unknown = asked.tolerances.keys() - {name for step in plan.steps for name in made_by(step)}
        if unknown:
            raise InvalidArgument(f"tolerances names {sorted(map(str, unknown))}, which are no features here.")
        try:
            return self._replayed(rights, plan, given, asked)
        except Unavailable:
            raise
        except MillpondError as error:
            ids = [table.table_id for table in plan.tables.values()] + ([given.id] if given else [])
            raise Unreplayable(error.message, ids) from error

    def _replayed(self, rights: Principal, plan: _Plan, given: Table | None, asked: Replay) -> Report:
        requests: _Requests | None = None
        for _ in range(_TRIES):
            copies = self._copies(rights, plan)
            versions = {table: copy.version for table, copy in copies.items()}
            requests = requests or self._requests(rights, plan, given, asked.sample, versions)
            online = self._completed(rights, plan, requests.rows)
            if copies == self._copies(rights, plan):
                break
        else:
            raise Unavailable("The online tables are published too often to be compared at one version; try again.")
        types = {name: [each.type for each in given] for name, given in plan.parameters.items()}
        path = OfflinePath(self._query, self._compute, rights, versions=versions, parameters=types, now=online.now)
        offline = path.replay(plan.steps, filled_in(requests.rows, needs(plan.steps).times, online.now))
        sources = tuple(self._source(rights, plan.tables[table], copy) for table, copy in copies.items())
        features = _compared(plan, sources, offline, online.rows, asked)
        return Report(
            rows=len(requests.rows),
            keys=requests.origin,
            keys_table_id=requests.table_id,
            sources=sources,
            features=_bounded(features),
            max_mismatches=asked.max_mismatches,
        )

    def _planned(self, rights: Principal, spec: FeatureSpec) -> _Plan:
        refuse_declared(spec)
        tables = {name: feature_table(self._table(rights, name), name) for name in spec.tables}
        parameters = {name: self._parameters(name) for name in spec.functions}
        names = {name: [each.name for each in given] for name, given in parameters.items()}
        steps = tuple(step for step in steps_of(spec.wanted, tables, names) if not isinstance(step, Aggregation))
        return _Plan(spec=spec, tables=tables, parameters=parameters, steps=steps)

    def _table(self, rights: Principal, name: str) -> Table:
        table = self._catalog.get_table(rights, ObjectName.of_full_name(name))
        require(rights, Act.READ, table.securable)
        return table

    def _parameters(self, name: str) -> Sequence[Parameter]:
        function = self._catalog.look_up_function(ObjectName.of_full_name(name))
        if function is None:
            raise NotFound(f"Function '{name}' does not exist.")
        return parameters_of(function)

    # Online

    def _copies(self, rights: Principal, plan: _Plan) -> dict[str, Rows]:
        """Where serving reads each table now: which online table, and which version it has."""
        return {
            name: self._tables.rows_of(rights, ObjectName.of_full_name(name), [], columns=[]) for name in plan.tables
        }

    def _source(self, rights: Principal, table: FeatureTable, copy: Rows) -> Source:
        """The same with how far it is behind."""
        seen = self._online.get_table(rights, ObjectName.of_full_name(copy.online_table))
        told = freshness(self._online.news(replace(seen, table=replace(seen.table, version=copy.version))))
        return Source(
            table=table.name,
            table_id=table.table_id,
            version=copy.version,
            online_table=copy.online_table,
            store=seen.table.store,
            store_kind=seen.table.kind.value,
            newest_version=told["source_version"],
            versions_behind=told["versions_behind"],
            lag_s=told["lag_s"],
        )

    def _completed(self, rights: Principal, plan: _Plan, rows: Sequence[Row]) -> _Online:
        """The requests as serving completes them."""

        async def complete() -> list[Row]:
            made: list[Row] = []
            async with aclosing(self._tables):
                for start in range(0, len(asked), _AT_ONCE):
                    some = asked[start : start + _AT_ONCE]
                    made += (await self._features.complete(rights, plan.spec, some, call=self._call)).rows
            return made

        now = utc_now()
        asked = filled_in(rows, needs(plan.steps).times, now)
        return _Online(rows=asyncio.run(complete()), now=now)

    # Requests

    def _requests(
        self, rights: Principal, plan: _Plan, given: Table | None, count: int, versions: Mapping[str, int]
    ) -> _Requests:
        """Rows that are there, and, unless functions would be called with nothing, some for which nothing is."""
        wanted = needs(plan.steps)
        if not wanted.keys:
            raise FailedPrecondition("The feature spec looks nothing up by what a request brings.")
        if given is not None:
            found = self._taken(rights, given, wanted, count)
        elif wanted.others:
            raise FailedPrecondition(
                f"The feature spec is given {list(wanted.others)} besides keys; name a table that has them by 'keys'."
            )
        else:
            found = self._sampled(rights, plan, count, versions)
        if not found.rows and (given is not None or plan.spec.functions):
            raise FailedPrecondition(f"There are no rows to replay: {found.origin}.")
        if plan.spec.functions:
            return found
        types = {mine: plan.tables[join.table].types[theirs] for join in _joins(plan) for mine, theirs in join.keys}
        keys = {name: types[name] for name in wanted.keys}
        return replace(found, rows=[*found.rows, *absent(found.rows, keys, max(1, len(found.rows) // 10))])

    def _given(self, rights: Principal, name: str, wanted: Needs) -> Table:
        """The table of requests. Raises InvalidArgument for one that lacks a column."""
        table = self._table(rights, name)
        if table.table_type is TableType.VIEW:
            raise InvalidArgument(f"'{name}' is a view; requests are taken from a table.")
        there = {column.name for column in table.columns}
        if missing := [column for column in (*wanted.keys, *wanted.others) if column not in there]:
            raise InvalidArgument(f"Table '{name}' lacks the columns {missing}, which requests need.")
        return table

    def _taken(self, rights: Principal, table: Table, wanted: Needs, count: int) -> _Requests:
        """Rows of a table of requests; features that it has besides are not read, so that they stand for nothing."""
        there = {column.name for column in table.columns}
        columns = [column for column in wanted.columns if column in there]
        rows = self._picked(rights, columns, table.name.quoted, "", count)
        return _Requests(rows=rows, origin=str(table.name), table_id=table.id)

    def _sampled(self, rights: Principal, plan: _Plan, count: int, versions: Mapping[str, int]) -> _Requests:
        wanted = needs(plan.steps).keys
        groups = sampled_keys(plan.steps, wanted)
        share = -(-count // max(1, len(groups)))
        taken = [[self._keys(rights, each, share, versions) for each in group] for group in groups]
        origin = "keys of " + ", ".join(dict.fromkeys(each.table for group in groups for each in group))
        return _Requests(rows=side_by_side(taken, wanted)[:count], origin=origin)

    def _keys(self, rights: Principal, keys: Keys, count: int, versions: Mapping[str, int]) -> list[Row]:
        names = list(dict.fromkeys(keys.columns.values()))
        there = " AND ".join(f"{quote(name)} IS NOT NULL" for name in names)
        rows = self._picked(rights, names, at_version(keys.table, versions[keys.table]), f"WHERE {there}", count)
        return [{mine: row[theirs] for mine, theirs in keys.columns.items()} for row in rows]

    def _picked(self, rights: Principal, columns: Sequence[str], place: str, where: str, count: int) -> list[Row]:
        """So many different rows, the same ones each time."""
        names = ", ".join(map(quote, columns))
        text = (
            f"SELECT {names} FROM {place} {where} GROUP BY {names} "  # noqa: S608 - names are quoted
            f"ORDER BY xxhash64({names}, {_SEED}), {names} LIMIT {count}"
        )
        found = pl.from_arrow(self._query(rights, text, count))
        assert isinstance(found, pl.DataFrame)
        return found.to_dicts()


def _joins(plan: _Plan) -> list[Join]:
    return [step for step in plan.steps if isinstance(step, Join)]


def _compared(
    plan: _Plan, sources: Sequence[Source], offline: Offline, online: Sequence[Row], asked: Replay
) -> list[Feature]:
    by_table = {source.table: source for source in sources}
    keys = [{name: row[name] for name in needs(plan.steps).columns if name in row} for row in online]
    return [
        compare(
            name,
            offline.columns[name],
            [row[name] for row in online],
            keys,
            left_out=offline.superseded[name],
            tolerance=asked.tolerance_of(name),
            places=_places(step, by_table),
        )
        for step in plan.steps
        for name in made_by(step)
    ]


def _places(step: Join | Call, sources: Mapping[str, Source]) -> tuple[str, str]:
    if isinstance(step, Call):
        return f"{step.function} in the engine", f"{step.function} in serving"
    source = sources[step.table]
    return source.offline_text, source.online_text


def _bounded(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """With so few mismatches shown that all features have their share."""
    bad = sum(feature.differing > 0 for feature in features)
    share = max(1, MOST_KEPT // bad) if bad else 0
    return tuple(replace(feature, mismatches=feature.mismatches[:share]) for feature in features)


def without_values(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as whoever may not read its tables sees it: counts, and neither keys nor values."""
    features = [{**feature, "mismatches": [], "largest_difference": None} for feature in report.get("features", ())]
    return {**report, "features": features, "problem": None} if report else {}
