"""A Delta table as a publisher reads it: what changed between two versions, and the newest row of each key.

Frames hold `k0`, `k1`, ... for the keys, `v0`, `v1`, ... for the values, as an online store keeps them, and `at`, the
row's time in microseconds (null for tables without a time).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import deltalake
import polars as pl
import pyarrow.dataset as pads

from millpond.kernel.errors import FailedPrecondition
from millpond.online.domain import Field, Shape, Wanted, plain

_NESTED = ("array", "map", "struct")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Delta table."""

    location: str
    options: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> int:
        """The newest."""
        return int(deltalake.DeltaTable(self.location, storage_options=dict(self.options)).version())

    def at(self, version: int) -> "Snapshot":
        """The table as it was. Raises DeltaError when its log no longer reaches back."""
        table = deltalake.DeltaTable(self.location, version=version, storage_options=dict(self.options))
        return Snapshot(table)


class Snapshot:
    """One version of a table."""

    def __init__(self, table: deltalake.DeltaTable) -> None:
        self._table = table
        self.version = int(table.version())

    @cached_property
    def committed_ms(self) -> int:
        """When the version was committed."""
        return int(self._table.history(1)[0]["timestamp"])

    def files(self) -> frozenset[str]:
        """Of the version."""
        return frozenset(self._table.file_uris())

    def shape(self, wanted: Wanted) -> Shape:
        """How the version's rows are kept online. Raises FailedPrecondition for a column that is not there."""
        fields = {each.name: Field(each.name, _type(each.type)) for each in self._table.schema().fields}
        named = (*wanted.keys, *wanted.columns, *filter(None, (wanted.time, wanted.known)))
        if missing := [name for name in named if name not in fields]:
            raise FailedPrecondition(f"The table has no column {', '.join(map(repr, missing))} any more.")
        rest = [name for name in fields if name not in wanted.keys]
        return Shape(
            keys=tuple(fields[name] for name in wanted.keys),
            fields=tuple(fields[name] for name in wanted.columns or rest),
            time=wanted.time,
            ttl_s=wanted.ttl_s,
            known=wanted.known,
        )

    def rows(self, shape: Shape, files: frozenset[str] | None = None) -> pl.LazyFrame:
        """The rows of the version, or of some of its files; rows without a whole key or a time are nobody's."""
        data = self._table.to_pyarrow_dataset()
        if files is not None:
            paths = {uri.rpartition("/")[2] for uri in files}
            fragments = [each for each in data.get_fragments() if each.path.rpartition("/")[2] in paths]
            data = pads.FileSystemDataset(fragments, data.schema, data.format, data.filesystem)
        columns = [_plain_column(each, f"k{number}") for number, each in enumerate(shape.keys)]
        columns += [_plain_column(each, f"v{number}") for number, each in enumerate(shape.fields)]
        at = pl.lit(None, pl.Int64) if shape.time is None else pl.col(shape.time).cast(pl.Datetime("us")).cast(pl.Int64)
        needed = [*_keys(shape), *(["at"] if shape.time else []), *_known(shape)]
        return pl.scan_pyarrow_dataset(data).select(*columns, at.alias("at")).drop_nulls(needed)


def newest(rows: pl.LazyFrame, shape: Shape) -> pl.LazyFrame:
    """The newest row of each key; of two of the same time the one that a point-in-time join takes."""
    keys = _keys(shape)
    if shape.time is None:
        return rows
    named = sorted((each.name, number) for number, each in enumerate(shape.fields) if not _is_nested(each))
    order = [pl.col("at"), *map(pl.col, _known(shape)), *(pl.col(f"v{number}") for _name, number in named)]
    return rows.sort(order, nulls_last=False).group_by(keys, maintain_order=True).last()


def without(rows: pl.LazyFrame, others: pl.LazyFrame, shape: Shape) -> pl.LazyFrame:
    """The rows that are not among others, each by its whole content."""
    plain_fields = [f"v{number}" for number, each in enumerate(shape.fields) if not _is_nested(each)]
    if len(plain_fields) < len(shape.fields):
        return rows  # nested values are not compared
    return rows.join(others, on=[*_keys(shape), "at", *plain_fields], how="anti", nulls_equal=True)


def keys_of(rows: pl.LazyFrame, shape: Shape) -> pl.LazyFrame:
    """The keys of rows, each once."""
    return rows.select(_keys(shape)).unique()


def of_keys(rows: pl.LazyFrame, keys: pl.LazyFrame, shape: Shape) -> pl.LazyFrame:
    """The rows of some keys."""
    return rows.join(keys, on=_keys(shape), how="semi")


def not_among(rows: pl.LazyFrame, others: pl.LazyFrame, shape: Shape) -> pl.LazyFrame:
    """The rows whose keys others do not have."""
    return rows.join(others, on=_keys(shape), how="anti")


def encoded(frame: pl.DataFrame, shape: Shape) -> Iterator[tuple[bytes, bytes]]:
    """Key and row of each row of a frame."""
    count = len(shape.keys)
    for row in frame.select(*_keys(shape), "at", pl.exclude(*_keys(shape), "at")).iter_rows():
        yield shape.key_of(row[:count]), shape.row(row[count + 1 :], row[count])


def encoded_keys(frame: pl.DataFrame, shape: Shape) -> Iterator[bytes]:
    """The key of each row of a frame of keys."""
    return (shape.key_of(row) for row in frame.select(_keys(shape)).iter_rows())


def _keys(shape: Shape) -> list[str]:
    return [f"k{number}" for number in range(len(shape.keys))]


def _known(shape: Shape) -> list[str]:
    return [f"v{number}" for number, each in enumerate(shape.fields) if each.name == shape.known]


def _plain_column(column: Field, name: str) -> pl.Expr:
    """A column as `plain` makes its values, without going through Python where Polars can do it."""
    found = pl.col(column.name)
    base = column.type.partition("(")[0]
    if base in {"timestamp", "timestamp_ntz"}:
        found = found.cast(pl.Datetime("us")).cast(pl.Int64)
    elif base == "date":
        found = found.dt.to_string("%Y-%m-%d")
    elif base == "decimal":
        found = found.map_elements(plain, return_dtype=pl.String)
    return found.alias(name)


def _type(kind: Any) -> str:
    return str(kind.type) if hasattr(kind, "type") and isinstance(kind.type, str) else "struct"


def _is_nested(column: Field) -> bool:
    return column.type in _NESTED
