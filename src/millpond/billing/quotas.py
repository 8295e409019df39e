"""Quotas: administrators set them; rooms above ask before they do something, and are refused with the reason.

What adds up over a day or month is looked up again after a few seconds, in a thread of its own; between looks a
question costs no query. So a quota may be passed by what is used in these seconds.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from millpond.billing.domain import MEASURED, Holder, Measure, Period, Quota
from millpond.billing.spending import Amounts, Spending
from millpond.billing.store import rules
from millpond.billing.store import usage as rows
from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.domain import SYSTEM, USERS, Account, Principal, PrincipalKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, LimitExceeded, NotFound
from millpond.kernel.ids import new_id

FRESH_S = 5.0
_LATE_S = 30.0
"""A look so old is one that its thread has missed: then whoever asks looks."""
_MOST = 1000
_LONGEST_NAME = 520

Members = Callable[[str], Collection[str]]
"""The names of all users in a group, directly or not. Blocks."""
Find = Callable[[str], Account | None]
UsedNow = Callable[[Collection[str]], float]
"""How much of something that is of now some users have together."""


UsedIn = Callable[[Connection, Collection[str]], float]
"""The same, as a transaction sees it."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A quota, and how much of it is used."""

    quota: Quota
    used: float


@dataclass(frozen=True)
class Bounds:
    """The quotas of something of now that bind somebody, by id, and whose usage counts together for each."""

    of: Mapping[str, Collection[str]]

    def take(self, connection: Connection, used: UsedIn, wanted: float) -> None:
        """Pass where there is so much left, in the transaction that takes it: nobody takes of the same meanwhile.

        Raises LimitExceeded.
        """
        for quota in rules.lock_quotas(connection, self.of) if self.of else ():
            there = used(connection, self.of[quota.id])
            if there + wanted > quota.limit:
                raise _too_much(quota, there, wanted)


@dataclass(frozen=True)
class _Look:
    """All quotas, and what was used of those that add up."""

    at_s: float
    quotas: tuple[Quota, ...] = ()
    used: Mapping[str, float | Mapping[str, float]] | None = None
    """By quota; of one of each member by the names of users."""


