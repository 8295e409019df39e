"""Ids of requests tell their day."""

from datetime import date

from millpond.inference_tables.predictions import _day_of


def test_an_id_tells_its_day_within_the_calendar() -> None:
    assert _day_of("018bcfe5-687b-7000-8000-000000000000") == date(2023, 11, 14)
    for beyond in ("ffffffff-ffff-7000-8000-000000000000", "e677d21f-d800-7000-8000-000000000000"):
        assert _day_of(beyond) is None
