"""Feature tables are found with their consumers and sources, by who may see each of them."""

from typing import Any

import pytest

from tests.feature_tables.conftest import Shop

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


def test_feature_tables_are_found_by_what_is_said_of_them(shop: Shop) -> None:
    """A primary key makes one; a page leads to the next; who is used by nobody is told."""
    assert shop.names("") == ["idle", "loose", "people"]
    assert shop.names("") == shop.names("owner=" + shop.server.user)
    assert [shop.names(query) for query in ("tag=unit=kg", "tag=unit=g", "certified=certified")] == [["idle"], [], []]
    found = {
        word: shop.get(f"?q={shop.tail}%20{word}")["feature_tables"] for word in ("EUROS", "visits", "kg", "amount")
    }
    names = {word: [each["name"].rpartition(".")[2] for each in tables] for word, tables in found.items()}
    assert names == {"EUROS": ["people"], "visits": ["people"], "kg": ["idle"], "amount": []}
    [people] = found["EUROS"]
    assert (people["primary_keys"], people["timeseries_column"], people["features"]) == (["id"], "ts", 3)
    assert (people["comment"], people["owner"]) == ("Who buys", shop.server.user)
    assert people["last_written"] > "2026"
    first = shop.get(f"?q={shop.name}&max_results=2")
    assert [each["name"] for each in first["feature_tables"]] == [f"{shop.name}.idle", f"{shop.name}.loose"]
    rest = shop.get(f"?q={shop.name}&max_results=2&page_token={first['next_page_token']}")
    assert ([each["name"] for each in rest["feature_tables"]], "next_page_token" in rest) == (
        [f"{shop.name}.people"],
        False,
    )
    assert shop.names("unused=true") == ["idle"]
    shop.sql("SET TAG ON TABLE $.idle `system.certification_status` = deprecated")
    assert shop.names("certified=deprecated") == ["idle"]
    assert "at most 100" in shop.get("?max_results=101", status=400)["message"]


def test_a_feature_knows_what_it_comes_from_and_who_uses_it(shop: Shop) -> None:
    """By name where the run says so, perhaps where it does not; the model knows its features too."""
    people = shop.get("/$.people")
    spent, visits, city = people["features"]
    assert [each["name"] for each in (spent, visits, city)] == ["spent", "visits", "city"]
    assert spent["sources"] == [{"kind": "table", "name": f"{shop.name}.orders", "column": "amount"}]
    assert visits["sources"] == []
    assert models_of(spent) == [{"name": f"{shop.name}.churn", "versions": ["1"]}]
    assert spent["consumers"]["endpoints"] == [f"e-{shop.tail}"]
    assert [each["name"] for each in spent["consumers"]["training_runs"]] == [f"train-{shop.tail}"]
    assert [each["is_unused"] for each in (spent, visits, city)] == [False, True, True]
    [y] = shop.get("/$.loose")["features"]
    assert (y["is_unused"], models_of(y)) == (False, models_of(spent))
    status, answer = shop.server.call("GET", f"/api/millpond/model-features?name={shop.name}.churn&version=1")
    assert status == 200
    assert answer["feature_tables"] == [
        {"table_name": f"{shop.name}.loose", "features": None},
        {"table_name": f"{shop.name}.people", "features": ["spent"]},
    ]
    assert "no feature table" in shop.get("/$.orders", status=400)["message"]


def test_an_online_table_is_told_of_and_is_no_use(shop: Shop) -> None:
    call = shop.server.call
    assert (
        call("POST", "/api/2.0/feature-store/online-stores", {"name": f"s-{shop.tail}", "capacity": "CU_1"})[0] == 200
    )
    spec = {
        "online_store": f"s-{shop.tail}",
        "online_table_name": f"{shop.name}.idle_online",
        "publish_mode": "TRIGGERED",
    }
    path = f"/api/2.0/feature-store/tables/{shop.name}.idle/publish"
    assert call("POST", path, {"publish_spec": spec})[0] == 200
    idle = shop.get("/$.idle")
    assert [each["name"] for each in idle["online_tables"]] == [f"{shop.name}.idle_online"]
    assert shop.names("unused=true") == ["idle"]


def test_others_see_neither_names_nor_counts_that_are_not_theirs(shop: Shop) -> None:
    """Nobody sees nothing. Who may read a table and not the model sees the table, the run that all may read, and that
    run only: not the model, the endpoint behind it, or the table from which the feature comes."""
    nobody = shop.user("nobody")
    assert shop.names("", token=nobody) == []
    assert shop.names("unused=true", token=nobody) == []
    for path in ("/$.people", "/$.people/statistics", "/$.people/distribution?column=spent"):
        assert "does not exist" in shop.get(path, token=nobody, status=404)["message"]
    status, _ = shop.server.call("GET", f"/api/millpond/model-features?name={shop.name}.churn&version=1", token=nobody)
    assert status == 404
    reader = shop.user("reader", "SELECT people")
    assert shop.names("", token=reader) == ["people"]
    spent = shop.get("/$.people", token=reader)["features"][0]
    assert spent["sources"] == []
    assert (models_of(spent), spent["consumers"]["endpoints"]) == ([], [])
    assert [each["name"] for each in spent["consumers"]["training_runs"]] == [f"train-{shop.tail}"]
    looker = shop.user("looker", "APPLY TAG people")
    assert "last_written" not in shop.get("/$.people", token=looker)
    assert shop.get("/$.people/statistics", token=looker, status=403)["error_code"] == "PERMISSION_DENIED"


def models_of(feature: Any) -> Any:
    """Who uses it."""
    return feature["consumers"]["models"]
