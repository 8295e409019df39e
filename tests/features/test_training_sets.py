"""Training sets as users make them: from each kind of frame, with functions, as those see them who may see a part."""

import datetime as dt
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from millpond.features import FeatureEngineeringClient, FeatureFunction, FeatureLookup
from tests.servers import Server

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def day(number: int) -> dt.datetime:
    return DAY + dt.timedelta(days=number)


LABELS = {"id": [2, 1, 1, None, 7], "at": [day(5), day(2), day(4), day(3), day(9)], "amount": [5.0, 1.0, 2.0, 3.0, 4.0],
          "y": [0, 1, 0, 1, 0]}  # fmt: skip
EXPECTED = {
    "id": [2, 1, 1, None, 7],
    "amount": [5.0, 1.0, 2.0, 3.0, 4.0],
    "spent_30d": [20.0, 10.0, 11.0, 0.0, 0.0],
    "city": ["Rome", "Oslo", "Oslo", None, None],
    "share": [0.25, 0.1, 2 / 11, None, None],
    "y": [0, 1, 0, 1, 0],
}


@pytest.fixture
def shop(fe: FeatureEngineeringClient, spark: SparkSession, schema: str) -> str:
    """Two feature tables and a function."""
    spent = pl.DataFrame(
        {"cid": [1, 1, 1, 2], "ts": [day(1), day(3), day(6), day(5)], "spent": [10.0, 11.0, 99.0, 20.0]}
    )
    fe.create_table(name=f"{schema}.spent", primary_keys=["cid", "ts"], timeseries_columns="ts", df=spent)
    people = pd.DataFrame({"id": [1, 2], "city": ["Oslo", "Rome"], "age": [30, 40]})
    fe.create_table(name=f"{schema}.people", primary_keys="id", df=people)
    spark.sql(
        f"CREATE FUNCTION {schema}.share(part DOUBLE, whole DOUBLE) RETURNS DOUBLE RETURN part / nullif(whole, 0)"
    )
    return schema


def lookups(shop: str) -> list[Any]:
    return [
        FeatureLookup(
            table_name=f"{shop}.spent",
            lookup_key="id",
            timestamp_lookup_key="at",
            rename_outputs={"spent": "spent_30d"},
            default_values={"spent_30d": 0.0},
        ),
        FeatureLookup(table_name=f"{shop}.people", lookup_key=["id"], feature_names="city"),
        FeatureFunction(
            udf_name=f"{shop}.share", input_bindings={"part": "amount", "whole": "spent_30d"}, output_name="share"
        ),
    ]


def as_pandas(rows: dict[str, list[Any]]) -> pd.DataFrame:
    """With an index of its own, and times as pandas often has them: without a zone."""
    made = pd.DataFrame({**rows, "at": [at.replace(tzinfo=None) for at in rows["at"]]}, index=list("abcde"))
    return made.astype({"id": "Int64"})


KINDS = {
    "pandas": lambda _: as_pandas(LABELS),
    "polars": lambda _: pl.DataFrame(LABELS),
    "arrow": lambda _: pa.table(LABELS),
    "spark": lambda spark: spark.createDataFrame(pa.table(LABELS)),
}


def columns(frame: Any) -> dict[str, list[Any]]:
    """Any frame's columns, with None for what is missing."""
    if hasattr(frame, "toArrow"):
        return frame.toArrow().to_pydict()
    if isinstance(frame, pd.DataFrame):
        return {name: [None if pd.isna(value) else value for value in frame[name]] for name in frame}
    return frame.to_dict(as_series=False) if isinstance(frame, pl.DataFrame) else frame.to_pydict()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_get_their_features_in_their_own_kind(
    fe: FeatureEngineeringClient, spark: SparkSession, shop: str, kind: str
) -> None:
    given = KINDS[kind](spark)
    made = fe.create_training_set(df=given, feature_lookups=lookups(shop), label="y", exclude_columns=["at"])
    found = made.load_df()
    assert type(found) is type(given)
    assert columns(found) == EXPECTED
    if kind == "pandas":
        assert list(found.index) == list("abcde")
    proof = made.certificate
    assert (proof.rows_in, proof.rows_out, proof.faults) == (5, 5, [])
    seen = [(each.table, each.matched, each.newest_lead_us, each.rechecked, each.wrong) for each in proof.lookups]
    assert seen == [(f"{shop}.spent", 3, 0, 5, 0), (f"{shop}.people", 3, None, 5, 0)]


