"""Statistics tell what the values are, and only those that one may see."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millpond.feature_tables.queries import MOST_BINS, bins_for
from tests.feature_tables.conftest import Shop

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def values(shop: Shop) -> Shop:
    """A table of all kinds of columns: version 1 has 100 rows, version 2 as many more, version 3 a column more."""
    shop.sql(
        "CREATE TABLE $.kinds (id BIGINT NOT NULL, d DOUBLE, i INT, s STRING, b BOOLEAN, t TIMESTAMP, "
        "a ARRAY<INT>, m DECIMAL(10,2), CONSTRAINT kinds_pk PRIMARY KEY (id))"
    )
    row = (
        "SELECT id, CASE WHEN id % 10 = 9 THEN double('NaN') WHEN id % 10 = 8 THEN NULL ELSE id / 10.0D END, "
        "CAST(id % 5 AS INT), CASE WHEN id % 4 = 0 THEN 'it\\'s \\\\ rare' ELSE 'often' END, id % 2 = 0, "
        "TIMESTAMP '2026-01-01 00:00:00' + make_interval(0, 0, 0, CAST(id AS INT), 0, 0, 0), array(1), "
        "CAST(id AS DECIMAL(10,2)) FROM range({}, {})"
    )
    shop.sql("INSERT INTO $.kinds " + row.format(0, 100))
    shop.sql("INSERT INTO $.kinds " + row.format(100, 200))
    shop.sql("ALTER TABLE $.kinds ADD COLUMN late DOUBLE")
    return shop


def test_figures_are_those_of_the_version(values: Shop) -> None:
    told = values.get("/$.kinds/statistics?version=1")
    assert (told["version"], told["rows"], told["is_sample"]) == (1, 100, False)
    assert told["committed_at"] > "2026"
    columns = {each["name"]: each for each in told["columns"]}
    assert "late" not in columns
    d = columns["d"]
    assert (d["values"], d["nulls"], d["not_finite"], float(d["min"]), float(d["max"])) == (90, 10, 10, 0.0, 9.7)
    finite = [n / 10 for n in range(100) if n % 10 < 8]
    assert d["mean"] == pytest.approx(sum(finite) / len(finite))
    assert d["quartiles"] == pytest.approx([2.35, 4.85, 7.35], abs=0.3)
    assert (columns["i"]["distinct"], columns["i"]["min"], columns["i"]["max"]) == (5, "0", "4")
    assert columns["i"]["stddev"] == pytest.approx(1.4213, abs=1e-3)
    assert (columns["s"]["min"], columns["s"]["max"], columns["s"]["distinct"]) == ("it's \\ rare", "often", 2)
    assert (columns["b"]["kind"], columns["t"]["kind"], columns["a"]["kind"]) == ("text", "time", "nested")
    assert columns["t"]["min"].startswith("2026-01-01 00:00:00")
    assert (float(columns["m"]["max"]), columns["id"]["max"]) == (99.0, "99")
    newest = values.get("/$.kinds/statistics?columns=id,late,none")
    assert (newest["version"], newest["rows"], [each["name"] for each in newest["columns"]]) == (3, 200, ["id", "late"])
    assert newest["columns"][1]["nulls"] == 200
    assert "has no version 9" in values.get("/$.kinds/statistics?version=9", status=404)["message"]


def test_values_are_spread_over_the_same_bins_in_each_version(values: Shop) -> None:
    told = values.get("/$.kinds/distribution?column=d&version=2,1")
    assert (len(told["labels"]), told["edges"][0], told["edges"][-1]) == (20, 0.0, pytest.approx(19.7))
    both, first = (each["counts"] for each in told["versions"])
    assert [sum(both), sum(first)] == [160, 80]
    assert sum(first[11:]) == 0
    assert [each["others"] for each in told["versions"]] == [20, 10]
    whole = values.get("/$.kinds/distribution?column=i&version=1")
    assert (whole["labels"], whole["versions"][0]["counts"]) == (["0", "1", "2", "3", "4"], [20] * 5)
    times = values.get("/$.kinds/distribution?column=t&version=1")
    assert (sum(times["versions"][0]["counts"]), times["labels"][0][:10]) == (100, "2026-01-01")
    texts = values.get("/$.kinds/distribution?column=s&version=2,1")
    assert texts["labels"] == ["often", "it's \\ rare"]
    assert [each["counts"] for each in texts["versions"]] == [[150, 50], [75, 25]]
    truths = values.get("/$.kinds/distribution?column=b&version=1")
    assert (truths["labels"], truths["versions"][0]["counts"]) == (["false", "true"], [50, 50])
    assert values.get("/$.kinds/distribution?column=a")["versions"] == []
    values.sql(
        "CREATE TABLE $.extreme (id BIGINT NOT NULL, `a``b\"c'd` DOUBLE, CONSTRAINT extreme_pk PRIMARY KEY (id))"
    )
    values.sql("INSERT INTO $.extreme VALUES (1, double('1.7e308')), (2, double('-1.7e308')), (3, double('-inf'))")
    extreme = values.get("/$.extreme/distribution?column=a%60b%22c%27d")["versions"][0]
    assert (extreme["counts"][0], extreme["counts"][-1], extreme["others"]) == (1, 1, 1)
    empty = values.get("/$.kinds/distribution?column=late")
    assert sum(empty["versions"][0]["counts"]) == 0
    gone = values.get("/$.kinds/distribution?column=late&version=3,1", status=404)
    assert "has no column 'late'" in gone["message"]


def test_filters_and_masks_hold(values: Shop) -> None:
    """Figures of a filtered, masked table are those of what its reader sees, before and after others have looked."""
    values.sql("CREATE TABLE $.secret (id BIGINT NOT NULL, v DOUBLE, n STRING, CONSTRAINT secret_pk PRIMARY KEY (id))")
    values.sql("INSERT INTO $.secret SELECT id, CAST(id AS DOUBLE), concat('name ', id) FROM range(10)")
    assert values.get("/$.secret/statistics")["rows"] == 10
    boss = f"current_user() = '{values.server.user}'"
    values.sql(f"CREATE FUNCTION $.few(id BIGINT) RETURNS BOOLEAN RETURN {boss} OR id < 3")
    values.sql(f"CREATE FUNCTION $.dark(n STRING) RETURNS STRING RETURN CASE WHEN {boss} THEN n ELSE 'hidden' END")
    values.sql("ALTER TABLE $.secret SET ROW FILTER $.few ON (id)")
    values.sql("ALTER TABLE $.secret ALTER COLUMN n SET MASK $.dark")
    reader = values.user("eve", "SELECT secret")
    assert values.get("/$.secret/statistics")["rows"] == 10
    told = values.get("/$.secret/statistics", token=reader)
    columns = {each["name"]: each for each in told["columns"]}
    assert (told["rows"], float(columns["v"]["max"]), columns["n"]["max"]) == (3, 2.0, "hidden")
    spread = values.get("/$.secret/distribution?column=n", token=reader)
    assert (spread["labels"], spread["versions"][0]["counts"]) == (["hidden"], [3])
    assert values.get("/$.secret/distribution?column=v", token=reader)["edges"][-1] == 2.0


def test_a_large_table_is_a_sample_and_says_so(values: Shop) -> None:
    values.sql("CREATE TABLE $.large (id BIGINT NOT NULL, CONSTRAINT large_pk PRIMARY KEY (id))")
    values.sql("INSERT INTO $.large SELECT id FROM range(500001)")
    told = values.get("/$.large/statistics")
    assert (told["rows"], told["is_sample"]) == (500_000, True)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@example([[0.0, sys.float_info.max]], False)
@example([[-9.461542815064838e306, sys.float_info.max]], False)
@given(st.lists(st.tuples(NUMBERS, NUMBERS).map(sorted), min_size=1, max_size=3), st.booleans())
def test_bins_cover_each_range(ranges: list[list[float]], whole: bool) -> None:
    """In order, finite, not too many, from the least to the greatest."""
    given_ranges = [(round(low), round(high)) if whole else (low, high) for low, high in ranges]
    bins = bins_for([(float(low), float(high)) for low, high in given_ranges], whole=whole)
    assert 1 <= bins.count <= MOST_BINS
    assert bins.width > 0
    assert bins.low == min(low for low, _ in given_ranges)
    if bins.are_whole:
        assert list(bins.edges[:-1]) == list(range(int(bins.low), int(max(high for _, high in given_ranges)) + 1))
    elif bins.count > 1:
        assert list(bins.edges) == sorted(bins.edges)
        assert bins.edges[-1] == max(high for _, high in given_ranges)
