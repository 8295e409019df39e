"""What processes use is told to whose records it belongs, each second once."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millpond.billing import usage
from millpond.billing.domain import Product, Resource, Subject, hour_of
from millpond.billing.metering import Meter, Tracked, record
from millpond.billing.store import usage as rows
from millpond.billing.store.rules import set_price
from millpond.billing.store.usage import Wanted
from millpond.billing.usage import Asked, UsageService
from millpond.identity.domain import SYSTEM
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.gpus import gpus_in_use
from tests.servers import wait_until

ANN = Subject(product=Product.JOBS, run_as="ann", kind="job", object_id="7", run_id=70, tags=(("team", "red"),))
BURN = """
import subprocess, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
if len(sys.argv) > 1:
    burn(0.3)
else:
    subprocess.run([sys.executable, __file__, "below"], check=True)
    burn(0.3)
    print("burnt", flush=True)
    sys.stdin.read()
"""


@contextmanager
def burning(place: Path) -> Iterator[int]:
    """A process that has used 0.6 s, half of it in a child that has ended."""
    script = place / "burn.py"
    script.write_text(BURN)
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        yield process.pid
        process.kill()


def quantities(database: Database, **wanted: str) -> dict[str, float]:
    with database.read() as connection:
        found = rows.sums(connection, Wanted(**wanted), by="sku", bucket=None)  # type: ignore[arg-type]
    return {each.sku: each.quantity for each in found}


def test_a_process_and_what_it_waited_for_count_once_however_often_they_are_looked_at(
    database: Database, tmp_path: Path
) -> None:
    meter = Meter(database)
    with burning(tmp_path) as pid:
        meter.watch(lambda: [Tracked(key="a", subject=ANN, pids=(pid,))])
        for _ in range(3):
            meter.round()
        found = quantities(database)
    assert 0.55 < found["JOBS_CPU"] < 2
    assert found["JOBS_MEMORY"] > 0
    again = quantities(database)
    meter.round()  # the process has ended
    assert quantities(database) == again


@pytest.mark.parametrize("is_written", [False, True])
def test_a_task_that_ends_tells_all_that_is_not_written_yet(
    database: Database, tmp_path: Path, is_written: bool
) -> None:
    meter = Meter(database)
    with burning(tmp_path) as pid:
        meter.look(Tracked(key=1, subject=ANN, pids=(pid,)))
        meter.look(Tracked(key=1, subject=ANN, pids=(pid,)))
    if is_written:
        meter.round()
    written = quantities(database).get("JOBS_CPU", 0.0)
    assert (written > 0.55) is is_written
    assert meter.finish(1, 5.0)[Resource.CPU] == pytest.approx(5.0 - written, abs=0.01)
    meter.round()
    assert quantities(database).get("JOBS_CPU", 0.0) == written
    assert meter.finish(2, 0.25) == {Resource.CPU: 0.25}  # was never looked at


def test_what_cannot_be_written_waits_for_the_next_round(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(database)
    meter.note(ANN, {Resource.CPU: 2.0})
    with monkeypatch.context() as broken:

        def fails(*_: object) -> None:
            meter.note(ANN, {Resource.CPU: 1.0})  # meanwhile
            raise OSError("away")

        broken.setattr(rows, "add", fails)
        with pytest.raises(OSError, match="away"):
            meter.round()
    meter.round()
    meter.round()
    assert quantities(database) == {"JOBS_CPU": 3.0}


def test_records_of_an_hour_grow_and_are_priced_by_their_hour(database: Database) -> None:
    noon = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    with database.write() as connection:
        for at in (noon, noon + timedelta(minutes=5), noon + timedelta(hours=1)):
            record(connection, at, [(ANN, {Resource.CPU: 10.0, Resource.GPU: 0.0}), (ANN, {Resource.CPU: 5.0})])
        set_price(connection, "JOBS_CPU", hour_of(noon), 1.0)
        set_price(connection, "JOBS_CPU", hour_of(noon) + timedelta(hours=1), 3.0)
    with database.read() as connection:
        records = rows.newest(connection, Wanted(), 10)
        by_hour = rows.sums(connection, Wanted(), by="user", bucket=timedelta(hours=1))
    assert [(each.hour, each.quantity, each.cost) for each in records] == [
        (hour_of(noon) + timedelta(hours=1), 15.0, 45.0),
        (hour_of(noon), 30.0, 30.0),
    ]
    assert records[0].subject == ANN
    assert [(each.start, each.key, each.cost) for each in by_hour] == [
        (hour_of(noon), ("ann",), 30.0),
        (hour_of(noon) + timedelta(hours=1), ("ann",), 45.0),
    ]


def test_what_is_looked_at_once_in_an_hour_counts_once_whoever_looks(database: Database) -> None:
    for _ in range(2):
        with database.write() as connection:
            rows.set_once(connection, utc_now(), [(ANN, {Resource.STORAGE: 4.0})])
    assert quantities(database) == {"STORAGE": 4.0}


def test_gpus_are_those_on_which_processes_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus_in_use() == {}  # here is none
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '17, GPU-a'\necho '17, GPU-b'\necho '18, GPU-a'\necho 'x, GPU-c'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpus_in_use() == {17: {"GPU-a", "GPU-b"}, 18: {"GPU-a"}}


def test_rounds_go_on_while_the_block_does_and_once_after_it(database: Database) -> None:
    meter = Meter(database)
    with meter.at_work(0.05):
        meter.note(ANN, {Resource.CPU: 1.0})
        wait_until(lambda: quantities(database), what="a round")
    meter.note(ANN, {Resource.CPU: 1.0})
    with meter.at_work(60):
        pass
    assert quantities(database) == {"JOBS_CPU": 2.0}


def test_a_report_is_whole_or_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    service, admin = UsageService(database), replace(SYSTEM, is_admin=True)
    with database.write() as connection:
        for number in range(6):
            subject = replace(ANN, object_id=str(number), tags=(("team", "red" if number % 2 else "blue"),))
            record(connection, utc_now(), [(subject, {Resource.CPU: 1.0})])
    asked = Asked(since=utc_now() - timedelta(days=1), by="object")
    monkeypatch.setattr(usage, "MOST_ROWS", 4)
    with pytest.raises(InvalidArgument, match="more than 4 rows"):
        service.report(admin, asked)
    by_team = service.report(admin, replace(asked, by="tag", tag="team"))
    assert {each.key: each.quantity for each in by_team} == {("red",): 3.0, ("blue",): 3.0}
    with pytest.raises(InvalidArgument, match="quotation"):
        service.report(admin, replace(asked, by="tag", tag='a"b'))
