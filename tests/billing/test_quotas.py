"""Quotas: whom they bind, when they refuse, and in which words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millpond.billing.domain import Holder, Measure, Period, Product, Resource, Subject
from millpond.billing.metering import record
from millpond.billing.quotas import QuotaService, storage_check
from millpond.billing.spending import Spending
from millpond.billing.store import rules
from millpond.billing.store import usage as rows
from millpond.billing.store.rules import rename_holder
from millpond.identity.domain import Account, Principal, PrincipalKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, LimitExceeded, NotFound, PermissionDenied

ADMIN = Principal(id="1", name="root", kind=PrincipalKind.USER, is_admin=True)
ANN = Principal(id="2", name="ann", kind=PrincipalKind.USER, is_admin=False, groups=frozenset({"red"}))
BEN = Principal(id="3", name="ben", kind=PrincipalKind.USER, is_admin=False)


def quotas_of(database: Database) -> QuotaService:
    return QuotaService(database, lambda group: {"red": ("ann", "cid")}.get(group, ()), Spending())


def used(database: Database, who: str, seconds: float, *, included: bool = False, **tags: str) -> None:
    subject = Subject(product=Product.JOBS, run_as=who, tags=Subject.tagged(tags), included=included)
    with database.write() as connection:
        record(connection, utc_now(), [(subject, {Resource.CPU: seconds})])


def made(quotas: QuotaService, holder: Holder, name: str, limit: float = 100, **more: Any) -> Any:
    asked = {"measure": Measure.CPU, "period": Period.DAY} | more
    return quotas.create(ADMIN, holder=holder, name=name, limit=limit, **asked)


def refusal(quotas: QuotaService, who: Principal, **more: Any) -> str:
    quotas.look()
    try:
        quotas.check(who, **more)
    except LimitExceeded as error:
        return error.message
    return ""


def test_a_quota_refuses_with_its_name_and_what_is_used_once_it_is_used_up(database: Database) -> None:
    quotas = quotas_of(database)
    quota = made(quotas, Holder.USER, "ann")
    used(database, "ann", 99)
    used(database, "ann", 50, included=True)  # its cluster is charged for that
    used(database, "ben", 500)
    assert refusal(quotas, ANN) == refusal(quotas, BEN) == ""
    used(database, "ann", 1.5)
    told = refusal(quotas, ANN)
    assert told.startswith(
        "Quota exceeded: cpu_seconds per day of user ann: 100.5 of 100 are used. It counts anew from"
    )
    with pytest.raises(LimitExceeded):
        quotas.check_lately(ANN)
    quotas.check_lately(BEN)
    quotas.change(ADMIN, quota.id, 200)
    assert refusal(quotas, ANN) == ""
    quotas.change(ADMIN, quota.id, 0)
    quotas.remove(ADMIN, quota.id)
    assert refusal(quotas, ANN) == ""


def test_a_group_holds_one_together_its_members_hold_one_each_and_a_tag_holds_one(database: Database) -> None:
    quotas = quotas_of(database)
    used(database, "ann", 60, team="blue")
    used(database, "cid", 60, team="blue")
    each = made(quotas, Holder.MEMBER, "red")
    assert refusal(quotas, ANN) == ""
    together = made(quotas, Holder.GROUP, "red")
    assert "of group red: 120 of 100" in refusal(quotas, ANN)
    assert refusal(quotas, BEN) == ""  # is none of them
    for quota in (each, together):
        quotas.remove(ADMIN, quota.id)
    made(quotas, Holder.TAG, "team=blue")
    assert refusal(quotas, ANN) == ""
    assert "of tag team=blue: 120 of 100" in refusal(quotas, BEN, tags={"team": "blue"})


def test_everybody_is_a_member_of_users(database: Database) -> None:
    quotas = quotas_of(database)
    made(quotas, Holder.MEMBER, "users", limit=10)
    used(database, "ben", 11)
    assert refusal(quotas, ANN) == ""
    assert "each member of users: 11 of 10" in refusal(quotas, BEN)


def test_what_is_of_now_is_asked_for_when_it_is_needed(database: Database) -> None:
    quotas = quotas_of(database)
    made(quotas, Holder.GROUP, "red", limit=4, measure=Measure.CORES, period=None)
    asked: list[Any] = []

    def cores(names: Any) -> float:
        asked.append(sorted(names))
        return 3.0

    assert refusal(quotas, ANN, now={Measure.CORES: (cores, 1.0)}) == ""
    assert "3 of 4 are used, and 2 more are asked for" in refusal(quotas, ANN, now={Measure.CORES: (cores, 2.0)})
    assert refusal(quotas, BEN, now={Measure.CORES: (cores, 2.0)}) == ""
    assert asked == [["ann", "cid", "red"], ["ann", "cid", "red"]]


def test_a_cost_counts_by_the_price_list_and_yesterday_counts_no_more(database: Database) -> None:
    quotas = quotas_of(database)
    made(quotas, Holder.USER, "ann", limit=5, measure=Measure.COST)
    subject = Subject(product=Product.JOBS, run_as="ann")
    with database.write() as connection:
        rules.set_price(connection, "JOBS_CPU", utc_now() - timedelta(days=3), 0.5)
        record(connection, utc_now() - timedelta(days=1), [(subject, {Resource.CPU: 1000.0})])
        record(connection, utc_now(), [(subject, {Resource.CPU: 8.0})])
    assert refusal(quotas, ANN) == ""
    used(database, "ann", 4)
    assert "cost per day of user ann: 6 of 5" in refusal(quotas, ANN)


def test_what_was_used_in_hours_that_are_over_counts_once_at_the_price_that_is_set(database: Database) -> None:
    spending, now = Spending(), datetime(2026, 11, 5, 12, 30, tzinfo=UTC)
    ann = Subject(product=Product.JOBS, run_as="ann")

    def at(moment: datetime) -> tuple[float, float]:
        with database.read() as connection:
            return spending.of(connection, Period.MONTH, moment).get((ann, Resource.CPU), (0.0, 0.0))

    with database.write() as connection:
        for days in (0, 1, 6):
            record(connection, now - timedelta(days=days), [(ann, {Resource.CPU: 100.0})])
        record(connection, now - timedelta(hours=1), [(ann, {Resource.CPU: 10.0})])
    assert at(now) == (210.0, 0.0), "of the month before none"
    with database.write() as connection:
        rules.set_price(connection, "JOBS_CPU", now - timedelta(days=20), 0.5)
        record(connection, now, [(ann, {Resource.CPU: 1.0})])
    assert at(now) == (211.0, 105.5)
    with database.write() as connection:
        record(connection, now + timedelta(hours=5), [(ann, {Resource.CPU: 2.0})])
    assert at(now + timedelta(hours=5)) == at(now + timedelta(hours=9)) == (213.0, 106.5)
    assert at(now + timedelta(days=30)) == (0.0, 0.0)


def test_a_holder_is_somebody_and_a_group_keeps_its_quota_under_another_name(database: Database) -> None:
    known = {
        name: Account(
            id=name,
            name=name,
            kind=kind,
            display_name="",
            active=True,
            external_id=None,
            profile={},
            created_at=utc_now(),
        )
        for name, kind in (("Ann", PrincipalKind.USER), ("red", PrincipalKind.GROUP))
    }
    quotas = QuotaService(
        database, lambda _group: (), Spending(), lambda name: known.get(name) or known.get(name.capitalize())
    )
    assert made(quotas, Holder.USER, "ann").name == "Ann"
    for holder, name in ((Holder.USER, "nobody"), (Holder.GROUP, "Ann"), (Holder.USER, "red")):
        with pytest.raises(InvalidArgument, match="is no "):
            made(quotas, holder, name)
    made(quotas, Holder.MEMBER, "red")
    with database.write() as connection:
        rename_holder(connection, "red", "crimson")
    assert {each.quota.name for each in quotas.list_all(ADMIN)} == {"Ann", "crimson"}


def test_tables_that_are_too_large_keep_their_owner_from_making_more(database: Database) -> None:
    quotas = quotas_of(database)
    made(quotas, Holder.USER, "ann", limit=2**30, measure=Measure.STORAGE, period=None)
    check = storage_check(database, quotas)
    check(ANN)
    table = Subject(product=Product.STORAGE, run_as="ann", kind="table", object_id="t")
    with database.write() as connection:
        rows.set_once(connection, utc_now(), [(table, {Resource.STORAGE: 1.5})])
    with pytest.raises(LimitExceeded, match=r"storage_bytes of user ann: 1,610,612,736 of 1,073,741,824 are used"):
        check(ANN)
    check(BEN)


def test_administrators_alone_set_quotas_and_each_sees_those_that_bind_them(database: Database) -> None:
    quotas = quotas_of(database)
    mine = made(quotas, Holder.USER, "ann")
    made(quotas, Holder.USER, "ben")
    used(database, "ann", 7)
    quotas.look()
    assert [(each.quota, each.used) for each in quotas.list_all(ANN)] == [(mine, 7.0)]
    assert len(quotas.list_all(ADMIN)) == 2
    with pytest.raises(PermissionDenied):
        quotas.create(ANN, holder=Holder.USER, name="ann", measure=Measure.CPU, limit=1e9, period=Period.DAY)
    with pytest.raises(PermissionDenied):
        quotas.change(ANN, mine.id, 1e9)
    with pytest.raises(PermissionDenied):
        quotas.remove(ANN, mine.id)
    with pytest.raises(NotFound):
        quotas.change(ADMIN, "nothing", 1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"limit": -1.0}, "number from 0"),
        ({"limit": float("nan")}, "number from 0"),
        ({"period": None}, "needs a period"),
        ({"measure": Measure.TASKS}, "has no period"),
        ({"holder": Holder.TAG}, "key=value"),
        ({"name": ""}, "whose quota"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(database: Database, asked: dict[str, Any], said: str) -> None:
    whole = {"holder": Holder.USER, "name": "ann", "limit": 1.0} | asked
    with pytest.raises(InvalidArgument, match=said):
        made(quotas_of(database), **whole)
