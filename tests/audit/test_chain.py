"""Events on their way into the chain, and what the chain shows of tampering, on both databases."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from millpond.audit import chain, store
from millpond.audit.domain import Filter
from millpond.audit.drain import Drain
from millpond.audit.service import AuditService, export
from millpond.identity.domain import SYSTEM, Principal, PrincipalKind
from millpond.journal import outbox
from millpond.journal.domain import Event, now_us
from millpond.journal.spool import Spool
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound, StorageFull
from tests.databases import BACKENDS, Databases

TOKEN = "dapi" + "0123456789abcdef" * 2


@pytest.fixture
def spools(tmp_path: Path) -> Path:
    """A directory for spools alone."""
    return tmp_path / "spools"


def event(name: str, **values: Any) -> Event:
    return Event(act="create", kind="schema", name=name, **values)


def names(database: Database) -> list[str]:
    return [link.entry.name for link in export(database, Filter())]


@pytest.fixture(scope="module", params=BACKENDS)
def filled(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A chain of ten links, s0 to s9."""
    root = tmp_path_factory.mktemp("filled")
    with databases.new(request.param, root) as database:
        spool = Spool(root / "spools")
        for number in range(10):
            spool.append(event(f"s{number}").line())
        spool.close()
        Drain(database, root / "spools").run_once()
        yield database


@pytest.fixture
def chained(filled: Database) -> Iterator[Database]:
    """The same chain for each test, whatever the one before did to it."""
    with filled.read() as connection:
        kept = {table: connection.execute(table.select()).mappings().all() for table in (store.entries, store.ends)}
    yield filled
    with filled.write() as connection:
        for table, rows in kept.items():
            connection.execute(table.delete())
            connection.execute(table.insert(), [dict(row) for row in rows])


def test_an_event_is_chained_once_when_a_drain_dies_after_the_commit(database: Database, spools: Path) -> None:
    """A drain that starts anew reads the whole file again and adds only what is new."""
    spool = Spool(spools)
    spool.append(event("a").line())
    assert Drain(database, spools).run_once() == 1
    spool.append(event("b").line())
    assert Drain(database, spools).run_once() == 1
    assert names(database) == ["a", "b"]
    assert chain.verify(database).broken is None


def test_a_file_goes_when_it_is_read_and_its_writer_has_ended(database: Database, spools: Path) -> None:
    """As long as the writer lives, the file stays."""
    spool = Spool(spools)
    spool.append(event("a").line())
    drain = Drain(database, spools)
    drain.run_once()
    assert len(list(spools.iterdir())) == 1
    spool.close()
    drain.run_once()
    assert list(spools.iterdir()) == []


def test_a_full_file_is_followed_by_another(database: Database, spools: Path) -> None:
    """Nothing is lost on the way, and the order stays."""
    spool = Spool(spools, full_bytes=1000)
    for number in range(20):
        spool.append(event(f"s{number}").line())
    assert len(list(spools.iterdir())) > 3
    Drain(database, spools).run_once()
    assert names(database) == [f"s{number}" for number in range(20)]


def test_drains_at_the_same_time_chain_each_event_once(database: Database, spools: Path) -> None:
    """Four drains over the same files and the same outbox, while events come in."""
    spool = Spool(spools)

    def write() -> None:
        for number in range(150):
            spool.append(event(f"spool {number}").line())
            with database.write() as connection:
                outbox.put(connection, event(f"outbox {number}"))

    def drain() -> None:
        mine = Drain(database, spools)
        while writer.is_alive():
            mine.run_once()

    writer = threading.Thread(target=write)
    writer.start()
    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in (writer, *threads):
        thread.join()
    Drain(database, spools).run_once()
    assert sorted(names(database)) == sorted(f"{kind} {n}" for kind in ("spool", "outbox") for n in range(150))
    assert chain.verify(database).broken is None


