"""Rows completed online are what the point-in-time join makes of them; real catalog, Delta, LMDB, both databases."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.catalog.domain import Column, ObjectName, TableConstraint, TableType
from millpond.catalog.service import CatalogService
from millpond.feature_serving.recipe import feature_table
from millpond.feature_serving.service import FeatureServing, Invocation
from millpond.feature_serving.specs import parse_spec
from millpond.features import (
    AggregationFunction,
    DeltaTableSource,
    Feature,
    FeatureFunction,
    FeatureLookup,
    RollingWindow,
    Sum,
)
from millpond.features.joining import Means, look_up
from millpond.features.planning import Wanted, make_plan
from millpond.features.spec import FeatureSpec
from millpond.identity.domain import SYSTEM
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    NotImplementedHere,
    Unavailable,
)
from millpond.kernel.settings import OnlineStoreSettings, S3Settings
from millpond.online.publisher import Publisher
from millpond.online.reading import OnlineTables
from millpond.online.service import OnlineService
from millpond.online.stores import Backends
from millpond.online.tables import Mode, State
from tests.catalog.conftest import build_catalog, build_people
from tests.databases import Databases
from tests.redis_server import free_port, running_redis

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TYPES = {
    "id": ("bigint", '"long"', pa.int64()), "shop": ("string", '"string"', pa.string()),
    "ts": ("timestamp", '"timestamp"', pa.timestamp("us", "UTC")), "amount": ("double", '"double"', pa.float64()),
    "visits": ("int", '"integer"', pa.int32()), "price": ("decimal(9,2)", '"decimal(9,2)"', pa.decimal128(9, 2)),
    "since": ("date", '"date"', pa.date32()), "seen": ("timestamp", '"timestamp"', pa.timestamp("us", "UTC")),
    "vip": ("boolean", '"boolean"', pa.bool_()), "city": ("bigint", '"long"', pa.int64()),
    "name": ("string", '"string"', pa.string()), "parts": ("array<double>", '"array"', pa.list_(pa.float64())),
    "loaded": ("timestamp", '"timestamp"', pa.timestamp("us", "UTC")),
}  # fmt: skip
SPENDING = [
    {"id": number % 7, "shop": "ab"[number % 2], "ts": NOW - timedelta(hours=number * 5 % 90),
     "amount": (None, math.nan, 0.5)[number % 3], "visits": (None, number)[number % 2],
     "price": Decimal(number) / 4 if number % 5 else None, "since": date(2026, 1, 1 + number % 28),
     "seen": NOW - timedelta(minutes=number), "vip": (True, False, None)[number % 3],
     "city": (10, 20, 30, None)[number % 4], "parts": [1.0, float(number)]}
    for number in range(40)
]  # fmt: skip
CITIES = [{"city": 10, "name": "Ulm"}, {"city": 20, "name": None}]
LATE = [
    {"id": 1, "ts": NOW - timedelta(hours=2), "amount": 1.0, "loaded": NOW - timedelta(hours=1)},
    {"id": 1, "ts": NOW - timedelta(hours=1), "amount": 2.0, "loaded": None},
    {"id": 2, "ts": NOW - timedelta(hours=2), "amount": 4.0, "loaded": NOW - timedelta(hours=1)},
    {"id": 2, "ts": NOW - timedelta(hours=2), "amount": 3.0, "loaded": NOW - timedelta(minutes=1)},
]


@dataclass
class Shop:
    """Feature tables that are online."""

    database: Database
    catalog: CatalogService
    service: OnlineService
    publisher: Publisher
    backends: Backends
    features: FeatureServing
    rows: dict[str, list[dict[str, Any]]]

    def create(self, name: str, rows: list[dict[str, Any]], keys: Sequence[str], time: str = "", **more: str) -> str:
        """A table of rows, published; its name."""
        place = ObjectName("main", "default", name)
        staged = self.catalog.stage_table(SYSTEM, place)
        columns = [
            Column(name=each, type_text=TYPES[each][0], type_json=TYPES[each][1], position=number)
            for number, each in enumerate(rows[0])
        ]
        key = TableConstraint(name=f"{name}_pk", columns=(*keys, *((time,) if time else ())),
                              timeseries_columns=(time,) if time else ())  # fmt: skip
        self.catalog.register_table(SYSTEM, staged, columns, TableType.MANAGED, constraints=[key], properties=more)
        schema = pa.schema([(each, TYPES[each][2]) for each in rows[0]])
        deltalake.write_deltalake(staged.storage_location, pa.Table.from_pylist(rows, schema))
        self.rows[str(place)] = rows
        self.publish(str(place), f"{name}_online")
        return str(place)

    def publish(self, table: str, name: str) -> ObjectName:
        """An online table of a table; a round that fails is one that was tried."""
        online = ObjectName("main", "default", name)
        source = ObjectName.of_full_name(table)
        self.service.publish(SYSTEM, source, name=online, store_name="s", mode=Mode.TRIGGERED)
        while self.publisher.run_once():
            pass
        return online

    def complete(self, wanted: Sequence[Wanted], rows: Sequence[Mapping[str, Any]], **more: Any) -> list[Any]:
        """Online."""
        spec = FeatureSpec(wanted=tuple(wanted))

        async def completed() -> list[Any]:
            async with aclosing(self.backends):
                return (await self.features.complete(SYSTEM, spec, rows, **more)).rows

        return asyncio.run(completed())

    def offline(self, wanted: Sequence[Wanted], rows: Sequence[Mapping[str, Any]], types: Mapping[str, Any]) -> Any:
        """The same by the join that makes training sets, now where a row has no time."""
        labels = pl.from_arrow(pa.Table.from_pylist([{"now": NOW, **row} for row in rows], pa.schema(
            [("now", TYPES["ts"][2]), *((name, kind) for name, kind in types.items())])))  # fmt: skip
        tables = {
            each.table_name: feature_table(
                self.catalog.get_table(SYSTEM, ObjectName.of_full_name(each.table_name)), each.table_name
            )
            for each in wanted
            if isinstance(each, FeatureLookup)
        }
        for join in make_plan(wanted, tables, {}, labels.columns, overriding=True).reads:
            schema = pa.schema([(each, TYPES[each][2]) for each in self.rows[join.table][0]])
            features = pl.from_arrow(pa.Table.from_pylist(self.rows[join.table], schema))
            labels = labels.with_columns(look_up(labels, [features], join, Means()).columns)
        return labels.drop("now").to_dicts()


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with opened_shop(database, tmp_path) as shop:
        yield shop


@contextmanager
def opened_shop(database: Database, tmp_path: Path, **stores: OnlineStoreSettings) -> Iterator[Shop]:
    """An empty one, whose online store `s` is embedded unless `stores` says otherwise."""
    catalog = build_catalog(database, build_people(database), tmp_path)
    backends = Backends(tmp_path / "online", stores)
    service = OnlineService(database, catalog, backends, S3Settings(), lambda: None)
    service.create_store(SYSTEM, "s", "CU_1")
    online = OnlineTables(database, catalog, backends, clock=lambda: NOW)
    shop = Shop(
        database, catalog, service, Publisher(database, catalog, backends, S3Settings(), owner="a"), backends,
        FeatureServing(catalog, online, clock=lambda: NOW), {},
    )  # fmt: skip
    yield shop
    backends.close()


def test_online_is_what_offline_is(shop: Shop) -> None:
    """Composite keys, chains, renames, defaults, lookback, NULLs: the same values, whatever is asked."""
    spending, cities = shop.create("spending", SPENDING, ["id", "shop"], "ts"), shop.create("cities", CITIES, ["city"])
    late = shop.create("late", LATE, ["id"], "ts", **{"features.known_at": "loaded"})
    asked = {"id": pa.int64(), "shop": pa.string(), "visits": pa.int64()}

    def lookup(table: str, keys: Any, **more: Any) -> FeatureLookup:
        return FeatureLookup(table, keys, timestamp_lookup_key="now", **more)

    everything = ["amount", "price", "since", "seen", "vip", "parts", "city", "visits"]
    wanted = [
        lookup(spending, ["shop", "id"], feature_names=everything, default_values={"amount": 7, "price": "1.5"}),
        lookup(spending, ["id", "shop"], feature_names=["amount"], rename_outputs={"amount": "fresh"},
               lookback_window=timedelta(hours=30)),
        FeatureLookup(cities, "city", feature_names=["name"], default_values={"name": "nowhere"}),
        lookup(late, "id", feature_names=["amount"], rename_outputs={"amount": "late"}),
    ]  # fmt: skip

    @settings(max_examples=60)
    @given(st.lists(st.fixed_dictionaries({
        "id": st.none() | st.integers(0, 9), "shop": st.none() | st.sampled_from(["a", "b", "c"])}), max_size=8),
        st.booleans())  # fmt: skip
    def holds(rows: list[dict[str, Any]], override: bool) -> None:
        rows = [{**row, "visits": 3} for row in rows] if override else rows
        types = asked if override else {name: asked[name] for name in ("id", "shop")}
        found, expected = shop.complete(wanted, rows), shop.offline(wanted, rows, types)
        assert [_comparable(row) for row in found] == [_comparable(row) for row in expected]

    holds()


def _comparable(row: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as something that equals itself; the type counts, and the zeros of a decimal do not."""
    plain = {name: value.normalize() if isinstance(value, Decimal) else value for name, value in row.items()}
    return {name: f"{type(value).__name__} {value}" for name, value in sorted(plain.items())}