def test_a_training_set_stays_what_it_was_when_its_tables_change(fe: FeatureEngineeringClient, shop: str) -> None:
    made = fe.create_training_set(
        df=pl.DataFrame(LABELS), feature_lookups=lookups(shop), label="y", exclude_columns="at"
    )
    before = made.certificate
    fe.write_table(name=f"{shop}.people", df=pd.DataFrame({"id": [1], "city": ["Bergen"]}))
    assert columns(made.load_df()) == EXPECTED
    assert made.certificate == before
    after = fe.create_training_set(
        df=pl.DataFrame(LABELS), feature_lookups=lookups(shop), label="y", exclude_columns="at"
    )
    assert after.load_df()["city"].to_list() == ["Rome", "Bergen", "Bergen", None, None]
    assert after.certificate.digest != before.digest


def test_values_that_are_too_old_or_not_known_yet_are_missing(fe: FeatureEngineeringClient, schema: str) -> None:
    rows = pl.DataFrame({"id": [1, 1], "ts": [day(1), day(2)], "known": [day(1), day(6)], "x": [1.0, 2.0]})
    fe.create_table(
        name=f"{schema}.t", primary_keys=["id", "ts"], timeseries_columns="ts", df=rows, known_at_column="known"
    )
    asked = pl.DataFrame({"id": [1] * 4, "at": [day(2), day(5), day(6), day(9)]})
    lookup = FeatureLookup(
        table_name=f"{schema}.t", lookup_key="id", timestamp_lookup_key="at", lookback_window=dt.timedelta(days=4)
    )
    made = fe.create_training_set(df=asked, feature_lookups=[lookup])
    assert made.load_df()["x"].to_list() == [1.0, 1.0, 2.0, None]
    assert (made.certificate.lookups[0].newest_known_lead_us, made.plan.features) == (0, ("id", "at", "x"))


def test_a_join_by_way_of_the_disk_gives_the_same(fe: FeatureEngineeringClient, shop: str) -> None:
    arguments: Any = {"df": pl.DataFrame(LABELS), "feature_lookups": lookups(shop), "label": "y"}
    in_memory = fe.create_training_set(**arguments).certificate
    assert FeatureEngineeringClient(memory_limit_bytes=0).create_training_set(**arguments).certificate == in_memory


def test_filters_and_masks_hold(server: Server, spark: SparkSession, shop: str) -> None:
    """Whoever may see a part of a table trains on that part; whoever may not read it trains on nothing."""
    token = server.new_user("trainer@example.com")
    for sql in (
        f"CREATE FUNCTION {shop}.mine(id BIGINT) RETURNS BOOLEAN RETURN is_member('admins') OR id = 2",
        f"CREATE FUNCTION {shop}.hide(city STRING) RETURNS STRING RETURN concat('a city of ', length(city))",
        f"ALTER TABLE {shop}.people SET ROW FILTER {shop}.mine ON (id)",
        f"ALTER TABLE {shop}.people ALTER COLUMN city SET MASK {shop}.hide",
        f"GRANT USE SCHEMA ON SCHEMA {shop} TO `trainer@example.com`",
        f"GRANT SELECT ON TABLE {shop}.people TO `trainer@example.com`",
    ):
        spark.sql(sql).collect()
    command = [sys.executable, str(Path(__file__).with_name("as_another_user.py")), shop]
    ran = subprocess.run(command, env=server.client_env(token=token), capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    seen = {"rows": [[1, None], [2, "a city of 4"]], "rechecked": 2}
    assert (told["local"], told["spark"]) == (seen, seen)
    assert told["refused"].startswith("ValueError: Feature table")
    assert "may not see" in told["refused"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table_name": "main.default.nothing"}, "'main.default.nothing' does not exist"),
        ({"lookup_key": "nobody"}, r"names \['nobody'\], not among the columns"),
        ({"lookup_key": ["id", "amount"]}, "must have a column for each of"),
        ({"feature_names": "nothing"}, r"names \['nothing'\]"),
        ({"rename_outputs": {"spent": "amount"}}, "'amount' is there already; give the feature another name"),
        ({"default_values": {"spent": 1.0, "z": 2}}, "default_values .* names"),
        ({"timestamp_lookup_key": None}, "has values over time: give the lookup a timestamp_lookup_key"),
        ({"timestamp_lookup_key": "amount"}, "'amount' is (Float64|double) and no time"),
        ({"lookup_key": "amount"}, "'amount' is (Float64|double) and cannot be compared with the key 'cid'"),
    ],
)
@pytest.mark.parametrize("kind", ["polars", "spark"])
def test_lookups_that_do_not_fit_say_why(
    fe: FeatureEngineeringClient, spark: SparkSession, shop: str, change: dict[str, Any], message: str, kind: str
) -> None:
    arguments = {"table_name": f"{shop}.spent", "lookup_key": "id", "timestamp_lookup_key": "at", **change}
    with pytest.raises(ValueError, match=message):
        fe.create_training_set(df=KINDS[kind](spark), feature_lookups=[FeatureLookup(**arguments)], label="y").load_df()


