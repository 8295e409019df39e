"""Pure rules of the checks of data and time: windows, drift, data quality."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.registry import data_quality, drift
from millpond.registry.built_in import check_named
from millpond.registry.policies import parse
from millpond.registry.windows import closed_because

HOURS = {"time_zone": "Europe/Berlin", "weekdays": ["mon", "tue", "wed", "thu"], "from": "09:00", "until": "17:00"}


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime(2026, 7, 1, 7, 0, tzinfo=UTC), ""),  # Wednesday, nine in Berlin in summer
        (datetime(2026, 7, 1, 6, 59, tzinfo=UTC), "from 09:00 until 17:00"),
        (datetime(2026, 12, 2, 7, 59, tzinfo=UTC), "from 09:00 until 17:00"),  # nine is an hour later in winter
        (datetime(2026, 12, 2, 15, 59, tzinfo=UTC), ""),
        (datetime(2026, 12, 2, 16, 0, tzinfo=UTC), "from 09:00 until 17:00"),
        (datetime(2026, 7, 3, 10, 0, tzinfo=UTC), "versions move on mon, tue, wed, thu"),
        (datetime(2026, 7, 2, 22, 30, tzinfo=UTC), "versions move on"),  # Friday there
    ],
)
def test_a_window_is_open_at_its_hours_there(moment: datetime, said: str) -> None:
    closed = closed_because(HOURS, moment)
    assert said in closed
    assert bool(closed) is bool(said)


def test_nothing_moves_from_the_first_day_of_a_freeze_until_its_last() -> None:
    said = {"freezes": [{"from": "2026-12-20", "until": date(2027, 1, 6)}]}
    days = [datetime(2026, 12, 19, 23, 59, tzinfo=UTC), datetime(2026, 12, 20, tzinfo=UTC),
            datetime(2027, 1, 6, 23, 59, tzinfo=UTC), datetime(2027, 1, 7, tzinfo=UTC)]  # fmt: skip
    assert [bool(closed_because(said, day)) for day in days] == [False, True, True, False]


def test_times_mean_the_same_with_and_without_quotes_in_yaml() -> None:
    policy = "targets: [alias:p]\nchecks: [{window: {from: 10:30, until: '17:00'}}]"
    params = parse(policy).checks[0].params
    check_named("window").prepare(params)
    assert closed_because(params, datetime(2026, 7, 1, 10, 30, tzinfo=UTC)) == ""
    assert closed_because(params, datetime(2026, 7, 1, 10, 29, tzinfo=UTC)) != ""


@pytest.mark.parametrize(
    ("check", "params", "said"),
    [
        ("window", {"time_zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ("window", {"time_zone": "../../etc/passwd"}, "no time zone"),
        ("window", {"weekdays": ["friday"]}, "'friday' is no weekday"),
        ("window", {"from": "25:00"}, "no time of day"),
        ("window", {"from": "17:00", "until": "09:00"}, "'from' is before 'until'"),
        ("window", {"freezes": [{"from": "Christmas", "until": "2027-01-06"}]}, "'Christmas' is no day"),
        ("window", {"freezes": ["2026-12-24"]}, "a freeze has the days"),
        ("data_quality", {"table": "a.b.c"}, "needs 'table_version'"),
        ("data_quality", {"table": "a.b.c", "table_version": 1, "columns": {"x": {"max": 1}}}, "column 'x' knows"),
        ("data_quality", {"table": "a.b.c", "table_version": 1, "columns": {"x": {"allowed": "a"}}}, "list of values"),
        ("data_quality", {"table": "a.b.c", "table_version": 1, "expectations": [1]}, "condition in SQL"),
        ("drift", {"table": "a.b.c", "table_version": 1, "baseline": "a.b.c", "baseline_version": 0,
                   "columns": {"x": {"chi": 1}}}, "limits of psi, js_distance, ks"),
        ("predicts", {"environment": "conda"}, "environment is 'server' or 'own'"),
    ],
)  # fmt: skip
def test_wrong_params_are_refused_when_the_policy_is_set(check: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_named(check).prepare(params)


def test_ks_is_that_of_scipy() -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(7)
    first, second = random.normal(size=300).tolist(), random.normal(0.3, 1.2, size=200).tolist()
    assert drift.ks(first, second) == pytest.approx(ks_2samp(first, second).statistic)
    assert drift.ks([1, 1, 2], [1, 1, 2]) == 0.0
    assert drift.ks([1, 2], [3, 4]) == 1.0


def test_js_distance_is_that_of_scipy() -> None:
    from scipy.spatial.distance import jensenshannon

    first, second = ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 50 + ["c"] * 20
    assert drift.js_distance(first, second) == pytest.approx(jensenshannon([0.6, 0.4, 0], [0.3, 0.5, 0.2], base=2))
    assert drift.js_distance(["a"], ["b"]) == pytest.approx(1.0)


def test_psi_is_that_of_its_formula() -> None:
    first, second = ["a"] * 50 + ["b"] * 50, ["a"] * 80 + ["b"] * 20
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert drift.psi(first, second) == pytest.approx(expected)
    numbers = list(range(1000))
    assert drift.psi(numbers, numbers) == 0.0
    assert drift.psi(numbers, [value + 500 for value in numbers]) > 0.25
    assert drift.psi(numbers, [None] * 1000) > 0.25


def test_ks_wants_numbers() -> None:
    with pytest.raises(InvalidArgument, match="needs numbers"):
        drift.ks(["a"], ["b"])


def test_values_stand_in_sql_as_values() -> None:
    assert [data_quality.literal(value) for value in (1, 1.5, True, "it's \\", date(2026, 1, 2))] == [
        "1", "1.5", "true", "'it\\'s \\\\'", "DATE '2026-01-02'",
    ]  # fmt: skip
    query, _ = data_quality.counts_query(
        {"table": "a.b.c`d", "table_version": 3, "columns": {"x`y": {"max_null_ratio": 0.1}}}
    )
    assert query == "SELECT count(*), count(CASE WHEN `x``y` IS NULL THEN 1 END) FROM `a`.`b`.`c``d` VERSION AS OF 3"
