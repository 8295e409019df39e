"""Declared features from the user's side: registered in the catalog, computed, and materialised into feature tables."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from millpond.features.connection import Connection, quoted_part
from millpond.features.declared import AggregationFunction, DeltaTableSource, Feature, from_json, renamed, to_json
from millpond.features.feature_tables import FeatureTables
from millpond.features.lookups import Names, names_of
from millpond.features.planning import Aggregation, make_plan
from millpond.features.windows import Function, Window, shown

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from millpond.features.carrying_out import Carrier

_API = "/api/2.0/feature-engineering/features"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, kw_only=True)
class OfflineStoreConfig:
    """Where materialised features go: tables of a schema, whose names begin with a prefix."""

    catalog_name: str
    schema_name: str
    table_name_prefix: str


@dataclass(frozen=True, kw_only=True)
class MaterializedFeature:
    """A feature that a feature table has; look it up there with a `FeatureLookup`."""

    feature_name: str
    table_name: str
    last_materialization_time: datetime.datetime


class DeclaredFeatures(FeatureTables):
    """What one can do with declared features."""

    _connection: Connection
    _carrier: "Carrier"

    def create_feature(
        self,
        *,
        source: DeltaTableSource,
        function: AggregationFunction | Function,
        catalog_name: str,
        schema_name: str,
        name: str | None = None,
        inputs: Names = None,
        time_window: Window | None = None,
        entity: Names = None,
        timeseries_column: str | None = None,
        description: str | None = None,
        filter_condition: str | None = None,
    ) -> Feature:
        """A new feature in the catalog. `function` is an AggregationFunction, or a function with `inputs` and
        `time_window` beside it, as the API first had it. Raises ValueError, also when the name is taken.
        """
        if not isinstance(function, AggregationFunction):
            if time_window is None or len(names_of(inputs) or names_of(function.input)) != 1:
                raise ValueError("Give one input and a time_window, or an AggregationFunction, which has both.")
            function = AggregationFunction(replace(function, input=(*names_of(inputs), function.input)[0]), time_window)
        if filter_condition is not None:
            source = replace(source, filter_condition=filter_condition)
        made = Feature(
            source=source, function=function, entity=entity, timeseries_column=timeseries_column, name=name,
            description=description,
        )  # fmt: skip
        return self.register_feature(feature=made, catalog_name=catalog_name, schema_name=schema_name)

    def register_feature(self, *, feature: Feature, catalog_name: str, schema_name: str) -> Feature:
        """Keep a feature in the catalog. Raises ValueError, also when the name is taken."""
        placed = replace(feature, catalog_name=catalog_name, schema_name=schema_name)
        return from_json(self._connection.post(_API, to_json(placed)))

    def get_feature(self, *, full_name: str) -> Feature:
        """The feature of a name. Raises ValueError when there is none."""
        found = self._connection.get(f"{_API}/{quote(self._connection.full_name(full_name), safe='')}")
        if found is None:
            raise ValueError(f"Feature '{full_name}' does not exist, or you may not see it.")
        return from_json(found)

    def list_features(self, *, catalog_name: str, schema_name: str) -> list[Feature]:
        """The features of a schema, by name."""
        found: list[Feature] = []
        token = ""
        where = f"catalog_name={quote(catalog_name, safe='')}&schema_name={quote(schema_name, safe='')}"
        while True:
            page = self._connection.get(f"{_API}?{where}&page_token={quote(token, safe='')}") or {}
            found += map(from_json, page.get("features", []))
            token = page.get("next_page_token") or ""
            if not token:
                return found

    def delete_feature(self, *, full_name: str) -> None:
        """Remove a feature; models that use it keep its definition."""
        self._connection.delete(f"{_API}/{quote(self._connection.full_name(full_name), safe='')}")

    def compute_features(
        self,
        *,
        features: Sequence[Feature],
        start_time: datetime.datetime | None = None,
        end_time: datetime.datetime | None = None,
    ) -> "DataFrame":
        """The values that features of the same rows take: a Spark data frame of entity, time and features.

        One row for each time from `start_time` up to `end_time` (now) from which on a value may be another: the ends of
        windows that have rows, and that of the first one which has none any more. A row holds until the next.
        """
        until = end_time or datetime.datetime.now(datetime.UTC)
        return self._computed(self._aggregation(features), _micros(start_time), _micros(until), opening=True)

    def materialize_features(
        self,
        *,
        features: Sequence[Feature],
        offline_config: OfflineStoreConfig,
        start_time: datetime.datetime | None = None,
        end_time: datetime.datetime | None = None,
        **later: Any,
    ) -> list[MaterializedFeature]:
        """Write the values of features into feature tables, one for those of the same rows and the same slide.

        The same features, declared in the same way, go into the same tables: what has turned since the last time there
        is added. `start_time` (ours) computes what turned after it again, as after rows that came late. It happens now,
        in one commit for each table; doing it twice changes nothing.
        """
        if asked := [name for name, value in later.items() if value is not None]:
            raise NotImplementedError(
                f"materialize_features takes no {', '.join(asked)} here: it writes when it is called. Call it from a "
                "job, and publish the table with publish_table."
            )
        until = end_time or datetime.datetime.now(datetime.UTC)
        made: list[MaterializedFeature] = []
        for name, some in _by_table(features, offline_config).items():
            self._materialize(name, self._aggregation(some), _micros(start_time), _micros(until))
            made += [
                MaterializedFeature(feature_name=each.output, table_name=name, last_materialization_time=until)
                for each in some
            ]
        return made

    def _materialize(self, name: str, step: Aggregation, start_us: int | None, until_us: int | None) -> None:
        from pyspark.sql import functions as F

        assert step.time is not None
        time = step.time[1]
        if not self._connection.exists(name):
            rows = self._computed(step, start_us, until_us, opening=True)
            keys = [*(key for key, _ in step.keys), time]
            self.create_table(name=name, primary_keys=keys, timeseries_columns=time, df=rows)
            return
        if start_us is None:
            last = F.unix_micros(F.max(quoted_part(time)))
            start_us = self._connection.read(name).agg(last).collect()[0][0]
        self.write_table(name=name, df=self._computed(step, start_us, until_us))

    def _computed(
        self, step: Aggregation, start_us: int | None, until_us: int | None, *, opening: bool = False
    ) -> "DataFrame":
        from millpond.features import spark_aggregating

        rows = self._carrier.rows(step)
        asked = spark_aggregating.turns(rows, step, start_us, until_us, opening=opening)
        return spark_aggregating.aggregate(asked, rows, step)

    def _aggregation(self, features: Sequence[Feature]) -> Aggregation:
        """The one step that computes features. Raises ValueError when they are not of the same rows."""
        if not features or len({each.rows for each in features}) > 1:
            raise ValueError("Give features of the same source, filter, entity and time.")
        full = self._connection.full_name(features[0].source.full_name)
        table = self._connection.table(full, keyless=True)
        one = features[0]
        columns = [*names_of(one.entity), str(one.timeseries_column)]
        plan = make_plan([renamed(each, table=full) for each in features], {full: table}, {}, columns)
        step = plan.steps[0]
        assert isinstance(step, Aggregation)
        return step


def _by_table(features: Sequence[Feature], store: OfflineStoreConfig) -> dict[str, list[Feature]]:
    """The features by the table that they belong to; its name says how often they change, and which they are."""
    groups: dict[tuple[Any, ...], list[Feature]] = {}
    for each in features:
        groups.setdefault((each.time_window.span.slide_us, *each.rows), []).append(each)
    return {_table_of(some, slide_us, store): some for (slide_us, *_), some in groups.items()}


def _table_of(features: Sequence[Feature], slide_us: int | None, store: OfflineStoreConfig) -> str:
    slide = "continuous" if slide_us is None else shown(datetime.timedelta(microseconds=slide_us))
    told = sorted(json.dumps({**to_json(each), "full_name": None, "description": None}) for each in features)
    digest = hashlib.sha256("".join(told).encode()).hexdigest()[:8]
    return f"{store.catalog_name}.{store.schema_name}.{store.table_name_prefix}_{slide}_{digest}"


def _micros(time: datetime.datetime | None) -> int | None:
    """Microseconds since 1970; a time without a zone is this machine's."""
    return None if time is None else (time.astimezone(datetime.UTC) - _EPOCH) // datetime.timedelta(microseconds=1)
