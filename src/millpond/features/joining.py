"""One lookup on this machine from end to end: prepare, spill if need be, match, check a sample, gather."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from millpond.features import asof, columns, oracle, spilling
from millpond.features.planning import Join


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
    labels: pl.DataFrame, batches: Iterable[pl.DataFrame], join: Join, means: Means, sample: Sequence[int] = ()
) -> Joined:
    """Join; `sample` has the positions of the labels to check. `batches` is at least one frame, be it empty.

    Raises ValueError for keys that cannot be compared.
    """
    mine = columns.prepared_labels(labels, join, zone=means.zone)
    checked = _checking(mine, join)
    prepared = (checked(columns.prepared_features(batch, join, zone=means.zone)) for batch in batches)
    keys = [f"k{number}" for number in range(len(join.keys))]
    made: list[tuple[pl.Series, pl.DataFrame]] = []
    seen: list[Evidence] = []
    for part in spilling.parts(
        mine, prepared, keys=keys, memory_limit_bytes=means.memory_limit_bytes, directory=means.directory
    ):
        some = mine[part.labels]
        found = asof.match(some, part.features, join)
        made.append((part.labels, asof.gather(part.features, found.rows, join)))
        seen.append(_evidence(some, part, found, join, sample))
    return Joined(columns=spilling.put_together(made), evidence=_summed(seen))


def _checking(labels: pl.DataFrame, join: Join) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def checked(features: pl.DataFrame) -> pl.DataFrame:
        columns.check_keys(labels, features, join)
        alike = [pl.col(f"k{number}").cast(labels.schema[f"k{number}"]) for number in range(len(join.keys))]
        return features.with_columns(alike) if labels.height else features

    return checked


def _evidence(
    labels: pl.DataFrame, part: spilling.Part, found: asof.Matched, join: Join, sample: Sequence[int]
) -> Evidence:
    wanted = part.labels.is_in(pl.Series(sample, dtype=part.labels.dtype).implode()).arg_true()
    wrong = _wrong(labels[wanted], part.features, found.rows[wanted], join) if len(wanted) else 0
    return Evidence(
        labels=labels.height,
        matched=labels.height - found.rows.null_count(),
        newest_lead_us=found.newest_lead_us,
        newest_known_lead_us=found.newest_known_lead_us,
        rechecked=len(wanted),
        wrong=wrong,
        parts=1,
    )


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
