"""What a plan makes of lookups, without any data."""

import datetime as dt
from typing import Any

import pytest

from millpond.features import FeatureFunction, FeatureLookup, FeatureTable
from millpond.features.planning import Call, Join, Plan, make_plan
from millpond.features.spec import FeatureSpec, read_spec

TABLES = {
    "m.s.people": FeatureTable(
        name="m.s.people", primary_keys=("country", "id"), types={"country": "string", "id": "bigint", "city": "string"}
    ),
    "m.s.spent": FeatureTable(
        name="m.s.spent",
        primary_keys=("id", "ts"),
        timeseries_columns=("ts",),
        types={"id": "bigint", "ts": "timestamp", "spent": "double", "loaded": "timestamp"},
        properties={"features.known_at": "loaded"},
    ),
    "m.s.cities": FeatureTable(name="m.s.cities", primary_keys=("city",), types={"city": "string", "size": "int"}),
}
PARAMETERS = {"m.s.ratio": ["a", "b"]}


def planned(*wanted: Any, columns: tuple[str, ...] = ("country", "id", "at", "y"), **more: Any) -> Plan:
    return make_plan(wanted, TABLES, PARAMETERS, columns, **more)


def join(*wanted: Any) -> Join:
    return planned(*wanted).reads[0]


def test_keys_go_by_name_where_they_have_the_keys_names_and_by_order_otherwise() -> None:
    assert join(FeatureLookup("m.s.people", ["id", "country"])).keys == (("country", "country"), ("id", "id"))
    assert join(FeatureLookup("m.s.people", ["y", "at"])).keys == (("y", "country"), ("at", "id"))


def test_all_columns_that_are_no_key_are_features_if_none_are_named() -> None:
    found = join(FeatureLookup("m.s.spent", "id", timestamp_lookup_key="at"))
    assert (found.outputs, found.time, found.known_at) == ({"spent": "spent"}, ("at", "ts"), "loaded")


def test_a_whole_primary_key_matches_the_time_exactly() -> None:
    assert join(FeatureLookup("m.s.spent", ["id", "at"])).time is None


def test_a_later_step_may_use_what_an_earlier_one_made() -> None:
    plan = planned(
        FeatureLookup("m.s.people", ["country", "id"]),
        FeatureLookup("m.s.cities", "city"),
        FeatureFunction(udf_name="m.s.ratio", input_bindings={"a": "size", "b": "y"}),
        labels=["y"],
        excluded=["city"],
    )
    assert plan.columns == ("country", "id", "at", "size", "m.s.ratio", "y")
    assert plan.steps[2] == Call(function="m.s.ratio", arguments=("size", "y"), output="m.s.ratio")
    with pytest.raises(ValueError, match=r"The lookup in 'm\.s\.cities' names \['city'\]"):
        planned(FeatureLookup("m.s.cities", "city"), FeatureLookup("m.s.people", ["country", "id"]))


def test_what_is_there_already_stands_for_its_feature_when_scoring() -> None:
    lookup = FeatureLookup("m.s.spent", "id", timestamp_lookup_key="at", default_values={"spent": 0})
    assert planned(lookup, columns=("id", "spent"), overriding=True).steps == ()
    with pytest.raises(ValueError, match="'spent' is there already"):
        planned(lookup, columns=("id", "at", "spent"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table_name": ""}, "table_name must be the full name"),
        ({"lookup_key": []}, "lookup_key .* is empty"),
        ({"timestamp_lookup_key": ["a", "b"]}, "must be one column, not 2"),
        ({"lookback_window": dt.timedelta(1)}, "needs a timestamp_lookup_key"),
        ({"lookback_window": dt.timedelta(-1), "timestamp_lookup_key": "at"}, "is negative"),
        ({"feature_name": "a", "feature_names": ["b"]}, "only one of feature_name and feature_names"),
        ({"output_name": "a", "feature_names": ["b", "c"]}, "output_name renames one feature_name"),
    ],
)
def test_lookups_that_make_no_sense_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureLookup(**{"table_name": "m.s.t", "lookup_key": "id", **arguments})


def test_a_spec_is_read_as_it_was_written() -> None:
    lookup = FeatureLookup(
        "m.s.spent", "id", feature_name="spent", output_name="é", timestamp_lookup_key="at",
        lookback_window=dt.timedelta(days=1.5), default_values={"é": 0.5},
    )  # fmt: skip
    function = FeatureFunction(udf_name="m.s.ratio", input_bindings={"a": "é", "b": "y"}, output_name="r")
    spec = FeatureSpec(
        wanted=(lookup, function), features=("é",), labels=("y",), excluded=("at",), versions={"m.s.spent": 3}
    )
    assert read_spec(spec.to_yaml()) == spec
    assert (spec.tables, spec.functions) == (("m.s.spent",), ("m.s.ratio",))
    with pytest.raises(ValueError, match="has format 2; this Millpond reads 1"):
        read_spec(spec.to_yaml().replace("format: 1", "format: 2"))
