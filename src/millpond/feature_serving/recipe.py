"""From a feature spec to what is to be done for a request. Pure: it knows names and types, and no values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from millpond.catalog.domain import ObjectName, Table
from millpond.features.declared import Feature
from millpond.features.planning import Aggregation, Call, Join, made_by, needs_of, steps_of
from millpond.features.spec import FeatureSpec
from millpond.features.tables import FeatureTable
from millpond.kernel.column_values import typed
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotImplementedHere


@dataclass(frozen=True, kw_only=True)
class ServedFunction:
    """A Python function of the catalog, and what it is called for."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    """Names and SQL types."""
    body: str
    returns: str
    """SQL."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """All that is looked up in one table at a time: one read."""

    table: str
    source: ObjectName
    """The same as a name of the catalog."""
    joins: tuple[Join, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wave:
    """What can be done at once, as it needs only what waves before it made."""

    reads: tuple[Read, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A spec with what is known of its tables and functions."""

    waves: tuple[Wave, ...]
    types: Mapping[str, str]
    """The SQL type of each column that is made."""
    keys: Mapping[str, Mapping[str, str]]
    """By table, the SQL types of the columns by which it is read."""
    functions: Mapping[str, ServedFunction]
    asked: Mapping[str, str]
    """The SQL type of each column that a request has to have."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """All reads."""
        return tuple(read for wave in self.waves for read in wave.reads)


def make_recipe(
    spec: FeatureSpec, tables: Mapping[str, FeatureTable], functions: Mapping[str, ServedFunction]
) -> Recipe:
    """The recipe. Raises FailedPrecondition for a spec that does not fit its tables, or cannot be had online."""
    parameters = {name: [each for each, _ in function.parameters] for name, function in functions.items()}
    try:
        steps = list(steps_of(spec.wanted, tables, parameters))
    except ValueError as error:
        raise FailedPrecondition(f"The feature spec does not fit any more: {error}") from error
    types: dict[str, str] = {}
    asked: dict[str, str] = {}
    level: dict[str, int] = {}
    placed: list[tuple[int, Join | Call]] = []
    for step in steps:
        assert not isinstance(step, Aggregation), "see refuse_declared"
        found = _types(step, tables, functions)
        if twice := [name for name in made_by(step) if name in types]:
            raise FailedPrecondition(f"The feature spec makes '{twice[0]}' twice; give one another name.")
        at = max((level[name] + 1 for name in needs_of(step) if name in level), default=0)
        asked |= {name: kind for name, kind in _asked(step, tables, functions).items() if name not in types}
        types |= found
        level |= dict.fromkeys(found, at)
        placed.append((at, step if isinstance(step, Call) else _checked(step, tables[step.table])))
    keys = {name: {key: table.types[key] for key in table.entity_keys} for name, table in tables.items()}
    return Recipe(waves=_waves(placed), types=types, keys=keys, functions=functions, asked=asked)


def refuse_declared(spec: FeatureSpec) -> None:
    """Raises NotImplementedHere for features that are computed out of many rows, which are not online."""
    declared = next((each for each in spec.wanted if isinstance(each, Feature)), None)
    if declared is not None:
        raise NotImplementedHere(
            f"The feature '{declared.output}' is computed of the rows of '{declared.source.full_name}', which is not "
            "done for requests; materialize_features makes a feature table of it, to be published and looked up in."
        )


def feature_table(table: Table, name: str) -> FeatureTable:
    """A table of the catalog as a feature table, as it is called in a spec.

    Raises FailedPrecondition when it has no primary key.
    """
    key = table.primary_key
    if key is None:
        raise FailedPrecondition(f"Table '{table.name}' has no primary key, so nothing can be looked up in it.")
    names = {column.name.lower(): column.name for column in table.columns}
    return FeatureTable(
        name=name,
        table_id=table.id,
        primary_keys=tuple(names.get(each.lower(), each) for each in key.columns),
        timeseries_columns=tuple(names.get(each.lower(), each) for each in key.timeseries_columns),
        types={column.name: column.type_text for column in table.columns},
        properties=table.properties,
    )


def _types(
    step: Join | Call, tables: Mapping[str, FeatureTable], functions: Mapping[str, ServedFunction]
) -> dict[str, str]:
    if isinstance(step, Call):
        return {step.output: functions[step.function].returns}
    return {output: tables[step.table].types[name] for name, output in step.outputs.items()}


def _asked(
    step: Join | Call, tables: Mapping[str, FeatureTable], functions: Mapping[str, ServedFunction]
) -> dict[str, str]:
    """What a step needs, but for the time of a lookup, which is now where it is missing."""
    if isinstance(step, Call):
        kinds = [kind for _, kind in functions[step.function].parameters]
        return dict(zip(step.arguments, kinds, strict=True))
    return {mine: tables[step.table].types[theirs] for mine, theirs in step.keys}


def _checked(join: Join, table: FeatureTable) -> Join:
    """A lookup that can be had online, with its defaults as values of the columns' types."""
    if table.timeseries_columns and join.time is None:
        raise FailedPrecondition(
            f"'{table.name}' is looked up at an exact time, and online is only the newest row of each key; give the "
            "lookup a timestamp_lookup_key."
        )
    types = {output: table.types[name] for name, output in join.outputs.items()}
    try:
        defaults = {output: typed(value, types[output], output) for output, value in join.defaults.items()}
    except InvalidArgument as error:
        raise FailedPrecondition(f"default_values of the lookup in '{table.name}': {error.message}") from error
    return replace(join, defaults=defaults)


def _waves(placed: Sequence[tuple[int, Join | Call]]) -> tuple[Wave, ...]:
    waves = []
    for _, group in groupby(sorted(placed, key=lambda each: each[0]), key=lambda each: each[0]):
        steps = [step for _, step in group]
        joins = [step for step in steps if isinstance(step, Join)]
        tables = dict.fromkeys(join.table for join in joins)
        waves.append(
            Wave(
                reads=tuple(_read(table, [join for join in joins if join.table == table]) for table in tables),
                calls=tuple(step for step in steps if isinstance(step, Call)),
            )
        )
    return tuple(waves)


def _read(table: str, joins: Sequence[Join]) -> Read:
    keys = {theirs for join in joins for _, theirs in join.keys}
    needed = dict.fromkeys(name for join in joins for name in join.table_columns if name not in keys)
    return Read(table=table, source=ObjectName.of_full_name(table), joins=tuple(joins), columns=tuple(needed))