def test_a_change_that_is_rolled_back_leaves_no_event(database: Database, spools: Path) -> None:
    """The outbox is in the transaction of the change."""

    def change() -> None:
        with database.write() as connection:
            outbox.put(connection, event("never"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert Drain(database, spools).run_once() == 0


def test_a_writer_that_is_killed_loses_nothing_that_it_wrote(database: Database, spools: Path) -> None:
    """kill -9 right after the write; the half line that a full disk may leave behind is told as torn."""
    script = (
        "import os, signal, sys; from pathlib import Path; from millpond.journal.spool import Spool;"
        "from millpond.journal.domain import Event; spool = Spool(Path(sys.argv[1]));"
        "[spool.append(Event(act='read', kind='table', name=str(n)).line()) for n in range(100)];"
        'os.write(spool._file, b\'{"act": "re\'); os.kill(os.getpid(), signal.SIGKILL)'
    )
    done = subprocess.run([sys.executable, "-c", script, str(spools)], timeout=60)
    assert done.returncode == -9
    Drain(database, spools).run_once()
    found = list(export(database, Filter()))
    assert [link.entry.name for link in found[:-1]] == [str(number) for number in range(100)]
    assert found[-1].entry.error == "TORN"
    assert list(spools.iterdir()) == []


def test_secrets_and_odd_characters_do_not_get_in(database: Database, spools: Path) -> None:
    """Tokens are masked wherever they stand; NUL and half surrogate pairs, which databases refuse, are no obstacle."""
    spool = Spool(spools)
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    planted = event(f"x{TOKEN}", agent=f"Bearer {TOKEN}", details={"path": f"/a/{jwt}", "why": "mps-" + "a" * 40})
    spool.append(planted.line())
    spool.append(event("nul \0 and \ud800").line())
    spool.append(event("long" * 100_000, details={"reads": "t" * 1_000_000}).line())
    assert all(secret not in path.read_text() for path in spools.iterdir() for secret in (TOKEN, jwt, "a" * 40))
    assert Drain(database, spools).run_once() == 3
    with database.read() as connection:
        stored = str(connection.execute(text("SELECT * FROM audit_entries")).all())
    assert not [secret for secret in (TOKEN, jwt, "a" * 40) if secret in stored]
    assert chain.verify(database).broken is None


@pytest.mark.parametrize(
    ("tampering", "sequence", "reason"),
    [
        ("UPDATE audit_entries SET body = replace(body, 's4', 's0') WHERE sequence = 5", 5, "changed"),
        ("UPDATE audit_entries SET actor = 'somebody else' WHERE sequence = 5", 5, "changed"),
        ("UPDATE audit_entries SET status = 403 WHERE sequence = 10", 10, "changed"),
        ("DELETE FROM audit_entries WHERE sequence = 5", 5, "missing"),
        ("DELETE FROM audit_entries WHERE sequence <= 3", 1, "missing"),
        ("DELETE FROM audit_entries WHERE sequence >= 9", 9, "missing"),
        ("UPDATE audit_entries SET sequence = 100 - sequence WHERE sequence IN (4, 5);"
         "UPDATE audit_entries SET sequence = sequence - 91 WHERE sequence > 90", 4, "reordered"),
        ("DELETE FROM audit_entries WHERE sequence <= 3;"
         "UPDATE audit_ends SET anchor_sequence = 3, anchor_hash = "
         "(SELECT previous FROM audit_entries WHERE sequence = 4)", 3, "missing"),
    ],
)  # fmt: skip
def test_verify_names_the_first_broken_link(chained: Database, tampering: str, sequence: int, reason: str) -> None:
    """Changed, removed at either end or in the middle, swapped, or cut off with a forged anchor."""
    assert chain.verify(chained).checked == 10
    with chained.write() as connection:
        for statement in tampering.split(";"):
            connection.execute(text(statement))
    broken = chain.verify(chained).broken
    assert broken is not None
    assert (broken.sequence, broken.reason) == (sequence, reason), broken.detail


def test_a_link_that_was_made_again_does_not_fit_the_next(chained: Database) -> None:
    """Who changes a body and computes its hash anew breaks the link after it."""
    with chained.write() as connection:
        row = next(row for row in store.rows_after(connection, 4, 1))
        body = row.body.replace('"s4"', '"s0"')
        made = chain.digest(5, row.previous, body)
        connection.execute(
            store.entries.update().where(store.entries.c.sequence == 5).values(body=body, hash=made, name="s0")
        )
    broken = chain.verify(chained).broken
    assert broken is not None
    assert broken.sequence == 6


def test_the_chain_holds_after_retention_has_cut_it(database: Database, spools: Path) -> None:
    """What is old goes, the chain says so itself, and the rest can still be verified."""
    spool = Spool(spools)
    old = now_us() - int(timedelta(days=40).total_seconds() * 1e6)
    for number in range(6):
        spool.append(event(f"old {number}", time_us=old + number).line())
    spool.append(event("new").line())
    drain = Drain(database, spools, retention_days=30)
    drain.run_once()
    assert drain.prune() == 6
    assert drain.prune() == 0
    Drain(database, spools).run_once()  # one that starts anew finds the old lines again, and leaves them
    verdict = chain.verify(database)
    assert (verdict.broken, verdict.head.anchor_sequence, verdict.checked) == (None, 6, 2)
    assert [link.entry.action for link in export(database, Filter())] == ["createSchema", "prune"]


def test_a_filter_lets_through_what_it_says(database: Database, spools: Path) -> None:
    """By time, actor, kind and outcome."""
    spool = Spool(spools)
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    for number, status in enumerate((200, 403, 404)):
        when = int((moment + timedelta(days=number)).timestamp() * 1e6)
        spool.append(event(f"s{number}", actor="ada", time_us=when, status=status).line())
    Drain(database, spools).run_once()

    def found(wanted: Filter) -> list[str]:
        return [link.entry.name for link in export(database, wanted)]

    assert found(Filter(since=moment + timedelta(days=1))) == ["s1", "s2"]
    assert found(Filter(until=moment + timedelta(days=1))) == ["s0"]
    assert found(Filter(failed=True, actor="ada", kind="schema")) == ["s1", "s2"]
    assert found(Filter(actor="eve")) == []


def test_an_entry_is_read_by_its_place_and_only_by_who_may_read_the_audit(chained: Database) -> None:
    audit = AuditService(chained)
    assert audit.get_entry(SYSTEM, 3).entry.name == "s2"
    with pytest.raises(NotFound, match="no entry 11"):
        audit.get_entry(SYSTEM, 11)
    assert (audit.head(SYSTEM).sequence, audit.verify(SYSTEM).broken) == (10, None)
    ann = Principal(id="7", name="ann", kind=PrincipalKind.USER, is_admin=False)
    for ask in (audit.head, audit.verify, lambda principal: audit.get_entry(principal, 3)):
        with pytest.raises(NotFound, match=r"system\.access\.audit"):
            ask(ann)


def test_a_spool_that_cannot_be_written_says_so(spools: Path) -> None:
    """Half a line is taken back, so that the next one is whole."""
    spool = Spool(spools)
    spool.append(event("a").line())
    place = next(spools.iterdir())
    whole = place.read_bytes()
    real = os.write
    try:
        os.write = lambda file, data: real(file, data[:10])  # type: ignore[assignment]
        with pytest.raises(StorageFull, match="audit cannot be written"):
            spool.append(event("b").line())
    finally:
        os.write = real
    assert place.read_bytes() == whole
    spool.append(event("c").line())
    assert place.read_bytes().startswith(whole)
    assert place.read_bytes().count(b"\n") == 2
