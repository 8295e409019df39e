"""Quotas: administrators set them; rooms above ask before they do something, and are refused with the reason.

What adds up over a day or month is looked up again after a few seconds, in a thread of its own or by whoever may wait;
between looks a question costs no query. So a quota may be passed by what is used in these seconds.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from millpond.billing.domain import MEASURED, Holder, Measure, Period, Quota, Resource, Subject
from millpond.billing.store import rules
from millpond.billing.store import usage as rows
from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.domain import SYSTEM, USERS, Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, LimitExceeded, NotFound
from millpond.kernel.ids import new_id

FRESH_S = 5.0
_MOST = 1000
_LONGEST_NAME = 520

Members = Callable[[str], Collection[str]]
"""The names of all users in a group, directly or not. Blocks."""
UsedNow = Callable[[Collection[str]], float]
"""How much of something that is of now some users have together."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A quota, and how much of it is used."""

    quota: Quota
    used: float


@dataclass(frozen=True)
class _Look:
    """All quotas, and what was used of those that add up."""

    at_s: float
    quotas: tuple[Quota, ...] = ()
    used: Mapping[str, float | Mapping[str, float]] | None = None
    """By quota; of one of each member by the names of users."""
    members: Mapping[str, frozenset[str]] | None = None
    """Of groups that hold one together."""


class QuotaService:
    """Quotas, for administrators, and the gate for all. Its methods block, but `check_lately`."""

    def __init__(self, database: Database, members: Members, find_name: Callable[[str], str | None]) -> None:
        """`find_name` gives the name of a user or group as they spell it; None when nobody has it."""
        self._database = database
        self._find_name = find_name
        self._members = members
        self._lock = threading.Lock()
        self._looked = _Look(-math.inf)

    # -- for administrators ---------------------------------------------------------------------------------------

    def create(
        self, principal: Principal, *, holder: Holder, name: str, measure: Measure, limit: float, period: Period | None
    ) -> Quota:
        """One more. Raises PermissionDenied, InvalidArgument."""
        require_admin(principal, "set quotas")
        now = utc_now()
        exact = name if holder is Holder.TAG else self._find_name(name[:_LONGEST_NAME])
        if exact is None:
            raise InvalidArgument(f"There is no user or group '{name[:80]}'.")
        quota = Quota(
            id=new_id(), holder=holder, name=exact, measure=measure, limit=limit, period=period,
            created_by=principal.name, created_at=now,
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

    # -- the gate -------------------------------------------------------------------------------------------------

    def check(
        self, principal: Principal, *, tags: Mapping[str, str | None] | None = None,
        now: Mapping[Measure, tuple[UsedNow, float]] | None = None,
    ) -> None:  # fmt: skip
        """Pass where no quota forbids the principal to use more. Raises LimitExceeded with the quota that does.

        `now` tells, of what is of now, how much there is and how much more is asked for.
        """
        look = self._fresh_look(at_most_s=0.5)
        self._refuse_used_up(look, principal, tags or {})
        for quota in look.quotas:
            asked = (now or {}).get(quota.measure)
            if asked is None or not _binds(quota, principal, {}):
                continue
            used, wanted = asked[0](self._of(quota, principal)), asked[1]
            if used + wanted > quota.limit:
                more = f", and {_number(wanted)} more are asked for" if wanted else ""
                raise LimitExceeded(
                    f"Quota exceeded: {quota.words}: {_number(used)} of {_number(quota.limit)} are used{more}. "
                    "End or remove something, or ask an administrator for more."
                )

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
        return self._members(quota.name) if quota.holder is Holder.GROUP else (principal.name,)

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
            spent = {period: rows.spent(connection, period.start(now)) for period in periods}
        groups = {each.name for each in quotas if each.holder is Holder.GROUP and each.period}
        members = {name: frozenset(self._members(name)) for name in groups}
        used: dict[str, float | Mapping[str, float]] = {}
        for quota in quotas:
            if quota.period is not None:
                used[quota.id] = _added_up(quota, spent[quota.period], members.get(quota.name, frozenset()))
        return _Look(at_s, quotas, used, members)


def _added_up(
    quota: Quota, spent: Collection[tuple[Subject, Resource, float, float]], members: Collection[str]
) -> float | Mapping[str, float]:
    by_user: dict[str, float] = {}
    for subject, resource, quantity, cost in spent:
        if quota.measure is Measure.COST:
            amount = cost
        elif MEASURED.get(resource) is quota.measure and not subject.included:
            amount = quantity
        else:
            continue
        if quota.holder is not Holder.TAG or quota.tag in subject.tags:
            by_user[subject.run_as] = by_user.get(subject.run_as, 0.0) + amount
    match quota.holder:
        case Holder.USER:
            return by_user.get(quota.name, 0.0)
        case Holder.GROUP:
            return sum(amount for name, amount in by_user.items() if name in members)
        case Holder.TAG:
            return sum(by_user.values())
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


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def storage_check(database: Database, quotas: QuotaService) -> Callable[[Principal], None]:
    """Passes where somebody's tables have not more bytes than they may, by the last look. Raises LimitExceeded."""

    def stored(names: Collection[str]) -> float:
        with database.read() as connection:
            found = rows.stored_bytes(connection, utc_now() - timedelta(days=1))
        return sum(amount for name, amount in found.items() if name in names)

    return lambda principal: quotas.check(principal, now={Measure.STORAGE: (stored, 0.0)})