def test_a_row_overrides_for_itself_and_says_when_it_is(shop: Shop) -> None:
    table = shop.create("late", LATE, ["id"], "ts")
    wanted = [FeatureLookup(table, "who", timestamp_lookup_key="at", feature_names="amount",
                            lookback_window=timedelta(hours=2))]  # fmt: skip
    rows = [{"who": 1}, {"who": 1, "amount": None}, {"who": 1, "amount": 5}, {"amount": 6},
            {"who": 1, "at": "2026-06-01T14:00:00+00:00"}, {"who": 1, "at": "2026-06-01T13:00:00.000001Z"},
            {"who": 1, "at": None}, {"who": 1, "at": "2026-06-01T12:00:00"}]  # fmt: skip
    assert [row["amount"] for row in shop.complete(wanted, rows)] == [2.0, None, 5.0, 6.0, None, None, None, 2.0]
    wrong = (
        ({}, "'who' is missing"), ({"who": "x"}, "'who' is 'x', which is no BIGINT"), ({"who": True}, "'who'"),
        ({"who": 1, "at": 3}, "'at' is 3, which is no TIMESTAMP"), ({"who": 1, "amount": "much"}, "'amount'"),
    )  # fmt: skip
    for row, why in wrong:
        with pytest.raises(InvalidArgument, match=why):
            shop.complete(wanted, [row])


