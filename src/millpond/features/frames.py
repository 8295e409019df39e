"""Data frames of any kind in, the same kind out: pandas, Polars, Arrow and Spark."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from millpond.features.connection import quoted_part

if TYPE_CHECKING:
    import polars as pl


class Kind(Enum):
    """What a data frame is made by."""

    PANDAS = "pandas"
    POLARS = "polars"
    ARROW = "pyarrow"
    SPARK = "pyspark"


def kind_of(frame: Any) -> Kind:
    """The kind of a data frame. Raises ValueError for what is none."""
    made_by = type(frame).__module__.partition(".")[0]
    try:
        return Kind(made_by)
    except ValueError:
        kinds = ", ".join(kind.value for kind in Kind)
        raise ValueError(f"df is a {type(frame).__name__}; it must be a data frame of {kinds}.") from None


def columns_of(frame: Any) -> list[str]:
    """The names of the columns, in order. Raises ValueError for names that are no text."""
    names = _names(frame, kind_of(frame))
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise ValueError(f"Columns need names that are text; {odd[0]!r} is a {type(odd[0]).__name__}.")
    return list(names)


def _names(frame: Any, kind: Kind) -> list[Any]:
    if kind is Kind.POLARS:
        return list(frame.collect_schema().names())
    return list(frame.column_names if kind is Kind.ARROW else frame.columns)


def eager(frame: Any) -> Any:
    """A frame with its rows: what Polars has only planned is done."""
    return frame.collect() if kind_of(frame) is Kind.POLARS and hasattr(frame, "collect") else frame


def to_polars(frame: Any, columns: Sequence[str]) -> "pl.DataFrame":
    """Some columns of a local frame."""
    import polars as pl

    kind = kind_of(frame)
    if kind is Kind.POLARS:
        return pl.DataFrame(frame.select(list(columns)))
    if kind is Kind.PANDAS:
        return pl.from_pandas(frame[list(columns)].reset_index(drop=True), nan_to_null=False)
    made = pl.from_arrow(frame.select(list(columns)))
    assert isinstance(made, pl.DataFrame)
    return made


def to_pandas(frame: Any) -> Any:
    """A local frame, or Spark's, as pandas."""
    kind = kind_of(frame)
    if kind is Kind.PANDAS:
        return frame
    return frame.toPandas() if kind is Kind.SPARK else frame.to_pandas()


def with_columns(frame: Any, made: "pl.DataFrame", *, zone: str) -> Any:
    """A local frame with more columns; its own, its index and its order stay. A column of a name that is there goes."""
    kind = kind_of(frame)
    if kind is Kind.POLARS:
        return frame.with_columns(made)
    if kind is Kind.PANDAS:
        return frame.assign(**{name: _for_pandas(made[name], zone).to_numpy() for name in made.columns})
    table = made.to_arrow()
    for name in made.columns:
        there = frame.schema.get_field_index(name)
        column = table[name]
        frame = frame.append_column(name, column) if there < 0 else frame.set_column(there, name, column)
    return frame


def select(frame: Any, columns: Sequence[str]) -> Any:
    """Some columns of a frame, in this order."""
    kind = kind_of(frame)
    if kind is Kind.PANDAS:
        return frame[list(columns)]
    return frame.select(*map(quoted_part, columns)) if kind is Kind.SPARK else frame.select(list(columns))


def height(frame: Any) -> int:
    """The number of rows of a local frame."""
    return frame.num_rows if kind_of(frame) is Kind.ARROW else len(frame)


def _for_pandas(column: "pl.Series", zone: str) -> Any:
    """As Spark's `toPandas` has it: times are those of the session's zone and do not name it."""
    import polars as pl

    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return column.to_pandas()
