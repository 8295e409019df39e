"""One step that reads a table, on this machine from end to end: prepare, spill if need be, match, check a sample."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from millpond.features import aggregate_oracle, aggregating, asof, columns, oracle, spilling
from millpond.features.planning import Aggregation, Join, Read

_MOST_ROWS_LOOKED_AT = 50_000
"""After how many rows, which are looked at one by one, no more aggregations are checked."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a join may use, and how it reads times without a zone."""

    zone: str = "UTC"
    memory_limit_bytes: int = 1 << 30
    """How many bytes of a feature table are held before they go to disk."""
    directory: Path | None = None
    """Where they go; None for the system's temporary directory."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was seen of a lookup while it was done."""

    labels: int
    matched: int
    newest_lead_us: int | None
    """The greatest (time of a value − time of its label), in microseconds."""
    newest_known_lead_us: int | None
    rechecked: int
    """Labels whose row was looked for again, by brute force."""
    wrong: int
    """How many of them have another one."""
    parts: int
    """More than one if it went to disk."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The outputs of a lookup for each label, in order."""

    columns: pl.DataFrame
    evidence: Evidence


def look_up(
    labels: pl.DataFrame,
    batches: Iterable[pl.DataFrame],
    join: Join | Aggregation,
    means: Means,
    sample: Sequence[int] = (),
) -> Joined:
    """Join or aggregate; `sample` has the positions of the labels to check. `batches` is at least one frame, if empty.

    Raises ValueError for keys that cannot be compared.
    """
    mine = columns.prepared_labels(labels, join, zone=means.zone)
    prepared = (_checked(mine, columns.prepared_features(batch, join, zone=means.zone), join) for batch in batches)
    keys = [f"k{number}" for number in range(len(join.keys))]
    made: list[tuple[pl.Series, pl.DataFrame]] = []
    seen: list[Evidence] = []
    for part in spilling.parts(
        mine, prepared, keys=keys, memory_limit_bytes=means.memory_limit_bytes, directory=means.directory
    ):
        some = _typed(mine[part.labels], part.features)
        wanted = part.labels.is_in(pl.Series(sample, dtype=part.labels.dtype).implode()).arg_true()
        if isinstance(join, Join):
            found, evidence = _joined(some, part.features, join, wanted)
        else:
            found, evidence = _aggregated(some, part.features, join, wanted)
        made.append((part.labels, found))
        seen.append(evidence)
    return Joined(columns=spilling.put_together(made), evidence=_summed(seen))


def _checked(labels: pl.DataFrame, features: pl.DataFrame, join: Read) -> pl.DataFrame:
    columns.check_keys(labels, features, join)
    return features


def _typed(labels: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Labels whose keys are all NULL, and so of no type, with keys of the features' types."""
    return labels.with_columns(
        pl.col(name).cast(features.schema[name]) for name, dtype in labels.schema.items() if dtype == pl.Null
    )


def _joined(
    labels: pl.DataFrame, features: pl.DataFrame, join: Join, sample: pl.Series
) -> tuple[pl.DataFrame, Evidence]:
    found = asof.match(labels, features, join)
    evidence = Evidence(
        labels=labels.height,
        matched=labels.height - found.rows.null_count(),
        newest_lead_us=found.newest_lead_us,
        newest_known_lead_us=found.newest_known_lead_us,
        rechecked=len(sample),
        wrong=_wrong(labels[sample], features, found.rows[sample], join) if len(sample) else 0,
        parts=1,
    )
    return asof.gather(features, found.rows, join), evidence


def _aggregated(
    labels: pl.DataFrame, features: pl.DataFrame, step: Aggregation, sample: pl.Series
) -> tuple[pl.DataFrame, Evidence]:
    found = aggregating.aggregate(labels, features, step)
    rechecked, wrong = aggregates_rechecked(labels[sample], features, found.columns[sample], step)
    evidence = Evidence(
        labels=labels.height,
        matched=found.matched,
        newest_lead_us=found.newest_lead_us,
        newest_known_lead_us=found.newest_known_lead_us,
        rechecked=rechecked,
        wrong=wrong,
        parts=1,
    )
    return found.columns, evidence


def aggregates_rechecked(
    labels: pl.DataFrame, features: pl.DataFrame, found: pl.DataFrame, step: Aggregation
) -> tuple[int, int]:
    """How many of these labels were aggregated again by brute force, and how many of them have other features.

    Keys and times are prepared. Labels are left out when those before them had too many rows in their windows.
    """
    keys = [f"k{number}" for number in range(len(step.keys))]
    reach_us = max(each.span.duration_us + each.span.delay_us + (each.span.slide_us or 0) for each in step.aggregates)
    candidates = features.join(labels.select(keys).unique(), on=keys, how="semi")
    rechecked = wrong = looked_at = 0
    for label, row in zip(labels.to_dicts(), found.to_dicts(), strict=True):
        if looked_at > _MOST_ROWS_LOOKED_AT:
            break
        rows: list[dict[str, Any]] = []
        if None not in label.values():
            near = pl.col("t").is_between(label["t"] - reach_us, label["t"])
            rows = candidates.filter(near, *(pl.col(key) == label[key] for key in keys)).to_dicts()
        rechecked, looked_at = rechecked + 1, looked_at + len(rows)
        wrong += not aggregate_oracle.agree(label, rows, step, row)
    return rechecked, wrong


def _wrong(labels: pl.DataFrame, features: pl.DataFrame, rows: pl.Series, join: Join) -> int:
    """How many of these labels have another row than brute force finds."""
    keys = [f"k{number}" for number in range(len(join.keys))]
    candidates = oracle.by_key(features.join(labels.select(keys).unique(), on=keys, how="semi").to_dicts(), join)
    got = [None if row is None else features.row(row, named=True) for row in rows.to_list()]
    return sum(
        not oracle.same(oracle.expected(label, candidates.get(oracle.key_of(label, join), ()), join), row, join)
        for label, row in zip(labels.to_dicts(), got, strict=True)
    )


def _summed(seen: Sequence[Evidence]) -> Evidence:
    def newest(values: Iterable[int | None]) -> int | None:
        return max((value for value in values if value is not None), default=None)

    return Evidence(
        labels=sum(each.labels for each in seen),
        matched=sum(each.matched for each in seen),
        newest_lead_us=newest(each.newest_lead_us for each in seen),
        newest_known_lead_us=newest(each.newest_known_lead_us for each in seen),
        rechecked=sum(each.rechecked for each in seen),
        wrong=sum(each.wrong for each in seen),
        parts=len(seen),
    )
