"""What a user asks of the feature store: lookups in feature tables, and functions of looked-up values."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Names = str | Sequence[str] | None


@dataclass(frozen=True, init=False)
class FeatureLookup:
    """Features of one table for each row of a training set.

    Source: Databricks' public reference of `FeatureLookup`; `feature_name` and `output_name` are its older arguments.
    """

    table_name: str
    lookup_key: tuple[str, ...]
    """Columns of the labels, in the order of the table's primary key; or with its names, in any order."""
    feature_names: tuple[str, ...] | None
    """None for all columns that are no key."""
    rename_outputs: Mapping[str, str]
    timestamp_lookup_key: str | None
    lookback_window: datetime.timedelta | None
    """How old a value may be; an older one counts as missing."""
    default_values: Mapping[str, Any]
    """What stands for a missing value, by the name that the feature has in the training set."""

    def __init__(
        self,
        table_name: str,
        lookup_key: Names,
        *,
        feature_names: Names = None,
        rename_outputs: Mapping[str, str] | None = None,
        timestamp_lookup_key: Names = None,
        lookback_window: datetime.timedelta | None = None,
        default_values: Mapping[str, Any] | None = None,
        feature_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        renamed, wanted = dict(rename_outputs or {}), names_of(feature_names)
        if feature_name is not None:
            if wanted:
                raise ValueError("Use only one of feature_name and feature_names.")
            wanted = (feature_name,)
        if output_name is not None:
            if renamed or len(wanted) != 1:
                raise ValueError("output_name renames one feature_name; use rename_outputs for several.")
            renamed = {wanted[0]: output_name}
        times = names_of(timestamp_lookup_key)
        _check(table_name, names_of(lookup_key), times, lookback_window)
        values = {
            "table_name": table_name,
            "lookup_key": names_of(lookup_key),
            "feature_names": wanted or None,
            "rename_outputs": renamed,
            "timestamp_lookup_key": times[0] if times else None,
            "lookback_window": lookback_window,
            "default_values": dict(default_values or {}),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def resolved(self, table_name: str, features: Sequence[str]) -> "FeatureLookup":
        """The same lookup with the table's full name, and the names of the features where none are given."""
        return FeatureLookup(
            table_name,
            self.lookup_key,
            feature_names=self.feature_names or features,
            rename_outputs=self.rename_outputs,
            timestamp_lookup_key=self.timestamp_lookup_key,
            lookback_window=self.lookback_window,
            default_values=self.default_values,
        )


@dataclass(frozen=True, kw_only=True)
class FeatureFunction:
    """A feature that a function of the catalog computes from other columns of the training set.

    Source: Databricks' public reference of `FeatureFunction`.
    """

    udf_name: str
    input_bindings: Mapping[str, str] = field(default_factory=dict)
    """The column for each parameter of the function."""
    output_name: str | None = None
    """The function's full name if not given."""

    def __post_init__(self) -> None:
        if not self.udf_name:
            raise ValueError("udf_name must be the full name of a function, as in 'main.shop.distance'.")
        object.__setattr__(self, "input_bindings", dict(self.input_bindings or {}))

    @property
    def output(self) -> str:
        """The column that it makes."""
        return self.output_name or self.udf_name


def names_of(given: Names) -> tuple[str, ...]:
    """One name, several or none, as several."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def _check(table: str, keys: Sequence[str], times: Sequence[str], window: datetime.timedelta | None) -> None:
    if not table:
        raise ValueError("table_name must be the full name of a feature table, as in 'main.shop.customers'.")
    if not keys:
        raise ValueError(f"lookup_key of the lookup in '{table}' is empty; name the columns that hold its primary key.")
    if len(times) > 1:
        raise ValueError(f"timestamp_lookup_key of the lookup in '{table}' must be one column, not {len(times)}.")
    if window is not None and not times:
        raise ValueError(f"lookback_window of the lookup in '{table}' needs a timestamp_lookup_key.")
    if window is not None and window < datetime.timedelta(0):
        raise ValueError(f"lookback_window of the lookup in '{table}' is negative: {window}.")
