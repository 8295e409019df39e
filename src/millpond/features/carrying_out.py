"""A plan carried out: step by step on this machine for local frames, as one Spark plan for Spark's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from millpond.features import frames
from millpond.features.certificate import Certificate, Lookup, digest, sample_of
from millpond.features.connection import Connection, quoted, quoted_part
from millpond.features.planning import Aggregation, Call, Join, Plan, Read

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import DataFrame

    from millpond.features.joining import Evidence, Means

_POSITION = "__position"
_MOST_KEYS_SENT = 10_000


@dataclass(frozen=True, kw_only=True)
class Made:
    """A frame with everything that a plan adds, and what was seen of its lookups."""

    frame: Any
    lookups: tuple[Lookup, ...]


class Carrier:
    """Carries out plans over a connection."""

    def __init__(self, connection: Connection, *, memory_limit_bytes: int) -> None:
        self._connection = connection
        self._memory_limit_bytes = memory_limit_bytes

    def carry_out(self, frame: Any, plan: Plan, versions: Mapping[str, int]) -> Made:
        """All that the plan adds to a local frame, whose rows stay as they are."""
        from millpond.features.joining import Means

        means = Means(zone=self._connection.zone, memory_limit_bytes=self._memory_limit_bytes)
        frame, seen = frames.eager(frame), []
        for step in plan.steps:
            if isinstance(step, Call):
                made = self._call(frame, step)
            else:
                made, evidence = self._look_up(frame, step, versions[step.table], means)
                seen.append(_lookup(step, versions[step.table], evidence))
            frame = frames.with_columns(frame, made, zone=means.zone)
        return Made(frame=frame, lookups=tuple(seen))

    def plan_in_spark(
        self, frame: "DataFrame", plan: Plan, versions: Mapping[str, int], *, proofs: bool = False
    ) -> "DataFrame":
        """The same as a Spark data frame, in the order of the labels; nothing is done yet.

        With `proofs`, in any order, with a column for each lookup (`proof_of`) that a certificate is made of.
        """
        from pyspark.sql import functions as F

        from millpond.features import spark_aggregating, spark_asof

        found = frame.withColumn(_POSITION, F.monotonically_increasing_id())
        for number, step in enumerate(plan.steps):
            if isinstance(step, Call):
                found = found.withColumn(step.output, F.expr(_call_sql(step)))
                continue
            rows, proof = self.rows(step, versions[step.table]), proof_of(number) if proofs else None
            if isinstance(step, Join):
                found = spark_asof.look_up(found, rows, step, proof=proof)
            else:
                found = spark_aggregating.aggregate(found, rows, step, proof=proof)
        return (found if proofs else found.orderBy(_POSITION)).drop(_POSITION)

    def _look_up(
        self, frame: Any, join: Join | Aggregation, version: int, means: "Means"
    ) -> tuple["pl.DataFrame", "Evidence"]:
        from millpond.features.joining import look_up

        labels = frames.to_polars(frame, join.label_columns)
        batches = self.batches(labels, join, version, zone=means.zone)
        joined = look_up(labels, batches, join, means, sample_of(labels.height))
        return joined.columns, joined.evidence

    def batches(self, labels: "pl.DataFrame", join: Read, version: int, *, zone: str) -> Iterator["pl.DataFrame"]:
        """The rows of a join's table for some labels, and perhaps others."""
        return self._connection.batches(self._asked_for(labels, self.rows(join, version), join, zone))

    def _asked_for(self, labels: "pl.DataFrame", features: "DataFrame", join: Read, zone: str) -> "DataFrame":
        """Of the features those of the labels' keys, where these are few enough to be sent along."""
        import polars as pl

        from millpond.features import spark_asof
        from millpond.features.columns import prepared_labels

        exact = replace(join, time=None)
        names = {f"k{number}": mine for number, (mine, _) in enumerate(join.keys)}
        keys = prepared_labels(labels, exact, zone=zone).drop_nulls().unique()
        if not 0 < keys.height <= _MOST_KEYS_SENT or len({*names.values()}) < len(names):
            return features
        keys = keys.rename(names)
        sent = self._connection.spark.createDataFrame(keys.to_arrow(compat_level=pl.CompatLevel.oldest()))
        spark_asof.check(sent, features, exact)
        same = [features[quoted_part(theirs)] == sent[quoted_part(key)] for key, theirs in exact.keys]
        return features.join(sent, same, "left_semi")

    def rows(self, join: Read, version: int | None = None) -> "DataFrame":
        """What a step needs of its table, as the user may see it, through the gateway."""
        from pyspark.sql import functions as F

        columns = [F.col(quoted_part(name)) for name in join.table_columns]
        found = self._connection.read(join.table, version)
        if isinstance(join, Aggregation) and join.filter_condition is not None:
            found = found.where(join.filter_condition)
        return found.select(*columns)

    def _call(self, frame: Any, call: Call) -> "pl.DataFrame":
        """The output of a function for each row; it runs in the engine, confined as all users' code is."""
        import polars as pl
        from pyspark.sql import functions as F

        given = (
            frames.to_polars(frame, list(dict.fromkeys(call.arguments)))
            .with_row_index(_POSITION)
            .cast({_POSITION: pl.Int64})
        )
        if given.is_empty():
            return pl.DataFrame({call.output: []})
        asked = self._connection.spark.createDataFrame(given.to_arrow(compat_level=pl.CompatLevel.oldest()))
        found = asked.select(_POSITION, F.expr(_call_sql(call)).alias(call.output)).orderBy(_POSITION)
        return pl.concat(self._connection.batches(found)).select(call.output)


def proof_of(step: int) -> str:
    """The column with the proof of a step."""
    return f"__proof{step}"


def certificate(rows_in: int, made: Any, lookups: tuple[Lookup, ...]) -> Certificate:
    """The certificate of a local training set. Raises RuntimeError when it does not hold."""
    columns = frames.columns_of(made)
    table = frames.to_polars(made, columns).to_arrow()
    found = Certificate(rows_in=rows_in, rows_out=frames.height(made), lookups=lookups, digest=digest(table))
    return found.checked()


def _lookup(join: Read, version: int, evidence: "Evidence") -> Lookup:
    return Lookup(
        table=join.table,
        table_version=version,
        labels=evidence.labels,
        matched=evidence.matched,
        newest_lead_us=evidence.newest_lead_us,
        newest_known_lead_us=evidence.newest_known_lead_us,
        rechecked=evidence.rechecked,
        wrong=evidence.wrong,
    )


def _call_sql(call: Call) -> str:
    return f"{quoted(call.function)}({', '.join(map(quoted_part, call.arguments))})"