def test_functions_are_called_once_for_all_rows_and_may_make_keys(shop: Shop) -> None:
    cities = shop.create("cities", CITIES, ["city"])
    kinds = {"nearest": ("bigint", ("x", "double")), "shout": ("string", ("text", "string"))}
    for name, (returns, (parameter, kind)) in kinds.items():
        definition = {
            "input_params": {"parameters": [{"name": parameter, "type_text": kind, "position": 0}]},
            "full_data_type": returns, "routine_body": "EXTERNAL", "external_language": "PYTHON",
            "routine_definition": "return None",
        }  # fmt: skip
        shop.catalog.create_function(SYSTEM, ObjectName("main", "default", name), definition=definition)
    wanted = [
        FeatureFunction(udf_name="main.default.nearest", input_bindings={"x": "where"}, output_name="city"),
        FeatureLookup(cities.upper(), "city", feature_names=["name"]),
        FeatureFunction(udf_name="main.default.shout", input_bindings={"text": "name"}, output_name="loud"),
    ]
    asked: list[Sequence[Invocation]] = []

    async def call(some: Sequence[Invocation]) -> list[list[Any]]:
        asked.append(some)
        results = {"nearest": lambda x: round(x) * 10, "shout": lambda text: text and text.upper()}
        return [[results[each.function.name.rpartition(".")[2]](value) for value in each.arguments[0]] for each in some]

    found = shop.complete(wanted, [{"where": 1}, {"where": 2.2}, {"city": 10, "where": None}], call=call)
    assert [(row["city"], row["name"], row["loud"]) for row in found] == [
        (10, "Ulm", "ULM"), (20, None, None), (10, "Ulm", "ULM"),
    ]  # fmt: skip
    assert [each.arguments for some in asked for each in some] == [([1.0, 2.2],), (["Ulm", None, "Ulm"],)]
    with pytest.raises(NotImplementedHere, match="nearest"):
        shop.complete(wanted, [{"where": 1}])


def test_what_cannot_be_served_says_why(shop: Shop) -> None:
    table = shop.create("late", LATE, ["id"], "ts")
    shop.service.delete_table(SYSTEM, ObjectName("main", "default", "late_online"))
    definition = {"full_data_type": "double", "routine_body": "SQL", "routine_definition": "1.0"}
    shop.catalog.create_function(SYSTEM, ObjectName("main", "default", "one"), definition=definition)
    timed = FeatureLookup(table, "id", timestamp_lookup_key="at", feature_names="amount")
    source = DeltaTableSource(catalog_name="main", schema_name="default", table_name="late")
    spent = AggregationFunction(Sum("amount"), RollingWindow(window_duration=timedelta(days=1)))
    declared = Feature(source=source, entity=["id"], timeseries_column="ts", name="spent", function=spent)
    cases: tuple[tuple[Wanted, type[MillpondError], str], ...] = (
        (timed, FailedPrecondition, "'main.default.late' is not published"),
        (replace_lookup(timed, table_name="main.default.none"), NotFound, "'main.default.none' does not exist"),
        (FeatureLookup(table, ["id", "ts"], feature_names="amount"), FailedPrecondition, "exact time"),
        (FeatureLookup(table, "id", timestamp_lookup_key="at", feature_names="gone"), FailedPrecondition, "'gone'"),
        (FeatureFunction(udf_name="main.default.one"), NotImplementedHere, "not of Python"),
        (FeatureFunction(udf_name="main.default.two"), NotFound, "'main.default.two' does not exist"),
        (declared, NotImplementedHere, "'spent' is computed of the rows of 'main.default.late'"),
    )
    for wanted, kind, why in cases:
        with pytest.raises(kind, match=why):
            shop.features.check(SYSTEM, FeatureSpec(wanted=(wanted,)))
    for text in (
        "",
        "features: 1",
        "[1]",
        "format: 9",
        "a: &a [*a]",
        BOMB,
        FeatureSpec(wanted=(timed,)).to_yaml().replace("id", "1"),
    ):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            parse_spec(text)


