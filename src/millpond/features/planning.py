"""From what a user asked to what is to be done: which tables are joined how, and which columns come out.

Pure: it knows names and types, and no data. Raises ValueError for whatever does not fit together.
"""

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from millpond.features.lookups import FeatureFunction, FeatureLookup
from millpond.features.tables import FeatureTable

Wanted = FeatureLookup | FeatureFunction


@dataclass(frozen=True, kw_only=True)
class Join:
    """One lookup as a kernel carries it out. Pairs are (column of the labels, column of the table)."""

    table: str
    keys: tuple[tuple[str, str], ...]
    time: tuple[str, str] | None = None
    """None for an exact match of the keys."""
    known_at: str | None = None
    """The column with the time at which a row was known; a row counts from then on."""
    lookback: datetime.timedelta | None = None
    outputs: Mapping[str, str]
    """What each column of the table is called in the result."""
    defaults: Mapping[str, Any]
    """By output, what stands for a missing value."""

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of the labels that it needs."""
        return tuple(dict.fromkeys((*(mine for mine, _ in self.keys), *(self.time or ())[:1])))

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns of the table that it needs, each once."""
        times = [column for column in ((self.time or (None, None))[1], self.known_at) if column]
        return tuple(dict.fromkeys((*(theirs for _, theirs in self.keys), *times, *self.outputs)))


@dataclass(frozen=True, kw_only=True)
class Call:
    """One function of the catalog, for each row."""

    function: str
    arguments: tuple[str, ...]
    """Columns, in the order of its parameters."""
    output: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What makes a training set out of its labels."""

    steps: tuple[Join | Call, ...]
    """In order: a later one may use what an earlier one made."""
    features: tuple[str, ...]
    """What a model is given, in order."""
    labels: tuple[str, ...]

    @property
    def joins(self) -> tuple[Join, ...]:
        """The steps that look up."""
        return tuple(step for step in self.steps if isinstance(step, Join))

    @property
    def columns(self) -> tuple[str, ...]:
        """What comes out, in order."""
        return (*self.features, *self.labels)


def make_plan(
    wanted: Sequence[Wanted],
    tables: Mapping[str, FeatureTable],
    parameters: Mapping[str, Sequence[str]],
    columns: Sequence[str],
    *,
    labels: Sequence[str] = (),
    excluded: Collection[str] = (),
    overriding: bool = False,
) -> Plan:
    """The plan for a data frame with some columns. `parameters` has those of each function.

    With `overriding`, a column that is there already stands for the feature of its name, which is an error otherwise.
    """
    _refuse_unknown("The label", labels, columns)
    there, steps = list(columns), []
    for whole in steps_of(wanted, tables, parameters):
        made = made_by(whole)
        step = _without(whole, columns) if overriding else _refuse_twice(whole, made, there)
        if step is not None:
            _refuse_unknown(*_needs(step), there)
            steps.append(step)
            there += [one for one in made if one not in there]
    _refuse_unknown("exclude_columns", excluded, there)
    features = tuple(name for name in there if name not in labels and name not in excluded)
    return Plan(steps=tuple(steps), features=features, labels=tuple(labels))


def steps_of(
    wanted: Sequence[Wanted], tables: Mapping[str, FeatureTable], parameters: Mapping[str, Sequence[str]]
) -> Iterator[Join | Call]:
    """What each that is wanted is to do, whatever columns there are."""
    for each in wanted:
        yield _join(each, tables[each.table_name]) if isinstance(each, FeatureLookup) else _call(each, parameters)


def made_by(step: Join | Call) -> tuple[str, ...]:
    """The columns that a step makes."""
    return (step.output,) if isinstance(step, Call) else tuple(step.outputs.values())


def needs_of(step: Join | Call) -> Sequence[str]:
    """The columns that a step needs."""
    return step.arguments if isinstance(step, Call) else step.label_columns


def _join(lookup: FeatureLookup, table: FeatureTable) -> Join:
    keys, time = _keys(lookup, table)
    names = lookup.feature_names or tuple(table.features)
    _refuse_unknown(f"The lookup in '{table.name}'", names, list(table.types))
    outputs = {name: lookup.rename_outputs.get(name, name) for name in names}
    _refuse_unknown(f"rename_outputs of the lookup in '{table.name}'", list(lookup.rename_outputs), names)
    defaults = lookup.default_values
    _refuse_unknown(f"default_values of the lookup in '{table.name}'", list(defaults), list(outputs.values()))
    return Join(
        table=table.name,
        keys=keys,
        time=time,
        known_at=table.known_at,
        lookback=lookup.lookback_window,
        outputs=outputs,
        defaults=defaults,
    )


def _keys(lookup: FeatureLookup, table: FeatureTable) -> tuple[tuple[tuple[str, str], ...], tuple[str, str] | None]:
    given, times = lookup.lookup_key, table.timeseries_columns
    if lookup.timestamp_lookup_key is not None and not times:
        raise ValueError(f"'{table.name}' has no timeseries column for timestamp_lookup_key to be compared with.")
    if lookup.timestamp_lookup_key is None and times and len(given) != len(table.primary_keys):
        raise ValueError(
            f"'{table.name}' has values over time: give the lookup a timestamp_lookup_key, or, to match the time "
            f"exactly, all of its primary key {list(table.primary_keys)} as lookup_key."
        )
    exact = lookup.timestamp_lookup_key is None
    expected = table.primary_keys if exact else table.entity_keys
    if len(given) != len(expected):
        raise ValueError(f"lookup_key {list(given)} of '{table.name}' must have a column for each of {list(expected)}.")
    ordered = expected if set(given) == set(expected) else given
    time = None if exact else (str(lookup.timestamp_lookup_key), times[0])
    return tuple(zip(ordered, expected, strict=True)), time


def _call(function: FeatureFunction, parameters: Mapping[str, Sequence[str]]) -> Call:
    names, bound = parameters[function.udf_name], function.input_bindings
    _refuse_unknown(f"input_bindings of '{function.udf_name}'", list(bound), names)
    arguments = tuple(bound.get(name, name) for name in names)
    return Call(function=function.udf_name, arguments=arguments, output=function.output)


def _needs(step: Join | Call) -> tuple[str, Sequence[str]]:
    who = f"The function '{step.function}'" if isinstance(step, Call) else f"The lookup in '{step.table}'"
    return who, needs_of(step)


def _without(step: Join | Call, columns: Collection[str]) -> Join | Call | None:
    """The step without what is there already; None when nothing is left of it."""
    if isinstance(step, Call):
        return None if step.output in columns else step
    outputs = {name: output for name, output in step.outputs.items() if output not in columns}
    kept = {output: value for output, value in step.defaults.items() if output not in columns}
    return replace(step, outputs=outputs, defaults=kept) if outputs else None


def _refuse_twice(step: Join | Call, made: Sequence[str], there: Sequence[str]) -> Join | Call:
    twice = [name for name in made if name in there or made.count(name) > 1]
    if twice:
        how = "output_name" if isinstance(step, Call) else "rename_outputs"
        raise ValueError(f"The column '{twice[0]}' is there already; give the feature another name with {how}.")
    return step


def _refuse_unknown(who: str, names: Collection[str], known: Collection[str]) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{who} names {missing}, not among the columns {list(known)}.")
