"""The certificate of a training set that is a Spark plan: one pass over its rows, and a sample looked up again here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from millpond.features.carrying_out import Carrier, proof_of
from millpond.features.certificate import SAMPLE, Certificate, Lookup
from millpond.features.planning import Join, Plan

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def spark_certificate(
    carrier: Carrier, labels: "DataFrame", plan: Plan, versions: Mapping[str, int], *, zone: str
) -> Certificate:
    """Carry the plan out once to see what it does. Raises RuntimeError when it is wrong."""
    made = carrier.plan_in_spark(labels, plan, versions, proofs=True)
    joins = {number: step for number, step in enumerate(plan.steps) if isinstance(step, Join)}
    seen = made.agg(*_totals(made, plan, joins)).collect()[0]
    sample = made.limit(SAMPLE)
    wrong = {number: _wrong(carrier, sample, join, versions[join.table], zone) for number, join in joins.items()}
    lookups = tuple(_lookup(seen, number, join, versions[join.table], wrong[number]) for number, join in joins.items())
    digest = f"xxhash64-sum:{seen['digest'] or 0}"
    return Certificate(rows_in=labels.count(), rows_out=seen["rows"], lookups=lookups, digest=digest).checked()


def _totals(made: "DataFrame", plan: Plan, joins: Mapping[int, Join]) -> list["Column"]:
    from pyspark.sql import functions as F

    types = {field.name: field.dataType.typeName() for field in made.schema.fields}
    hashed = [F.col(_quoted(name)) for name in plan.columns if types[name] != "map"]  # no engine hashes maps
    totals = [F.count(F.lit(1)).alias("rows"), F.sum(F.xxhash64(*hashed).cast("decimal(38,0)")).alias("digest")]
    for number in joins:
        proof = F.col(proof_of(number))
        totals.append(F.sum(F.when(proof.getField("matched"), 1).otherwise(0)).alias(f"matched{number}"))
        totals += [F.max(proof.getField(name)).alias(f"{name}{number}") for name in ("lead", "known_lead")]
    return totals


def _lookup(seen: Any, number: int, join: Join, version: int, rechecked: tuple[int, int]) -> Lookup:
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


def _wrong(carrier: Carrier, sample: "DataFrame", join: Join, version: int, zone: str) -> tuple[int, int]:
    """How many rows of the sample were looked up again, and how many of them are not what brute force finds."""
    import polars as pl

    from millpond.features import columns, oracle

    rows = pl.DataFrame(pl.from_arrow(sample.select(*(_quoted(name) for name in _columns(join))).toArrow()))
    mine = columns.prepared_labels(rows, join, zone=zone)
    candidates = carrier.features(join, version).join(_keys_of(sample, join), _theirs(join), "left_semi")
    given = columns.prepared_features(pl.DataFrame(pl.from_arrow(candidates.toArrow())), join, zone=zone)
    theirs = oracle.by_key(given.to_dicts(), join)
    wrong = 0
    for label, row in zip(mine.to_dicts(), rows.to_dicts(), strict=True):
        best = oracle.expected(label, theirs.get(oracle.key_of(label, join), ()), join) or {}
        wrong += any(not oracle.equal(row[out], _value(best, name, out, join)) for name, out in join.outputs.items())
    return rows.height, wrong


def _value(row: Mapping[str, Any], name: str, output: str, join: Join) -> Any:
    value = row.get(name)
    return join.defaults.get(output) if value is None else value


def _columns(join: Join) -> Sequence[str]:
    return tuple(dict.fromkeys((*join.label_columns, *join.outputs.values())))


def _keys_of(sample: "DataFrame", join: Join) -> "DataFrame":
    from pyspark.sql import functions as F

    return sample.select(*(F.col(_quoted(mine)).alias(theirs) for mine, theirs in join.keys)).distinct()


def _theirs(join: Join) -> list[str]:
    return [theirs for _, theirs in join.keys]


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
