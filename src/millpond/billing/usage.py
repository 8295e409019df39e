"""What was used and what it cost, added up: for an administrator all of it, for others what ran as them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from millpond.billing.domain import HOUR, Record, Resource
from millpond.billing.store import usage as rows
from millpond.billing.store.usage import Sum, Wanted
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument

__all__ = ["Asked", "Sum", "UsageService"]

MOST_ROWS = 10_000
LONGEST = timedelta(days=800)
GROUPS = ("sku", "product", "user", "object", "tag")
BUCKETS: Mapping[str, timedelta | None] = {"": None, "hour": HOUR, "day": timedelta(days=1)}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which usage, and how it is added up."""

    since: datetime
    until: datetime | None = None
    by: str = "product"
    tag: str = ""
    """The key by whose values it is added up, where `by` is tag."""
    bucket: str = ""
    user: str | None = None
    product: str | None = None
    run_id: int | None = None
    kind: str | None = None
    object_id: str | None = None


class UsageService:
    """Usage, for whoever may see it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, principal: Principal, asked: Asked) -> Sequence[Sum]:
        """Usage by SKU and a group, in buckets of time or all together, the dearest first. Raises InvalidArgument."""
        if asked.by not in GROUPS or asked.bucket not in BUCKETS:
            raise InvalidArgument(f"group_by is one of {', '.join(GROUPS)}; bucket is hour, day or left out.")
        if (asked.by == "tag") is not bool(asked.tag):
            raise InvalidArgument("group_by=tag needs tag, the key by whose values usage is added up.")
        if '"' in asked.tag or "\0" in asked.tag:
            raise InvalidArgument("tag is a key without quotation marks.")
        until = asked.until or utc_now() + HOUR
        if not timedelta() < until - asked.since <= LONGEST:
            raise InvalidArgument(
                f"The time from since to until is more than nothing, and {LONGEST.days} days at most."
            )
        wanted = _seen_by(principal, asked, until)
        with self._database.read() as connection:
            found = rows.sums(
                connection, wanted, by=asked.by, tag=asked.tag, bucket=BUCKETS[asked.bucket], limit=MOST_ROWS + 1
            )
        if len(found) > MOST_ROWS:
            raise InvalidArgument(
                f"These are more than {MOST_ROWS:,} rows: narrow the time, or choose a larger bucket, or another group."
            )
        return found

    def records(self, principal: Principal, wanted: Wanted, limit: int) -> list[Record]:
        """The newest records that the principal may see."""
        seen = wanted if principal.is_admin else replace(wanted, run_as=principal.name)
        with self._database.read() as connection:
            return rows.newest(connection, seen, limit)

    def of_run(self, run_id: int) -> Sequence[Sum]:
        """What a run has used; whoever asks has checked who may see the run."""
        with self._database.read() as connection:
            return rows.sums(connection, Wanted(run_id=run_id), by="sku", bucket=None)

    def by_object(self, kind: str, since: datetime) -> Mapping[str, Mapping[Resource, float]]:
        """What each object of a kind has used; whoever asks has checked who may see the objects."""
        with self._database.read() as connection:
            return rows.by_object(connection, kind, since)


def _seen_by(principal: Principal, asked: Asked, until: datetime) -> Wanted:
    mine = asked.user if principal.is_admin else principal.name
    if not principal.is_admin and asked.user not in (None, principal.name):
        raise InvalidArgument("Only an administrator sees what others used; leave user out.")
    return Wanted(
        since=asked.since, until=until, run_as=mine, product=asked.product, run_id=asked.run_id, kind=asked.kind,
        object_id=asked.object_id,
    )  # fmt: skip
