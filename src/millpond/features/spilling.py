"""Lookups over more rows than fit into memory: they go to disk by a hash of their keys, and are joined part by part.

Rows of the same keys are in the same part, so each part is joined as if it were all.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

PARTS = 64
"""A join needs about a 64th of the table at a time."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some labels, by their positions, and all rows that they can match."""

    labels: pl.Series
    features: pl.DataFrame


def parts(
    labels: pl.DataFrame,
    batches: Iterable[pl.DataFrame],
    *,
    keys: list[str],
    memory_limit_bytes: int,
    directory: Path | None = None,
) -> Iterator[Part]:
    """One part while the batches fit into the limit; else as many as it takes, by way of files that go at the end."""
    kept: list[pl.DataFrame] = []
    size, rest = 0, iter(batches)
    for batch in rest:
        kept.append(batch)
        size += int(batch.estimated_size())
        if size > memory_limit_bytes:
            break
    else:
        everyone = pl.int_range(labels.height, dtype=pl.UInt32, eager=True)
        yield Part(labels=everyone, features=pl.concat(kept, rechunk=False))
        return
    with tempfile.TemporaryDirectory(prefix="millpond-features-", dir=directory) as place:
        write = _Files(Path(place), keys)
        while kept:
            write(kept.pop(0))
        for batch in rest:
            write(batch)
        yield from write.parts(labels)


class _Files:
    """One file for each part, open until all is written."""

    def __init__(self, place: Path, keys: list[str]) -> None:
        self._place, self._keys = place, keys
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._empty: pl.DataFrame | None = None

    def __call__(self, batch: pl.DataFrame) -> None:
        self._empty = batch.clear() if self._empty is None else self._empty
        for (number,), rows in batch.with_columns(_part_of(self._keys)).partition_by("part", as_dict=True).items():
            table = rows.drop("part").to_arrow(compat_level=pl.CompatLevel.oldest())
            self._writer(int(number), table.schema).write_table(table)

    def parts(self, labels: pl.DataFrame) -> Iterator[Part]:
        for writer in self._writers.values():
            writer.close()
        where = labels.select(_part_of(self._keys))["part"]
        for number in range(PARTS):
            mine = (where == number).arg_true()
            if len(mine) or not labels.height:
                yield Part(labels=mine.cast(pl.UInt32), features=self._read(number))

    def _writer(self, number: int, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        if number not in self._writers:
            self._writers[number] = pa.ipc.new_stream(self._file(number), schema)
        return self._writers[number]

    def _read(self, number: int) -> pl.DataFrame:
        if number not in self._writers:
            return self._empty if self._empty is not None else pl.DataFrame()
        with pa.memory_map(self._file(number)) as file:
            made = pl.from_arrow(pa.ipc.open_stream(file).read_all(), rechunk=False)
        assert isinstance(made, pl.DataFrame)
        return made

    def _file(self, number: int) -> str:
        return str(self._place / f"{number}.arrow")


def _part_of(keys: list[str]) -> pl.Expr:
    """Which part a row is in; the same for equal keys of the same types."""
    return (pl.struct(keys).hash(seed=0) % PARTS).alias("part")


def put_together(found: list[tuple[pl.Series, pl.DataFrame]]) -> pl.DataFrame:
    """What was made of each part, in the order of the labels."""
    if len(found) == 1:
        return found[0][1]
    positions = pl.concat([labels for labels, _ in found])
    return pl.concat([made for _, made in found])[positions.arg_sort()]
