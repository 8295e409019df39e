"""Making the chain longer, shorter, and finding its first broken link."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from millpond.audit import store
from millpond.audit.domain import Entry, Head, Link, digest, link_after
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.ids import new_id

_PAGE = 2000
PRUNE = "prune"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The first link that is not as it was made."""

    sequence: int
    reason: str
    """`missing`, `reordered` or `changed`."""
    detail: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a look at the whole chain found."""

    checked: int
    head: Head
    broken: Broken | None = None


def extend(connection: Connection, entries: Sequence[Entry]) -> None:
    """Chain entries that are not in it yet, in the caller's transaction.

    What is older than the last cut stays out: it was removed before, or would be at the next cut.
    """
    head = store.head(connection, lock=True)
    sequence, previous, links = head.sequence, head.hash, []
    for entry in entries:
        if head.cut_before is not None and entry.time < head.cut_before:
            continue
        link = link_after(sequence, previous, entry.body())
        links.append((link, entry))
        sequence, previous = link.sequence, link.hash
    if links:
        store.append(connection, links)


def prune(database: Database, before: datetime) -> int:
    """Remove what is older, as far as the chain is older without a gap; how many links went.

    The last of them stays as the anchor, and the chain itself says that it was cut there.
    """
    with database.write() as connection:
        head = store.head(connection, lock=True)
        last = store.last_older(connection, before, head)
        if last is None or last.sequence <= head.anchor_sequence:
            return 0
        gone = store.cut(connection, last, before)
        extend(connection, [_cut_entry(last, gone)])
    return gone


def _cut_entry(last: Link, gone: int) -> Entry:
    params = {"through": str(last.sequence), "hash": last.hash, "removed": str(gone)}
    return Entry(
        id=new_id(), time=utc_now(), service="audit", action=PRUNE, actor_id="0", actor="system", params=params,
        kind="audit", name="audit",
    )  # fmt: skip


def verify(database: Database) -> Verdict:
    """Look at every link from the anchor to the head; stops at the first broken one.

    Links that are added meanwhile are left out; when the chain is cut meanwhile, the look begins again.
    """
    while True:
        with database.read() as connection:
            head = store.head(connection)
        verdict = _verify(database, head)
        if verdict.broken is None:
            return verdict
        with database.read() as connection:
            if store.head(connection).anchor_sequence == head.anchor_sequence:
                return verdict


def _verify(database: Database, head: Head) -> Verdict:
    sequence, previous, checked = head.anchor_sequence, head.anchor_hash, 0
    anchored = head.anchor_sequence == 0
    for row in _rows(database, head):
        broken = _broken(row, sequence, previous)
        if broken is not None:
            return Verdict(checked=checked, head=head, broken=broken)
        entry = store.link_of(row).entry
        anchored |= entry.action == PRUNE and entry.params.get("hash") == head.anchor_hash
        sequence, previous, checked = row.sequence, row.hash, checked + 1
    return Verdict(checked=checked, head=head, broken=_broken_end(head, sequence, previous, anchored=anchored))


def _rows(database: Database, head: Head) -> Iterator[Any]:
    after = head.anchor_sequence
    while True:
        with database.read() as connection:
            rows = store.rows_after(connection, after, _PAGE, through=head.sequence)
        yield from rows
        if len(rows) < _PAGE:
            return
        after = rows[-1].sequence


def _broken(row: Any, sequence: int, previous: str) -> Broken | None:
    expected = sequence + 1
    if row.sequence != expected:
        last = row.sequence - 1
        which = f"Link {expected} is" if last == expected else f"Links {expected} to {last} are"
        return Broken(sequence=expected, reason="missing", detail=f"{which} missing.")
    if row.previous != previous:
        detail = f"Link {expected} does not follow link {sequence}: links were reordered, replaced or made again."
        return Broken(sequence=expected, reason="reordered", detail=detail)
    if digest(row.sequence, row.previous, row.body) != row.hash:
        return Broken(sequence=expected, reason="changed", detail=f"Link {expected} was changed after it was made.")
    wrong = [key for key, value in store.copies(store.link_of(row).entry).items() if getattr(row, key) != value]
    if wrong:
        detail = f"Link {expected} was changed after it was made: {', '.join(wrong)} not as in its body."
        return Broken(sequence=expected, reason="changed", detail=detail)
    return None


def _broken_end(head: Head, sequence: int, previous: str, *, anchored: bool) -> Broken | None:
    if sequence < head.sequence:
        detail = f"Links {sequence + 1} to {head.sequence}, the newest, are missing."
        return Broken(sequence=sequence + 1, reason="missing", detail=detail)
    if previous != head.hash:
        return Broken(sequence=sequence, reason="changed", detail=f"Link {sequence} is not the newest one made.")
    if not anchored:
        detail = f"Links up to {head.anchor_sequence} are gone, and the chain does not say that retention removed them."
        return Broken(sequence=head.anchor_sequence, reason="missing", detail=detail)
    return None