def test_of_several_online_tables_the_furthest_is_read(shop: Shop) -> None:
    """And one whose last round failed is still read, when there is no other."""
    table = shop.create("cities", CITIES, ["city"])
    location = shop.catalog.get_table(SYSTEM, ObjectName.of_full_name(table)).storage_location

    def name_of(city: int) -> Any:
        shop.features = FeatureServing(
            shop.catalog, OnlineTables(shop.database, shop.catalog, shop.backends, clock=lambda: NOW)
        )
        return shop.complete([FeatureLookup(table, "city")], [{"city": city}])[0]["name"]

    schema = pa.schema([("city", pa.int64()), ("name", pa.string())])
    deltalake.write_deltalake(location, pa.Table.from_pylist([{"city": 30, "name": "Bonn"}], schema), mode="append")
    assert name_of(30) is None
    second = shop.publish(table, "second")
    assert name_of(30) == "Bonn"
    shop.service.delete_table(SYSTEM, second)
    assert (name_of(30), name_of(10)) == (None, "Ulm")
    kept = Path(location.removeprefix("file://"))
    kept.rename(kept.with_name("away"))
    shop.publish(table, "cities_online")
    assert shop.service.get_table(SYSTEM, ObjectName("main", "default", "cities_online")).table.state is State.FAILED
    assert name_of(10) == "Ulm"


def test_odd_values_are_refused_and_too_many_too(shop: Shop) -> None:
    table = shop.create("spending", SPENDING, ["id", "shop"], "ts")
    lookup = FeatureLookup(table, ["id", "shop"], timestamp_lookup_key="at", feature_names=["amount", "visits"])
    for row in (
        {"id": 1 << 70, "shop": "a"}, {"id": 1, "shop": "\ud800"}, {"id": 1.5, "shop": "a"},
        {"id": math.inf, "shop": "a"}, {"id": [1], "shop": "a"}, {"id": 1, "shop": "a", "amount": 10**400},
        {"id": 1, "shop": "a", "at": "9999-12-31T23:59:59-14:00"},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="which is no"):
            shop.complete([lookup], [row])
    with pytest.raises(InvalidArgument, match="500001 rows of 2 features"):
        shop.complete([lookup], [{}] * 500_001)
    many = shop.complete([lookup], [{"id": number % 9, "shop": "a"} for number in range(5000)])
    few = shop.complete([lookup], [{"id": number, "shop": "a"} for number in range(9)])
    assert [_comparable(row) for row in many[:9]] == [_comparable(row) for row in few]


def test_a_store_that_is_down_is_named_and_then_forgotten(databases: Databases, tmp_path: Path) -> None:
    """503 while Redis is away, and the features again when it is back, without anybody doing anything here."""
    port, home = free_port(), tmp_path / "redis"
    home.mkdir()
    settings = OnlineStoreSettings(url=f"redis://127.0.0.1:{port}/0")
    with databases.new("sqlite", tmp_path) as database, opened_shop(database, tmp_path, s=settings) as shop:
        with running_redis(str(home), port):
            wanted = [FeatureLookup(shop.create("cities", CITIES, ["city"]), "city")]
            assert shop.complete(wanted, [{"city": 10}])[0]["name"] == "Ulm"
        with pytest.raises(Unavailable, match=r"Features of 'main\.default\.cities' cannot be looked up"):
            shop.complete(wanted, [{"city": 10}])
        with running_redis(str(home), port):
            assert shop.complete(wanted, [{"city": 10}])[0]["name"] == "Ulm"


BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(30)) + (
    "format: 1\nfeatures: [{table_name: *a29, lookup_key: []}]\ninputs: []\n"
)
"""Some kilobytes that a message would make endless."""


def replace_lookup(lookup: FeatureLookup, *, table_name: str) -> FeatureLookup:
    return FeatureLookup(table_name, lookup.lookup_key, timestamp_lookup_key=lookup.timestamp_lookup_key)
