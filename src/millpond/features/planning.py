"""From what a user asked to what is to be done: which tables are joined how, and which columns come out.

Pure: it knows names and types, and no data. Raises ValueError for whatever does not fit together.
"""

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from millpond.features.declared import Feature
from millpond.features.lookups import FeatureFunction, FeatureLookup, names_of
from millpond.features.tables import TIME_TYPES, FeatureTable
from millpond.features.windows import Function, Span

Wanted = FeatureLookup | FeatureFunction | Feature
_NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a kernel needs of one table. Pairs are (column of the labels, column of the table)."""

    table: str
    keys: tuple[tuple[str, str], ...]
    time: tuple[str, str] | None = None
    """None for an exact match of the keys."""
    known_at: str | None = None
    """The column with the time at which a row was known; a row counts from then on."""

    @property
    def values(self) -> tuple[str, ...]:
        """The columns of the table that are not compared but given."""
        raise NotImplementedError

    @property
    def made(self) -> tuple[str, ...]:
        """The columns that come of it."""
        raise NotImplementedError

    def alias(self, value: str) -> str:
        """What a kernel calls a column of the table: none of its own names."""
        return f"v{self.values.index(value)}"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of the labels that it needs."""
        return tuple(dict.fromkeys((*(mine for mine, _ in self.keys), *(self.time or ())[:1])))

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns of the table that it needs, each once."""
        times = [column for column in ((self.time or (None, None))[1], self.known_at) if column]
        return tuple(dict.fromkeys((*(theirs for _, theirs in self.keys), *times, *self.values)))


@dataclass(frozen=True, kw_only=True)
class Join(Read):
    """One lookup as a kernel carries it out."""

    lookback: datetime.timedelta | None = None
    outputs: Mapping[str, str]
    """What each column of the table is called in the result."""
    defaults: Mapping[str, Any]
    """By output, what stands for a missing value."""

    @property
    def values(self) -> tuple[str, ...]:
        """The columns of the table that are looked up."""
        return tuple(self.outputs)

    @property
    def made(self) -> tuple[str, ...]:
        """Its outputs."""
        return tuple(self.outputs.values())


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """One declared feature: a function of a column of the table, over a window."""

    output: str
    function: Function
    span: Span

    @property
    def input(self) -> str:
        """The column."""
        return str(self.function.input)


@dataclass(frozen=True, kw_only=True)
class Aggregation(Read):
    """Declared features of the same rows, computed together. It has a time."""

    filter_condition: str | None = None
    """SQL over the table's columns; the other rows are not read."""
    aggregates: tuple[Aggregate, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """The inputs, each once."""
        return tuple(dict.fromkeys(each.input for each in self.aggregates))

    @property
    def made(self) -> tuple[str, ...]:
        """Its features."""
        return tuple(each.output for each in self.aggregates)

    @property
    def spans(self) -> dict[Span, tuple[Aggregate, ...]]:
        """The windows, each with what is computed over it."""
        return {
            span: tuple(each for each in self.aggregates if each.span == span)
            for span in dict.fromkeys(each.span for each in self.aggregates)
        }


@dataclass(frozen=True, kw_only=True)
class Call:
    """One function of the catalog, for each row."""

    function: str
    arguments: tuple[str, ...]
    """Columns, in the order of its parameters."""
    output: str


Step = Join | Aggregation | Call


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What makes a training set out of its labels."""

    steps: tuple[Step, ...]
    """In order: a later one may use what an earlier one made."""
    features: tuple[str, ...]
    """What a model is given, in order."""
    labels: tuple[str, ...]

    @property
    def reads(self) -> tuple[Join | Aggregation, ...]:
        """The steps that read a table."""
        return tuple(step for step in self.steps if not isinstance(step, Call))

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
) -> Iterator[Step]:
    """A step for each lookup and function, and one for neighbours that are aggregations of the same rows."""
    for _, several in groupby(wanted, lambda each: each.rows if isinstance(each, Feature) else object()):
        first, *others = several
        if isinstance(first, Feature):
            declared = [first, *(each for each in others if isinstance(each, Feature))]
            yield _aggregation(declared, tables[first.source.full_name])
        elif isinstance(first, FeatureLookup):
            yield _join(first, tables[first.table_name])
        else:
            yield _call(first, parameters)


def made_by(step: Step) -> tuple[str, ...]:
    """The columns that a step makes."""
    return (step.output,) if isinstance(step, Call) else step.made


def needs_of(step: Step) -> Sequence[str]:
    """The columns that a step needs."""
    return step.arguments if isinstance(step, Call) else step.label_columns


def _aggregation(features: Sequence[Feature], table: FeatureTable) -> Aggregation:
    one = features[0]
    keys, time = names_of(one.entity), str(one.timeseries_column)
    _refuse_unknown(f"The feature '{one.name}' of '{table.name}'", (*keys, time), list(table.types))
    if table.types[time] not in TIME_TYPES:
        raise ValueError(f"The timeseries column '{time}' is {table.types[time]}; it must be a timestamp or a date.")
    for each in features:
        _refuse_unknown(f"The feature '{each.name}' of '{table.name}'", [each.input], list(table.types))
        kind, function = table.types[each.input], each.function.function
        if function.numeric and not kind.startswith(_NUMBERS):
            raise ValueError(f"{type(function).__name__} is of numbers; '{each.input}' of '{table.name}' is {kind}.")
    return Aggregation(
        table=table.name,
        keys=tuple((key, key) for key in keys),
        time=(time, time),
        known_at=table.known_at,
        filter_condition=one.source.filter_condition,
        aggregates=tuple(
            Aggregate(output=each.output, function=each.function.function, span=each.time_window.span)
            for each in features
        ),
    )


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


def _needs(step: Step) -> tuple[str, Sequence[str]]:
    if isinstance(step, Call):
        return f"The function '{step.function}'", needs_of(step)
    what = "The lookup in" if isinstance(step, Join) else "A feature of"
    return f"{what} '{step.table}'", needs_of(step)


def _without(step: Step, columns: Collection[str]) -> Step | None:
    """The step without what is there already; None when nothing is left of it."""
    if isinstance(step, Call):
        return None if step.output in columns else step
    if isinstance(step, Aggregation):
        left = tuple(each for each in step.aggregates if each.output not in columns)
        return replace(step, aggregates=left) if left else None
    outputs = {name: output for name, output in step.outputs.items() if output not in columns}
    kept = {output: value for output, value in step.defaults.items() if output not in columns}
    return replace(step, outputs=outputs, defaults=kept) if outputs else None


def _refuse_twice(step: Step, made: Sequence[str], there: Sequence[str]) -> Step:
    twice = [name for name in made if name in there or made.count(name) > 1]
    if twice:
        how = {Call: "output_name", Join: "rename_outputs", Aggregation: "name"}[type(step)]
        raise ValueError(f"The column '{twice[0]}' is there already; give the feature another name with {how}.")
    return step


def _refuse_unknown(who: str, names: Collection[str], known: Collection[str]) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{who} names {missing}, not among the columns {list(known)}.")