def test_a_named_spec_makes_training_sets(fe: FeatureEngineeringClient, shop: str) -> None:
    fe.create_feature_spec(name=f"{shop}.spec", features=lookups(shop), exclude_columns=["at"])
    made = fe.create_training_set(df=pl.DataFrame(LABELS), feature_spec=f"{shop}.spec", label="y")
    assert columns(made.load_df()) == EXPECTED
    with pytest.raises(ValueError, match=rf"Function '{shop}\.spec' already exists"):
        fe.create_feature_spec(name=f"{shop}.spec", features=lookups(shop))
    fe.delete_feature_spec(name=f"{shop}.spec")
    with pytest.raises(ValueError, match="does not exist"):
        fe.create_training_set(df=pl.DataFrame(LABELS), feature_spec=f"{shop}.spec", label="y")


def test_a_certificate_is_json(fe: FeatureEngineeringClient, shop: str) -> None:
    made = fe.create_training_set(df=pl.DataFrame(LABELS), feature_lookups=lookups(shop), label="y")
    told = json.loads(json.dumps(made.certificate.to_dict()))
    assert (told["rows_in"], told["holds"], told["lookups"][0]["table_version"]) == (5, True, 1)
    assert told["digest"].startswith("sha256:")


@pytest.mark.parametrize("kind", ["polars", "spark"])
def test_names_with_dots_are_names(fe: FeatureEngineeringClient, spark: SparkSession, schema: str, kind: str) -> None:
    """Keys, times and features: a dot in the name of a column is no path into it."""
    name, rows = f"{schema}.t", pl.DataFrame({"a.id": [1, 2], "a.ts": [day(1), day(1)], "x.`y`": [1.0, 2.0]})
    fe.create_table(name=name, primary_keys=["a.id", "a.ts"], timeseries_columns="a.ts", df=rows)
    fe.write_table(name=name, df=rows.with_columns(pl.Series("x.`y`", [3.0, 4.0]))[1:])
    lookup = FeatureLookup(table_name=name, lookup_key="k.id", timestamp_lookup_key="k.at")
    asked = pl.DataFrame({"k.id": [2, 1], "k.at": [day(2), day(2)], "y.": [0, 1]})
    given = asked if kind == "polars" else spark.createDataFrame(asked.to_arrow())
    made = fe.create_training_set(df=given, feature_lookups=[lookup], label="y.", exclude_columns="k.at")
    assert columns(made.load_df()) == {"k.id": [2, 1], "x.`y`": [4.0, 1.0], "y.": [0, 1]}
    assert made.certificate.faults == []


def test_nan_among_equal_values_stays(fe: FeatureEngineeringClient, spark: SparkSession, schema: str) -> None:
    """The engine would take it for the other value if the feature table kept statistics of the column."""
    scores = spark.sql("SELECT * FROM VALUES (1, DOUBLE('NaN')), (2, 5.0D), (3, 5.0D) AS t(id, score)").coalesce(1)
    fe.create_table(name=f"{schema}.scores", primary_keys="id", df=scores)
    labels = spark.createDataFrame([(1, 0), (2, 1), (3, 1)], "id int, y int")
    lookup = FeatureLookup(table_name=f"{schema}.scores", lookup_key="id")
    made = fe.create_training_set(df=labels, feature_lookups=[lookup], label="y")
    scored = {row.id: row.score for row in made.load_df().collect()}
    assert math.isnan(scored.pop(1))
    assert scored == {2: 5.0, 3: 5.0}