class QuotaService:
    """Quotas, for administrators, and the gate for all. Its methods block, but `check_lately`."""

    def __init__(self, database: Database, members: Members, spending: Spending, find: Find | None = None) -> None:
        """`find` finds a user, service principal or group by name in any case; None where nobody makes quotas."""
        self._find = find
        self._database = database
        self._members = members
        self._spending = spending
        self._lock = threading.Lock()
        self._looked = _Look(-math.inf)

    # -- for administrators ---------------------------------------------------------------------------------------

    def create(
        self, principal: Principal, *, holder: Holder, name: str, measure: Measure, limit: float, period: Period | None
    ) -> Quota:
        """One more. Raises PermissionDenied, InvalidArgument."""
        require_admin(principal, "set quotas")
        now = utc_now()
        quota = Quota(
            id=new_id(), holder=holder, name=self._holder_named(holder, name), measure=measure, limit=limit,
            period=period, created_by=principal.name, created_at=now,
        )  # fmt: skip
        _check(quota)
        with self._database.write() as connection:
            if len(rules.list_quotas(connection)) >= _MOST:
                raise LimitExceeded(f"There are {_MOST} quotas; delete one that is not needed.")
            rules.add_quota(connection, quota)
            acts.changed(
                connection, principal.name, "create", "quota", quota.words, object_id=quota.id, limit=str(limit)
            )
        self._forget()
        return quota

    def change(self, principal: Principal, quota_id: str, limit: float) -> Quota:
        """Give one another limit. Raises PermissionDenied, NotFound, InvalidArgument."""
        require_admin(principal, "change quotas")
        with self._database.write() as connection:
            quota = replace(_found(connection, quota_id), limit=limit)
            _check(quota)
            rules.change_limit(connection, quota.id, limit)
            acts.changed(
                connection, principal.name, "update", "quota", quota.words, object_id=quota.id, limit=str(limit)
            )
        self._forget()
        return quota

    def remove(self, principal: Principal, quota_id: str) -> None:
        """Remove one. Raises PermissionDenied, NotFound."""
        require_admin(principal, "remove quotas")
        with self._database.write() as connection:
            quota = _found(connection, quota_id)
            rules.remove_quota(connection, quota.id)
            acts.changed(connection, principal.name, "delete", "quota", quota.words, object_id=quota.id)
        self._forget()

    def list_all(self, principal: Principal) -> list[Standing]:
        """All for an administrator, else those that bind the principal; with what is used of what adds up."""
        look = self._fresh_look(at_most_s=FRESH_S)
        seen = [each for each in look.quotas if principal.is_admin or _binds(each, principal, {})]
        return [Standing(quota=each, used=_used(look, each, principal)) for each in seen]

    def _holder_named(self, holder: Holder, name: str) -> str:
        """The name as its owner spells it. Raises InvalidArgument."""
        if holder is Holder.TAG or self._find is None:
            return name
        account, is_group = self._find(name), holder is not Holder.USER
        if account is None or (account.kind is PrincipalKind.GROUP) is not is_group:
            raise InvalidArgument(f"'{name[:80]}' is no {'group' if is_group else 'user or service principal'}.")
        return account.name

    # -- the gate -------------------------------------------------------------------------------------------------

    def check(
        self, principal: Principal, *, tags: Mapping[str, str | None] | None = None,
        now: Mapping[Measure, tuple[UsedNow, float]] | None = None,
    ) -> None:  # fmt: skip
        """Pass where no quota forbids the principal to use more. Raises LimitExceeded with the quota that does.

        `now` tells, of what is of now, how much there is and how much more is asked for.
        """
        look = self._fresh_look(at_most_s=_LATE_S)
        self._refuse_used_up(look, principal, tags or {})
        for measure, (used_now, wanted) in (now or {}).items():
            if (passed := self._passed(look, principal, measure, used_now, wanted)) is not None:
                raise _too_much(passed.quota, passed.used, wanted)

    def bounds(self, principal: Principal, measure: Measure) -> Bounds:
        """What binds the principal, for what is taken in a transaction after that."""
        look = self._fresh_look(at_most_s=0.5)
        found = [each for each in look.quotas if each.measure is measure and _binds(each, principal, {})]
        return Bounds({each.id: self._of(each, principal) for each in found})

    def bound(self, measure: Measure) -> bool:
        """Whether anybody has a quota of something."""
        return any(each.measure is measure for each in self._fresh_look(at_most_s=0.5).quotas)

    def admits(self, principal: Principal, measure: Measure, used_now: UsedNow, wanted: float) -> bool:
        """Whether the principal may have more of something that is of now."""
        return self._passed(self._fresh_look(at_most_s=0.5), principal, measure, used_now, wanted) is None

    def _passed(
        self, look: _Look, principal: Principal, measure: Measure, used_now: UsedNow, wanted: float
    ) -> Standing | None:
        """The first quota that this would pass."""
        for quota in look.quotas:
            if quota.measure is measure and _binds(quota, principal, {}):
                used = used_now(self._of(quota, principal))
                if used + wanted > quota.limit:
                    return Standing(quota=quota, used=used)
        return None

    def check_lately(self, principal: Principal, tags: Mapping[str, str | None] | None = None) -> None:
        """The same of what adds up, by the last look of `look`, for those who cannot wait."""
        if self._looked.quotas:
            self._refuse_used_up(self._looked, principal, tags or {})

    def look(self) -> None:
        """Look again, for `check_lately`."""
        self._fresh_look(at_most_s=0)

    def _refuse_used_up(self, look: _Look, principal: Principal, tags: Mapping[str, str | None]) -> None:
        for quota in look.quotas:
            if quota.period is None or not _binds(quota, principal, tags):
                continue
            used = _used(look, quota, principal)
            if used >= quota.limit:
                again = quota.period.end(utc_now())
                raise LimitExceeded(
                    f"Quota exceeded: {quota.words}: {_number(used)} of {_number(quota.limit)} are used. It counts "
                    f"anew from {again:%Y-%m-%d %H:%M} UTC; until then ask an administrator for more."
                )

    def _of(self, quota: Quota, principal: Principal) -> Collection[str]:
        """Whose usage counts together, when the principal asks."""
        return {*self._members(quota.name), quota.name} if quota.holder is Holder.GROUP else {principal.name}

    def _fresh_look(self, *, at_most_s: float) -> _Look:
        looked = self._looked
        if time.monotonic() - looked.at_s <= at_most_s:
            return looked
        with self._lock:
            if self._looked is looked:
                self._looked = self._look_up()
            return self._looked

    def _forget(self) -> None:
        self._looked = replace(self._looked, at_s=-math.inf)

    def _look_up(self) -> _Look:
        at_s, now = time.monotonic(), utc_now()
        with self._database.read() as connection:
            quotas = tuple(rules.list_quotas(connection))
            periods = {each.period for each in quotas if each.period is not None}
            spent = {period: self._spending.of(connection, period, now) for period in periods}
        groups = {each.name for each in quotas if each.holder is Holder.GROUP and each.period}
        members = {name: frozenset(self._members(name)) for name in groups}
        tags = {each.tag for each in quotas if each.holder is Holder.TAG}
        added = {period: _Added.of(amounts, tags) for period, amounts in spent.items()}
        used = {
            each.id: added[each.period].used(each, members.get(each.name, frozenset()))
            for each in quotas
            if each.period is not None
        }
        return _Look(at_s, quotas, used)


