"""The certificate of a training set that is a Spark plan: one pass over its rows, and a sample looked up again here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from millpond.features.carrying_out import Carrier, proof_of
from millpond.features.certificate import SAMPLE, Certificate, Lookup
from millpond.features.connection import quoted_part
from millpond.features.planning import Aggregation, Call, Join, Plan

Reads = Mapping[int, Join | Aggregation]

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import Column, DataFrame


def spark_certificate(
    carrier: Carrier, labels: "DataFrame", plan: Plan, versions: Mapping[str, int], *, zone: str
) -> Certificate:
    """Carry the plan out to see what it does. Raises RuntimeError when it is wrong."""
    import polars as pl

    made = carrier.plan_in_spark(labels, plan, versions, proofs=True)
    joins = {number: step for number, step in enumerate(plan.steps) if not isinstance(step, Call)}
    seen = made.agg(*_totals(made, plan, joins)).collect()[0]
    sample = pl.DataFrame(pl.from_arrow(made.select(*_needed(joins)).limit(SAMPLE).toArrow()))
    wrong = {number: _wrong(carrier, sample, join, versions[join.table], zone) for number, join in joins.items()}
    lookups = tuple(_lookup(seen, number, join, versions[join.table], wrong[number]) for number, join in joins.items())
    digest = f"xxhash64-sum:{seen['digest'] or 0}"
    return Certificate(rows_in=labels.count(), rows_out=seen["rows"], lookups=lookups, digest=digest).checked()


def _totals(made: "DataFrame", plan: Plan, joins: Reads) -> list["Column"]:
    from pyspark.sql import functions as F

    types = {field.name: field.dataType.typeName() for field in made.schema.fields}
    hashed = [F.col(quoted_part(name)) for name in plan.columns if types[name] != "map"]  # no engine hashes maps
    totals = [F.count(F.lit(1)).alias("rows"), F.sum(F.xxhash64(*hashed).cast("decimal(38,0)")).alias("digest")]
    for number in joins:
        proof = F.col(proof_of(number))
        totals.append(F.sum(F.when(proof.getField("matched"), 1).otherwise(0)).alias(f"matched{number}"))
        totals += [F.max(proof.getField(name)).alias(f"{name}{number}") for name in ("lead", "known_lead")]
    return totals


def _lookup(seen: Any, number: int, join: Join | Aggregation, version: int, rechecked: tuple[int, int]) -> Lookup:
    return Lookup(
        table=join.table,
        table_version=version,
        labels=seen["rows"],
        matched=seen[f"matched{number}"] or 0,
        newest_lead_us=seen[f"lead{number}"],
        newest_known_lead_us=seen[f"known_lead{number}"] if join.known_at else None,
        rechecked=rechecked[0],
        wrong=rechecked[1],
    )


def _wrong(
    carrier: Carrier, sample: "pl.DataFrame", join: Join | Aggregation, version: int, zone: str
) -> tuple[int, int]:
    """How many rows of the sample were looked up again, and how many of them are not what brute force finds."""
    import polars as pl

    from millpond.features import columns, joining, oracle

    mine = columns.prepared_labels(sample, join, zone=zone)
    given = pl.concat(carrier.batches(sample, join, version, zone=zone))
    rows = columns.prepared_features(given, join, zone=zone)
    if isinstance(join, Aggregation):
        return joining.aggregates_rechecked(mine, rows, sample.select(pl.col(name) for name in join.made), join)
    theirs = oracle.by_key(rows.to_dicts(), join)
    wrong = 0
    for label, row in zip(mine.to_dicts(), sample.to_dicts(), strict=True):
        best = oracle.expected(label, theirs.get(oracle.key_of(label, join), ()), join) or {}
        wrong += any(not oracle.equal(row[out], _value(best, name, out, join)) for name, out in join.outputs.items())
    return sample.height, wrong


def _needed(joins: Reads) -> Sequence[str]:
    """The columns that the joins used and made, each once."""
    names = [name for join in joins.values() for name in (*join.label_columns, *join.made)]
    return [quoted_part(name) for name in dict.fromkeys(names)]


def _value(row: Mapping[str, Any], name: str, output: str, join: Join) -> Any:
    value = row.get(join.alias(name))
    return join.defaults.get(output) if value is None else value