@dataclass(frozen=True)
class _Added:
    """What was used of each measure, by the names of users, and by tags."""

    by_user: Mapping[Measure, Mapping[str, float]]
    by_tag: Mapping[tuple[Measure, tuple[str, str]], float]

    @staticmethod
    def of(amounts: Amounts, tags: Collection[tuple[str, str]]) -> "_Added":
        by_user: defaultdict[Measure, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        by_tag: defaultdict[tuple[Measure, tuple[str, str]], float] = defaultdict(float)
        for (subject, resource), (quantity, cost) in amounts.items():
            counted = {Measure.COST: cost}
            if resource in MEASURED and not subject.included:
                counted[MEASURED[resource]] = quantity
            for measure, amount in counted.items():
                by_user[measure][subject.run_as] += amount
                for tag in subject.tags:
                    if tag in tags:
                        by_tag[measure, tag] += amount
        return _Added(by_user, by_tag)

    def used(self, quota: Quota, members: Collection[str]) -> float | Mapping[str, float]:
        """What a quota counts; of one of each member by the names of users."""
        by_user = self.by_user.get(quota.measure, {})
        match quota.holder:
            case Holder.USER:
                return by_user.get(quota.name, 0.0)
            case Holder.GROUP:
                return sum(amount for name, amount in by_user.items() if name in members)
            case Holder.TAG:
                return self.by_tag.get((quota.measure, quota.tag), 0.0)
            case Holder.MEMBER:
                return by_user


def _used(look: _Look, quota: Quota, principal: Principal) -> float:
    found = (look.used or {}).get(quota.id, 0.0)
    return found.get(principal.name, 0.0) if isinstance(found, Mapping) else found


def _binds(quota: Quota, principal: Principal, tags: Mapping[str, str | None]) -> bool:
    if principal.id == SYSTEM.id:
        return False
    match quota.holder:
        case Holder.USER:
            return principal.name == quota.name
        case Holder.TAG:
            key, value = quota.tag
            return tags.get(key) == value
        case Holder.GROUP | Holder.MEMBER:
            return quota.name == USERS or quota.name in principal.groups


def _check(quota: Quota) -> None:
    if not 0 < len(quota.name) <= _LONGEST_NAME or "\0" in quota.name:
        raise InvalidArgument(f"name is whose quota it is, in 1 to {_LONGEST_NAME} characters.")
    if not (math.isfinite(quota.limit) and quota.limit >= 0):
        raise InvalidArgument(f"limit is {quota.limit}; give a number from 0 on.")
    if quota.measure.adds_up is (quota.period is None):
        needs = "needs a period, DAY or MONTH" if quota.measure.adds_up else "is of now, and has no period"
        raise InvalidArgument(f"A quota of {quota.measure} {needs}.")
    if quota.holder is Holder.TAG and ("=" not in quota.name or not quota.measure.adds_up):
        raise InvalidArgument("A quota of a tag has the name key=value, and is of what adds up over a day or month.")


def _found(connection: Connection, quota_id: str) -> Quota:
    found = rules.find_quota(connection, quota_id[:36])
    if found is None:
        raise NotFound(f"Quota '{quota_id[:80]}' does not exist.")
    return found


def _too_much(quota: Quota, used: float, wanted: float) -> LimitExceeded:
    more = f", and {_number(wanted)} more are asked for" if wanted else ""
    return LimitExceeded(
        f"Quota exceeded: {quota.words}: {_number(used)} of {_number(quota.limit)} are used{more}. "
        "End or remove something, or ask an administrator for more."
    )


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def storage_check(database: Database, quotas: QuotaService) -> Callable[[Principal], None]:
    """Passes where somebody's tables have not more bytes than they may, by the last look. Raises LimitExceeded."""

    def stored(names: Collection[str]) -> float:
        with database.read() as connection:
            found = rows.stored_bytes(connection, utc_now() - timedelta(days=1))
        return sum(amount for name, amount in found.items() if name in names)

    return lambda principal: quotas.check(principal, now={Measure.STORAGE: (stored, 0.0)})
